"""What an HTTP client hears: a status, header fields, and content that may lie in files too big for memory; and who the client is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from engine.errors import MessageError
from engine.http1 import head

REASONS: Final = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content", 304: "Not Modified", 400: "Bad Request",
    401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout",
    409: "Conflict", 410: "Gone", 411: "Length Required", 412: "Precondition Failed", 413: "Content Too Large",
    415: "Unsupported Media Type", 422: "Unprocessable Content", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip
NO_CONTENT: Final = frozenset({204, 304})
"""Statuses whose answers have no content (RFC 9110 6.4.1)."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who is at the other end: the proven party ("" = none), whatever has proven it, and ``host:port``. `scopes` are what a token lets it
    do (``system/Observation.c``), None where a certificate is the proof, which has none; `certificate` is the digest of the one that was
    shown, as RFC 8705 3.1 writes it (x5t#S256)."""

    peer: str
    remote: str
    scopes: frozenset[str] | None = None
    certificate: str = ""

    @property
    def who(self) -> str:
        """The party, or the host where none is proven: whose requests are counted together."""
        return self.peer or self.remote.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class FilePiece:
    """`length` bytes of a file from `offset` on. `temporary`: the file is for this answer only, and goes with it."""

    path: Path
    offset: int
    length: int
    temporary: bool = False


Piece = bytes | FilePiece


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. Its content goes out piece by piece, and what lies in files is read as the client takes it.
    A header ``Connection: close`` ends the connection after it."""

    status: int
    content: Sequence[Piece] = ()
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Content-Length."""
        return sum(map(size, self.content))


class HttpRefusal(MessageError):
    """A request that is not carried out: `status` is what the client hears, the text says why in a sentence; never payload.
    Protocols have their own kinds of it; how one is worded is the matter of whoever answers (engine.http_source.Desk), who is told to
    whom by `sender` (None where the request was not refused by the server)."""

    code = "message.http"

    def __init__(self, status: int, text: str, *, location: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text, location=location)
        self.status = status
        self.headers = dict(headers or {})
        self.sender: Sender | None = None
        self.audited = False
        """Whoever has refused it has said so to the audit already."""


def kept_form(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """An answer as the store keeps it: one line of JSON, ``{"status": 201, "headers": {"ETag": "W/\\"1\\""}}``, a line feed, and the body
    exactly as it is. What destinations that speak HTTP give, sources that do hand on."""
    return orjson.dumps({"status": status, "headers": dict(headers)}) + b"\n" + body


def read_kept(stored: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of what `kept_form` wrote. Raises ValueError where the bytes are something else."""
    head, _, body = stored.partition(b"\n")
    facts = orjson.loads(head)
    if not isinstance(facts, dict) or not isinstance(facts.get("status"), int):
        raise ValueError("not a stored answer")
    return facts["status"], facts.get("headers", {}), body


def size(piece: Piece) -> int:
    """In bytes."""
    return len(piece) if isinstance(piece, bytes) else piece.length


def forget(pieces: Sequence[Piece]) -> None:
    """An answer has gone out, or never will: remove the files that are for it only."""
    for piece in pieces:
        if isinstance(piece, FilePiece) and piece.temporary:
            piece.path.unlink(missing_ok=True)


def sentence(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that says something in words."""
    return Answer(status, [text.encode() + b"\n"], "text/plain; charset=utf-8", headers or {})


def answer_head(answer: Answer, *, keep: bool) -> bytes:
    """The answer's start line and header fields as they go onto the wire; `keep`: the connection may carry another request."""
    headers = {"Cache-Control": "no-store", **answer.headers}
    if answer.content_type:
        headers["Content-Type"] = answer.content_type
    if answer.status not in NO_CONTENT:
        headers["Content-Length"] = str(answer.length)
    if not keep:
        headers["Connection"] = "close"
    return head(f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Unknown')}", headers)
