"""Polling by a status column: rows are claimed, handed in, and written back as done or failed once their messages are kept.

Each claim is one short transaction, each page's write-back another; nothing is open in between. A row whose node died between the two
comes again when its lease is over, and is then a repetition that the store knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine

from adapters.database.polling.keeping import SCHEMA, Keeping
from adapters.database.polling.records import Item, Wording
from adapters.database.polling.rounds import Notice, Page
from adapters.database.polling.server import clock_of
from adapters.database.polling.statements import SKIPPING, Claims
from adapters.database.polling.subject import Fetched, Subject, reading, writing
from engine.message import Ack, Verdict

if TYPE_CHECKING:
    from engine.options import Settings


class StatusPoll:
    """adapters.database.polling.rounds.Poll. `node` is written into claimed_by."""

    def __init__(self, options: Settings, engine: Callable[[], Engine], keeping: Keeping, wording: Wording, node: str) -> None:
        self._options, self._engine, self._keeping, self._wording, self._node = options, engine, keeping, wording, node
        self._unwritten: list[tuple[tuple[Any, ...], str, str | None, Any]] = []
        self._said: list[Notice] = []

    def resume(self, checkpoints: dict[str, str]) -> None:
        self._keeping.resume(checkpoints.get(SCHEMA, ""))

    def notices(self) -> list[Notice]:
        found, self._said = [*self._keeping.said, *self._said], []
        self._keeping.said = []
        return found

    def next(self, now: int) -> Page:
        try:
            self._write_back()
            with reading(self._engine(), self._options.isolation) as connection:
                subject = self._keeping.look(connection)
            claimed_at, found = self._claimed(subject)
            if not found:
                return Page((), False, claimed_at)
            with reading(self._engine(), self._options.isolation) as connection:
                details = subject.with_details(connection, found)
        except BaseException:
            self._keeping.look_again()
            raise
        items = self._items(subject, found, details, now)
        return Page(items, len(items) >= self._options.limit, claimed_at)

    def preview(self, now: int) -> Page:
        with reading(self._engine(), self._options.isolation) as connection:
            subject = self._keeping.look(connection)
            expired = self._time(connection, subject, self._options.status.lease) if self._options.status.claimed else None
            found = subject.fetch(connection, self._claims(subject).page(expired, self._options.limit, locking=False))
            return Page(self._items(subject, found, subject.with_details(connection, found), now), len(found) >= self._options.limit)

    def _items(self, subject: Subject, found: Sequence[Fetched], details: Sequence[Any], now: int) -> list[Item]:
        left_out = self._own_columns()
        return [self._wording.item(subject, one, more, now, left_out) for one, more in zip(found, details, strict=True)]

    def _own_columns(self) -> frozenset[str]:
        status = self._options.status
        return frozenset(name for name in (status.column, status.claimed_at, status.claimed_by, status.reason) if name)

    def _claims(self, subject: Subject) -> Claims:
        return Claims(subject.table, subject.columns, subject.key, self._options.status, subject.raw, subject.dialect)

    # --- claiming ----------------------------------------------------------------------------------

    def _claimed(self, subject: Subject) -> tuple[Any, list[Fetched]]:
        claims, limit = self._claims(subject), self._options.limit
        if self._options.status.claimed is None:
            with reading(self._engine(), self._options.isolation) as connection:
                return None, subject.fetch(connection, claims.page(None, limit, locking=False))
        with writing(self._engine()) as connection:
            now = self._time(connection, subject)
            expired = self._time(connection, subject, self._options.status.lease)
            found = subject.fetch(connection, claims.page(expired, limit, locking=subject.dialect in (*SKIPPING, "mssql")))
            mine = [one for one in found if connection.execute(claims.claim(one.key, now, self._node, expired)).rowcount == 1]
            return now, mine

    def _time(self, connection: Connection, subject: Subject, ago: float = 0.0) -> Any:
        """As claimed_at takes it, cut to whole seconds, which every such column can hold; SQLite's are text."""
        now = clock_of(connection).replace(microsecond=0) - timedelta(seconds=ago)
        aware = subject.shape is not None and subject.shape.is_instant(self._options.status.claimed_at, subject.dialect)
        if subject.dialect == "sqlite":
            return now.strftime("%Y-%m-%d %H:%M:%S")
        return now if aware else now.replace(tzinfo=None)

    # --- writing back --------------------------------------------------------------------------------

    def checkpoint(self, page: Page) -> tuple[str, str] | None:
        return SCHEMA, json.dumps(self._keeping.noted(), ensure_ascii=False)

    def taken(self, page: Page, acks: Sequence[Ack | None]) -> None:
        status = self._options.status
        for item, ack in zip(page.items, acks, strict=True):
            if ack is None or not ack.message_id:
                if status.claimed is not None:
                    self._unwritten.append((item.key, status.new[0], None, page.state))
                continue
            kept = ack.judgement.verdict is Verdict.ACCEPTED
            outcome = status.done if kept or status.failed is None else status.failed
            self._unwritten.append((item.key, outcome, None if kept else ack.judgement.hl7_code or ack.judgement.verdict.value, page.state))
        self._write_back()

    def _write_back(self) -> None:
        """What is left of it when the database is away is written before the next claim."""
        if not self._unwritten:
            return
        claims, lost = self._claims(self._keeping.subject), 0
        with writing(self._engine()) as connection:
            for key, outcome, reason, claimed_at in self._unwritten:
                lost += connection.execute(claims.settle(key, outcome, reason, claimed_at, self._node)).rowcount != 1
        self._unwritten = []
        if lost:
            text = f"{lost} rows were changed by others while they were taken, and are not written back"
            self._said.append(Notice("database.claim_lost", text, facts={"table": self._keeping.subject.table}))
