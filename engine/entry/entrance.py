"""What a reception asks of whoever lets in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from engine.http_answers import Answer, Sender

if TYPE_CHECKING:
    from engine.http1 import Message

Page = Callable[["Message", Sender], "Answer | Deferred[Answer]"]
"""Answers a request that whoever lets in takes itself: its body is small, and nobody is asked who it is from."""


class Entrance(Protocol):
    """All on the reactor thread."""

    pages: Mapping[str, Page]
    """By their paths, from the root."""

    def enter(self, target: str, headers: Mapping[str, str], shown: Sender) -> Sender | Deferred[Sender]:
        """Who a request is from: `shown` with the proven party. `headers` by lower-case name. Raises, or fails with, HttpRefusal: 400
        malformed, 401 not proven, 403 may not enter, 503 cannot be told now. Audits what it refuses. May be asked several times for
        one request."""

    def count(self, sender: Sender) -> None:
        """One more request of it is carried out. Raises HttpRefusal 429 with Retry-After where that is more than the party may."""

    def open(self) -> None:
        """Raises StoreError, ConfigError."""

    def close(self) -> Deferred[None]:
        """Let go of files and connections. May be called again."""
