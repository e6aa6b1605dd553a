"""Polling by watermark: a page beyond the front, and the window behind it read again (adapters.database.polling.window; ADR 027)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from adapters.database.polling.beginning import started
from adapters.database.polling.failover import ServerWatch
from adapters.database.polling.keeping import Keeping
from adapters.database.polling.options import parameters
from adapters.database.polling.records import Item, Wording
from adapters.database.polling.rounds import Halted, Notice, Page
from adapters.database.polling.server import clock_of, server_of
from adapters.database.polling.statements import TablePages, WrappedPages, bindings, constants
from adapters.database.polling.subject import Fetched, Subject, reading
from adapters.database.polling.window import ClockSettled, HistorySettled, Position, Window, before
from adapters.database.values import hints_of, instants
from engine.formats.rows import Odd
from engine.message import Ack

if TYPE_CHECKING:
    from engine.options import Settings

POSITION: Final = "position"


@dataclass
class _Read:
    """A page of the front (`after` is its last row) or of the window (`sweeping`), read when `settled` was final."""

    after: Position | None
    settled: Any
    sweeping: bool = False
    ended: bool = False
    saved: tuple[Any, Any] = (None, None)


class WatermarkPoll:
    """adapters.database.polling.rounds.Poll. `select` is the site's own statement, "" for a table."""

    def __init__(self, options: Settings, engine: Callable[[], Engine], keeping: Keeping, wording: Wording, select: str,
                 monotonic: Callable[[], float]) -> None:  # fmt: skip
        self._options, self._engine, self._keeping, self._wording, self._select = options, engine, keeping, wording, select
        self._mark = options.watermark
        self._monotonic = monotonic
        self.window = Window()
        self._watch = ServerWatch(options, of_table=not select)
        self._settling: ClockSettled | HistorySettled | None = None
        self._swept_at = monotonic()
        self._sweep: tuple[Position | None, Any] | None = None
        self._said: list[Notice] = []
        self._ahead = self._behind = False

    def resume(self, checkpoints: dict[str, str]) -> None:
        self._keeping.resume(checkpoints.get(POSITION, ""))
        if POSITION in checkpoints:
            self.window, self._watch.server = Window.resumed(checkpoints[POSITION])

    def notices(self) -> list[Notice]:
        found = [*self._keeping.said, *self._watch.said, *self._said]
        self._keeping.said, self._watch.said, self._said = [], [], []
        return found

    def preview(self, now: int) -> Page:
        return self.next(now)  # it only reads

    # --- reading -----------------------------------------------------------------------------------

    def next(self, now: int) -> Page:
        options = self._options
        try:
            with reading(self._engine(), options.isolation) as connection:
                subject = self._keeping.look(connection)
                clock = clock_of(connection)
                highest = self._highest(connection, subject)
                self._check_server(connection, highest, subject)
                if self._settling is not None:
                    self._settling.note(clock, highest)
                if self._is_due(subject, clock):
                    return self._window_page(connection, subject, clock, now)
                return self._front_page(connection, subject, clock, now)
        except BaseException:
            self._keeping.look_again()
            raise

    def _check_server(self, connection: Connection, highest: Any, subject: Subject) -> None:
        def there() -> Any:
            """Of a select: the first row at the front or after it."""
            if not self._select or self.window.front is None:
                return highest
            found = self._fetch(connection, subject, Position(self.window.front.mark))
            return found[0].mark if found else None

        if self._watch.check(server_of(connection), None if self._select else highest, self.window.front, subject.table, there):
            self.window = Window()

    def _is_due(self, subject: Subject, clock: datetime) -> bool:
        """Whether to read the window again: for rows that came late, and to close it. As long as new pages wait, only to close it."""
        if self._sweep is not None:
            return True
        since = self._monotonic() - self._swept_at
        if not self.window.is_open or since < max(self._options.poll, self._mark.overlap / 4):
            return False
        if not self._behind:
            return True
        settled = self._settled(subject, clock, ())
        return since >= self._mark.overlap and settled is not None and (self.window.low is None or settled > self.window.low)

    def _front_page(self, connection: Connection, subject: Subject, clock: datetime, now: int) -> Page:
        front = self.window.front or self._begin(subject)
        found = self._fetch(connection, subject, front)
        full = len(found) >= self._options.limit
        usable = self._usable(found, clock)
        if full and not usable:
            raise Halted(f"{subject.table}: a whole page has no usable watermark in {self._mark.column}")
        settled = self._settled(subject, clock, usable)
        after = Position(usable[-1].mark, usable[-1].key) if usable else None
        more = self._behind = full and len(usable) == len(found)
        return Page(self._items(connection, subject, usable, now), more, _Read(after, settled))

    def _window_page(self, connection: Connection, subject: Subject, clock: datetime, now: int) -> Page:
        if self._sweep is None:
            begin = self._begin(subject) if self.window.low is None else Position(self.window.low)
            self._sweep = (begin, self._settled(subject, clock, ()))
        at, settled = self._sweep
        found = self._fetch(connection, subject, at)
        front = self.window.front
        assert front is not None
        inside = [one for one in found if not isinstance(one.mark, Odd | None) and one.mark <= front.mark]
        ended = len(found) < self._options.limit or len(inside) < len(found)
        after = Position(found[-1].mark, found[-1].key) if found else at
        return Page(self._items(connection, subject, inside, now), True, _Read(after, settled, True, ended))

    def _fetch(self, connection: Connection, subject: Subject, position: Position | None) -> list[Fetched]:
        found = self._fetched(connection, subject, position)
        if found:
            self.window.agree(found[0].mark)
        return found

    def _fetched(self, connection: Connection, subject: Subject, position: Position | None) -> list[Fetched]:
        limit = self._options.limit
        if not self._select:
            return subject.fetch(connection, self._table_pages(subject).page(position, limit))
        names = parameters(self._select)
        if self._keeps_order:
            mark, key = (None, ()) if position is None else (position.mark, position.key)
            if position is not None and not key:
                mark = before(mark)
            given = {**bindings(names, mark, key, limit), **self._constants}
            return subject.fetch(connection, sa.text(self._select), {name: given.get(name) for name in names})
        pages = WrappedPages(self._select, subject.key, self._mark.column)
        return subject.fetch(connection, pages.page(position, limit), pages.bound(position, limit))

    @property
    def _keeps_order(self) -> bool:
        return self._options.procedure is not None or "key" in parameters(self._select)

    @property
    def _constants(self) -> dict[str, str]:
        return constants(self._options.procedure.arguments) if self._options.procedure else {}

    def _table_pages(self, subject: Subject) -> TablePages:
        return TablePages(subject.table, subject.columns, subject.key, self._mark.column, subject.raw, subject.dialect)

    def _highest(self, connection: Connection, subject: Subject) -> Any:
        """Of a select only what was read is known."""
        if self._select:
            return self.window.front.mark if self.window.front else None
        result = connection.execute(self._table_pages(subject).highest())
        hints = hints_of(subject.dialect, result.cursor.description)
        (found,) = instants(result.one(), hints)
        self.window.agree(found)
        return None if isinstance(found, Odd) else found

    def _items(self, connection: Connection, subject: Subject, found: Sequence[Fetched], now: int) -> list[Item]:
        """Those that were not met before."""
        details = subject.with_details(connection, found)
        items = [self._wording.item(subject, one, more, now, frozenset()) for one, more in zip(found, details, strict=True)]
        return [item for item in items if not self.window.met(_told_apart(item))]

    # --- marks -------------------------------------------------------------------------------------

    def _begin(self, subject: Subject) -> Position | None:
        if self._mark.start is None:
            return None
        shape, column = subject.shape, self._mark.column
        kind = "" if shape is None else "text" if column in shape.texts() else shape.declared.get(column, "")
        instant = None if shape is None else shape.is_instant(column, subject.dialect)
        return Position(started(self._mark.start, kind, subject.dialect, instant, self._options.zone))

    def _usable(self, found: Sequence[Fetched], clock: datetime) -> list[Fetched]:
        """Without those that have no watermark, and those whose watermark is still to come."""
        usable = [one for one in found if not isinstance(one.mark, Odd | None)]
        if not usable:
            return []
        cap = self._settling_of(usable[0].mark).cap(clock, usable[0].mark)
        kept = [one for one in usable if cap is None or one.mark <= cap]
        ahead = len(kept) < len(usable)
        if ahead != self._ahead:
            self._ahead = ahead
            text = "rows have a watermark that is still to come: they are taken then" if ahead else "no rows are ahead of the clock now"
            self._said.append(Notice("database.rows_ahead", text, "warning" if ahead else "info"))
        return kept

    def _settling_of(self, mark: Any) -> ClockSettled | HistorySettled:
        if self._settling is None:
            zone: ZoneInfo | None = self._options.zone
            is_clock = isinstance(mark, date) and (zone is not None or getattr(mark, "tzinfo", None) is not None)
            self._settling = ClockSettled(self._mark.overlap, zone) if is_clock else HistorySettled(self._mark.overlap)
        return self._settling

    def _settled(self, subject: Subject, clock: datetime, found: Sequence[Fetched]) -> Any:
        like = found[0].mark if found else (self.window.front.mark if self.window.front else None)
        return None if like is None else self._settling_of(like).settled(clock, like)

    # --- what was taken ----------------------------------------------------------------------------

    def checkpoint(self, page: Page) -> tuple[str, str] | None:
        """Moves on as if the last item were kept; `taken` moves back where it is not."""
        state: _Read = page.state
        state.saved = (self.window.front, self.window.low)
        for item in page.items:
            self.window.meet(_told_apart(item), item.mark)
        self._move(state)
        return POSITION, self.window.checkpoint(self._watch.server, **self._keeping.noted())

    def _move(self, state: _Read) -> None:
        if state.sweeping:
            if state.ended:
                self.window.swept(state.settled)
        elif state.after is not None:
            self.window.advance(state.after, state.settled)

    def taken(self, page: Page, acks: Sequence[Ack | None]) -> None:
        state: _Read = page.state
        if all(ack is not None and ack.message_id for ack in acks):
            if not page.items:
                self._move(state)
            if state.sweeping:
                self._swept_at = self._monotonic()
                self._sweep = None if state.ended else (state.after, state.settled)
            return
        if page.items and acks[-1] is not None:  # everything but the last was kept
            self.window.front, self.window.low = state.saved
        for item, ack in zip(page.items, acks, strict=True):
            if ack is not None and ack.message_id:
                self.window.meet(_told_apart(item), item.mark)
            else:
                self.window.unmeet(_told_apart(item))


def _told_apart(item: Item) -> bytes:
    return item.digest
