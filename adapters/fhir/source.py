"""The FHIR source: a server whose writes become envelopes, and whose reads come from the node's resource repository.

Nothing is answered 2xx before the intake's commit. Where the channel answers from a destination (the repository, or another FHIR
server), the sender hears that destination's answer; otherwise 202 Accepted with an OperationOutcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from twisted.internet.defer import Deferred

from adapters.fhir.capability import capability_statement
from adapters.fhir.offline.desk import Service
from adapters.fhir.outcome import Answer, FhirRefusal
from adapters.fhir.reading import Reads
from adapters.fhir.repository import Reading
from adapters.fhir.requests import check_acceptable, route
from adapters.fhir.writing import Writes
from engine import http_answers
from engine.http_answers import HttpRefusal, Sender
from engine.http_server import Limits
from engine.http_source import Reception

if TYPE_CHECKING:
    from engine.contracts import Context, Intake
    from engine.http1 import Message
    from engine.http_uploads import Upload
    from engine.options import Settings

CONTENT_TYPE: Final = "application/fhir+json; charset=utf-8"
_WRITES: Final = {"POST": ("system", "type"), "PUT": ("type", "instance"), "DELETE": ("type", "instance")}


class FhirSource:
    """engine.contracts.Source, engine.http_source.Desk"""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        limits = Limits(options.receive_within, options.idle, options.connections, options.most_body)
        self._reception = Reception(self, options, context, limits, name="fhir", title="FHIR", threads=4)
        self._reading = Reading(context.data / options.repository) if options.repository else None
        self._reads = Reads(self._reading, context, self._reception.in_thread)
        self._writes: Writes | None = None
        self._uploads = Service(options, context, self._reception)

    @property
    def port(self) -> int:
        """The port that is listened on (of use where 0 was asked for)."""
        return self._reception.port

    # --- life ------------------------------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        self._writes = Writes(self._options, self._context, intake, self._reads, self._reception.in_thread)
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

    def answer(self, message: Message, sender: Sender) -> http_answers.Answer | Deferred[http_answers.Answer]:
        """engine.http_source.Desk"""
        found = self._dispatch(message, sender)
        return found.addCallback(_over_http) if isinstance(found, Deferred) else _over_http(found)

    def _dispatch(self, message: Message, sender: Sender) -> Answer | Deferred[Answer]:
        method, target, _ = message.start
        found = route(method, target, self._reception.base)
        check_acceptable(message.headers, found)
        url = self._reception.url(message.headers)
        if found.kind == "metadata":
            return Answer(200, capability_statement(self._context.node, url, reads=self._reading is not None))
        if found.kind == "upload":
            return self._uploads.standing(found, sender)
        if found.kind in _WRITES.get(method, ()) and self._writes is not None:
            return self._writes.write(found, message, sender, url)
        return self._reads.read(found, message, sender, url)

    def worded(self, refused: HttpRefusal) -> http_answers.Answer:
        """engine.http_source.Desk"""
        if not isinstance(refused, FhirRefusal):
            refused = FhirRefusal(refused.status, refused.text, location=refused.location, headers=refused.headers)
        return _over_http(refused.answer())


def _is_upload(target: str) -> bool:
    return unquote(target.partition("?")[0]).endswith("/$upload")


def _over_http(answer: Answer) -> http_answers.Answer:
    media = answer.headers.get("Content-Type", CONTENT_TYPE) if answer.body else ""
    return http_answers.Answer(answer.status, (answer.body,), media, {**answer.headers, "Cache-Control": "no-store"})
