"""The lines of one upload on their way: from the content of a line to the store, and from there to what is said of it.

Lines are handed in, and said, in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from adapters.fhir.envelopes import answer_to
from adapters.fhir.offline import contents, outcomes
from adapters.fhir.offline.asked import Asked
from adapters.fhir.offline.book import Settled
from adapters.fhir.offline.contents import Content
from adapters.fhir.offline.outcomes import GOOD, Result, Summary
from adapters.fhir.outcome import FhirRefusal, Issue, NotAllowed
from adapters.fhir.validation import check, quick
from engine.errors import StoreError
from engine.http_uploads import STOPS
from engine.message import Judgement, Verdict

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.fhir.offline.desk import Service
    from adapters.fhir.offline.journals import Ticket
    from adapters.fhir.offline.lines import Line
    from adapters.fhir.offline.report import Report
    from adapters.fhir.permission import Run
    from engine.http_answers import Sender
    from engine.message import Ack

AT_ONCE: Final = 64
"""Lines of one upload that are under way."""
_CONFLICT: Final = "this number was used before, for other content; where the terminal counts from 1 again, it needs another name"
_FORGOTTEN: Final = (
    "this number was settled too long ago for its content to be compared; where the terminal counts anew, it needs another name"
)
_USED: Final = "205"
"""Judgement.hl7_code of a key that was used for other content."""


@dataclass(slots=True)
class _Entry:
    """A line under way. `conflict`: its number is another's; `corrects`: it comes in place of one that was refused."""

    content: Content
    ticket: Ticket
    at: int
    conflict: bool = False
    corrects: bool = False
    result: Result | None = None
    issues: list[Issue] = field(default_factory=list)


