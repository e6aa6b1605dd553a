"""What every way of polling has in common: pages of items, and what is said on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from adapters.database.errors import DatabaseError, Meaning, Sorted
from adapters.database.polling.records import Item
from engine.message import Ack


class Halted(DatabaseError):
    """The table may not be read on until an operator has looked; nothing was taken and nothing skipped."""

    code = "store.database.halted"

    def __init__(self, reason: str) -> None:
        super().__init__(Sorted(Meaning.SETUP, "", reason, reason))
        self.text = reason


@dataclass
class Page:
    """Items to hand in. `more`: look again at once. `state` is the poll's own."""

    items: Sequence[Item]
    more: bool = False
    state: Any = None


@dataclass(frozen=True)
class Notice:
    """Something to be said by the reactor's thread: logged, counted, and audited as `event`."""

    event: str
    text: str
    level: str = "warning"
    facts: dict[str, str] = field(default_factory=dict)


class Poll(Protocol):
    """One way of polling. `next`, `taken` and `resume` run in the adapter's thread."""

    def resume(self, checkpoints: dict[str, str]) -> None: ...

    def next(self, now: int) -> Page: ...

    def checkpoint(self, page: Page) -> tuple[str, str] | None:
        """What commits with the last item of a page, all others of which are kept. In the reactor's thread."""

    def taken(self, page: Page, acks: Sequence[Ack | None]) -> None:
        """What became of each item; None was not handed in."""

    def preview(self, now: int) -> Page:
        """What `next` would give, with nothing claimed, called for effect or remembered."""

    def notices(self) -> list[Notice]: ...
