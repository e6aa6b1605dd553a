"""The source `file`: one file at a time, claimed, handed in page by page, and moved away when the last page is kept (ADR 036)."""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import Deferred, gatherResults, succeed

from adapters.file.envelopes import private
from adapters.file.places import Entry, Listening, last_part, shown
from adapters.file.placing import place_of
from adapters.file.reading import CHECKPOINT, Item, Reading
from adapters.file.settling import Rule, Settling
from engine.backoff import Backoff
from engine.channel import Retry
from engine.contracts import Reply
from engine.errors import SecurityError, StoreError
from engine.message import Ack, BodyRef
from engine.polling import PollingSource

if TYPE_CHECKING:
    from adapters.file.places import Place
    from adapters.file.splitting import Part
    from engine.contracts import Context, Intake
    from engine.options import Settings

_NO_ANSWER: Final[Reply] = lambda _: b""  # noqa: E731 - nobody waits for one
_POSTPONED_SECONDS: Final = 60.0
"""How long a file waits that cannot be read; the others go on."""
_LONGEST_PAUSE: Final = 60.0


class FileSource(PollingSource):
    """engine.contracts.Source"""

    what: ClassVar[str] = "folder"

    def __init__(self, options: Settings, context: Context) -> None:
        super().__init__(context, options.poll)
        self._options = options
        half_written = options.serve.half_written if options.serve is not None else ()  # their senders may still take them back
        self._rule = Rule(
            options.include, (*options.ignore, *half_written), options.settled_for, options.marker or "", options.order == "time"
        )
        self._settling = Settling(self._rule)
        self._place: Place | None = None
        self._connected = False
        self._names: deque[str] = deque()
        self._reading: Reading | None = None
        self._page: list[Part] = []
        self._resumed = self._refused = ""
        self._postponed: dict[str, float] = {}
        self._unmoved: dict[Entry, Reading] = {}  # all of them is kept, but they could not be moved away
        self._acks: list[Ack | None] = []
        self._more = False
        self._backoff = Backoff(Retry(min(options.poll, _LONGEST_PAUSE), _LONGEST_PAUSE), random.random)
        label = {"channel": context.name}
        metrics = context.metrics
        self._waiting = metrics.gauge("meridian_files_waiting", "files that lie there and are not taken yet", **label)
        self._files = {
            outcome: metrics.counter("meridian_files_total", "files that were taken in", outcome=outcome, **label)
            for outcome in ("done", "faulty")
        }
        self._faults = metrics.counter("meridian_file_faults_total", "bad pieces of files", **label)

    # --- engine.polling.PollingSource ----------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        return self._context.checkpoints().addCallback(self._start, intake)

    def _start(self, checkpoints: dict[str, str], intake: Intake) -> Deferred[None]:
        self._resumed = checkpoints.get(CHECKPOINT, "")
        return super().start(intake)

    def open(self) -> None:
        """A folder that is not there is no reason not to start: the rounds say it."""
        self._place = place_of(self._options, self._context)
        if isinstance(self._place, Listening):
            self._place.listen()

    def close(self) -> None:
        self._let_go()
        self._disconnect()
        place: object = self._place
        if isinstance(place, Listening):
            place.stop_listening()

    def listed(self) -> Sequence[Item]:
        """The next page of the file under way, or the first of another."""
        self._more = False
        try:
            return self._next()
        except SecurityError as error:
            self._let_go()
            self._disconnect()
            if error.text != self._refused:  # once, however often it is tried
                self._refused = error.text
                self._audit("file.place_refused", place=self._there.said, reason=error.text)
            raise StoreError(f"{self._there.said}: {error.text}") from None
        except OSError:
            self._let_go()
            self._disconnect()
            raise

    @property
    def _there(self) -> Place:
        assert self._place is not None
        return self._place

    def _next(self) -> Sequence[Item]:
        if not self._connected:
            self._there.open()
            self._connected = True
        if self._reading is None:
            entry = self._claimed()
            if entry is None:
                return ()
            before = self._unmoved.pop(entry, None)
            self._reading = before or Reading(self._there, entry, self._options, self._context, self._resumed, self._alive)
            self._claim = entry
        if not self._reading.holds():
            self._context.log.warning("a file was taken over by another node, which had not heard of this one", extra=self._about())
            self._let_go()
            return ()
        self._there.beat()
        try:
            self._page = self._page or self._reading.page()
            items = self._reading.items(self._page)
        except OSError:
            self._postpone()
            raise
        if not items:
            self._finish()
        self._more = True
        return items

    def _alive(self) -> None:
        """Said with each block of a file that is read."""
        if self.stopping:
            raise OSError(errno.ECANCELED, "the node stops")
        self._there.beat()

    def _postpone(self) -> None:
        """The file under way is tried again later; the others go on."""
        self._postponed[self._claim.name] = self._context.reactor.seconds() + _POSTPONED_SECONDS

    def _about(self) -> dict[str, Any]:
        return {"channel": self._context.name, "file": private(shown(last_part(self._claim.name)), self._options)}

    # --- claims, in the thread -----------------------------------------------------------------------

    def _claimed(self) -> Entry | None:
        """The next file, ours: one that is ours already first."""
        place, now = self._there, self._context.reactor.seconds()
        self._postponed = {name: until for name, until in self._postponed.items() if until > now}
        if (held := self._held()) is not None:
            return held
        if len(self._unmoved) >= self._options.most_files:  # it is no single file: nothing more is claimed
            return None
        if not self._names:
            self._look_around(now)
            if (held := self._held()) is not None:  # taken over
                return held
        while self._names:
            if place.claim(self._names.popleft()) is not None and (held := self._held()) is not None:
                return held
        return None

    def _held(self) -> Entry | None:
        held = self._there.claimed()
        self._unmoved = {one: reading for one, reading in self._unmoved.items() if one in held}
        return min((one for one in held if one.name not in self._postponed), key=lambda one: one.name, default=None)

    def _look_around(self, now: float) -> None:
        place = self._there
        entries = place.list()
        whole = self._settling.whole(entries, now)
        self._waiting.set(len(whole) + self._settling.waiting)
        self._names.extend(one.name for one in whole[: self._options.most_files])
        place.beat()
        taken = [name for name in place.take_over(self._options.take_over) if self._is_ours(name)]
        if taken:
            self._context.log.warning("files of another node were taken over", extra={"channel": self._context.name, "files": len(taken)})
            self._audit("file.taken_over", files=len(taken))

    def _is_ours(self, claimed: str) -> bool:
        """What a channel that watches for other names had claimed is laid back for it."""
        if self._rule.wanted(last_part(claimed)):
            return True
        self._there.move(claimed, "")
        return False

    def _let_go(self) -> None:
        """Of the file under way; its claim stays, and it is read again from what is kept of it."""
        if self._reading is not None:
            self._reading.close()
        self._reading, self._page = None, []

    def _disconnect(self) -> None:
        self._connected = False
        if self._place is not None:
            self._place.close()

    # --- handing in ------------------------------------------------------------------------------------

    def hand_all_in(self, items: Sequence[Item]) -> Deferred[Any]:
        """All but the last at once; the last when they are kept, with the checkpoint, which must not say more than is kept."""
        if not items:
            return succeed(None)
        self._acks = [None] * len(items)
        done = gatherResults([self._keep(index, item) for index, item in enumerate(items[:-1])], consumeErrors=True)
        done.addCallback(lambda _: self._hand_last_in(items))
        return done.addCallback(lambda _: self._end(items))

    def _hand_last_in(self, items: Sequence[Item]) -> Deferred[Any] | None:
        if all(ack is not None and ack.message_id for ack in self._acks[:-1]):
            return self._keep(len(items) - 1, items[-1])
        _unspool(self._context, items[-1])
        return None

    def _keep(self, index: int, item: Item) -> Deferred[Any]:
        if self.stopping:
            _unspool(self._context, item)
            return succeed(None)
        return self.intake(item.envelope, _NO_ANSWER, item.invalid).addCallback(self._kept, index)

    def _kept(self, ack: Ack, index: int) -> None:
        self._acks[index] = ack

    def _end(self, items: Sequence[Item]) -> Deferred[Any] | None:
        if all(ack is not None and ack.message_id for ack in self._acks):
            checkpoint = items[-1].envelope.checkpoint
            assert checkpoint is not None
            self._resumed = checkpoint[1]
            return self.in_thread(self._go_on)
        if not self.stopping:
            raise StoreError("the store did not take all of a file; the rest comes again")
        return None

    def _go_on(self) -> None:
        """In the thread: the next page, or the end of the file, without another round for each small one."""
        assert self._reading is not None
        self._page = []
        try:
            self._page = self._reading.page()
            if not self._page:
                self._finish()
        except OSError:
            self._let_go()
            raise

    def _finish(self) -> None:
        reading = self._reading
        assert reading is not None
        try:
            reading.finish()
        except OSError:
            self._unmoved[self._claim] = reading
            self._postpone()
            raise
        self._files["faulty" if reading.faults else "done"].inc()
        self._faults.inc(reading.faults)
        facts = {"pieces": reading.pieces, "faults": reading.faults, "sha256": reading.content.sha256}
        self._context.log.info("a file was taken in", extra={**self._about(), **facts})
        self._audit("file.taken", **facts)
        self._let_go()

    def _audit(self, event: str, **facts: Any) -> None:
        """From the thread; the log is the reactor's."""
        self._context.reactor.callFromThread(self._context.audit, event, channel=self._context.name, **facts)

    def pause(self) -> float:
        if self.failures:
            return self._backoff.delay(self.failures)
        return 0.0 if self._more or self._names else self._poll

    def cannot_read(self, error: Exception) -> None:
        """Without the paths that an OSError names: a patient's number may stand in one."""
        if self.stopping:  # it was broken off
            return
        reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
        said = self._place.said if self._place is not None else self.what
        extra = {"channel": self._context.name, "place": said, "reason": reason}
        self._context.log.error("files cannot be read or moved", extra=extra)


def _unspool(context: Context, item: Item) -> None:
    """It goes to no intake after all."""
    if isinstance(item.envelope.body, BodyRef):
        context.unspool(item.envelope.body)
