"""The source `database`: rounds of a poll, handed in page by page; the last message of a page carries how far it was read (ADR 027)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred, gatherResults, succeed

from adapters.database.connection import make_engine
from adapters.database.errors import DatabaseError, source_error
from adapters.database.polling.beginning import own_select
from adapters.database.polling.keeping import Keeping
from adapters.database.polling.plain import PlainPoll
from adapters.database.polling.records import Item, Wording
from adapters.database.polling.rounds import Halted, Notice, Page, Poll
from adapters.database.polling.status import StatusPoll
from adapters.database.polling.subject import Unusable
from adapters.database.polling.watermark import WatermarkPoll
from adapters.database.urls import engine_text
from engine.backoff import Backoff
from engine.channel import Retry
from engine.contracts import Reply
from engine.errors import StoreError
from engine.message import Ack
from engine.polling import PollingSource

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from engine.contracts import Context, Intake
    from engine.options import Settings

_NO_ANSWER: Final[Reply] = lambda _: b""  # noqa: E731 - nobody waits for one
_STOPPED: Final = "meridian_database_stopped"
_UNTIL: Final = "a database is not read until an operator has looked"


class DatabaseSource(PollingSource):
    """engine.contracts.Source"""

    what: ClassVar[str] = "database"

    def __init__(self, options: Settings, context: Context) -> None:
        super().__init__(context, options.poll)
        self._options = options
        self._engine: Engine | None = None
        self._poll_of: Poll | None = None
        self._page: Page | None = None
        self._first: Page | None = None
        self._acks: list[Ack | None] = []
        self._more = False
        self._halted = ""
        self._backoff = Backoff(Retry(1.0, options.retry_most), random.random)
        self._stopped_gauge = context.metrics.gauge(_STOPPED, f"1 while {_UNTIL}", channel=context.name)
        self._rows = context.metrics.counter("meridian_database_rows_total", "rows read that were new", channel=context.name)

    # --- engine.polling.PollingSource ----------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        return self._context.checkpoints().addCallback(self._start, intake)

    def _start(self, checkpoints: dict[str, str], intake: Intake) -> Deferred[None]:
        self._checkpoints = checkpoints
        return super().start(intake)

    def open(self) -> None:
        """Raises ConfigError for a table that cannot be read; a database that is away is no reason not to start."""
        self._engine = make_engine(self._options.connection, self._context)
        self._poll_of = poll_of(self._options, self._context, self._engine)
        self._poll_of.resume(self._checkpoints)
        try:
            self._first = self._poll_of.next(self._context.clock())
        except Unusable:
            self._engine.dispose()
            raise
        except (SQLAlchemyError, DatabaseError):  # the first round says it
            self._first = None

    def close(self) -> None:
        assert self._engine is not None
        self._engine.dispose()

    def listed(self) -> Sequence[Item]:
        assert self._poll_of is not None
        page, self._first = self._first, None
        try:
            self._page = page or self._poll_of.next(self._context.clock())
        except SQLAlchemyError as error:
            raise source_error(error) from None
        except Unusable as error:
            raise Halted(error.text) from None
        return self._page.items

    def hand_all_in(self, items: Sequence[Item]) -> Deferred[Any]:
        """All but the last at once; the last when they are kept, with the checkpoint, which must not say more than is kept."""
        self._say()
        self._resumed()
        page = self._page
        assert page is not None
        self._acks = [None] * len(items)
        done = gatherResults([self._keep(index, item) for index, item in enumerate(items[:-1])], consumeErrors=True)
        done.addCallback(lambda _: self._hand_last_in(page))
        return done.addCallback(lambda _: self.in_thread(self._taken, page)).addCallback(self._end, page)

    def _hand_last_in(self, page: Page) -> Deferred[Any] | None:
        assert self._poll_of is not None
        if not page.items or self.stopping or not all(ack is not None and ack.message_id for ack in self._acks[:-1]):
            return None
        item = page.items[-1]
        return self._keep(len(page.items) - 1, item, self._poll_of.checkpoint(page))

    def _keep(self, index: int, item: Item, checkpoint: tuple[str, str] | None = None) -> Deferred[Any]:
        if self.stopping:
            return succeed(None)
        envelope = item.envelope if checkpoint is None else replace(item.envelope, checkpoint=checkpoint)
        return self.intake(envelope, _NO_ANSWER, item.invalid).addCallback(self._kept, index)

    def _kept(self, ack: Ack, index: int) -> None:
        self._acks[index] = ack

    def _taken(self, page: Page) -> None:
        assert self._poll_of is not None
        try:
            self._poll_of.taken(page, self._acks)
        except SQLAlchemyError as error:
            raise source_error(error) from None

    def _end(self, _: object, page: Page) -> None:
        self._say()
        kept = sum(ack is not None and bool(ack.message_id) and not ack.duplicate for ack in self._acks)
        self._rows.inc(kept)
        self._more = page.more
        if not self.stopping and not all(ack is not None and ack.message_id for ack in self._acks):
            raise StoreError("the store did not take all of a page; the rest comes again")

    def pause(self) -> float:
        if self.failures:
            return self._backoff.delay(self.failures)
        return 0.0 if self._more else self._poll

    # --- what is said --------------------------------------------------------------------------------

    def cannot_read(self, error: Exception) -> None:
        """A table that may not be read on is an alarm, said and audited once; a database that is away is said each time."""
        self._say()
        self._more = False
        if not isinstance(error, Halted):
            super().cannot_read(error)
        elif self._halted != error.text:
            self._halted = error.text
            self._stopped_gauge.set(1)
            self._tell(Notice("database.stopped", _UNTIL, "critical", {"reason": error.text}))

    def _say(self) -> None:
        if self._poll_of is None:
            return
        for notice in self._poll_of.notices():
            self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        getattr(self._context.log, notice.level)(notice.text, extra={"channel": self._context.name, **notice.facts})
        doc = "what was noticed about a database: changed columns, another server, rows ahead of the clock …"
        self._context.metrics.counter("meridian_database_notices_total", doc, channel=self._context.name, event=notice.event).inc()
        self._context.audit(notice.event, channel=self._context.name, **notice.facts)

    def _resumed(self) -> None:
        if self._halted:
            self._halted = ""
            self._stopped_gauge.set(0)
            self._tell(Notice("database.resumed", "the database is read again", "info"))


def poll_of(options: Settings, context: Context, engine: Engine) -> Poll:
    """The way of polling that the options ask for."""
    name = context.name
    wording = Wording(options, options.name or name, engine_text(engine))
    keeping = Keeping(options, context.site, name, context.reactor.seconds)
    if options.status:
        return StatusPoll(options, lambda: engine, keeping, wording, f"{context.node}/{name}")
    select = own_select(options, context.site, engine.dialect.name)
    if options.watermark:
        return WatermarkPoll(options, lambda: engine, keeping, wording, select, context.reactor.seconds)
    return PlainPoll(options, lambda: engine, keeping, wording, select)
