"""Writes of the source: a request becomes an envelope, the intake commits it, its Ack becomes the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from adapters.fhir import exact
from adapters.fhir.entries import Request, body_of, check_entry, version_of
from adapters.fhir.envelopes import answer_to, envelope, interaction, single_entry, unwrap
from adapters.fhir.instants import comparison, http_date
from adapters.fhir.outcome import Answer, FhirRefusal, Issue, operation_outcome
from adapters.fhir.requests import check_content_type, decode_body, preference
from adapters.fhir.search import parse_query
from adapters.fhir.validation import validate
from engine.errors import ParseError
from engine.message import Ack, Judgement, Verdict

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.fhir.reading import Reads
    from adapters.fhir.requests import Route
    from engine.contracts import Context, Intake
    from engine.http1 import Message
    from engine.http_answers import Sender
    from engine.options import Settings

_FACT_HEADERS: Final = {
    "if-match": "request.if_match",
    "if-none-exist": "request.if_none_exist",
    "x-request-id": "request.id",
    "prefer": "request.prefer",
}


class Writes:
    """Turns writes into envelopes and acks into answers."""

    def __init__(self, options: Settings, context: Context, intake: Intake, reads: Reads, in_thread: Callable[..., Deferred[Any]]) -> None:
        self._options, self._context, self._intake, self._reads, self._in_thread = options, context, intake, reads, in_thread

    def write(self, found: Route, message: Message, sender: Sender, base: str) -> Deferred[Answer]:
        """Answer a POST, PUT or DELETE. Raises FhirRefusal for what never becomes a message (415, 413)."""
        method = message.start[0]
        if method != "DELETE":
            check_content_type(message.headers)
        body = decode_body(message.body, message.headers, self._options.most_body)
        write = Write(found, message, sender, body)
        try:
            write.read()
        except ParseError as error:
            return self._commit(write, base, FhirRefusal(400, error.text, issue="structure", location=error.location))
        except FhirRefusal as refused:
            return self._commit(write, base, refused)
        if self._options.validate == "none" or method == "DELETE":
            return self._commit(write, base)
        validated = self._in_thread(validate, write.content["resourceType"], body)
        return validated.addCallbacks(lambda _: self._commit(write, base), lambda failure: self._commit(write, base, _invalid(failure)))

    def _commit(self, write: Write, base: str, fault: FhirRefusal | None = None) -> Deferred[Answer]:
        invalid = Judgement(Verdict.INVALID, fault.text, "207", fault.location) if fault is not None else None

        def reply(judgement: Judgement) -> bytes:
            if fault is not None and judgement.verdict is Verdict.INVALID:
                return fault.answer().encode()
            return answer_to(judgement).encode()

        ack = self._intake(write.envelope(self._context.clock()), reply, invalid)
        return ack.addCallback(self._answer, write, base)

    def _answer(self, ack: Ack, write: Write, base: str) -> Answer | Deferred[Answer]:
        try:
            answer = Answer.decode(ack.answer)
        except ValueError:
            answer = answer_to(ack.judgement)  # a destination that is no FHIR server has answered
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

    def _with_body(self, answer: Answer, location: str, write: Write) -> Answer | Deferred[Answer]:
        """The resource as it now is, unless the client prefers otherwise (R4 3.1.0.1.10)."""
        wanted = preference(write.message.headers, "return")
        if wanted == "OperationOutcome":
            body = operation_outcome([Issue("informational", "done", "information")])
            return Answer(answer.status if answer.status != 204 else 200, body, answer.headers)
        if wanted == "minimal" or not location or answer.status not in (200, 201) or not self._reads.possible:
            return answer
        made = self._reads.version(location.split("://", 1)[-1])
        return made.addCallbacks(lambda read: Answer(answer.status, read.body, answer.headers), lambda _: answer)


class Write:
    """One write request on its way to becoming an envelope."""

    def __init__(self, found: Route, message: Message, sender: Sender, body: bytes) -> None:
        self.found, self.message, self.sender, self.body = found, message, sender, body
        self.method = message.start[0]
        self.is_single = found.kind != "system"
        self.content: Any = None
        asked = "&".join(part for part in found.query.split("&") if part and not part.startswith(("_format=", "_pretty=")))
        self.condition = asked if found.kind == "type" and self.method != "POST" else None
        # a condition in the url of a create is no standard, but some clients (fhirpy) know no other; ignored it would create twice
        self.if_none_exist = self._header("if-none-exist").removeprefix("?") or (asked if self.method == "POST" and self.is_single else "")

    def read(self) -> None:
        """Parse and check what can be checked without the repository. Raises FhirRefusal, ParseError."""
        if not self.is_single:
            self.content = exact.inspect(self.body)
            self._check_bundle()
            return
        request = Request(self.method, self.found.resource_type, self.found.resource_id)
        for condition in (self.condition, self.if_none_exist or None):
            if condition is not None:
                parse_query(request.resource_type, condition, condition=True)
        if self._header("if-match"):
            version_of(self._header("if-match"))
        if self.method != "DELETE":
            self.content = exact.inspect(self.body)
            body_of(request, self.content)

    def _check_bundle(self) -> None:
        content = self.content
        if content.get("resourceType") != "Bundle" or content.get("type") not in ("transaction", "batch"):
            raise FhirRefusal(400, "a transaction or batch Bundle is posted here", issue="invalid", location="Bundle.type")
        entries = content.get("entry", [])
        if not isinstance(entries, list):
            raise FhirRefusal(400, "entry must be a list", issue="structure", location="Bundle.entry")
        if content["type"] == "transaction":
            for index, entry in enumerate(entries):
                check_entry(entry, index)

    def _header(self, name: str) -> str:
        return self.message.headers.get(name, "")

    def envelope(self, received_at: int) -> Any:
        body = self._bundle() if self.is_single and (self.content is not None or self.method == "DELETE") else self.body
        if self.is_single:
            message_type = interaction(self.method, self.found.resource_type)
        else:
            message_type = f"Bundle {self.content.get('type', '')}" if isinstance(self.content, dict) else "Bundle"
        facts = self._facts()
        return envelope(
            body, self.content, self.sender, self.message.headers, message_type=message_type, received_at=received_at, facts=facts
        )

    def _bundle(self) -> bytes:
        url = self.found.resource_type
        if self.found.resource_id:
            url = f"{url}/{self.found.resource_id}"
        elif self.condition is not None:
            url = f"{url}?{self.condition}"
        return single_entry(self.method, url, self.body, self._header("if-match"), self.if_none_exist)

    def _facts(self) -> dict[str, str]:
        facts = {"request.method": self.method, "request.url": self.message.start[1]}
        for name, fact in _FACT_HEADERS.items():
            if name in self.message.headers:
                facts[fact] = self.message.headers[name]
        if self.is_single:
            facts["resource.type"] = self.found.resource_type
        elif isinstance(self.content, dict):
            facts["bundle.type"] = str(self.content.get("type", ""))
        return facts


def _invalid(failure: Failure) -> FhirRefusal:
    failure.trap(FhirRefusal)
    assert isinstance(failure.value, FhirRefusal)
    return failure.value
