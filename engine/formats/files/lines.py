"""The lines of a byte stream, as they stand, at flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from engine.errors import ParseError

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
    while chunk := stream.read(CHUNK):
        parts = (begun + chunk).splitlines(keepends=True)  # of bytes: at LF, CR LF and CR only
        begun = b"" if parts[-1].endswith(b"\n") else parts.pop()  # the LF of a CR may be still to come
        for part in parts:
            if not skipping:
                yield RawLine(number, offset, part[:most], len(part) > most)
            offset, number, skipping = offset + len(part), number + 1, False
        if len(begun) > most:
            if not skipping:
                yield RawLine(number, offset, begun[:most], cut=True)
            kept = b"\r" if begun.endswith(b"\r") else b""
            offset, begun, skipping = offset + len(begun) - len(kept), kept, True
    if begun and not skipping:
        yield RawLine(number, offset, begun)


_NO_TEXT: Final = (
    (b"PK\x03\x04", "it is a zip archive, as .xlsx and .ods are: have the table saved as CSV"),
    (b"\xd0\xcf\x11\xe0", "it is a document of old Office programs, as .xls is: have the table saved as CSV"),
    (b"\x1f\x8b", "it is compressed (gzip): such a file is called NAME.gz"),
    (b"%PDF-", "it is a PDF"),
    (b"\xff\xfe", "its encoding is UTF-16, which is not taken: have it written in UTF-8 or GB18030"),
    (b"\xfe\xff", "its encoding is UTF-16, which is not taken: have it written in UTF-8 or GB18030"),
    (b"<html", "it is an HTML page, whatever its name says: have the table saved as CSV"),
    (b"<!doctype", "it is an HTML page, whatever its name says: have the table saved as CSV"),
)
"""How files begin that are given for tables and are none."""


def text_lines(stream: BinaryIO, most: int) -> Iterator[RawLine]:
    """Those of a table. Raises ParseError where the file begins as something else."""
    for line in raw_lines(stream, most):
        if line.number == 1:
            _check(line.content)
        yield line


def _check(begin: bytes) -> None:
    if b"<" in begin[:16]:
        begin = begin.removeprefix(UTF_8_MARK).lstrip().lower()
    for mark, said in _NO_TEXT:
        if begin.startswith(mark):
            raise ParseError(f"this is no table: {said}")
