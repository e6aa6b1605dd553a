"""Just enough of PS3.5 §7 and PS3.10 §7 to walk over the large parts of a file without reading them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from engine.errors import Quarantined

PIXELS: Final = 0x7FE0
UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = (0xFFFE, 0xE000)
_SEQUENCE_END: Final = (0xFFFE, 0xE0DD)
_LONG: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_CHUNK: Final = 1 << 20
_MOST_META: Final = 64 << 10
_MOST_INFLATED: Final = 8 << 30

Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Of a data set, by its transfer syntax (PS3.5 §10, annex A)."""

    implicit: bool
    little: bool
    deflated: bool

    @property
    def order(self) -> str:
        return "<" if self.little else ">"


def encoding_of(transfer_syntax: str) -> Encoding:
    """All others than these three are explicit VR little endian (PS3.5 annex A.4)."""
    return Encoding(
        transfer_syntax == "1.2.840.10008.1.2", transfer_syntax != "1.2.840.10008.1.2.2", transfer_syntax == "1.2.840.10008.1.2.1.99"
    )


def read_meta(file: BinaryIO) -> bytes:
    """The file meta information, group 2, as bytes; the file then stands at the data set. Raises Quarantined for what is no PS3.10 file."""
    if file.read(132)[128:] != b"DICM":
        raise Quarantined("this is no DICOM file: it has no preamble and prefix (PS3.10 section 7.1)")
    pieces: list[bytes] = []
    size = 0
    while True:
        head = file.read(8)
        if len(head) < 8 or head[:2] != b"\x02\x00":
            file.seek(-len(head), 1)
            return b"".join(pieces)
        length = struct.unpack("<H", head[6:])[0]
        if head[4:6] in _LONG:
            head += file.read(4)
            length = struct.unpack("<I", head[8:])[0] if len(head) == 12 else UNDEFINED
        size += len(head) + length
        if size > _MOST_META:
            raise Quarantined("the file meta information is damaged or too long")
        pieces += [head, file.read(length)]


def copy_pixels(file: BinaryIO, write: Write, encoding: Encoding) -> None:
    """Copy the elements of group 7FE0 as they are and stop: what follows (signatures, padding, private groups) is not to leave."""
    while True:
        head = file.read(8)
        if not head:
            return
        if len(head) < 8:
            raise _cut()
        if struct.unpack(f"{encoding.order}H", head[:2])[0] != PIXELS:
            return
        if encoding.implicit:
            length = struct.unpack(f"{encoding.order}I", head[4:])[0]
        elif head[4:6] in _LONG:
            head += file.read(4)
            if len(head) < 12:
                raise _cut()
            length = struct.unpack(f"{encoding.order}I", head[8:])[0]
        else:
            length = struct.unpack(f"{encoding.order}H", head[6:])[0]
        write(head)
        if length == UNDEFINED:
            _copy_fragments(file, write, encoding)
        else:
            _copy(file, write, length)


def _copy_fragments(file: BinaryIO, write: Write, encoding: Encoding) -> None:
    """Encapsulated pixel data (PS3.5 annex A.4): items until the sequence delimiter."""
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise _cut()
        group, element, length = struct.unpack(f"{encoding.order}HHI", head)
        write(head)
        if (group, element) == _SEQUENCE_END:
            return
        if (group, element) != _ITEM or length == UNDEFINED:
            raise Quarantined("the encapsulated pixel data are damaged", location="PixelData")
        _copy(file, write, length)


def _copy(file: BinaryIO, write: Write, length: int) -> None:
    while length:
        piece = file.read(min(length, _CHUNK))
        if not piece:
            raise _cut()
        write(piece)
        length -= len(piece)


def _cut() -> Quarantined:
    return Quarantined("the file ends in the middle of an element")


def inflate(file: BinaryIO, write: Write) -> None:
    """A deflated data set (PS3.5 annex A.5) as it was. Raises Quarantined for damage, and for more than 8 GB."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    try:
        while not inflater.eof and (piece := inflater.unconsumed_tail or file.read(_CHUNK)):
            plain = inflater.decompress(piece, _CHUNK)
            size += len(plain)
            if size > _MOST_INFLATED:
                raise Quarantined("the deflated data set is too long")
            write(plain)
    except zlib.error:
        raise Quarantined("the deflated data set is damaged") from None
    if not inflater.eof:
        raise _cut()


class Deflating:
    """Deflates what is written through it."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        self._size = 0

    def write(self, plain: bytes) -> None:
        self._send(self._deflater.compress(plain))

    def finish(self) -> None:
        """A stream of an odd length is padded (PS3.5 annex A.5)."""
        self._send(self._deflater.flush())
        self._write(b"\0" * (self._size % 2))

    def _send(self, piece: bytes) -> None:
        self._size += len(piece)
        self._write(piece)


class Bounded:
    """A file of which no more than `most` bytes are read before it is told to let go."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._left = file, most
        self.name = ""
        self.tell, self.seek, self.close = file.tell, file.seek, file.close

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(piece)
        if self._left < 0:
            raise Quarantined("what precedes the pixel data is too long")
        return piece
