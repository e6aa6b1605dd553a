"""A message in parts: multipart/related with a root (RFC 2387), as MTOM and SOAP with attachments send it. No part is copied: content is
a view of the bytes, or of the file, that the message lies in.

Kept as one line ``Content-Type: …``, an empty line, and the body as it came. A Content-ID that two parts have is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import FramingError, ParseError
from engine.formats.multipart import MultipartFramer, PartBegin, PartEnd
from engine.formats.soap.media import MediaType, parse_media_type
from engine.formats.soap.names import RELATED
from engine.message import Excerpt

LINE: Final = b"Content-Type: "
_MOST_HEAD: Final = 8192
_MOST_PARTS: Final = 1000
_MOST_ENCODED: Final = 64 << 20
"""Bytes of all parts in base64, which are decoded in memory. Over HTTP there is no need for that encoding."""
_WINDOW: Final = 1 << 20
_AS_IS: Final = ("", "binary", "8bit", "7bit")

Content = bytes | memoryview


class Body:
    """The bytes of a kept message, in memory or mapped from a file. What was looked at of a file is let go, so that it does not add up."""

    def __init__(self, body: bytes) -> None:
        self._mapped = _mapped(body.file) if isinstance(body, Excerpt) else None
        self.view = memoryview(body if self._mapped is None else self._mapped)

    def __len__(self) -> int:
        return len(self.view)

    def blocks(self, start: int) -> Iterator[bytes]:
        """All from `start` on."""
        for at in range(start, len(self.view), _WINDOW):
            yield bytes(self.view[at : at + _WINDOW])
            self.let_go(at, min(at + _WINDOW, len(self.view)))

    def let_go(self, start: int, end: int) -> None:
        """Pages of a file that are not needed just now; they come back by themselves."""
        if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            first = start - start % mmap.PAGESIZE
            self._mapped.madvise(mmap.MADV_DONTNEED, first, end - first)


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ParseError(f"the file of the message cannot be read: {type(error).__name__}") from None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One attachment, or what an element holds in base64. `content_id` is without angle brackets."""

    content_id: str
    content_type: str
    content: Content
    body: Body | None = None
    offset: int = 0

    @property
    def size(self) -> int:
        return len(self.content)

    def pieces(self) -> Iterator[Content]:
        """The content piece by piece, so that a big one is never in memory."""
        for at in range(0, len(self.content), _WINDOW):
            yield self.content[at : at + _WINDOW]
            if self.body is not None:
                self.body.let_go(self.offset + at, min(self.offset + at + _WINDOW, self.offset + len(self.content)))

    def sha256(self) -> str:
        """In lower-case hex."""
        return self._hashed("sha256").hex()

    def sha1(self) -> bytes:
        return self._hashed("sha1")

    def _hashed(self, name: str) -> bytes:
        digest = hashlib.new(name, usedforsecurity=False)
        for piece in self.pieces():
            digest.update(piece)
        return digest.digest()


class Parts(Mapping[str, Part]):
    """Attachments by Content-ID; the root is not among them."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = dict(parts)

    def __getitem__(self, content_id: str) -> Part:
        return self._parts[content_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


@dataclass(frozen=True, slots=True)
class Cut:
    """A message in its parts: the media type of the whole ("" for plain XML), the root with its media type, the attachments."""

    media: MediaType
    root: Part
    parts: Parts


def cut(body: bytes) -> Cut:
    """The parts of a kept message. Raises ParseError."""
    whole = Body(body)
    begin = bytes(whole.view[:_MOST_HEAD])
    if not begin.startswith(LINE):
        return Cut(MediaType(""), Part("", "", whole.view, whole), Parts({}))
    line, end, _ = begin.partition(b"\r\n\r\n")
    media = parse_media_type(line[len(LINE) :].decode("latin-1"))
    if not end or media.name != RELATED:
        raise ParseError("the message is not multipart/related, as its Content-Type must say")
    try:
        found = list(_parts(whole, len(line) + len(end), media.get("boundary")))
    except FramingError as error:
        raise ParseError(error.text) from None
    if not found:
        raise ParseError("the multipart message has no part")
    return _sorted(media, found)


def kept_form(content_type: str) -> bytes:
    """What stands before the body of a multipart message that is kept. Raises ParseError: too long, or more than a line."""
    if len(content_type) > 4096 or "\r" in content_type or "\n" in content_type:
        raise ParseError("the Content-Type of the message cannot be read")
    return LINE + content_type.encode("latin-1", "replace") + b"\r\n\r\n"


def _sorted(media: MediaType, found: list[Part]) -> Cut:
    """The root is the part that `start` names, without it the first (RFC 2387 clause 3.2)."""
    start = _without_brackets(media.get("start"))
    roots = [part for part in found if part.content_id == start] if start else found[:1]
    if len(roots) != 1:
        raise ParseError("the start parameter names no part of the message, or several")
    parts: dict[str, Part] = {}
    for part in found:
        if part is roots[0]:
            continue
        if not part.content_id or part.content_id in parts or part.content_id == roots[0].content_id:
            raise ParseError("an attachment has no Content-ID, or one that another part has")
        parts[part.content_id] = part
    return Cut(media, roots[0], Parts(parts))


def _parts(whole: Body, offset: int, boundary: str) -> Iterator[Part]:
    """Raises FramingError, ParseError."""
    framer = MultipartFramer(boundary, most_parts=_MOST_PARTS, folded=True)
    begun, encoded = PartBegin({}), 0
    for block in whole.blocks(offset):
        for event in framer.feed(block):
            if isinstance(event, PartBegin):
                begun = event
            elif isinstance(event, PartEnd):
                start = offset + begun.start
                encoded += event.size if _encoding(begun.headers) not in _AS_IS else 0
                if encoded > _MOST_ENCODED:
                    raise ParseError("the parts have a transfer encoding in which they are too big")
                yield _part(whole, begun.headers, start, whole.view[start : start + event.size])
    framer.finish()


def _part(whole: Body, fields: Mapping[str, str], start: int, content: memoryview) -> Part:
    encoding = _encoding(fields)
    content_id = _without_brackets(fields.get("content-id", ""))
    if encoding in _AS_IS:
        return Part(content_id, fields.get("content-type", ""), content, whole, start)
    if encoding != "base64":
        raise ParseError("a part has a transfer encoding that is not taken")
    return Part(content_id, fields.get("content-type", ""), from_base64(bytes(content)))


def _encoding(fields: Mapping[str, str]) -> str:
    return fields.get("content-transfer-encoding", "").lower()


def _without_brackets(content_id: str) -> str:
    return content_id[1:-1] if content_id.startswith("<") and content_id.endswith(">") else content_id


def from_base64(text: bytes) -> bytes:
    """XML Schema's base64Binary: white space anywhere. Raises ParseError."""
    try:
        return base64.b64decode(text.translate(None, b" \t\r\n"), validate=True)
    except (binascii.Error, ValueError):
        raise ParseError("this is not base64") from None
