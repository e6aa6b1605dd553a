"""Multipart answers: a list of pieces with a length that is known before the first byte is sent (RFC 2387). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from adapters.dicom.web.media import RELATED
from engine.http_answers import Answer, Piece

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
