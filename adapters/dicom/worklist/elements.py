"""Data sets of a worklist as plain values, and their bytes (PS3.5 clause 7.1). Pure.

An `Item` is tag -> values as text, or the items of a sequence. Values of other VRs than text and US have none here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from struct import pack
from typing import Any, Final, TypeAlias

from pydicom.datadict import dictionary_VR
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from adapters.dicom.worklist import repertoire
from adapters.dicom.worklist.attributes import CHARSET, below
from engine.errors import ParseError

Item: TypeAlias = dict[int, "tuple[str, ...] | list[Item]"]
Content: TypeAlias = dict[str, Any]

_TEXT: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_PLAIN: Final = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"))
_LONG: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_ONE_VALUE: Final = frozenset(("LT", "ST", "UR", "UT"))
_DEEPEST: Final = 8
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


def parse(raw: bytes, transfer_syntax: str, charset: Sequence[str] = ()) -> tuple[Item, list[str]]:
    """A data set and its character set (0008,0005); where it says none its text is read in `charset`. Raises ParseError."""
    reader = _Reader(raw, transfer_syntax)
    try:
        item = reader.item(0, len(raw), list(charset), _DEEPEST)
    except (struct.error, ValueError) as error:
        raise ParseError(f"the data set cannot be read: {error}") from None
    return item, [one for one in item.get(CHARSET, ()) if isinstance(one, str)]


def parse_file(raw: bytes) -> tuple[str, Content]:
    """The SOP Instance UID of a PS3.10 file, and its data set as what can be kept: tag in hex -> values. Raises ParseError."""
    if raw[128:132] != b"DICM":
        raise ParseError("this is no DICOM file")
    length = int.from_bytes(raw[140:144], "little")  # (0002,0000), in Explicit VR Little Endian
    meta, _ = parse(raw[144 : 144 + length], ExplicitVRLittleEndian)
    uid, syntax = ("".join(map(str, meta.get(tag, ()))) for tag in (0x00020003, 0x00020010))
    item, _ = parse(raw[144 + length :], syntax)
    return uid, _content(item)


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
    raw = repertoire.encode(text, charset, name=vr == "PN") if vr in _TEXT else text.encode("ascii", "replace")
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)


def _head(tag: int, vr: str, length: int, implicit: bool) -> bytes:
    place = pack("<HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return place + pack("<L", length)
    return place + vr.encode() + (pack("<HL", 0, length) if vr in _LONG else pack("<H", length))


# --- in --------------------------------------------------------------------------------------------


class _Reader:
    """Reads strictly: what is cut short, or nested deeper than anything here is, raises struct.error or ValueError."""

    def __init__(self, raw: bytes, transfer_syntax: str) -> None:
        self._raw = raw
        self._explicit = transfer_syntax != ImplicitVRLittleEndian
        self._order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"

    def item(self, at: int, end: int, charset: list[str], deep: int) -> Item:
        item, _ = self._elements(at, end, charset, deep)
        return item

    def _elements(self, at: int, end: int, charset: list[str], deep: int) -> tuple[Item, int]:
        """Up to `end` or an item's delimitation; gives where it stopped."""
        if not deep:
            raise ValueError("sequences are nested too deep")
        item: Item = {}
        while at < end:
            tag, vr, length, at = self._head(at)
            if tag == _ITEM_END:
                return item, at
            if vr == "SQ" or length == _UNDEFINED:
                items, at = self._sequence(at, length, end, charset, deep - 1)
                item[tag] = items
                continue
            if at + length > end:
                raise ValueError("an element is cut short")
            item[tag] = self._values(vr, self._raw[at : at + length], charset)
            if tag == CHARSET:
                charset = [one for one in item[tag] if isinstance(one, str)]
            at += length
        return item, at

    def _sequence(self, at: int, length: int, end: int, charset: list[str], deep: int) -> tuple[list[Item], int]:
        stop = end if length == _UNDEFINED else at + length
        if stop > end:
            raise ValueError("a sequence is cut short")
        items: list[Item] = []
        while at < stop:
            tag, _, size, at = self._head(at)
            if tag == _SEQUENCE_END:
                return items, at
            if tag != _ITEM or (size != _UNDEFINED and at + size > stop):
                raise ValueError("a sequence is made of items")
            found, at = self._elements(at, stop if size == _UNDEFINED else at + size, charset, deep)
            items.append(found)
        return items, at

    def _head(self, at: int) -> tuple[int, str, int, int]:
        """Tag, VR, length, and where the value begins. A VR that is not said, or UN, is the dictionary's."""
        group, element = struct.unpack_from(f"{self._order}HH", self._raw, at)
        tag = group << 16 | element
        if not self._explicit or group == 0xFFFE:
            return tag, _known(tag), struct.unpack_from(f"{self._order}L", self._raw, at + 4)[0], at + 8
        vr = self._raw[at + 4 : at + 6].decode("ascii", "replace")
        if vr in _LONG:
            return tag, _known(tag) if vr == "UN" else vr, struct.unpack_from(f"{self._order}L", self._raw, at + 8)[0], at + 12
        return tag, vr, struct.unpack_from(f"{self._order}H", self._raw, at + 6)[0], at + 8

    def _values(self, vr: str, raw: bytes, charset: list[str]) -> tuple[str, ...]:
        if vr == "US":
            return tuple(str(number) for number in struct.unpack(f"{self._order}{len(raw) // 2}H", raw[: len(raw) // 2 * 2]))
        if vr in _TEXT:
            return _split(repertoire.decode(raw, charset).strip("\0 "), vr)
        return _split(raw.decode("ascii", "replace").strip("\0 "), vr) if vr in _PLAIN else ()


def _known(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _split(text: str, vr: str) -> tuple[str, ...]:
    if not text:
        return ()
    return (text,) if vr in _ONE_VALUE else tuple(one.strip() for one in text.split("\\"))


def _content(item: Item) -> Content:
    return {f"{tag:08X}": [_content(one) if isinstance(one, dict) else one for one in values] for tag, values in item.items()}
