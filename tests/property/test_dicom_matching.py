"""Matching (PS3.4 C.2.2.2) against a naive model, and the index against matching everything one by one."""

from __future__ import annotations

import fnmatch
import io
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapters.dicom.archive.charset import UNICODE
from adapters.dicom.archive.header import read_header
from adapters.dicom.archive.identifiers import TRANSFER_SYNTAXES, worded
from adapters.dicom.archive.index import Index
from adapters.dicom.archive.levels import LEVELS, Level, above, known
from adapters.dicom.archive.matching import bounds, element_matches, matches, wildcard
from engine.errors import MessageError
from tests.support.dicom_archive import CHARSET_FILES, TEST_FILES, Archive, instance

SMALL = [path.read_bytes() for path in (*CHARSET_FILES, *TEST_FILES) if path.stat().st_size < 20_000]


def naive_wildcard(pattern: str, text: str) -> bool:
    """By recursion, a character at a time."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return naive_wildcard(pattern[1:], text) or bool(text and naive_wildcard(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and naive_wildcard(pattern[1:], text[1:])


@given(st.text("ab*?\\.[", max_size=8), st.text("ab.[\\", max_size=8))
@example("a**?b", "axyb")
def test_wildcards(pattern: str, text: str) -> None:
    assert wildcard(pattern)(text) == naive_wildcard(pattern, text)


@given(st.integers(1, 40), st.sampled_from(["*", "*a", "*?", "a*"]))
def test_many_stars_cost_nothing(number: int, part: str) -> None:
    """A regular expression of these would not end."""
    assert not wildcard(part * number + "b")("a" * 2_000)


def naive_name(pattern: str, groups: dict[str, str]) -> bool:
    def folded(text: str) -> str:
        return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())

    def same(one: str, found: str) -> bool:
        tidy = "^".join(part.strip() for part in folded(one).split("^")).rstrip("^")
        mine = "^".join(part.strip() for part in folded(found).split("^")).rstrip("^")
        return naive_wildcard(tidy, mine) or naive_wildcard(tidy, mine + "^")

    return any(same(pattern, text) for text in groups.values())


NAMES = st.text("aAbBé^ 王Ａ", min_size=1, max_size=6).filter(lambda text: bool(text.strip("^ ")))


@given(st.text("aAbé^王*?", min_size=1, max_size=6).filter(lambda text: bool(text.strip("^ ")) and not text.startswith(" ")), NAMES, NAMES)
def test_names(pattern: str, alphabetic: str, ideographic: str) -> None:
    """Any case, any width, any of the component groups."""
    groups = {"Alphabetic": alphabetic, "Ideographic": ideographic}
    key = {"vr": "PN", "Value": [{"Alphabetic": pattern}]}
    if pattern.strip("*") == "":
        return  # universal, or as good as
    assert element_matches(key, [groups]) == naive_name(pattern, groups)


DATES = st.dates().map(lambda date: f"{date:%Y%m%d}".rjust(8, "0"))


@given(DATES, DATES, DATES)
def test_ranges_of_dates(low: str, high: str, value: str) -> None:
    """Both ends included, either may be left open (C.2.2.2.5)."""
    for text, expected in (
        (f"{low}-{high}", low <= value <= high),
        (f"{low}-", value >= low),
        (f"-{high}", value <= high),
        (low, value == low),
    ):
        assert element_matches({"vr": "DA", "Value": [text]}, [value]) == expected, text


TIMES = st.times().map(lambda time: f"{time:%H%M%S.%f}")


@given(TIMES, TIMES, TIMES, st.sampled_from([2, 4, 6]), st.sampled_from([2, 4, 6]))
def test_ranges_of_times(low: str, high: str, value: str, low_digits: int, high_digits: int) -> None:
    """Of any precision: an hour that ends a range lasts until its last microsecond."""
    first, last = low[:low_digits], high[:high_digits]
    expected = first <= value[:low_digits] and value[:high_digits] <= last
    assert element_matches({"vr": "TM", "Value": [f"{first}-{last}"]}, [value]) == expected


def test_date_times_with_offsets() -> None:
    """A hyphen separates a range, or begins an offset from UTC (PS3.5 6.2, DT)."""
    assert bounds("DT", "20261126-20261127") == ("20261126000000000000", "20261127235959999999")
    assert bounds("DT", "202611260815-0500") == ("20261126081500000000", "20261126081559999999")
    assert bounds("DT", "20261126-0500-20261127-0500") == ("20261126000000000000", "20261127235959999999")
    assert bounds("DT", "2026-") == ("20260101000000000000", "99991231235959999999")


def test_what_the_standard_leaves_open() -> None:
    def key(vr: str, *values: Any) -> dict[str, Any]:
        return {"vr": vr, "Value": list(values)}

    assert element_matches(key("IS", "007"), [7])
    assert element_matches(key("UI", "1.2", "1.3"), ["1.3"])
    assert element_matches(key("CS", "CT", "MR"), ["US", "MR"])
    assert element_matches(key("LO", "*"), ())
    assert not element_matches(key("LO", "?*"), ())
    assert not element_matches(key("UI", "1.*"), ["1.2"])
    assert element_matches(
        {"vr": "SQ", "Value": [{"00080100": key("SH", "1")}]}, [{"00080100": key("SH", "2")}, {"00080100": key("SH", "1")}]
    )
    assert element_matches({"vr": "SQ", "Value": [{"00080100": {"vr": "SH"}}]}, ())
    assert not element_matches({"vr": "SQ", "Value": [{"00080100": key("SH", "1")}]}, ())


# --- the index -----------------------------------------------------------------------------------------

INSTANCES = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.integers(1, 3),
            "series": st.sampled_from("12"),
            "study": st.sampled_from("123"),
            "PatientID": st.sampled_from(["P1", "P2", "", "p1"]),
            "PatientName": st.sampled_from(["Doe^Jo", "doe^ann=王^小明", "Döe", "", "王^小明"]),
            "StudyDate": st.sampled_from(["20260101", "20260630", "", "2026.11.26"]),
            "Modality": st.sampled_from(["CT", "MR", "SR"]),
            "AccessionNumber": st.sampled_from(["A1", "A2", ""]),
        }
    ),
    max_size=8,
)
KEYS = st.fixed_dictionaries(
    {},
    optional={
        "00100010": st.sampled_from(["doe*", "*^jo", "王*", "DOE^JO", "d?e*", "*"]).map(
            lambda name: {"vr": "PN", "Value": [{"Alphabetic": name}]}
        ),
        "00100020": st.sampled_from(["P1", "P?", "p*", "P2"]).map(lambda text: {"vr": "LO", "Value": [text]}),
        "00080020": st.sampled_from(["20260101", "20260101-20260630", "-20260101", "20260201-"]).map(
            lambda text: {"vr": "DA", "Value": [text]}
        ),
        "00080050": st.sampled_from(["A1", "A*"]).map(lambda text: {"vr": "SH", "Value": [text]}),
        "00080060": st.lists(st.sampled_from(["CT", "MR", "C*"]), min_size=1, max_size=2).map(lambda values: {"vr": "CS", "Value": values}),
        "00080061": st.sampled_from(["CT", "M*"]).map(lambda text: {"vr": "CS", "Value": [text]}),
        "0020000D": st.lists(st.sampled_from(["2.25.1", "2.25.2", "2.25.9"]), min_size=1).map(lambda values: {"vr": "UI", "Value": values}),
        "00201208": st.just({"vr": "IS", "Value": [1]}),
    },
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(INSTANCES, KEYS)
def test_the_index_leaves_out_nothing(instances: list[dict[str, Any]], keys: dict[str, Any]) -> None:
    """What SQL narrows down to is what matching everything gives; and every instance is counted once at each level."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        archive.keep(*[instance(**one) for one in instances])
        index = Index(Path(folder))
        for level in LEVELS:
            everything = list(index.find(level, {}))
            asked = {tag: key for tag, key in keys.items() if level is Level.IMAGE or tag in known(level)}
            assert list(index.find(level, asked)) == [one for one in everything if matches(asked, one)]
        uids = {f"2.25.{one['study']}.{one['series']}.{one['number']}" for one in instances}
        assert sum(one["00201208"]["Value"][0] for one in index.find("STUDY", {})) == len(uids)
        assert sum(one["00201204"]["Value"][0] for one in index.find("PATIENT", {})) == len(uids)
        assert {one["00080018"]["Value"][0] for one in index.find("IMAGE", {})} == uids
        assert above(Level.IMAGE) == LEVELS
        index.close()
        archive.close()


def test_fnmatch_agrees_where_it_can() -> None:
    """A second opinion on wild cards."""
    for pattern in ("CT*", "?T", "*T", "C?"):
        for text in ("CT", "MT", "C", "CTX"):
            assert wildcard(pattern)(text) == fnmatch.fnmatchcase(text, pattern)


@settings(deadline=None)
@given(st.sampled_from(SMALL), st.lists(st.tuples(st.integers(128, 3000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=8))
def test_any_damage_to_a_file_is_read_or_refused(body: bytes, damage: list[tuple[int, bytes]]) -> None:
    """Nothing but a MessageError, whatever bytes change; what is read can be kept, matched with itself and worded."""
    damaged = bytearray(body)
    for place, changed in damage:
        damaged[place : place + len(changed)] = changed
    try:
        elements = orjson.loads(orjson.dumps(read_header(io.BytesIO(damaged)).elements))
    except MessageError:
        return
    matches(elements, elements)
    for syntax in TRANSFER_SYNTAXES:
        worded(elements, UNICODE, syntax)
