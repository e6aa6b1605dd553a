"""Headers as DICOM JSON: compared with pydicom, every character set, and peers that mean no good."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from adapters.dicom.archive import charset
from adapters.dicom.archive.elements import Elements, Limits, Reader, person_name
from adapters.dicom.archive.encoding import decimal_string, encode_elements
from adapters.dicom.archive.header import data_set_digest, read_header
from adapters.dicom.archive.listing import Listing
from engine.errors import ParseError
from tests.support.dicom_archive import CHARSET_FILES, TEST_FILES, as_file, data_set, instance

READABLE = [
    path
    for path in (*CHARSET_FILES, *TEST_FILES)
    if path.read_bytes()[128:132] == b"DICM"
    and path.name not in ("meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm", "empty_charset_LEI.dcm")
]


def read(path: Path) -> Elements:
    with path.open("rb") as file:
        return read_header(file).elements


def said_by_pydicom(path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pydicom.dcmread(path, stop_before_pixels=True)
        said: dict[str, Any] = {}
        for element in found:
            try:
                said[f"{element.tag:08X}"] = element.to_json_dict(None, 0)
            except Exception:  # noqa: BLE001  what pydicom itself cannot say is not compared
                continue
    return said


@pytest.mark.parametrize("path", READABLE, ids=lambda path: path.name)
def test_pydicom_reads_the_same(path: Path) -> None:
    """Every element of text, numbers, dates and identifiers, in every transfer syntax and character set."""
    ours, theirs = read(path), said_by_pydicom(path)
    compared = 0
    for tag, element in theirs.items():
        if tag >= "52009230" or tag not in ours or ours[tag]["vr"] != element["vr"] or "BulkDataURI" in element:
            continue
        mine = plain(ours[tag])
        assert mine == plain(element), tag
        compared += 1
    assert compared or len(theirs) < 4


def plain(element: dict[str, Any]) -> Any:
    """What both mean: numbers as floats, no empty values at the end, text without padding."""
    if element["vr"] == "SQ":
        return [{tag: plain(one) for tag, one in item.items() if one["vr"] not in ("UN", "OB", "OW")} for item in element.get("Value", ())]
    values = element.get("Value", element.get("InlineBinary"))
    if not isinstance(values, list):
        return values or None
    return [_plain(value) for value in values if _plain(value) is not None] or None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: text.rstrip("^ ") for name, text in value.items() if text.strip("^ ")} or None
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value.strip(" \0") or None
    return float(value) if isinstance(value, int | float) else value


def test_a_backslash_inside_a_character() -> None:
    """In GBK and GB18030 the second byte may be that of \\ or ^: 乗 is 81 5C, 乛 is 81 5E. They separate nothing."""
    for named in ("GB18030", "GBK"):
        text = "乗\\乛^b".encode(named)
        assert text.count(b"\\") == 2
        raw = (
            _element(0x00080005, "CS", named.encode())
            + _element(0x00081030, "LO", text)
            + _element(0x00100010, "PN", "乛乗^乗".encode(named))
        )
        found = Reader(io.BytesIO(raw), explicit=True, little=True).data_set()
        assert found["00081030"]["Value"] == ["乗", "乛^b"]
        assert found["00100010"]["Value"] == [{"Alphabetic": "乛乗^乗"}]


def test_chinese_by_code_extension() -> None:
    """ISO 2022 IR 58 (PS3.5 annex K): the escape sequence is not text."""
    raw = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="
    assert person_name(charset.decode(raw, ("", "ISO 2022 IR 58"))) == {"Alphabetic": "Zhang^XiaoDong", "Ideographic": "张^小东"}


def test_text_that_is_not_in_its_character_set() -> None:
    """Is kept as far as it goes, without a word."""
    assert charset.decode(b"Caf\xe9", ("ISO_IR 192",)) == "Caf\ufffd"
    assert charset.decode(b"Caf\xe9", charset.character_sets(b"NO SUCH SET")) == "Café"


@pytest.mark.parametrize(
    ("names", "text"),
    [(("ISO_IR 192",), "王^小东=Ärger"), (("GB18030",), "王^小東乗"), (("ISO_IR 100",), "Äneas^Rüdiger"), (("", "ISO 2022 IR 87"), "Yamada^Tarou=山田^太郎"),
     (("", "ISO 2022 IR 149"), "Hong^Gildong=洪^吉洞=홍^길동"), (("ISO_IR 144",), "Люкceмбypг"), (("ISO_IR 13",), "ﾔﾏﾀﾞ^ﾀﾛｳ")],
)  # fmt: skip
def test_text_comes_back(names: tuple[str, ...], text: str) -> None:
    assert charset.decode(charset.encode(text, names), names) == text


@pytest.mark.parametrize(
    ("names", "text"), [(("ISO_IR 6",), "Ä"), (("ISO_IR 100",), "王"), (("", "ISO 2022 IR 87"), "Ж😀"), (("GBK",), "😀")]
)
def test_text_that_a_character_set_does_not_have(names: tuple[str, ...], text: str) -> None:
    with pytest.raises(UnicodeError):
        charset.encode(text, names)


def test_data_sets_come_back() -> None:
    """Through both encodings, with sequences; what is empty stays."""
    nested = Dataset()
    nested.CodeValue, nested.CodeMeaning = "1", "胸部"
    found = data_set(
        PatientName="王^小明=Wang", ProcedureCodeSequence=Sequence([nested]), PatientWeight="71.25", Rows=512, StudyDescription=""
    )
    elements = found.to_json_dict()
    for explicit, little in ((True, True), (False, True), (True, False)):
        raw = encode_elements(elements, charset.UNICODE, explicit=explicit, little=little)
        back = Reader(io.BytesIO(raw), explicit=explicit, little=little).data_set()
        assert {tag: plain(one) for tag, one in back.items()} == {tag: plain(one) for tag, one in elements.items()}


@pytest.mark.parametrize("value", [1.0, -0.1234567890123456789, 1e-300, 123456789012345678.0, 1 / 3])
def test_a_decimal_string_fits(value: float) -> None:
    text = decimal_string(value)
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-8)


# --- peers that mean no good -------------------------------------------------------------------------


def _element(tag: int, vr: str, raw: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(raw)) + raw


def _nested(depth: int) -> bytes:
    head = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return head * depth


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (_nested(5000), "deeper"),
        (_element(0x00081030, "LO", b"x") * 300_000, "more than"),
        (_element(0x00081030, "LO", b"x" * 1000) * 20_000, "longer than"),
    ],
)
def test_what_would_cost_too_much(raw: bytes, said: str) -> None:
    with pytest.raises(ParseError, match=said):
        Reader(io.BytesIO(raw), explicit=True, little=True).data_set()


def test_a_small_file_that_inflates() -> None:
    """A deflated data set is read as far as a header may go."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    huge = deflater.compress(_element(0x00081030, "LO", b"x" * 1000) * 200_000) + deflater.flush()
    meta = _element(0x00020010, "UI", b"1.2.840.10008.1.2.1.99")
    file = bytes(128) + b"DICM" + meta + huge
    assert len(file) < 1 << 20
    with pytest.raises(ParseError):
        read_header(io.BytesIO(file), Limits(header=1 << 20))


