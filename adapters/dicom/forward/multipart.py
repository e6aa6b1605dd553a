"""The content of the one part of a multipart body (RFC 2046 clause 5.1.1), as it comes. Pure.

A body of several parts is refused: one instance was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from engine.errors import FramingError

_MOST_HEAD: Final = 8192


class MultipartReader:
    """Cuts the part's content out of any chunking of the body."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")
        self._inside = self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The content that `data` brings. Raises FramingError."""
        if self._ended:
            return
        self._buffer += data
        if not self._inside and not self._read_head():
            return
        found = self._buffer.find(self._delimiter)
        sure = found if found >= 0 else len(self._buffer) - len(self._delimiter) + 1
        if sure > 0:
            yield bytes(self._buffer[:sure])
            del self._buffer[:sure]
        if found >= 0:
            self._end()

    def finish(self) -> None:
        """The body has ended. Raises FramingError where its part has not, or where there was another."""
        if not self._ended:
            raise FramingError("the multipart body is cut off")

    def _read_head(self) -> bool:
        """Preamble, delimiter and header fields."""
        begin = self._buffer.find(self._delimiter)
        end = self._buffer.find(b"\r\n\r\n", max(begin, 0) + len(self._delimiter))
        if begin < 0 or end < 0:
            if len(self._buffer) > _MOST_HEAD:
                raise FramingError("the multipart body does not begin with a part")
            return False
        del self._buffer[: end + 4]
        self._inside = True
        return True

    def _end(self) -> None:
        rest = bytes(self._buffer[len(self._delimiter) : len(self._delimiter) + 2])
        if len(rest) < 2:
            return  # more is to come
        if rest != b"--":
            raise FramingError("the multipart body has more than one part")
        self._ended = True
        self._buffer.clear()
