"""Polls of a database without a node: rounds by hand, and a store in memory that knows repetitions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from adapters.database.connection import make_engine
from adapters.database.polling.options import SOURCE
from adapters.database.polling.rounds import Notice, Page
from adapters.database.polling.source import poll_of
from engine.formats.rows import Record, read
from engine.message import ACCEPTED, Ack, Judgement, Verdict
from tests.support.databases import written
from tests.support.fhir import context

UNAVAILABLE = Judgement(Verdict.UNAVAILABLE, "no room")


class Clockwork:
    """A reactor's seconds, as the test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def seconds(self) -> float:
        return self.now


class Kept:
    """What a store keeps: messages by their idempotency key, checkpoints; it outlives the polls that fill it."""

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.records: list[Record] = []
        self.invalid: list[tuple[Record, Judgement]] = []
        self.envelopes: list[Any] = []
        self.repeated = 0
        self.checkpoints: dict[str, str] = {}

    def take(self, envelope: Any, invalid: Judgement | None, checkpoint: tuple[str, str] | None) -> Ack:
        number = self.keys.get(envelope.idempotency_key)
        if number is None:
            number = self.keys[envelope.idempotency_key] = len(self.keys) + 1
            self.envelopes.append(envelope)
            record = read(envelope.body)
            if invalid is None:
                self.records.append(record)
            else:
                self.invalid.append((record, invalid))
        else:
            self.repeated += 1
        if checkpoint is not None:
            self.checkpoints[checkpoint[0]] = checkpoint[1]
        return Ack(invalid or ACCEPTED, b"", number)

    def ids(self, column: str = "id") -> list[Any]:
        return [record.row[column] for record in self.records]


class Rounds:
    """One life of a poll, as a context. `refuse` are indexes of a page's items that the store does not take; `crash` ends a page before
    its last item, as a kill would."""

    def __init__(
        self, folder: Path, url: URL | str, kept: Kept | None = None, connection: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.kept = kept or Kept()
        self.time = Clockwork()
        self._context = context(folder, self.time, name="lis")
        settings = SOURCE.defaults(connection={"url": written(url), **(connection or {})}, **options)
        self.engine = make_engine(settings.connection, self._context)
        self.poll = poll_of(settings, self._context, self.engine)
        self.poll.resume(self.kept.checkpoints)
        self.notices: list[Notice] = []

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()

    def round(self, refuse: Iterable[int] = (), *, crash: bool = False) -> Page:
        """One page."""
        page = self.poll.next(self._context.clock())
        self.notices.extend(self.poll.notices())
        acks: list[Ack | None] = [None] * len(page.items)
        for index, item in enumerate(page.items[:-1]):
            acks[index] = Ack(UNAVAILABLE, b"") if index in refuse else self.kept.take(item.envelope, item.invalid, None)
        if crash:
            return page
        last = len(page.items) - 1
        if page.items and all(ack is not None and ack.message_id for ack in acks[:-1]):
            checkpoint = self.poll.checkpoint(page)
            item = page.items[-1]
            acks[last] = Ack(UNAVAILABLE, b"") if last in refuse else self.kept.take(item.envelope, item.invalid, checkpoint)
        self.poll.taken(page, acks)
        self.notices.extend(self.poll.notices())
        return page

    def until_idle(self, most: int = 1000) -> Rounds:
        """Pages until one says that there is no more for now."""
        for _ in range(most):
            if not self.round().more:
                return self
        raise AssertionError("it never ends")