def test_a_length_beyond_the_end() -> None:
    """What was whole is read; nothing is allocated for what is only claimed."""
    raw = _element(0x00080018, "UI", b"2.25.1") + struct.pack("<HH2sHI", 0x0042, 0x0011, b"OB", 0, 0xFFFFFFF0)
    assert Reader(io.BytesIO(raw), explicit=True, little=True).data_set() == {"00080018": {"vr": "UI", "Value": ["2.25.1"]}}


@pytest.mark.parametrize("cut", range(0, 600, 7))
def test_any_beginning_of_a_file(cut: int) -> None:
    """Is read, or refused by name."""
    try:
        read_header(io.BytesIO(instance()[:cut]))
    except ParseError:
        pass


def test_bulk_is_left_out_and_long_text_is_not() -> None:
    found = data_set(TextValue="字" * 5000, PixelData=b"\0" * 100_000, Rows=1)
    found.add_new(0x60003000, "OW", b"\0" * 10)
    found["PixelData"].VR = "OW"
    elements = read_header(io.BytesIO(as_file(found))).elements
    assert elements["0040A160"]["Value"] == ["字" * 5000]
    assert not {"7FE00010", "60003000"} & elements.keys()


def test_the_digest_of_a_data_set_leaves_out_the_file_meta_information(tmp_path: Path) -> None:
    for number, sender in enumerate(("CT1", "PACS")):
        (tmp_path / str(number)).write_bytes(instance(sender=sender))
    assert data_set_digest(tmp_path / "0") == data_set_digest(tmp_path / "1")
    (tmp_path / "2").write_bytes(instance(PatientID="P2"))
    assert data_set_digest(tmp_path / "0") != data_set_digest(tmp_path / "2")


def test_a_listing_says_everything_once_a_series() -> None:
    """From what is listed every instance's own attributes can be told again; private ones are left out."""
    instances = [
        {"0020000E": {"vr": "UI", "Value": [series]}, "00080018": {"vr": "UI", "Value": [f"{series}.{number}"]}, **more}
        for series in ("1", "2")
        for number, more in enumerate(
            (
                {"00080060": {"vr": "CS", "Value": ["CT"]}, "00091001": {"vr": "LO", "Value": ["x"]}},
                {"00080060": {"vr": "CS", "Value": ["CT"]}},
                {},
            )
        )
    ]
    listing, first, told = Listing(), {}, []
    for instance_ in instances:
        listed = listing.add(instance_)
        first = listed if listed["0020000E"] != first.get("0020000E") else first
        told.append({**first, **listed})
    assert [one.get("00080060") for one in told] == [{"vr": "CS", "Value": ["CT"]}, {"vr": "CS", "Value": ["CT"]}, {"vr": "CS"}] * 2
    assert [one["00080018"] for one in told] == [one["00080018"] for one in instances]
    assert "00091001" not in told[0]
