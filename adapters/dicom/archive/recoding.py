"""A data set in the other of the two uncompressed little endian transfer syntaxes (PS3.5 A.1, A.2), as a stream. Pure.

Values are copied, only the heads of elements change: nothing of the image is decoded, and memory does not depend on its size. Sequences and
items get undefined length, since their length in the other encoding is known only at their end. Group lengths (retired) are left out.
What has no VR in the dictionary becomes UN, and so does a value that is too long for the VR that it had.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from pydicom.datadict import dictionary_VR

from adapters.dicom.archive.header import EXPLICIT, IMPLICIT
from engine.errors import ParseError, UnsupportedError

PAIR: Final = {EXPLICIT: IMPLICIT, IMPLICIT: EXPLICIT}
"""Each of the two transfer syntaxes, and the other."""

_LONG: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_AMBIGUOUS: Final = {"US or SS": b"US", "OB or OW": b"OW", "US or OW": b"OW", "US or SS or OW": b"OW"}
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END, _PIXEL_DATA = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x7FE00010
_HEAD_OF_ITEM: Final = struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)
_END_OF_ITEM: Final = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
_END_OF_SEQUENCE: Final = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_DEPTH: Final = 24
_PIECE: Final = 256 << 10


def recoded(file: BinaryIO, transfer_syntax: str) -> Iterator[bytes]:
    """The data set that begins where `file` stands, which is in `transfer_syntax`, in the other one; in pieces of about 256 KB. Raises
    ParseError where it ends too early or is nested too deep, UnsupportedError for what only compressed transfer syntaxes have."""
    gathered, size = [], 0
    for part in _Recoder(file).elements(transfer_syntax == EXPLICIT, None, 0):
        gathered.append(part)
        size += len(part)
        if size >= _PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


class _Recoder:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._signed = False
        self.to_explicit = False

    def elements(self, explicit: bool, end: int | None, depth: int) -> Iterator[bytes]:
        """Up to `end`, an item's end, or the end of the file; `explicit` is how they are written."""
        if depth == 0:
            self.to_explicit = not explicit
        if depth > _DEPTH:
            raise ParseError(f"sequences are nested deeper than {_DEPTH}")
        while end is None or self._file.tell() < end:
            head = self._file.read(8)
            if not head and depth == 0:
                return
            tag, vr, length = self._head(head, explicit)
            if tag == _ITEM_END:
                return
            if vr == b"SQ" or length == _UNDEFINED:
                yield from self._sequence(tag, vr, length, explicit, depth)
            else:
                yield from self._plain(tag, vr, length)

    def _head(self, head: bytes, explicit: bool) -> tuple[int, bytes, int]:
        if len(head) < 8:
            raise ParseError("the data set ends within an element")
        group, element, length = struct.unpack("<HHI", head)
        tag = group << 16 | element
        if group == 0xFFFE:
            return tag, b"", length
        if not explicit or not head[4:6].isalpha():
            return tag, self._vr(tag, length), length
        vr = head[4:6]
        return tag, vr, struct.unpack("<I", self._exactly(4))[0] if vr in _LONG else struct.unpack("<H", head[6:])[0]

    def _vr(self, tag: int, length: int) -> bytes:
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            return b"LO" if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF else b"SQ" if length == _UNDEFINED else b"UN"
        return b"SS" if vr == "US or SS" and self._signed else _AMBIGUOUS.get(vr) or vr.encode()

    def _plain(self, tag: int, vr: bytes, length: int) -> Iterator[bytes]:
        if tag == 0x00280103 and length == 2:
            value = self._exactly(2)
            self._signed = value == b"\1\0"
            yield self._new_head(tag, vr, 2) + value
            return
        if length % 2:
            raise ParseError("a value of odd length (PS3.5 7.1.1)")
        wanted = tag & 0xFFFF != 0
        if wanted:
            yield self._new_head(tag, vr, length)
        while length:
            piece = self._exactly(min(length, _PIECE))
            length -= len(piece)
            if wanted:
                yield piece

    def _sequence(self, tag: int, vr: bytes, length: int, explicit: bool, depth: int) -> Iterator[bytes]:
        if tag == _PIXEL_DATA:
            raise UnsupportedError("fragments of pixel data are of compressed transfer syntaxes only")
        inside = explicit and vr != b"UN"  # PS3.5 6.2.2: what is in a UN is in implicit VR
        end = None if length == _UNDEFINED else self._file.tell() + length
        yield self._new_head(tag, b"SQ", _UNDEFINED)
        while end is None or self._file.tell() < end:
            item, _, item_length = self._head(self._file.read(8), inside)
            if item != _ITEM:
                break
            yield _HEAD_OF_ITEM
            yield from self.elements(inside, None if item_length == _UNDEFINED else self._file.tell() + item_length, depth + 1)
            yield _END_OF_ITEM
        yield _END_OF_SEQUENCE

    def _new_head(self, tag: int, vr: bytes, length: int) -> bytes:
        head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if not self.to_explicit:
            return head + struct.pack("<I", length)
        if vr in _LONG or length > 0xFFFF:
            return head + (vr if vr in _LONG else b"UN") + b"\0\0" + struct.pack("<I", length)
        return head + vr + struct.pack("<H", length)

    def _exactly(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise ParseError("the data set ends within an element")
        return data
