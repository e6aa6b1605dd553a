"""Headers of DICOM files: against pydicom on all its files, in every transfer syntax and character set, and bytes that lie."""

from __future__ import annotations

import logging
import struct
import time
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from engine import registry
from engine.errors import ParseError
from engine.formats.dicom import DataSet, codec, header, instances, json_codec
from engine.formats.dicom.charsets import charset
from engine.formats.dicom.dataset import BULK, DEEPEST
from engine.formats.dicom.json_model import model
from engine.formats.dicom.reading import INFLATED, MOST
from engine.message import DICOM, DICOM_JSON
from tests.support.dicom_studies import FOLDER, bundled, code, data_set, file, image, item, study


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What pydicom says of its own odd files."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def plain(value: Any) -> list[str]:
    """A value of pydicom's as texts that can be compared."""
    values = value if isinstance(value, list | MultiValue) else [] if value in (None, "") else [value]
    return [text for one in values if (text := comparable(str(one)))]


def comparable(text: str) -> str:
    try:
        return f"{float(text):.6g}"
    except ValueError:
        return text.strip("^= \x00")


def differences(theirs: Dataset, ours: DataSet) -> list[str]:
    """What the two do not agree on: every public attribute with text or numbers, those of items too."""
    found = []
    for element in theirs:
        tag = int(element.tag)
        if element.tag.is_private or element.tag.group == 0x7FE0 or element.VR in (*BULK, "AT", "OB or OW"):
            continue
        if element.VR == "SQ":
            items = ours.items(tag)
            if len(items) != len(element.value):
                found.append(f"{element.keyword}: {len(items)} items")
            found += [f"{element.keyword}.{line}" for one, two in zip(element.value, items, strict=False) for line in differences(one, two)]
        elif plain(element.value) != plain(list(ours.values(tag))):
            found.append(element.keyword)
    return found


def readable() -> list[Any]:
    """The bundled files that are DICOM files with a data set, to begin with."""
    return [pytest.param(name, id=name.name) for name in bundled() if name.read_bytes()[128:132] == b"DICM"]


@pytest.mark.parametrize("name", readable())
def test_every_file_says_what_pydicom_reads(name: Any) -> None:
    try:
        ours = header(name.read_bytes())
    except ParseError as error:
        assert name.name in ("rtplan_truncated.dcm", "meta_missing_tsyntax.dcm", "DICOMDIR-nooffset", "nested_priv_SQ.dcm"), error
        return
    theirs = pydicom.dcmread(name, stop_before_pixels=True, force=True)
    assert differences(theirs, ours) == []


@pytest.mark.parametrize("name", readable())
def test_as_json_it_is_the_same(name: Any) -> None:
    """Everything but bulk data, through the DICOM JSON model and back."""
    try:
        ours = header(name.read_bytes())
    except ParseError:
        return
    (again,) = instances(orjson.dumps([model(ours)]))
    for tag, element in ours.elements.items():
        if tag >> 16 != 2 and tag & 0xFFFF and tag != 0x00080005 and element.vr not in (*BULK, "SQ") and len(element.raw) <= 1024:
            assert [comparable(text) for text in again.values(tag)] == [comparable(text) for text in ours.values(tag)], hex(tag)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_a_header_is_the_same_in_every_transfer_syntax(syntax: str) -> None:
    one = image(RequestAttributesSequence=[data_set(RequestedProcedureID="R1", ScheduledProtocolCodeSequence=[code("A", "99X", "Ä")])])
    found = codec.decode(file(one, syntax))
    assert found.get("RequestAttributesSequence[1].ScheduledProtocolCodeSequence[1].CodeMeaning") == "Ä"
    assert found.get("TransferSyntaxUID") == syntax


def test_a_file_without_preamble_and_meta_is_read() -> None:
    whole = file(image())
    bare = whole[whole.index(b"\x08\x00\x05\x00CS") :]
    assert codec.decode(bare).get("PatientID") == "P1"


