"""Writes of the source: a request becomes an envelope, the intake commits it, its Ack becomes the answer.

What comes as XML is converted before anything else, and travels as JSON; its own bytes are kept with the message (adapters.fhir.write).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from adapters.fhir.envelopes import answer_to, unwrap
from adapters.fhir.instants import comparison, http_date
from adapters.fhir.messages import response
from adapters.fhir.outcome import Answer, FhirRefusal, Issue, NotAllowed, operation_outcome
from adapters.fhir.requests import MESSAGE, charset, content_format, decode_body, preference
from adapters.fhir.validation import Invalid, check, quick
from adapters.fhir.write import Write
from engine.errors import ParseError
from engine.formats.fhir_r4.xml import from_xml
from engine.message import FHIR_JSON, FHIR_XML, Ack, Judgement, Verdict

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.fhir.permission import Permission, Run
    from adapters.fhir.reading import Reads
    from adapters.fhir.requests import Route
    from engine.contracts import Context, Intake
    from engine.http1 import Message
    from engine.http_answers import Sender
    from engine.http_source import Reception
    from engine.options import Settings


class Writes:
    """Turns writes into envelopes and acks into answers."""

    def __init__(
        self, options: Settings, context: Context, intake: Intake, reads: Reads, reception: Reception, may: Permission | None
    ) -> None:
        self._options, self._context, self._intake, self._reads, self._reception = options, context, intake, reads, reception
        self._may = may

    def write(self, found: Route, message: Message, sender: Sender, base: str) -> Deferred[Answer]:
        """Answer a POST, PUT or DELETE. Raises FhirRefusal for what never becomes a message (415, 413)."""
        form = content_format(message.headers) if message.start[0] != "DELETE" else FHIR_JSON
        body = decode_body(message.body, message.headers, self._options.most_body)
        if form == FHIR_JSON:
            return self._read(Write(found, message, sender, body), base)
        converted = self._reception.in_thread(_converted, body, charset(message.headers), self._options.most_body)
        return converted.addCallback(self._read_xml, found, message, sender, body, base)

    def _read_xml(
        self, converted: bytes | FhirRefusal, found: Route, message: Message, sender: Sender, body: bytes, base: str
    ) -> Deferred[Answer]:
        if isinstance(converted, FhirRefusal):
            return self._commit(converted, Write(found, message, sender, body, content_type=FHIR_XML), base)
        return self._read(Write(found, message, sender, converted, original=body), base)

    def _read(self, write: Write, base: str) -> Deferred[Answer]:
        level = self._options.validate if write.method != "DELETE" else "none"
        run = maybeDeferred if quick(level, len(write.body)) else self._reception.in_thread
        fault: Deferred[Any] = run(_fault_of, write, level)
        return fault.addCallback(self._permit, write, run).addCallback(self._commit, write, base)

    def _permit(self, fault: FhirRefusal | None, write: Write, run: Run) -> Deferred[FhirRefusal | None]:
        """Who may not send what could be read hears that, and not what else is wrong with it."""
        if self._may is None or not (fault is None or isinstance(fault, Invalid)):
            return succeed(fault)
        return self._may.write(write, run).addCallbacks(lambda _: fault, _refusal)

    def _commit(self, fault: FhirRefusal | None, write: Write, base: str) -> Deferred[Answer]:
        verdict = Verdict.REFUSED if isinstance(fault, NotAllowed) else Verdict.INVALID
        invalid = Judgement(verdict, fault.text, "207", fault.location) if fault is not None else None

        def reply(judgement: Judgement) -> bytes:
            answer = fault.answer() if fault is not None and judgement.verdict is verdict else answer_to(judgement)
            return self._in_a_message(answer, write, base).encode()

        if self._reception.stopping:  # while it was looked into: the intake may not be called any more
            raise FhirRefusal(503, "the server is going down; send again", headers={"Retry-After": "5"})
        envelope = write.envelope(self._context.clock())
        if verdict is Verdict.REFUSED:  # its key stays free for who may use it
            envelope = replace(envelope, idempotency_key="")
        ack = self._intake(envelope, reply, invalid)
        return ack.addCallback(self._answer, write, base)

    def _answer(self, ack: Ack, write: Write, base: str) -> Answer | Deferred[Answer]:
        try:
            answer = Answer.decode(ack.answer)
        except ValueError:
            answer = answer_to(ack.judgement)  # a destination that is no FHIR server has answered
        answer = self._in_a_message(answer, write, base)
        if not write.is_single or not answer.body.startswith(b'{"resourceType":"Bundle"'):
            return answer
        single = unwrap(answer)
        location = single.headers.get("Location", "")
        headers = dict(single.headers)
        if location:
            headers["Location"] = location if "://" in location else f"{base}/{location}"
        if "Last-Modified" in headers:
            headers["Last-Modified"] = http_date(comparison(headers["Last-Modified"])[0])
        return self._with_body(Answer(single.status, b"", headers), location, write)

    def _in_a_message(self, answer: Answer, write: Write, base: str) -> Answer:
        """A message is answered by a message, where there is a header to answer to."""
        return answer if write.header is None else response(write.header, answer, f"{base}/{MESSAGE}", self._context.clock())

    def _with_body(self, answer: Answer, location: str, write: Write) -> Answer | Deferred[Answer]:
        """The resource as it now is, unless the client prefers otherwise (R4 3.1.0.1.10)."""
        wanted = preference(write.message.headers, "return")
        if wanted == "OperationOutcome":
            body = operation_outcome([Issue("informational", "done", "information")])
            return Answer(answer.status if answer.status != 204 else 200, body, answer.headers)
        if wanted == "minimal" or not location or answer.status not in (200, 201) or not self._reads.possible:
            return answer
        made = self._reads.version(location.split("://", 1)[-1], write.sender)
        return made.addCallbacks(lambda read: Answer(answer.status, read.body, answer.headers), lambda _: answer)


def _converted(body: bytes, said: str, most: int) -> bytes | FhirRefusal:
    """In a thread."""
    try:
        return from_xml(body, most=most, charset=said)
    except ParseError as error:
        return _unread(error)


def _refusal(failure: Failure) -> FhirRefusal:
    failure.trap(FhirRefusal)
    assert isinstance(failure.value, FhirRefusal)
    return failure.value


def _unread(error: ParseError) -> FhirRefusal:
    if error.location.startswith("line "):
        return FhirRefusal(400, f"{error.text} ({error.location})", issue="structure")
    return FhirRefusal(400, error.text, issue="structure", location=error.location)


def _fault_of(write: Write, level: str) -> FhirRefusal | None:
    """Read and check a write; in a thread where it is large."""
    try:
        write.read()
        check(level, write.content, write.body)
    except ParseError as error:
        return _unread(error)
    except FhirRefusal as refused:
        return refused
    return None
