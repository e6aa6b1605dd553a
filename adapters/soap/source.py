"""The SOAP source: takes requests in over HTTP, has a service examine them in threads, answers after the commit.

Nothing slow happens on the reactor thread: bodies are streamed, and reading, WS-Security, the service, fsyncs and answers that are to be
signed or compressed have a small pool of threads, with a limit on how long a sender waits for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed

from adapters.soap.answers import LATER, answer, fault_answer, unavailable
from adapters.soap.binding import bind
from adapters.soap.incoming import Incoming, Received
from adapters.soap.reading import Arrived, Reading, Rules, envelope, reading
from adapters.soap.security import verifier
from engine.errors import ConfigError, FramingError, StoreError
from engine.formats.soap import SoapFault, fault_envelope
from engine.formats.xml import Limits as XmlLimits
from engine.http_answers import Answer, HttpRefusal, sentence
from engine.http_coding import decoder
from engine.http_server import Limits
from engine.http_source import Reception
from engine.http_uploads import STOPS
from engine.message import Ack, BodyRef, Judgement

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from twisted.python.failure import Failure

    from adapters.soap.reading import Verifier
    from adapters.soap.service import Service
    from engine.contracts import Context, Intake
    from engine.http1 import Message
    from engine.http_answers import Sender
    from engine.http_uploads import Upload
    from engine.options import Settings

THREADS: Final = 4
_ALLOWED: Final = "POST, GET, HEAD"
_HOST: Final = re.compile(r"[A-Za-z0-9._~:\[\]%-]{1,255}")
_XML: Final = "text/xml; charset=utf-8"
_QUIET: Final = frozenset({401, 404, 405, 429, 503})
"""Refusals that are no attack, or audited where they are made."""


class SoapSource:
    """engine.contracts.Source, engine.http_source.Desk. `options` are those of adapters.soap.options.endpoint_options."""

    def __init__(self, options: Settings, context: Context, service: Service) -> None:
        self._options, self._context, self._service = options, context, service
        self._verifier: Verifier | None = None
        limits = Limits(options.receive_within, options.idle, options.connections, complete_within=options.complete_within)
        self._reception = Reception(self, options, context, limits, name="soap", title="SOAP", threads=THREADS)
        xml = XmlLimits(size=options.most_envelope, depth=options.most_depth)
        self._rules = Rules(tuple(options.versions), xml, self._reception.base or "/")
        self._intake: Intake | None = None

    @property
    def port(self) -> int:
        """The port that is listened on (of use where 0 was asked for)."""
        return self._reception.port

    def start(self, intake: Intake) -> Deferred[None]:
        self._intake = intake
        try:
            self._verifier = verifier(self._options.security, self._context)
        except ConfigError as error:
            return fail(error)
        return self._reception.start()

    def stop(self) -> Deferred[None]:
        return self._reception.stop().addCallback(self._stopped)

    def _stopped(self, _: Any) -> None:
        if self._verifier is not None:
            self._verifier.close()

    # --- requests --------------------------------------------------------------------------------

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], sender: Sender) -> Upload | None:
        """Desk"""
        method, target, _ = start
        if target.partition("?")[0].rstrip("/") != self._reception.base:
            raise HttpRefusal(404, "there is no service at this path")
        if method != "POST":
            return None
        try:
            binding = bind(headers)
            undo = decoder(headers, self._options.most_body if binding.first else self._options.most_envelope)
        except (HttpRefusal, FramingError) as error:
            raise self._noted(error, sender) from None

        def take(received: Received) -> Deferred[Answer]:
            arrived = Arrived(binding, sender.peer, sender.remote, headers, self._context.clock(), self._options.tls is not None)
            return self._take(received, arrived).addErrback(self._failed, arrived)

        return Incoming(self._context.spool, undo, binding.first, take, lambda error: self._noted(error, sender))

    def answer(self, message: Message, sender: Sender) -> Deferred[Answer]:
        """Desk: ?wsdl and ?xsd=NAME."""
        method, target, _ = message.start
        if method not in ("GET", "HEAD"):
            raise HttpRefusal(405, f"here the method must be one of {_ALLOWED}", headers={"Allow": _ALLOWED})
        if not _HOST.fullmatch(message.headers.get("host", "")):
            raise self._noted(HttpRefusal(400, "the Host header names no host"), sender)
        return self._reception.in_thread(self._description, target.partition("?")[2], self._reception.url(message.headers))

    def _description(self, query: str, address: str) -> Answer:
        """Raises HttpRefusal."""
        asked = {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
        if "xsd" in asked:
            schema = self._service.schema(asked["xsd"], address)
            if schema is None:
                raise HttpRefusal(404, "there is no such schema")
            return Answer(200, [schema], _XML)
        if "wsdl" in asked or "singlewsdl" in asked:
            return Answer(200, [self._service.wsdl(address)], _XML)
        raise HttpRefusal(405, "messages are posted here; ?wsdl describes the service", headers={"Allow": _ALLOWED})

    def worded(self, refused: HttpRefusal) -> Answer:
        """Desk: before there is a message there is no envelope to answer with."""
        if not getattr(refused, "noted", False) and refused.status not in _QUIET:
            self._audit(refused.text, refused.status, refused.sender)
        return sentence(refused.status, refused.text, refused.headers)

    # --- one message -----------------------------------------------------------------------------

    @inlineCallbacks
    def _take(self, received: Received, arrived: Arrived) -> Generator[Deferred[Any], Any, Answer]:
        compress = self._options.gzip
        try:
            found = yield self._in_time(lambda: reading(received.body(), arrived, self._rules, self._service, self._verifier))
        except BaseException:
            received.abort()
            raise
        if found.fault is not None:
            self._audit(getattr(found.fault, "why", "") or found.fault.text, 0, arrived, found)
        if found.examined is None:
            received.abort()
            yield self._forget(found)
            return fault_answer(found, found.fault, arrived.binding, compress=compress)
        try:
            ack = yield self._keep(received, found, arrived)
        except BaseException:
            yield self._forget(found)
            raise
        if not ack.message_id:
            yield self._forget(found)
        reply, secure = self._reply(found), self._verifier.secure if self._verifier is not None else None
        said = self._reception.in_thread(lambda: answer(ack, reply, found, arrived.binding, compress=compress, secure=secure))
        return cast("Answer", (yield said))

    @inlineCallbacks
    def _keep(self, received: Received, found: Reading, arrived: Arrived) -> Generator[Deferred[Any], Any, Ack]:
        body = (yield self._reception.in_thread(received.finish)) if received.large else received.finish()
        if self._reception.stopping:
            if isinstance(body, BodyRef):
                self._context.unspool(body)
            raise HttpRefusal(503, STOPS, headers=LATER)
        assert self._intake is not None
        assert found.examined is not None
        if found.proven is not None and found.proven.repeated:
            self._context.audit("soap.repeated", channel=self._context.name, remote=arrived.remote, party=found.peer)
        return cast("Ack", (yield self._intake(envelope(body, found, arrived), self._reply(found), found.examined.judgement)))

    def _forget(self, found: Reading) -> Deferred[Any]:
        """It was not kept: what WS-Security remembers of it would refuse it when it comes again."""
        if self._verifier is None or found.proven is None:
            return succeed(None)
        forgotten: Deferred[Any] = self._reception.in_thread(self._verifier.forget, found.proven)
        return forgotten.addErrback(lambda failure: self._reception.warn(f"a message is remembered that was not kept: {failure.value}"))

    def _reply(self, found: Reading) -> Callable[[Judgement], bytes]:
        """Called by the engine before the commit; a fault is an answer like any other."""
        examined = found.examined
        assert examined is not None

        def reply(judgement: Judgement) -> bytes:
            try:
                return examined.answer(judgement)
            except SoapFault as fault:
                return fault_envelope(found.version, fault, found.addressing)

        return reply

    def _in_time(self, work: Callable[[], Reading]) -> Deferred[Any]:
        """In a thread. A sender waits no longer than `examine_within`; what a thread makes of it later goes nowhere."""
        late: Deferred[Any] = Deferred()
        result = self._reception.in_thread(lambda: None if late.called else work())

        def give(value: Any) -> None:
            if timer.active():
                timer.cancel()
                late.callback(value)  # a Failure too
            elif isinstance(value, Reading):
                self._forget(value)

        timer = self._context.reactor.callLater(self._options.examine_within, lambda: late.errback(SlowReading()))
        result.addBoth(give)
        return late

    def _failed(self, failure: Failure, arrived: Arrived) -> Answer:
        """What happened after the body was complete, in an envelope; what `worded` knows, it words."""
        error = failure.value
        if isinstance(error, HttpRefusal) and error.status < 500:
            raise self._noted(error, arrived)
        version = arrived.binding.version or self._rules.versions[0]
        if isinstance(error, SlowReading):
            self._audit(error.text, 503, arrived)
        if isinstance(error, HttpRefusal | StoreError):
            return fault_answer(Reading(version), unavailable(error.text), arrived.binding)
        self._context.log.error("unexpected failure in a request", exc_info=error, extra={"channel": self._context.name})
        return fault_answer(Reading(version), SoapFault("Receiver", "an error in the server"), arrived.binding)

    # --- refusals --------------------------------------------------------------------------------

    def _noted(self, error: Exception, who: Sender | Arrived) -> Exception:
        """A refusal, audited with who hears it."""
        if isinstance(error, FramingError):
            error = HttpRefusal(int(error.reply_hint or 400), error.text)
        if isinstance(error, HttpRefusal) and error.status not in _QUIET:
            self._audit(error.text, error.status, who)
            error.noted = True  # type: ignore[attr-defined]
        return error

    def _audit(self, reason: str, status: int, who: Sender | Arrived | None = None, found: Reading | None = None) -> None:
        facts: dict[str, Any] = {"channel": self._context.name, "remote": who.remote if who else "", "party": who.peer if who else ""}
        if found is not None:
            facts["party"] = found.peer or getattr(found.fault, "party", "") or facts["party"]
        if status:
            facts["status"] = status
        if found is not None and found.fault is not None:
            fault = found.fault
            facts |= {"fault": fault.subcode or fault.fault_code, "location": fault.location, "kept": found.examined is not None}
        self._context.audit("soap.refused", reason=reason, **facts)


class SlowReading(HttpRefusal):
    """A message took too long to read."""

    def __init__(self) -> None:
        super().__init__(503, "reading the message took too long", headers=LATER)
