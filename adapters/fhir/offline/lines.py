"""A stream cut into lines (ndjson: each line is one JSON text, ended by a line feed). Pure.

Memory is bounded by the longest line that is taken: of a longer one only its length is known. Empty lines are counted and have no
content; a carriage return before the line feed is white space. Any chunking of the same bytes gives the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_BLANK: Final = b" \t\r"
_MARK: Final = b"\xef\xbb\xbf"
"""A byte order mark, which RFC 8259 clause 8.1 lets a reader ignore."""


class Line(NamedTuple):
    """`number` counts from 1. `content` is empty where `length`, in bytes, is more than is taken."""

    number: int
    content: bytes
    length: int


class Lines:
    """`most` bytes of a line are taken."""

    def __init__(self, most: int) -> None:
        self._most = most
        # lines with nothing in them are gone over at once: a small packed body may be made of millions
        self._empty = re.compile(rb"(?:[ \t\r]{0,%d}+\n)++" % most)
        self._part = bytearray()
        self._length = self._number = 0

    def each(self, pieces: Iterable[bytes]) -> Iterator[Line]:
        """The lines that end in `pieces`, which are asked for one by one."""
        for piece in pieces:
            yield from self._cut(piece)

    def last(self) -> Line | None:
        """The stream has ended: what stands after the last line feed."""
        return self._line(b"")

    def _cut(self, piece: bytes) -> Iterator[Line]:
        begin = 0
        while (end := piece.find(b"\n", begin)) >= 0:
            line = self._line(piece[begin:end])
            begin = end + 1
            if line is not None:
                yield line
            empty = self._empty.match(piece, begin)
            if empty is not None:
                self._number += piece.count(b"\n", begin, empty.end())
                begin = empty.end()
        self._add(piece[begin:])

    def _add(self, part: bytes) -> None:
        self._length += len(part)
        if self._length <= self._most:
            self._part += part
        else:
            self._part.clear()

    def _line(self, end: bytes) -> Line | None:
        """None where it is empty."""
        self._number += 1
        self._add(end)
        content, length = bytes(self._part).strip(_BLANK), self._length
        self._part.clear()
        self._length = 0
        if self._number == 1:
            content = content.removeprefix(_MARK)
        return Line(self._number, content, length) if content or length > self._most else None