# --- paths -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Modality", "CT"),
        ("(0008,0060)", "CT"),
        ("00080060", "CT"),
        ("0008,0060", "CT"),
        ("PatientName", "Wang^XiaoMing=王^小明"),
        ("ImageType", "ORIGINAL\\PRIMARY"),
        ("ImageType[2]", "PRIMARY"),
        ("ImageType[3]", None),
        ("RequestAttributesSequence.RequestedProcedureID", "R1"),
        ("RequestAttributesSequence[2].RequestedProcedureID", "R2"),
        ("RequestAttributesSequence[3].RequestedProcedureID", None),
        ("ViewPosition", None),
    ],
)
def test_an_attribute_by_its_path(path: str, expected: str | None) -> None:
    requests = [data_set(RequestedProcedureID="R1"), data_set(RequestedProcedureID="R2")]
    one = image(ImageType=["ORIGINAL", "PRIMARY"], RequestAttributesSequence=requests)
    assert codec.decode(file(one)).get(path) == expected
    assert json_codec.decode(study(one)).get(path) == expected


def test_a_path_into_the_second_instance() -> None:
    assert json_codec.decode(study(image(1), image(2))).get("[2].InstanceNumber") == "2"
    assert json_codec.decode(study(image(1))).get("[2].InstanceNumber") is None


@pytest.mark.parametrize("path", ["", "PID-3", "Modalty", "Modality[0]", "ImageType.", "(0008,006)", "[0].Modality"])
def test_what_can_be_no_path_is_said_when_a_site_is_checked(path: str) -> None:
    with pytest.raises(ValueError, match=r"path|keyword"):
        codec.check_path(path)


def test_a_mistyped_keyword_is_corrected() -> None:
    with pytest.raises(ValueError, match="did you mean 'Modality'"):
        codec.check_path("Modalty")


def test_the_registry_knows_both() -> None:
    assert [registry.codec(one) for one in (DICOM, DICOM_JSON)] == [codec, json_codec]


# --- character sets --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted((FOLDER / "charset_files").glob("*.dcm")), ids=lambda name: name.stem)
def test_nothing_is_at_fault_in_files_that_are_right(name: Any) -> None:
    one = header(name.read_bytes())
    for owner, tag, _ in one.valued():
        owner.values(tag)
    assert one.root.faults == {}


@pytest.mark.parametrize(
    ("raw", "terms", "text"),
    [
        (b"\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", ["", "ISO 2022 IR 58"], "张^小东="),
        (b"\xd5\xc5^\xd0\xa1", ["", "ISO 2022 IR 58"], "张^小"),
        (b"\xc0\xb6=\x1b$B;3ED\x1b(B^x", ["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾀｶ=山田^x"),
        (b"A\x1b-F\xc4 \r\n\xc4", ["ISO 2022 IR 100", "ISO 2022 IR 126"], "AΔ \r\nÄ"),
        ("王\\x".encode("gb18030"), ["GB18030"], "王\\x"),
        ("ö".encode(), ["UTF-8"], "ö"),
        (b"\xe4", ["ISO-IR 100"], "ä"),
        (b"\xa4", ["ISO_IR 203"], "€"),
        (b"\xa1", ["ISO_IR 166"], "ก"),
    ],
)
def test_text_in_its_character_set(raw: bytes, terms: list[str], text: str) -> None:
    assert charset(terms).decode(raw, name=True) == (text, "")


@pytest.mark.parametrize(
    ("raw", "terms"),
    [
        (b"\xe4", []),
        (b"\xe4", ["ISO_IR 6"]),
        (b"\x80", ["ISO_IR 100"]),
        (b"\xcd\xf5", ["ISO_IR 192"]),
        (b"\x1b$B;", ["", "ISO 2022 IR 87"]),
        (b"\x1bZx", ["", "ISO 2022 IR 87"]),
        (b"\x1b", ["ISO_IR 100"]),
        (b"\xe4", ["ISO_IR 999"]),
    ],
)
def test_what_is_not_in_the_character_set_is_never_taken_for_something_else(raw: bytes, terms: list[str]) -> None:
    found = charset(terms).decode(raw)
    assert found.fault
    assert found.text.isascii() or "\ufffd" in found.text


def test_an_item_may_have_its_own_character_set() -> None:
    inner = data_set(SpecificCharacterSet="ISO_IR 100", CodeMeaning="Ä")
    assert codec.decode(file(image(ProcedureCodeSequence=[inner]))).get("ProcedureCodeSequence.CodeMeaning") == "Ä"


# --- bytes that lie --------------------------------------------------------------------------------------------------------------------


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def sequence(tag: int, *items: bytes, length: int | None = None) -> bytes:
    """A sequence of undefined length, or one that claims `length`."""
    inner = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(one)) + one for one in items)
    head = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, 0xFFFFFFFF if length is None else length)
    return head + inner + (struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if length is None else b"")