class Taking:
    """`stop(text)` ends the upload where the store takes nothing; `changed` is called when a line is settled."""

    def __init__(
        self,
        service: Service,
        asked: Asked,
        sender: Sender,
        target: str,
        report: Report,
        stop: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._service, self._asked, self._sender, self._target, self._report = service, asked, sender, target, report
        self._stop, self._changed = stop, changed
        self._under_way: deque[_Entry] = deque()
        self._checking = False
        self._sequence = asked.first
        self._highest = 0
        self.summary = Summary(asked.journal)
        self.stopped = False

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    @property
    def full(self) -> bool:
        """No line may be taken now."""
        return self._checking or len(self._under_way) >= AT_ONCE

    def begin(self) -> None:
        """Nothing else is under way for this journal. Raises StoreError."""
        self._highest = self._service.journals.reach(self._asked.journal).highest

    def lapsed(self) -> str:
        """Why the sender may hand in no more lines, "" where it may."""
        return self._service.may.lapsed(self._sender) if self._service.may is not None else ""

    def take(self, line: Line, ticket: Ticket) -> None:
        content = Content(self._asked, line, self._sender, self._target, self._sequence)
        self._sequence += bool(self._sequence)
        entry = _Entry(content, ticket, self._service.context.clock())
        self._under_way.append(entry)
        self._checking = not quick("structure", len(line.content))
        run: Run = self._service.in_thread if self._checking else maybeDeferred
        run(contents.read, content, self._service.most_line).addCallback(lambda _: self._read(entry)).addErrback(self._failed, entry)

    def _read(self, entry: _Entry) -> None:
        late, self._checking = self._checking, False
        if late and self._ends(entry):
            return
        self._judge(entry)
        if late:
            self._changed()

    def _judge(self, entry: _Entry) -> None:
        """By its number: whether it came before."""
        content = entry.content
        self._note_gap(entry)
        try:
            known = self._service.journals.find(self._asked.journal, content.sequence) if 0 < content.sequence <= self._highest else None
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
        if content.fault is None:
            self._check(entry)
        else:
            self._hand_in(entry)

    def _note_gap(self, entry: _Entry) -> None:
        sequence = entry.content.sequence
        if sequence > self._highest + 1:
            gap = outcomes.ranges([(self._highest + 1, sequence - 1)])
            entry.issues.append(Issue("incomplete", f"before this line, these numbers have not come: {gap}", "warning"))

    def _check(self, entry: _Entry) -> None:
        """Whether the party may send it, and what the channel asks of resources."""
        content, level, may = entry.content, self._service.validate, self._service.may
        write = content.write
        assert write is not None
        self._checking = not quick(level, len(content.line.content))
        run: Run = self._service.in_thread if self._checking else maybeDeferred
        permitted: Deferred[Any] = may.write(write, run) if may is not None else succeed(None)
        permitted.addCallback(lambda _: run(check, level, write.content, content.line.content)).addErrback(_into(content))
        permitted.addCallback(lambda _: self._checked(entry)).addErrback(self._failed, entry)

    def _checked(self, entry: _Entry) -> None:
        """Where it was in a thread the lines after it have waited, so that they stay in their order."""
        if not self._checking:
            self._hand_in(entry)
            return
        self._checking = False
        if not self._ends(entry):
            self._hand_in(entry)
            self._changed()

    def _ends(self, entry: _Entry) -> bool:
        """Nothing may be handed in any more: while it was looked into, the upload has ended."""
        ends = self.stopped or self._service.stopping
        if ends:
            self._unavailable(entry, STOPS)
        return ends

    def _hand_in(self, entry: _Entry) -> None:
        content, fault = entry.content, entry.content.fault
        verdict = Verdict.REFUSED if isinstance(fault, NotAllowed) else Verdict.INVALID
        invalid = Judgement(verdict, fault.text, _USED if entry.conflict else "207", fault.location) if fault else None
        checkpoint = self._service.journals.checkpoint(entry.ticket, self._settled(entry, taken=True)) if fault is None else None
        made = content.envelope(entry.at, checkpoint, apart=fault is not None or entry.corrects)

        def reply(judgement: Judgement) -> bytes:
            if fault is not None and judgement.verdict is verdict:
                return fault.answer().encode()
            return answer_to(judgement).encode()

        self._service.intake(made, reply, invalid).addCallback(self._answered, entry)

    def _failed(self, failure: Failure, entry: _Entry) -> None:
        context = self._service.context
        context.log.error("unexpected failure in a line of an upload", exc_info=failure.value, extra={"channel": context.name})
        self._checking = False
        if entry.result is None:
            self._unavailable(entry, "an error in the server")

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
        self._stop("not all lines could be kept now; send again from the first that was not")

    def _settle(self, entry: _Entry, result: Result, *, record: bool = True) -> None:
        """`record`: the book is to know of it; a line without a number is not for the book."""
        line = self._settled(entry, taken=result in GOOD) if record and entry.content.sequence else None
        self._service.journals.settle(entry.ticket, line, partial(self._done, entry, result))

    def _settled(self, entry: _Entry, *, taken: bool) -> Settled:
        return Settled(self._asked.journal, entry.content.sequence, entry.content.digest, taken, entry.at)

    def _done(self, entry: _Entry, result: Result) -> None:
        entry.result = result
        while self._under_way and self._under_way[0].result is not None:
            self._tell(self._under_way.popleft())
        self._changed()

    def _tell(self, entry: _Entry) -> None:
        assert entry.result is not None
        self.summary.results[entry.result] += 1
        self._service.count(entry.result)
        if self._report.dropped or (self._asked.brief and entry.result in GOOD and not entry.issues):
            return
        said = outcomes.line(entry.content.line.number, entry.content.sequence, entry.result, entry.issues)
        self._report.add(said, fault=entry.result not in GOOD)


def _into(content: Content) -> Callable[[Failure], None]:
    """A refusal by the model becomes the line's fault."""

    def caught(failure: Failure) -> None:
        failure.trap(FhirRefusal)
        assert isinstance(failure.value, FhirRefusal)
        content.fault = failure.value

    return caught
