"""One upload: lines out of the body, to the store in their order, and the answer when all that came is settled.

Nothing is read from the terminal while as many of its lines are under way as may be, so memory does not depend on how long the body is.
A fault of one line is said of that line. What ends the upload before its end (the store takes nothing now, the node stops, the same
terminal has begun anew, the body is not what its head says) is the status of the answer, which then says what was kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from adapters.fhir.envelopes import answer_to
from adapters.fhir.offline import contents, outcomes
from adapters.fhir.offline.asked import Asked, behind
from adapters.fhir.offline.book import Settled
from adapters.fhir.offline.contents import Content
from adapters.fhir.offline.lines import Line, Lines
from adapters.fhir.offline.outcomes import GOOD, Result, Standing, Summary
from adapters.fhir.outcome import FhirRefusal, Issue
from adapters.fhir.validation import validate
from engine import http_answers
from engine.errors import FramingError, StoreError
from engine.http_uploads import STOPS
from engine.message import Judgement, Verdict

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.fhir.offline.desk import Service
    from adapters.fhir.offline.journals import Ticket
    from adapters.fhir.offline.report import Report
    from engine.http_answers import Sender
    from engine.http_coding import Decoder
    from engine.message import Ack

CONTENT_TYPE: Final = "application/fhir+ndjson; charset=utf-8"
AT_ONCE: Final = 64
"""Lines of one upload that are under way."""
_BURST: Final = 64
"""Lines in one turn of the reactor, where none of them waits for anything."""
_SKEW: Final = 60
_CONFLICT: Final = "this number was used before, for other content; where the terminal counts from 1 again, it needs another name"
_FORGOTTEN: Final = (
    "this number was settled too long ago for its content to be compared; where the terminal counts anew, it needs another name"
)
_USED: Final = "205"
"""Judgement.hl7_code of a key that was used for other content."""


@dataclass(slots=True)
class _Entry:
    """A line under way."""

    content: Content
    ticket: Ticket
    at: int
    conflict: bool = False
    corrects: bool = False
    result: Result | None = None
    issues: list[Issue] = field(default_factory=list)


class LineUpload:
    """engine.http_uploads.Upload"""

    def __init__(self, service: Service, asked: Asked, sender: Sender, target: str, decoder: Decoder, report: Report) -> None:
        self.journal = asked.journal
        self._service, self._asked, self._sender, self._target = service, asked, sender, target
        self._decoder, self._report = decoder, report
        self._lines = Lines(service.most_line)
        self._chunks: deque[bytes] = deque()
        self._cutting: Iterator[Line] | None = None
        self._held: Line | None = None
        self._under_way: deque[_Entry] = deque()
        self._summary = Summary(asked.journal)
        self._sequence = asked.first
        self._highest = 0
        self._earlier: LineUpload | None = None
        self._entered = self._begun = self._complete = self._exhausted = self._going = self._checking = self._dead = False
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
        self._dead = self.over = True
        self._forget_rest()
        self._report.drop()
        self._service.journals.leave(self)
        if not self._under_way:
            return None
        self._end = Deferred()
        return self._end

    # --- others ----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Some of its lines are on their way to the store."""
        return bool(self._under_way)

    def superseded(self) -> None:
        """The same terminal has begun another upload: its connection was lost, and nobody has told us yet."""
        self._stop(409, "the terminal has begun another upload, which goes on in place of this one")

    def go_on(self) -> None:
        """Take lines, as many as may be under way. Called whenever one more could be."""
        if self._going:
            return
        self._going = True
        for _ in range(_BURST):
            if not self._step():
                break
        else:
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
                self._summary.issues.append(Issue("informational", f"{words}; its times are kept as they are", "warning"))

    def _step(self) -> bool:
        """Take one line; False where there is none, or none may be taken now."""
        if self.over or self._checking or len(self._under_way) >= AT_ONCE or self._service.stopping:
            return False
        try:
            if not self._follows():
                return False
            line = self._held or self._next()
            ticket = self._ticket(line) if line is not None else None
            if line is not None and ticket is not None:
                self._read(line, ticket)
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
        self._highest = self._service.journals.reach(self.journal).highest
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

    def _read(self, line: Line, ticket: Ticket) -> None:
        """Raises StoreError."""
        content = contents.read(self._asked, line, self._sequence, self._sender, self._target, self._service.most_line)
        self._sequence += bool(self._sequence)
        entry = _Entry(content, ticket, self._service.context.clock())
        self._under_way.append(entry)
        self._note_gap(entry)
        try:
            known = self._service.journals.find(self.journal, content.sequence) if 0 < content.sequence <= self._highest else None
        except StoreError as error:
            self._unavailable(entry, error.text)
            return
        self._highest = max(self._highest, content.sequence)
        if known is not None and known.taken and known.digest == content.digest:
            self._settle(entry, Result.REPEATED, record=False)
            return
        if known is not None and known.taken:
            entry.conflict = True
            content.fault = FhirRefusal(409, _CONFLICT if known.digest else _FORGOTTEN, issue="conflict")
        entry.corrects = known is not None and known.digest != content.digest
        if content.fault is None and self._service.validate:
            self._check(entry)
        else:
            self._hand_in(entry)

    def _note_gap(self, entry: _Entry) -> None:
        sequence = entry.content.sequence
        if sequence > self._highest + 1:
            gap = outcomes.ranges([(self._highest + 1, sequence - 1)])
            entry.issues.append(Issue("incomplete", f"before this line, these numbers have not come: {gap}", "warning"))

    def _check(self, entry: _Entry) -> None:
        """Against the model, in a thread: the lines after it wait, so that they stay in their order."""
        content = entry.content
        assert content.write is not None
        self._checking = True
        checked = self._service.in_thread(validate, content.write.content["resourceType"], content.line.content)
        checked.addErrback(_into(content)).addCallback(lambda _: self._checked(entry))

    def _checked(self, entry: _Entry) -> None:
        self._checking = False
        if self.over or self._service.stopping:
            self._unavailable(entry, STOPS)
        else:
            self._hand_in(entry)
            self.go_on()

    def _hand_in(self, entry: _Entry) -> None:
        content, fault = entry.content, entry.content.fault
        invalid = Judgement(Verdict.INVALID, fault.text, _USED if entry.conflict else "207", fault.location) if fault else None
        checkpoint = self._service.journals.checkpoint(entry.ticket, self._settled(entry, taken=True)) if fault is None else None
        made = content.envelope(entry.at, checkpoint, apart=fault is not None or entry.corrects)

        def reply(judgement: Judgement) -> bytes:
            if fault is not None and judgement.verdict is Verdict.INVALID:
                return fault.answer().encode()
            return answer_to(judgement).encode()

        self._service.intake(made, reply, invalid).addCallback(self._answered, entry)

    # --- what became of them -----------------------------------------------------------------------

    def _answered(self, ack: Ack, entry: _Entry) -> None:
        verdict, fault = ack.judgement.verdict, entry.content.fault
        if verdict is Verdict.UNAVAILABLE:
            self._unavailable(entry, ack.judgement.reason)
        elif entry.conflict or ack.judgement.hl7_code == _USED:
            entry.issues.append(Issue("conflict", fault.text if fault is not None else _CONFLICT))
            self._settle(entry, Result.CONFLICT, record=False)
        elif verdict is Verdict.ACCEPTED:
            self._settle(entry, Result.REPEATED if ack.duplicate else Result.KEPT)
        else:
            entry.issues += fault.issues if fault is not None else outcomes.issues_of(ack)
            self._settle(entry, Result.REFUSED)

    def _unavailable(self, entry: _Entry, text: str) -> None:
        entry.issues.append(Issue("transient", text))
        self._settle(entry, Result.UNAVAILABLE, record=False)
        self._stop(503, "not all lines could be kept now; send again from the first that was not")

    def _settle(self, entry: _Entry, result: Result, *, record: bool = True) -> None:
        """`record`: the book is to know of it; a line without a number is not for the book."""
        line = self._settled(entry, taken=result in GOOD) if record and entry.content.sequence else None
        self._service.journals.settle(entry.ticket, line, partial(self._done, entry, result))

    def _settled(self, entry: _Entry, *, taken: bool) -> Settled:
        return Settled(self.journal, entry.content.sequence, entry.content.digest, taken, entry.at)

    def _done(self, entry: _Entry, result: Result) -> None:
        entry.result = result
        while self._under_way and self._under_way[0].result is not None:
            self._tell(self._under_way.popleft())
        self.go_on()

    def _tell(self, entry: _Entry) -> None:
        assert entry.result is not None
        self._summary.results[entry.result] += 1
        self._service.count(entry.result)
        if self._dead or (self._asked.brief and entry.result in GOOD and not entry.issues):
            return
        said = outcomes.line(entry.content.line.number, entry.content.sequence, entry.result, entry.issues)
        self._report.add(said, fault=entry.result not in GOOD)

    # --- the end -----------------------------------------------------------------------------------

    def _stop(self, status: int, text: str) -> None:
        """Take no more. The first reason stays."""
        if self._refused is None and not self._dead:
            self._refused = (status, text)
            self._summary.issues.append(FhirRefusal(status, text).issues[0])
        self.over = True
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
        if self._end is None or self._under_way or not (self.over or self._exhausted):
            return
        end, self._end = self._end, None
        self._service.journals.leave(self)
        if self._dead:
            end.callback(None)
            return
        standing: Deferred[Any] = self._service.journals.standing(self.journal)
        standing.addErrback(_unknown).addCallback(self._answer).chainDeferred(end)

    def _answer(self, standing: Standing) -> http_answers.Answer:
        last = self._summary.line(standing)
        if self._refused is None:
            return http_answers.Answer(200, self._report.pieces(last), CONTENT_TYPE)
        status, _ = self._refused
        headers = {"Retry-After": "5"} if status == 503 else {}
        return http_answers.Answer(status, [self._report.brief(last)], CONTENT_TYPE, headers)


def _into(content: Content) -> Callable[[Failure], None]:
    """A refusal by the model becomes the line's fault."""

    def caught(failure: Failure) -> None:
        failure.trap(FhirRefusal)
        assert isinstance(failure.value, FhirRefusal)
        content.fault = failure.value

    return caught


def _unknown(failure: Failure) -> Standing:
    failure.trap(StoreError)
    return Standing()
