"""Content codings of request bodies (RFC 9110 clause 8.4): undone as the body comes, bounded whatever it unfolds into. Pure.

Two bounds keep a small body from becoming a huge one: how much may come out, and how many times as much as went in. FramingError's
`reply_hint` is the HTTP status to answer: 413 too much, 400 not what its header says, 415 a coding that we do not know.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from engine.errors import FramingError
from engine.http1 import content_length

RATIO: Final = 200
"""Dense XML is said in a hundredth of its size at best; deflate reaches a thousand."""
GRACE: Final = 1 << 20
"""Bytes that may come out whatever went in: a short form letter compresses well, and costs nothing."""
_BLOCK: Final = 256 << 10


class Decoder(Protocol):
    """Undoes one body's coding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` unfolds into, in pieces of at most 256 KB (a body without coding: as it came), to be taken to its end. Raises
        FramingError."""

    def finish(self) -> None:
        """The body has ended. Raises FramingError where its coding has not."""


def decoder(headers: Mapping[str, str], most: int, *, ratio: int = RATIO) -> Decoder:
    """For the body that `headers` (lower-case names) announce; no more than `most` bytes come out, nor, beyond GRACE, more than `ratio`
    times what goes in (0: that is not judged). Raises FramingError: 415; 413 where Content-Length says that it will be too much; 400
    where it is none."""
    if content_length(headers.get("content-length", "0")) > most:
        raise FramingError(_TOO_LARGE, reply_hint="413")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in ("identity", ""):
        return Plain(most)
    if coding in ("gzip", "x-gzip"):
        return Gunzip(most, ratio)
    raise FramingError("the content coding must be gzip or none", reply_hint="415")


_TOO_LARGE: Final = "the body is larger than allowed"


class Plain:
    """A body without coding."""

    def __init__(self, most: int) -> None:
        self._left = most

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoder"""
        self._left -= len(data)
        if self._left < 0:
            raise FramingError(_TOO_LARGE, reply_hint="413")
        yield data

    def finish(self) -> None:
        """Decoder"""


class Gunzip:
    """One gzip member (RFC 1952); what comes after it is refused, since others might read it and we would not."""

    def __init__(self, most: int, ratio: int) -> None:
        self._most, self._ratio = most, ratio
        self._inflater = zlib.decompressobj(wbits=31)
        self._in = self._out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoder"""
        self._in += len(data)
        while data:
            piece = self._inflate(data)
            if piece:
                yield piece
            data = self._inflater.unconsumed_tail
        if self._inflater.unused_data:
            raise FramingError("something follows the compressed body", reply_hint="400")

    def _inflate(self, data: bytes) -> bytes:
        try:
            piece = self._inflater.decompress(data, min(_BLOCK, self._most - self._out + 1))
        except zlib.error:
            raise FramingError("the body is not gzip, as its header says", reply_hint="400") from None
        self._out += len(piece)
        if self._out > self._most or (self._ratio and self._out > GRACE and self._out > self._in * self._ratio):
            raise FramingError(_TOO_LARGE, reply_hint="413")
        return piece

    def finish(self) -> None:
        """Decoder"""
        if not self._inflater.eof:
            raise FramingError("the compressed body is not complete", reply_hint="400")
