"""Data sets of a worklist as plain values, and their bytes (PS3.5 clause 7.1). Pure.

An `Item` is tag -> values as text, or the items of a sequence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from struct import pack, unpack
from typing import Any, Final, TypeAlias
from warnings import catch_warnings, simplefilter

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import dcmread, read_dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from adapters.dicom.worklist import repertoire
from adapters.dicom.worklist.attributes import CHARSET, below
from engine.errors import ParseError

Item: TypeAlias = dict[int, "tuple[str, ...] | list[Item]"]
Content: TypeAlias = dict[str, Any]

_TEXT: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_PLAIN: Final = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"))
_LONG: Final = frozenset(("SQ", "UC", "UN", "UR", "UT"))
_ONE_VALUE: Final = frozenset(("LT", "ST", "UR", "UT"))
_DEEPEST: Final = 8
_UNREADABLE: Final = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    NotImplementedError,
    struct.error,
    RecursionError,
    InvalidDicomError,
)
"""What pydicom raises over bytes that are no data set."""


def parse(raw: bytes, transfer_syntax: str) -> tuple[Item, list[str]]:
    """A data set and its character set (0008,0005). Raises ParseError."""
    try:
        found = read_dataset(BytesIO(raw), transfer_syntax == ImplicitVRLittleEndian, transfer_syntax != ExplicitVRBigEndian)
        charset = _plain(found.get_item(CHARSET)) if CHARSET in found else ()
        return _item(found, list(charset), _DEEPEST), list(charset)
    except _UNREADABLE as error:
        raise ParseError(f"the data set cannot be read: {type(error).__name__}") from None


def parse_file(raw: bytes) -> tuple[str, Content]:
    """The SOP Instance UID of a PS3.10 file, and its data set as what can be kept: tag in hex -> values. Raises ParseError."""
    try:
        with catch_warnings():
            simplefilter("ignore")
            found = dcmread(BytesIO(raw))
        charset = _plain(found.get_item(CHARSET)) if CHARSET in found else ()
        return str(found.file_meta.MediaStorageSOPInstanceUID), _content(_item(found, list(charset), _DEEPEST))
    except _UNREADABLE as error:
        raise ParseError(f"the data set cannot be read: {type(error).__name__}") from None


def encode(item: Item, charset: Sequence[str], *, implicit: bool) -> bytes:
    """Little Endian. Raises UnicodeEncodeError where a text is not in `charset`."""
    return b"".join(_elements(item, charset, implicit, 0))


# --- out -------------------------------------------------------------------------------------------


def _elements(item: Item, charset: Sequence[str], implicit: bool, sequence: int) -> Iterator[bytes]:
    names: Mapping[int, str] = below(sequence)
    for tag in sorted(item):
        values, vr = item[tag], names[tag]
        if vr == "SQ":
            nested = (b"".join(_elements(one, charset, implicit, tag)) for one in values if isinstance(one, dict))
            value = b"".join(pack("<HHL", 0xFFFE, 0xE000, len(one)) + one for one in nested)
        else:
            value = _value(vr, [one for one in values if isinstance(one, str)], charset)
        yield _head(tag, vr, len(value), implicit) + value


def _value(vr: str, values: Sequence[str], charset: Sequence[str]) -> bytes:
    if vr == "US":
        return b"".join(pack("<H", int(one)) for one in values if one)
    text = "\\".join(values)
    raw = repertoire.encode(text, charset, name=vr == "PN") if vr in _TEXT else text.encode("ascii")
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)


def _head(tag: int, vr: str, length: int, implicit: bool) -> bytes:
    place = pack("<HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return place + pack("<L", length)
    return place + vr.encode() + (pack("<HL", 0, length) if vr in _LONG else pack("<H", length))


# --- in --------------------------------------------------------------------------------------------


def _item(found: Dataset, charset: list[str], deep: int) -> Item:
    if not deep:
        raise ValueError("sequences in sequences in sequences")
    item: Item = {}
    for tag in found.keys():  # noqa: SIM118  the elements themselves would be decoded
        raw = found.get_item(tag)
        vr = _vr(raw)
        if vr == "SQ":
            item[int(tag)] = [_item(one, charset, deep - 1) for one in found[tag].value]
        elif vr in _TEXT:
            text = repertoire.decode(_bytes(raw), charset).strip("\0 ")
            item[int(tag)] = _split(text, vr)
        else:
            item[int(tag)] = _plain(raw)
    return item


def _content(item: Item) -> Content:
    return {f"{tag:08X}": [_content(one) if isinstance(one, dict) else one for one in values] for tag, values in item.items()}


def _vr(raw: object) -> str:
    """Its own VR, the dictionary's where the transfer syntax has none or says UN."""
    vr = str(getattr(raw, "VR", None) or "UN")
    if vr == "UN":
        try:
            return str(dictionary_VR(raw.tag))  # type: ignore[attr-defined]
        except KeyError:
            return "UN"
    return vr


def _bytes(raw: object) -> bytes:
    value = raw.value if isinstance(raw, RawDataElement) else b""
    return value or b""


def _plain(raw: object) -> tuple[str, ...]:
    vr, value = _vr(raw), _bytes(raw)
    if vr == "US":
        return tuple(str(number) for number in unpack(f"<{len(value) // 2}H", value[: len(value) // 2 * 2]))
    return _split(value.decode("ascii", "replace").strip("\0 "), vr) if vr in _PLAIN else ()


def _split(text: str, vr: str) -> tuple[str, ...]:
    if not text:
        return ()
    return (text,) if vr in _ONE_VALUE else tuple(one.strip() for one in text.split("\\"))
