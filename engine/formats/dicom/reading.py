"""The header of a PS3.10 file: everything before the pixels, in any transfer syntax, within bounds (PS3.5 clause 7, PS3.10 clause 7).

What is read is what the bytes are, not what they claim: lengths are checked against what is there, sequences are no deeper than DEEPEST,
attributes no more than MOST, and a deflated data set is not inflated beyond INFLATED bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from struct import Struct
from typing import Final

from engine.errors import ParseError
from engine.formats.dicom.charsets import Charset, charset
from engine.formats.dicom.dataset import DEEPEST, SPECIFIC_CHARACTER_SET, DataSet, Element, Root
from engine.formats.dicom.dictionary import LONG, SHORT, keyword_of, vr_of

MOST: Final = 200_000
INFLATED: Final = 64 << 20
IMPLICIT: Final = "1.2.840.10008.1.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
TRANSFER_SYNTAX: Final = 0x00020010
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_PIXELS: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_LATE: Final = 0x50000000
"""From here on come curves, functional groups of frames, waveforms, overlays, spectra: what an excerpt may be cut off in."""
_CODES: Final = {vr.encode(): vr for vr in LONG | SHORT}


@dataclass(frozen=True, slots=True)
class Coding:
    """How elements are written."""

    explicit: bool
    little: bool

    def numbers(self) -> tuple[Struct, Struct, Struct]:
        mark = "<" if self.little else ">"
        return Struct(mark + "HH"), Struct(mark + "H"), Struct(mark + "I")


def header(body: bytes, *, fallback: str = "", excerpt: bool = False) -> DataSet:
    """The data set of a file up to its pixels, with its file meta information. `excerpt` says that `body` is only the beginning.
    Raises ParseError."""
    root = Root(fallback)
    made = DataSet(root)
    at = 132 if body[128:132] == b"DICM" else 0
    meta = DataSet(root)
    at = _Reader(body, Coding(True, True), meta, excerpt).group_2(at)
    syntax = meta.text(TRANSFER_SYNTAX)
    rest = body
    if syntax == DEFLATED:
        rest, at = _inflated(body[at:]), 0
        excerpt = excerpt or len(rest) >= INFLATED
    reader = _Reader(rest, _coding(syntax, rest, at), made, excerpt)
    reader.all(at)
    made.elements = {**meta.elements, **made.elements}
    if not any(tag >> 16 > 2 for tag in made.elements):
        raise ParseError("this is no DICOM file: it holds no data set", location="data set")
    return made


def _coding(syntax: str, body: bytes, at: int) -> Coding:
    """What the transfer syntax says, unless the first element shows that it is otherwise, as some writers have it."""
    little = syntax != BIG_ENDIAN if syntax else body[at : at + 1] != b"\x00" or body[at + 1 : at + 2] == b"\x00"
    seen = body[at + 4 : at + 6] in _CODES
    return Coding(seen, little)


def _inflated(deflated: bytes) -> bytes:
    """RFC 1951, bounded."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, INFLATED)
    except zlib.error:
        raise ParseError("the data set says that it is deflated, and is not", location="data set") from None


