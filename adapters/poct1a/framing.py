"""Cuts documents out of a stream that has no frames (POCT1-A2: XML over TCP, one document behind the other). Pure.

Markup is followed from token to token (tags, comments, CDATA, processing instructions); a document ends with the end tag that closes its
root. No token is looked at twice but the last, unfinished one, and that is bounded.
"""

from __future__ import annotations

import re
from typing import Final

from engine.errors import FramingError, LocalProtocolError

LONGEST_TAG: Final = 16 << 10
DEEPEST: Final = 64
_TAG: Final = re.compile(rb"<(/?)([A-Za-z_:][^\s<>/\"']*)[^<>\"']*(?:\"[^\"]*\"[^<>\"']*|'[^']*'[^<>\"']*)*>")
_SPECIAL: Final = ((b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>"))
_BLANK: Final = b" \t\r\n\xef\xbb\xbf\x00"


class Poct1aFramer:
    """engine.contracts.Framer[bytes]"""

    def __init__(self, longest: int = 4 << 20) -> None:
        self._longest = longest
        self._buffer = bytearray()
        self._reset()

    def _reset(self) -> None:
        self._at = self._searched = self._depth = 0
        self._begun = False

    @property
    def inside(self) -> bool:
        """Whether a document has begun."""
        return bool(self._buffer.strip(_BLANK))

    @property
    def rest(self) -> bytes:
        """What came of the document that is not complete."""
        return bytes(self._buffer).lstrip(_BLANK)

    def feed(self, data: bytes) -> list[bytes]:
        """Raises FramingError: not XML, a document type, too long, too deep."""
        self._buffer += data
        found = []
        while (end := self._document_end()) is not None:
            found.append(bytes(self._buffer[:end]).lstrip(_BLANK))
            del self._buffer[:end]
            self._reset()
        if len(self._buffer) > self._longest:
            raise FramingError(f"a message is longer than {self._longest} bytes")
        return found

    def finish(self) -> None:
        if self.inside:
            raise FramingError("the stream ended within a message")

    @staticmethod
    def wrap(payload: bytes) -> bytes:
        if payload[:1] != b"<":
            raise LocalProtocolError("a POCT1-A message is an XML document")
        return payload

    def _document_end(self) -> int | None:
        """Where the first document ends; None while more must come."""
        buffer = self._buffer
        while True:
            begin = buffer.find(b"<", self._at)
            self._between(begin if begin >= 0 else len(buffer))
            if begin < 0:
                self._at = len(buffer)
                return None
            self._at = begin
            end = self._token_end(begin)
            if end is None:
                return None
            self._at, self._searched = end, 0
            if self._begun and self._depth == 0:
                return end

    def _between(self, end: int) -> None:
        """Outside of any element there is nothing but blanks."""
        if self._depth == 0 and self._buffer[self._at : end].strip(_BLANK):
            raise FramingError("this is no XML")

    def _token_end(self, begin: int) -> int | None:
        """Behind the token that begins here; None while it is unfinished."""
        buffer = self._buffer
        head = bytes(buffer[begin : begin + 9])
        for opening, closing in _SPECIAL:
            if head.startswith(opening):
                at = buffer.find(closing, max(begin + len(opening), self._searched - len(closing) + 1))
                self._searched = len(buffer)
                return at + len(closing) if at >= 0 else None
            if opening.startswith(head):
                return None
        if head.startswith(b"<!"):
            raise FramingError("a document type declaration is not allowed")
        tag = _TAG.match(buffer, begin)
        if tag is None:
            if len(buffer) - begin > LONGEST_TAG:
                raise FramingError(f"a tag is longer than {LONGEST_TAG} bytes, or not well formed")
            return None
        if not tag[0].endswith(b"/>"):
            self._depth += -1 if tag[1] else 1
        self._begun = True
        if self._depth < 0:
            raise FramingError("an end tag without a beginning")
        if self._depth > DEEPEST:
            raise FramingError(f"elements are nested deeper than {DEEPEST}")
        return tag.end()
