"""One upload: lines out of the body, to the store in their order, and the answer when all that came is settled.

Nothing is read from the terminal while as many of its lines are under way as may be, so memory does not depend on how long the body is.
A fault of one line is said of that line. What ends the upload before its end (the store takes nothing now, the node stops, the same
terminal has begun anew, the body is not what its head says) is the status of the answer, which then says what was kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from adapters.fhir.offline.asked import Asked, behind
from adapters.fhir.offline.lines import Line, Lines
from adapters.fhir.offline.taking import Taking
from adapters.fhir.outcome import FhirRefusal, Issue
from engine import http_answers
from engine.errors import FramingError, StoreError
from engine.http_uploads import STOPS

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.fhir.offline.desk import Service
    from adapters.fhir.offline.journals import Ticket
    from adapters.fhir.offline.outcomes import Standing
    from adapters.fhir.offline.report import Report
    from engine.http_answers import Sender
    from engine.http_coding import Decoder

CONTENT_TYPE: Final = "application/fhir+ndjson; charset=utf-8"
_BURST: Final = 64
"""Lines in one turn of the reactor, where none of them waits for anything."""
_SKEW: Final = 60


class LineUpload:
    """engine.http_uploads.Upload"""

    def __init__(self, service: Service, asked: Asked, sender: Sender, target: str, decoder: Decoder, report: Report) -> None:
        self.journal = asked.journal
        self._service, self._asked = service, asked
        self._decoder, self._report = decoder, report
        self._lines = Lines(service.most_line)
        self._chunks: deque[bytes] = deque()
        self._cutting: Iterator[Line] | None = None
        self._held: Line | None = None
        self._taking = Taking(service, asked, sender, target, report, partial(self._stop, 503), self.go_on)
        self._earlier: LineUpload | None = None
        self._entered = self._begun = self._complete = self._exhausted = self._going = self._dead = False
        self._refused: tuple[int, str] | None = None
        self._end: Deferred[Any] | None = None
        self.full = self.over = False
        self.wake: Callable[[], None] = lambda: None

    # --- engine.http_uploads.Upload ----------------------------------------------------------------

    def content(self, data: bytes) -> None:
        self._enter()
        self._chunks.append(data)
        self.go_on()

    def ended(self) -> Deferred[http_answers.Answer]:
        self._enter()
        self._complete = True
        self._end = Deferred()
        answer = self._end
        self.go_on()
        return answer

    def cut(self) -> None:
        self._stop(503, STOPS)

    def gone(self) -> Deferred[Any] | None:
        self._dead = self.over = self._taking.stopped = True
        self._forget_rest()
        self._report.drop()
        self._service.journals.leave(self)
        if not self._taking.busy:
            return None
        self._end = Deferred()
        return self._end

    # --- others ----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Some of its lines are on their way to the store."""
        return self._taking.busy

    def superseded(self) -> None:
        """The same terminal has begun another upload: its connection was lost, and nobody has told us yet."""
        self._stop(409, "the terminal has begun another upload, which goes on in place of this one")

    def go_on(self, most: int = _BURST) -> None:
        """Take lines, as many as may be under way, and at most `most`. Called whenever one more could be."""
        if self._going:
            return
        self._going = True
        taken = 0
        while taken < most and self._step():
            taken += 1
        if taken == most and (most == _BURST or not self.busy):  # where some are under way, each that is settled calls again
            self._service.context.reactor.callLater(0, self.go_on)
        self._going = False
        self._pace()
        self._finish()

    # --- lines -----------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Raises StoreError."""
        if not self._entered:
            self._entered = True
            self._earlier = self._service.journals.enter(self)
            seconds = behind(self._asked.clock, self._service.context.clock())
            if seconds is not None and abs(seconds) > _SKEW:
                words = f"the terminal's clock is {abs(seconds)} s {'behind' if seconds > 0 else 'ahead of'} this node's"
                self._taking.summary.issues.append(Issue("informational", f"{words}; its times are kept as they are", "warning"))

    def _step(self) -> bool:
        """Take one line; False where there is none, or none may be taken now."""
        if self.over or self._taking.full or self._service.stopping:
            return False
        try:
            if not self._follows():
                return False
            line = self._held or self._next()
            if line is not None and (reason := self._taking.lapsed()):
                self._stop(403, reason)
                return False
            ticket = self._ticket(line) if line is not None else None
            if line is not None and ticket is not None:
                self._taking.take(line, ticket)
                return True
        except FramingError as error:
            self._stop(int(error.reply_hint or 400), error.text)
        except StoreError as error:
            self._stop(503, error.text)
        return False

    def _follows(self) -> bool:
        """What an earlier upload of this terminal had under way is settled. Raises StoreError."""
        if self._begun:
            return True
        if self._earlier is not None and self._earlier.busy:
            self._service.journals.wait(self)
            return False
        self._earlier, self._begun = None, True
        self._taking.begin()
        return True

    def _ticket(self, line: Line) -> Ticket | None:
        ticket = self._service.journals.take(len(line.content))
        self._held = line if ticket is None else None
        if ticket is None:
            self._service.journals.wait(self)
        return ticket

    def _next(self) -> Line | None:
        """Raises FramingError."""
        while True:
            if self._cutting is not None:
                line = next(self._cutting, None)
                if line is not None:
                    return line
                self._cutting = None
            if not self._chunks:
                return self._last() if self._complete else None
            self._cutting = self._lines.each(self._decoder.feed(self._chunks.popleft()))

    def _last(self) -> Line | None:
        """What is behind the last line feed counts only where the body is whole. Raises FramingError."""
        self._decoder.finish()
        line = self._lines.last()
        self._exhausted = line is None
        return line

    # --- the end -----------------------------------------------------------------------------------

    def _stop(self, status: int, text: str) -> None:
        """Take no more. The first reason stays."""
        if self._refused is None and not self._dead:
            self._refused = (status, text)
            self._taking.summary.issues.append(FhirRefusal(status, text).issues[0])
        self.over = self._taking.stopped = True
        self._forget_rest()
        self._pace()
        if not self._going:
            self._finish()

    def _forget_rest(self) -> None:
        self._chunks.clear()
        self._cutting = self._held = None

    def _pace(self) -> None:
        was, self.full = self.full, not self.over and bool(self._chunks or self._cutting is not None or self._held is not None)
        if was and not self.full:
            self.wake()

    def _finish(self) -> None:
        """The answer, when nothing is under way any more."""
        if self._end is None or self._taking.busy or not (self.over or self._exhausted):
            return
        end, self._end = self._end, None
        self._service.journals.leave(self)
        if self._dead:
            end.callback(None)
            return
        standing: Deferred[Any] = self._service.journals.standing(self.journal)
        standing.addErrback(_unknown).addCallback(self._answer).chainDeferred(end)

    def _answer(self, standing: Standing | None) -> http_answers.Answer:
        last = self._taking.summary.line(standing)
        if self._refused is None:
            return http_answers.Answer(200, self._report.pieces(last), CONTENT_TYPE)
        status, _ = self._refused
        headers = {"Retry-After": "5"} if status == 503 else {}
        return http_answers.Answer(status, [self._report.brief(last)], CONTENT_TYPE, headers)


def _unknown(failure: Failure) -> None:
    failure.trap(StoreError)
