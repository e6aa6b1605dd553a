"""What a client hears: a status, header fields, and content that may lie in files too big for memory. Pure.

A multipart answer is a list of pieces with a length that is known before the first byte is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from adapters.dicom.web.faults import WebRefusal
from adapters.dicom.web.media import RELATED

REASONS: Final = {
    200: "OK", 202: "Accepted", 204: "No Content", 206: "Partial Content", 304: "Not Modified", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout", 409: "Conflict",
    410: "Gone", 413: "Content Too Large", 415: "Unsupported Media Type", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FilePiece:
    """`length` bytes of a file from `offset` on."""

    path: Path
    offset: int
    length: int


Piece = bytes | FilePiece


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    content: Sequence[Piece] = ()
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Content-Length."""
        return sum(map(size, self.content))


def size(piece: Piece) -> int:
    """In bytes."""
    return len(piece) if isinstance(piece, bytes) else piece.length


def sentence(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that says something in words."""
    return Answer(status, [text.encode() + b"\n"], "text/plain; charset=utf-8", headers or {})


def refusal(refused: WebRefusal) -> Answer:
    return sentence(refused.status, refused.text, refused.headers)


Part = tuple[Mapping[str, str], Sequence[Piece]]
"""Header fields and content."""


def multipart(parts: Iterable[Part], inner: str, boundary: str, headers: Mapping[str, str] | None = None) -> Answer:
    """A multipart/related answer (RFC 2387). `inner` is the media type of its parts."""
    content: list[Piece] = []
    for fields, pieces in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        start = "\r\n" if content else ""
        content.append(f"{start}--{boundary}\r\n{lines}\r\n".encode())
        content += pieces
    content.append(f"\r\n--{boundary}--\r\n".encode())
    return Answer(200, content, f'{RELATED}; type="{inner}"; boundary={boundary}', headers or {})
