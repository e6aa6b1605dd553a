"""The FHIR source: a server whose writes become envelopes, and whose reads come from the node's resource repository.

Nothing is answered 2xx before the intake's commit. Where the channel answers from a destination (the repository, or another FHIR
server), the sender hears that destination's answer; otherwise 202 Accepted with an OperationOutcome.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from twisted.internet.defer import Deferred, maybeDeferred

from adapters.fhir.capability import capability_statement
from adapters.fhir.offline.desk import Service
from adapters.fhir.outcome import Answer, FhirRefusal
from adapters.fhir.permission import Permission
from adapters.fhir.reading import Reads
from adapters.fhir.repository import Reading
from adapters.fhir.requests import UPLOAD, route, takes_gzip, wanted_format
from adapters.fhir.writing import Writes
from engine import http_answers
from engine.errors import ParseError
from engine.formats.fhir_r4.xml_writing import to_xml
from engine.http_answers import HttpRefusal, Sender
from engine.http_server import Limits
from engine.http_source import Reception
from engine.message import FHIR_XML

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from engine.contracts import Context, Intake
    from engine.http1 import Message
    from engine.http_uploads import Upload
    from engine.options import Settings

CONTENT_TYPE: Final = "application/fhir+json; charset=utf-8"
XML_CONTENT_TYPE: Final = "application/fhir+xml; charset=utf-8"
_WORTH_ZIPPING: Final = 1 << 10
_QUICK: Final = 64 << 10
_WRITES: Final = {"POST": ("system", "type", "message"), "PUT": ("type", "instance"), "DELETE": ("type", "instance")}


class Form(NamedTuple):
    """How an answer is to go out: FHIR_JSON or FHIR_XML, compressed or not; `reading`: the request changes nothing."""

    media: str
    zipped: bool
    reading: bool


class FhirSource:
    """engine.contracts.Source, engine.http_source.Desk"""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        limits = Limits(options.receive_within, options.idle, options.connections, options.most_body)
        self._reception = Reception(self, options, context, limits, name="fhir", title="FHIR", threads=4, public=["/metadata"])
        self._may = Permission(context, own_reads=options.reads == "own") if options.auth is not None else None
        self._reading = Reading(context.data / options.repository) if options.repository else None
        self._reads = Reads(self._reading, context, self._reception.in_thread, every=options.reads == "all")
        self._writes: Writes | None = None
        self._uploads = Service(options, context, self._reception, self._may)

    @property
    def port(self) -> int:
        """The port that is listened on (of use where 0 was asked for)."""
        return self._reception.port

    # --- life ------------------------------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        self._writes = Writes(self._options, self._context, intake, self._reads, self._reception, self._may)
        return self._uploads.start(intake).addCallback(lambda _: self._reception.start())

    def stop(self) -> Deferred[None]:
        return self._reception.stop().addCallback(self._stopped)

    def _stopped(self, _: Any) -> None:
        self._uploads.close()
        if self._reading is not None:
            self._reading.close()

    # --- requests --------------------------------------------------------------------------------

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], sender: Sender) -> Upload | None:
        """engine.http_source.Desk: lines are taken as they come; a resource is parsed as a whole, so its body is collected."""
        method, target, _ = start
        if method != "POST" or not _is_upload(target):
            return None
        return self._uploads.begin(route(method, target, self._reception.base), target, headers, sender)

    def answer(self, message: Message, sender: Sender) -> Deferred[http_answers.Answer]:
        """engine.http_source.Desk"""
        method, target, _ = message.start
        wanted = Form(wanted_format(message.headers, target.partition("?")[2]), takes_gzip(message.headers), method in ("GET", "HEAD"))
        answer: Deferred[Answer] = maybeDeferred(self._dispatch, message, sender)  # type: ignore[call-overload]
        return answer.addErrback(_refusal).addCallback(self._rendered, wanted)

    def _dispatch(self, message: Message, sender: Sender) -> Answer | Deferred[Answer]:
        method, target, _ = message.start
        found = route(method, target, self._reception.base)
        url = self._reception.url(message.headers)
        if found.kind == "metadata":
            return Answer(200, capability_statement(self._options, self._context, url, sender))
        if found.kind == "upload":
            return self._uploads.standing(found, sender)
        if found.kind == "message" and not self._options.messages:
            raise FhirRefusal(404, "this channel takes no messages at $process-message", issue="not-supported")
        if found.kind in _WRITES.get(method, ()) and self._writes is not None:
            return self._writes.write(found, message, sender, url)
        if self._may is not None:
            self._may.read(found, sender)
        return self._reads.read(found, message, sender, url)

    def _rendered(self, answer: Answer, form: Form) -> http_answers.Answer | Deferred[http_answers.Answer]:
        """In the form that the client asked for; whatever takes long is done off the reactor thread."""
        if len(answer.body) <= _QUICK:
            return rendered(answer, form)
        later: Deferred[http_answers.Answer] = self._reception.in_thread(rendered, answer, form)
        return later

    def worded(self, refused: HttpRefusal) -> http_answers.Answer:
        """engine.http_source.Desk"""
        if not isinstance(refused, FhirRefusal):
            refused = FhirRefusal(refused.status, refused.text, location=refused.location, headers=refused.headers)
        return _over_http(refused.answer())


def _is_upload(target: str) -> bool:
    return unquote(target.partition("?")[0]).endswith(f"/{UPLOAD}")


def _refusal(failure: Failure) -> Answer:
    """A refusal of ours in the form asked for, like any answer; all else is worded by the reception."""
    failure.trap(FhirRefusal)
    assert isinstance(failure.value, FhirRefusal)
    return failure.value.answer()


def rendered(answer: Answer, form: Form) -> http_answers.Answer:
    """A resource that XML has no place for (one that came unchecked) is 406 to a reader; a write is done, so that its answer is JSON then.
    Raises FhirRefusal 406."""
    body, media = answer.body, CONTENT_TYPE
    try:
        if form.media == FHIR_XML and body:
            body, media = to_xml(body), XML_CONTENT_TYPE
    except ParseError as error:
        if form.reading:
            raise FhirRefusal(406, f"this cannot be said in XML, ask for JSON: {error.text}", location=error.location) from error
    headers = answer.headers
    if form.zipped and len(body) >= _WORTH_ZIPPING:
        body, headers = gzip.compress(body, 3), {**headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return _over_http(Answer(answer.status, body, headers), media)


def _over_http(answer: Answer, media: str = CONTENT_TYPE) -> http_answers.Answer:
    return http_answers.Answer(answer.status, (answer.body,), media if answer.body else "", {**answer.headers, "Cache-Control": "no-store"})
