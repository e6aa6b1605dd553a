"""The source `database_capture`: pages of changes, handed in one after the other; the last message of a page carries how far the log was
read (ADR 028)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, succeed

from adapters.database.capture.building import capture_of
from adapters.database.capture.changes import Item, Page
from adapters.database.capture.log import Behind
from adapters.database.capture.state import CHECKPOINT
from adapters.database.errors import DatabaseError
from adapters.database.polling.rounds import Halted, Notice
from adapters.database.polling.subject import Unusable
from engine.backoff import Backoff
from engine.channel import Retry
from engine.contracts import Reply
from engine.errors import StoreError
from engine.message import Ack
from engine.polling import PollingSource

if TYPE_CHECKING:
    from adapters.database.capture.reading import Capture
    from engine.contracts import Context, Intake
    from engine.options import Settings

_NO_ANSWER: Final[Reply] = lambda _: b""  # noqa: E731 - nobody waits for one
_STOPPED: Final = "the log of a database is not read until an operator has looked"


class CaptureSource(PollingSource):
    """engine.contracts.Source. A round waits in its thread for the next changes; the next one begins when they are kept."""

    what: ClassVar[str] = "database's log"

    def __init__(self, options: Settings, context: Context) -> None:
        super().__init__(context, 0.0)
        self._options = options
        self._capture: Capture | None = None
        self._page: Page | None = None
        self._acks: list[Ack | None] = []
        self._halted = ""
        self._late = self._unlimited = False
        self._backoff = Backoff(Retry(0.5, options.retry_most), random.random)
        labels = {"channel": context.name}
        self._stopped_gauge = context.metrics.gauge("meridian_capture_stopped", f"1 while {_STOPPED}", **labels)
        self._behind_gauge = context.metrics.gauge("meridian_capture_behind_bytes", "how much of its log a database keeps for us", **labels)
        self._changes = context.metrics.counter("meridian_capture_changes_total", "changes and first rows that were new", **labels)

    # --- engine.polling.PollingSource ----------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        return self._context.checkpoints().addCallback(self._start, intake)

    def _start(self, checkpoints: dict[str, str], intake: Intake) -> Deferred[None]:
        self._checkpoints = checkpoints
        return super().start(intake)

    def open(self) -> None:
        """Raises ConfigError for what cannot be captured; a database that is away, or a log that is lost, is no reason not to start."""
        self._capture = capture_of(self._options, self._context)
        self._capture.resume(self._checkpoints)
        try:
            self._capture.open()
        except Unusable:
            self._capture.dispose()
            raise
        except DatabaseError:  # the first round says it
            pass

    def close(self) -> None:
        assert self._capture is not None
        self._capture.dispose()

    def listed(self) -> Sequence[Item]:
        assert self._capture is not None
        if self._page is not None:
            return self._page.items
        behind = self._capture.behind()
        if behind is not None:
            self._context.reactor.callFromThread(self._measured, behind)
        self._page = self._capture.page()
        self._acks = [None] * len(self._page.items)
        return self._page.items

    @inlineCallbacks
    def hand_all_in(self, items: Sequence[Item]) -> Any:
        """In the order of the log; those of different rows together. The last goes in when all others are kept, with the checkpoint, which
        must not say more than is kept."""
        self._say()
        self._resumed()
        page = self._page
        assert page is not None
        checkpoint = page.state.written() if items else ""
        for wave in _waves(items):
            last = wave[-1] == len(items) - 1
            yield gatherResults([self._keep(index, items[index]) for index in wave if not (last and index == wave[-1])], consumeErrors=True)
            if not self._are_kept(wave[:-1] if last else wave):
                return self._not_taken()
            if last:
                yield self._keep(wave[-1], items[wave[-1]], (CHECKPOINT, checkpoint))
        if not self._are_kept(range(len(items))):
            return self._not_taken()
        self._changes.inc(sum(ack is not None and not ack.duplicate for ack in self._acks))
        self._page = None
        assert self._capture is not None
        yield self.in_thread(self._capture.kept, page, checkpoint)

    def _keep(self, index: int, item: Item, checkpoint: tuple[str, str] | None = None) -> Deferred[Any]:
        if self.stopping or (checkpoint is None and self._are_kept([index])):
            return succeed(None)
        envelope = item.envelope if checkpoint is None else replace(item.envelope, checkpoint=checkpoint)
        return self.intake(envelope, _NO_ANSWER, item.invalid).addCallback(lambda ack: self._acks.__setitem__(index, ack))

    def _are_kept(self, indexes: Sequence[int]) -> bool:
        return all((ack := self._acks[index]) is not None and bool(ack.message_id) for index in indexes)

    def _not_taken(self) -> None:
        if not self.stopping:
            raise StoreError("the store did not take all changes; the rest is handed in again")

    def pause(self) -> float:
        return self._backoff.delay(self.failures) if self.failures else 0.0

    # --- what is said --------------------------------------------------------------------------------

    def cannot_read(self, error: Exception) -> None:
        """A log that may not be read on is an alarm, said and audited once; a database that is away is said each time."""
        self._say()
        if isinstance(error, DatabaseError):
            self._page = None  # it comes again
        if not isinstance(error, Halted):
            super().cannot_read(error)
        elif self._halted != error.text:
            self._halted = error.text
            self._stopped_gauge.set(1)
            self._tell(Notice("database.capture_stopped", _STOPPED, "critical", {"reason": error.text}))

    def _resumed(self) -> None:
        if self._halted:
            self._halted = ""
            self._stopped_gauge.set(0)
            self._tell(Notice("database.capture_resumed", "the log of a database is read again", "info"))

    def _measured(self, behind: Behind) -> None:
        self._behind_gauge.set(behind.kept)
        if behind.unlimited and not self._unlimited:
            text = "a database keeps its log for us without limit (max_slot_wal_keep_size): while we are away it may fill its disk"
            self._tell(Notice("database.capture_unlimited", text))
        self._unlimited = behind.unlimited
        late = behind.kept > self._options.most_behind or (behind.left is not None and behind.left <= 0)
        if late and not self._late:
            facts = {"bytes": str(behind.kept), **({"left": str(behind.left)} if behind.left is not None else {})}
            text = "a database keeps more of its log for us than it should (most_behind); beyond its own limit the capture is lost"
            self._tell(Notice("database.capture_behind", text, "critical", facts))
        elif self._late and not late:
            self._tell(Notice("database.capture_caught_up", "a database keeps no more of its log for us than it may", "info"))
        self._late = late

    def _say(self) -> None:
        for notice in self._capture.notices() if self._capture is not None else ():
            self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        getattr(self._context.log, notice.level)(notice.text, extra={"channel": self._context.name, **notice.facts})
        self._context.audit(notice.event, channel=self._context.name, **notice.facts)


def _waves(items: Sequence[Item]) -> Iterator[list[int]]:
    """Indexes of changes that may be handed in together: of different rows, and none that is for all rows of a table."""
    wave: list[int] = []
    seen: set[str] = set()
    for index, item in enumerate(items):
        if wave and (not item.order or item.order in seen or "" in seen):
            yield wave
            wave, seen = [], set()
        wave.append(index)
        seen.add(item.order)
    if wave:
        yield wave
