"""A request that is not carried out, with the HTTP status that says so (PS3.18 clause 8.5)."""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import MessageError


class WebRefusal(MessageError):
    """`status` is what the client hears, with the text as a plain sentence; never payload."""

    code = "message.dicomweb"

    def __init__(self, status: int, text: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})
