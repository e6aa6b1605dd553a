"""Polling of what says by itself what is new: a procedure, or a SELECT with a statement that confirms each row.

Every row of a call is handed in; one that comes again as it was is a repetition. `confirm` is run for a row once its message is kept,
so a crash before it makes the row come again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from adapters.database.polling.keeping import SCHEMA, Keeping
from adapters.database.polling.options import parameters
from adapters.database.polling.records import Item, Wording
from adapters.database.polling.rounds import Notice, Page
from adapters.database.polling.statements import bindings, constants
from adapters.database.polling.subject import reading, writing
from engine.formats.rows import native
from engine.message import Ack

if TYPE_CHECKING:
    from engine.options import Settings


class PlainPoll:
    """adapters.database.polling.rounds.Poll"""

    def __init__(self, options: Settings, engine: Callable[[], Engine], keeping: Keeping, wording: Wording, select: str) -> None:
        self._options, self._engine, self._keeping, self._wording, self._select = options, engine, keeping, wording, select
        self._names = parameters(select)
        self._unconfirmed: list[dict[str, Any]] = []
        self._last: tuple[bytes, ...] = ()

    def resume(self, checkpoints: dict[str, str]) -> None:
        self._keeping.resume(checkpoints.get(SCHEMA, ""))

    def notices(self) -> list[Notice]:
        found, self._keeping.said = self._keeping.said, []
        return found

    def next(self, now: int) -> Page:
        self._confirm()
        # a procedure may write (it takes rows off its own list), which a read-only transaction would not let it
        scope = writing(self._engine()) if self._options.procedure else reading(self._engine(), self._options.isolation)
        with scope as connection:
            items = self._called(connection, now)
        digests = tuple(item.digest for item in items)
        if not self._options.confirm and digests == self._last:  # nothing has changed since the last call
            return Page(())
        return Page(items, bool(self._options.confirm) and len(items) >= self._options.limit, digests)

    def preview(self, now: int) -> Page:
        """Of a procedure that writes the database itself refuses it here."""
        with reading(self._engine(), self._options.isolation) as connection:
            return Page(self._called(connection, now))

    def _called(self, connection: Connection, now: int) -> list[Item]:
        given = bindings(self._names, None, (), self._options.limit)
        if self._options.procedure:
            given.update(constants(self._options.procedure.arguments))
        subject = self._keeping.look(connection)
        found = subject.fetch(connection, sa.text(self._select), {name: given.get(name) for name in self._names})
        details = subject.with_details(connection, found)
        return [self._wording.item(subject, one, more, now, frozenset()) for one, more in zip(found, details, strict=True)]

    def checkpoint(self, page: Page) -> tuple[str, str] | None:
        return None

    def taken(self, page: Page, acks: Sequence[Ack | None]) -> None:
        kept = [item for item, ack in zip(page.items, acks, strict=True) if ack is not None and ack.message_id]
        if page.items and len(kept) == len(page.items):
            self._last = page.state
        if self._options.confirm:
            self._unconfirmed.extend(_natives(item) for item in kept)
            self._confirm()

    def _confirm(self) -> None:
        if not self._unconfirmed:
            return
        names = parameters(self._options.confirm)
        with writing(self._engine()) as connection:
            for values in self._unconfirmed:
                connection.execute(sa.text(self._options.confirm), {name: values.get(name) for name in names})
        self._unconfirmed = []


def _natives(item: Item) -> dict[str, Any]:
    """A row's values by the names of their columns, as the database knows them."""
    types = item.types
    return {name: native(value, types.get(name, "")) for name, value in (item.values or {}).items()}
