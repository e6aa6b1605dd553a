"""The lines of a byte stream, as they stand, at flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

CHUNK: Final = 1 << 20
UTF_8_MARK: Final = b"\xef\xbb\xbf"


class RawLine(NamedTuple):
    """`content` has its line end (LF, CR LF or CR; none at the end of the file). `cut`: it is longer, and the rest of it is left out."""

    number: int
    offset: int
    content: bytes
    cut: bool = False


def raw_lines(stream: BinaryIO, most: int) -> Iterator[RawLine]:
    """Lines of at most `most` bytes; of a longer one the beginning. In the character sets taken here no part of a character is CR or LF."""
    number, offset, begun, skipping = 1, 0, b"", False
    while chunk := _chunk(stream):
        parts = (begun + chunk).splitlines(keepends=True)  # of bytes: at LF, CR LF and CR only
        begun = b"" if parts[-1].endswith((b"\n", b"\r")) else parts.pop()
        for part in parts:
            if not skipping:
                yield RawLine(number, offset, part[:most], len(part) > most)
            offset, number, skipping = offset + len(part), number + 1, False
        if len(begun) > most:
            if not skipping:
                yield RawLine(number, offset, begun[:most], cut=True)
            offset, begun, skipping = offset + len(begun), b"", True
    if begun and not skipping:
        yield RawLine(number, offset, begun)


def _chunk(stream: BinaryIO) -> bytes:
    """The next bytes; never with a CR at their end whose LF is still to come."""
    chunk = stream.read(CHUNK)
    while chunk.endswith(b"\r") and (more := stream.read(1)):
        chunk += more
    return chunk