class _Reader:
    """Reads elements one after the other. One reader per way of writing; an item is read by the same one."""

    def __init__(self, body: bytes, coding: Coding, into: DataSet, excerpt: bool, count: list[int] | None = None) -> None:
        self._body, self._coding, self._into, self._excerpt = body, coding, into, excerpt
        self._pair, self._short, self._long = coding.numbers()
        self._count = count if count is not None else [0]

    def group_2(self, at: int) -> int:
        """The file meta information at `at`, where there is any; where it ends."""
        while len(self._body) - at >= 8 and self._tag(at) >> 16 == 2:
            try:
                at = self._element(at, self._into, 0, len(self._body))
            except _Cut:
                raise ParseError("the file ends inside its meta information", location=f"byte {at}") from None
        return at

    def all(self, at: int) -> None:
        """The whole data set, up to the pixels."""
        end = len(self._body)
        while end - at >= 8:
            tag = self._tag(at)
            if tag in _PIXELS:
                return
            if tag >> 16 == 0:
                raise ParseError("this is no DICOM file: no element begins here", location=f"byte {at}")
            try:
                at = self._element(at, self._into, 0, end)
            except _Cut:
                if self._excerpt and tag >= _LATE:
                    return
                raise ParseError("the file ends inside an element", location=f"byte {at}") from None
        if end - at and not self._excerpt and self._body[at:].strip(b"\x00"):
            raise ParseError("the file ends inside an element", location=f"byte {at}")

    def _tag(self, at: int) -> int:
        group, element = self._pair.unpack_from(self._body, at)
        return int(group) << 16 | int(element)

    def _head(self, at: int, end: int) -> tuple[int, str, int, int]:
        """(tag, VR, length, where the value begins)"""
        if end - at < 8:
            raise _Cut
        tag = self._tag(at)
        vr = _CODES.get(self._body[at + 4 : at + 6]) if self._coding.explicit else None
        if self._coding.explicit and vr is None and tag >> 16 != 0xFFFE and self._body[at + 4 : at + 6].isupper():
            vr = "UN"  # a VR of a later edition: 32 bits of length (PS3.5 clause 6.2)
        if vr is None:
            return tag, vr_of(tag) if tag >> 16 != 0xFFFE else "", int(self._long.unpack_from(self._body, at + 4)[0]), at + 8
        if vr in LONG:
            if end - at < 12:
                raise _Cut
            return tag, vr, int(self._long.unpack_from(self._body, at + 8)[0]), at + 12
        return tag, vr, int(self._short.unpack_from(self._body, at + 6)[0]), at + 8

    def _element(self, at: int, into: DataSet, depth: int, end: int) -> int:
        """Read the element at `at` into `into`; where the next one begins."""
        self._count[0] += 1
        if self._count[0] > MOST:
            raise ParseError(f"there are more than {MOST} attributes", location="data set")
        tag, vr, length, begin = self._head(at, end)
        reader: _Reader = self
        if vr == "UN":
            known = vr_of(tag)
            if length == _UNDEFINED or known == "SQ":
                vr, reader = "SQ", self._implicit()  # PS3.5 clause 6.2.2 note 2
            elif known != "UN" and tag >> 16 & 1 == 0:
                vr = known
        if vr == "SQ":
            items: list[DataSet] = []
            after = reader._sequence(items, begin, length, (into, tag), depth + 1, end)
            into.elements[tag] = Element("SQ", inner=tuple(items))
            return after
        if length == _UNDEFINED:
            return self._fragments(begin, end)
        if begin + length > end:
            raise _Cut
        into.elements[tag] = Element(vr, self._body[begin : begin + length], little=reader._coding.little)
        return begin + length

    def _implicit(self) -> _Reader:
        return _Reader(self._body, Coding(False, True), self._into, self._excerpt, self._count)

    def _sequence(self, items: list[DataSet], at: int, length: int, owner: tuple[DataSet, int], depth: int, end: int) -> int:
        into, tag = owner
        if depth > DEEPEST:
            raise ParseError(f"sequences are nested deeper than {DEEPEST}", location=keyword_of(tag))
        stop = end if length == _UNDEFINED else at + length
        if stop > end:
            raise _Cut
        while at < stop:
            mark, _, size, begin = self._head(at, stop)
            if mark == _SEQUENCE_END and length == _UNDEFINED:
                return begin
            if mark != _ITEM:
                raise ParseError("a sequence holds what is no item", location=into.path + keyword_of(tag))
            item = DataSet(into.root, _charset(into), f"{into.path}{keyword_of(tag)}[{len(items) + 1}].")
            items.append(item)
            at = self._item(item, begin, size, depth, stop)
        if length == _UNDEFINED:
            raise _Cut
        return at

    def _item(self, item: DataSet, at: int, size: int, depth: int, end: int) -> int:
        stop = end if size == _UNDEFINED else at + size
        if stop > end:
            raise _Cut
        while at < stop:
            if size == _UNDEFINED and stop - at >= 8 and self._tag(at) == _ITEM_END:
                return at + 8
            at = self._element(at, item, depth, stop)
        if size == _UNDEFINED:
            raise _Cut
        return at

    def _fragments(self, at: int, end: int) -> int:
        """Encapsulated pixels inside an item (PS3.5 annex A.4): skipped."""
        while True:
            mark, _, size, begin = self._head(at, end)
            if mark == _SEQUENCE_END:
                return begin
            if mark != _ITEM or begin + size > end:
                raise _Cut
            at = begin + size


class _Cut(Exception):  # not an error of its own: what it means depends on whether all of the file is here
    """The bytes end before what they announce."""


def _charset(owner: DataSet) -> Charset:
    own = owner.elements.get(SPECIFIC_CHARACTER_SET)
    return charset(own.plain()) if own is not None else owner.charset