BEGIN = explicit(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\x00")


def test_every_cut_of_a_file_is_read_or_refused() -> None:
    whole = file(image(RequestAttributesSequence=[data_set(RequestedProcedureID="R1")]))
    outcomes = set()
    for end in range(len(whole)):
        try:
            header(whole[:end])
            outcomes.add("read")
        except ParseError as error:
            assert "P1" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_nest_of_sequences_is_refused() -> None:
    nested = explicit(0x0040A160, b"UT", b"")[:8] + b"\0\0\0\0"
    for _ in range(2000):
        nested = sequence(0x0040A730, nested)
    with pytest.raises(ParseError, match=f"deeper than {DEEPEST}"):
        header(BEGIN + nested)


def test_a_nest_in_json_is_refused() -> None:
    body = b'[{"0040A730":{"vr":"SQ","Value":' * 200 + b"[{}]" + b"}}]" * 200
    with pytest.raises(ParseError, match="deeper than"):
        list(instances(body)[0].valued())


@pytest.mark.parametrize("length", [0xFFFFFFFE, 1 << 31, 100])
def test_a_length_beyond_the_file_is_refused(length: int) -> None:
    with pytest.raises(ParseError):
        header(BEGIN + sequence(0x0040A730, b"", length=length))
    with pytest.raises(ParseError):
        header(BEGIN + struct.pack("<HH2sHI", 0x0008, 0x0018, b"UT", 0, length) + b"x")


def test_more_attributes_than_any_instance_has_are_refused() -> None:
    many = b"".join(explicit(0x00090000 + 0x1000 + number % 0xEFFF, b"SH", b"") for number in range(MOST + 1))
    with pytest.raises(ParseError, match="more than"):
        header(BEGIN + many)


def test_what_inflates_without_end_is_not_followed() -> None:
    """A gigabyte of zeros in a megabyte: at most INFLATED of it is ever there, and it is refused."""
    meta = explicit(0x00020010, b"UI", b"1.2.840.10008.1.2.1.99")
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = squeeze.compress(BEGIN) + b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(2 * (INFLATED >> 20))) + squeeze.flush()
    with pytest.raises(ParseError):
        header(bytes(128) + b"DICM" + meta + body)
    with pytest.raises(ParseError, match="deflated"):
        header(bytes(128) + b"DICM" + meta + b"\xff\xff\xff\xff")


@pytest.mark.parametrize("body", [b"", b"DICM", bytes(200), b"PID|1||P1||Wang^XiaoMing\rPV1|1|I\r", bytes(128) + b"DICM"])
def test_what_is_no_dicom_file_is_refused_without_its_text(body: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        header(body)
    assert "5049" not in str(caught.value)


def test_an_encapsulated_icon_is_passed_over() -> None:
    """Fragments inside an item (PS3.5 annex A.4): what stands behind them is read."""
    fragments = struct.pack("<HHI", 0xFFFE, 0xE000, 4) + b"abcd" + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    icon = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + fragments
    found = header(BEGIN + sequence(0x00880200, icon) + explicit(0x00880140, b"UI", b"1.2\x00"))
    assert found.text(0x00880140) == "1.2"


def test_a_report_with_a_thousand_items_is_read_at_once() -> None:
    items = [item("CONTAINS", "TEXT", code("121071", "DCM", "Finding"), TextValue=str(number)) for number in range(1000)]
    body = file(image(ContentSequence=items))
    began = time.process_time()
    assert len(header(body).items(0x0040A730)) == 1000
    assert time.process_time() - began < 5
