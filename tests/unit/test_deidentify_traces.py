"""What identifies a person is found in other spellings, and not in other words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from engine.deidentify.dates import shifted_digits, shifted_iso, shifted_range
from engine.deidentify.traces import Traces


def traces() -> Traces:
    found = Traces()
    found.name("Müller", "Ana Li")
    found.name("Wang^XiaoDong=王^小东=")
    found.name("Li^Na")
    found.identifier("MRN4711")
    found.identifier("A7X")
    found.date("19470131")
    found.telephone("+86 138-0013-8000")
    found.address("12 Long Lane", "Springfield")
    return found


@pytest.mark.parametrize(
    "text",
    [
        *("seen: MULLER, with mother", "mu\u0308ller", "wang", "ＷＡＮＧ", "患者王小东来院", "小东", "Li Na", "na, li", "LI^NA"),
        *("id=mrn4711;", "A7X", "born 31.01.1947", "1947-01-31", "1947年1月31日", "tel 8613800138000", "(+86) 138 0013 8000"),
        *("near springfield", "12 long lane"),
    ],
)
def test_found(text: str) -> None:
    """Case, accents, width, order and what stands between do not count."""
    assert traces().within(text)


@pytest.mark.parametrize(
    "text",
    ["", "liver", "Mullerian duct", "wangle", "xmrn4711", "MRN47110", "A7X9 B", "19480131", "nail", "86138001380001", "REMOVED", "ana"[:2]],
)
def test_not_found(text: str) -> None:
    """Parts of other words and numbers are none of the patient's."""
    assert not traces().within(text)


def test_placeholders_identify_nobody() -> None:
    """Else every file of an anonymous patient would be held for the word."""
    found = Traces()
    found.name("Anonymous^Patient")
    found.identifier("UNKNOWN")
    found.identifier("0000")
    assert not found.within("anonymous patient unknown 0000")


@pytest.mark.parametrize(
    ("content", "codecs"),
    [
        (b"\x00\x01WANG\xff MRN4711\x00", ["latin-1"]),
        ("x王小东".encode("gb18030"), ["gb18030"]),
        ("<n>springfield</n>".encode("utf-16-le"), ["utf-16-le"]),
        ("Springfield".encode("utf-16-le"), ["utf-16-le"]),
        ("Herr MÜLLER".encode("latin-1"), ["latin-1"]),
    ],
)
def test_found_in_bytes(content: bytes, codecs: list[str]) -> None:
    """In each character set that may be there."""
    assert traces().in_bytes(content, codecs)


def test_a_date_of_birth_in_bytes_is_sought_where_no_date_may_stay() -> None:
    """A newborn's study is of the day of birth."""
    assert traces().in_bytes(b"DA\x08\x0019470131", ["latin-1"])
    assert not traces().in_bytes(b"DA\x08\x0019470131", ["latin-1"], dates=False)


def test_cleaned_text() -> None:
    """What names the person goes as a whole; numbers, dates and addresses go from the rest."""
    assert traces().cleaned("CT of Mr. Müller") == "REMOVED"
    assert traces().cleaned("head 3mm on 2024-03-01, call 030 1234567 or a@b.example") == "head 3mm on ***, call *** or ***"


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        *(("20240301", "20240220"), ("202403", "202403"), ("2024", "2024"), ("20240301120000.5+0800", "20240220120000.5+0800")),
        *(("2024.03.01", "20240220"), ("20240231", ""), ("next week", ""), ("202403011", "202402201"), ("", "")),
    ],
)
def test_dates_in_digits(text: str, moved: str) -> None:
    """DICOM and HL7; a date that is none becomes nothing."""
    assert shifted_digits(text, timedelta(days=10)) == moved


def test_dates_in_iso_and_ranges() -> None:
    """FHIR, and a query's range."""
    ten = timedelta(days=10)
    assert shifted_iso("2024-03-01T08:30:00+08:00", ten) == "2024-02-20T08:30:00+08:00"
    assert [shifted_iso(text, ten) for text in ("2024-03-01", "2024-03", "2024", "soon")] == ["2024-02-20", "2024-03", "2024", ""]
    assert [shifted_range(text, ten) for text in ("20240301-20240311", "-20240311", "20240301-")] == [
        "20240220-20240301",
        "-20240301",
        "20240220-",
    ]
