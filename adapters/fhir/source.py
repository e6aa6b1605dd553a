"""The FHIR source: a server whose writes become envelopes, and whose reads come from the node's resource repository.

Nothing is answered 2xx before the intake's commit. Where the channel answers from a destination (the repository, or another FHIR
server), the sender hears that destination's answer; otherwise 202 Accepted with an OperationOutcome.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.fhir.capability import capability_statement
from adapters.fhir.envelopes import Sender
from adapters.fhir.outcome import Answer, FhirRefusal, refusal
from adapters.fhir.reading import Reads
from adapters.fhir.repository import Reading
from adapters.fhir.requests import check_acceptable, route
from adapters.fhir.server import FhirServer, Limits
from adapters.fhir.writing import Writes
from engine.errors import StoreError
from engine.listening import listen

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.fhir.server import FhirConnection
    from engine.contracts import Context, Intake
    from engine.http1 import Message
    from engine.options import Settings

_WRITES: Final = {"POST": ("system", "type"), "PUT": ("type", "instance"), "DELETE": ("type", "instance")}


class FhirSource:
    """engine.contracts.Source"""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._base = "/" + options.base.strip("/") if options.base.strip("/") else ""
        self._pool = ThreadPool(0, 4, f"{context.name} readers")
        limits = Limits(options.receive_within, options.idle, options.most_body, options.connections)
        self._server = FhirServer(self.handle, limits, context.reactor)
        self._reading = Reading(context.data / options.repository) if options.repository else None
        self._reads = Reads(self._reading, context, self.in_thread)
        self._writes: Writes | None = None
        self._under_way: Tally[str] = Tally()
        self._answered: dict[int, Any] = {}
        self._idle: list[Deferred[None]] = []
        self._port: Any = None

    @property
    def port(self) -> int:
        """The port that is listened on (of use where 0 was asked for)."""
        return int(self._port.getHost().port)

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Work that is too slow for the reactor thread."""
        return deferToThreadPool(self._context.reactor, self._pool, function, *arguments)

    # --- life ------------------------------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        self._writes = Writes(self._options, self._context, intake, self._reads, self.in_thread)
        self._port = listen(self._server, self._options, self._context)
        self._pool.start()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._server.stop()
        stopped = maybeDeferred(self._port.stopListening) if self._port is not None else succeed(None)
        return stopped.addCallback(self._when_idle).addCallback(self._stopped)

    def _when_idle(self, _: Any) -> Deferred[None] | None:
        if not self._under_way.total():
            return None
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def _stopped(self, _: Any) -> None:
        self._server.stop()  # the connections whose last answer has gone out
        self._pool.stop()
        if self._reading is not None:
            self._reading.close()

    # --- requests --------------------------------------------------------------------------------

    def handle(self, message: Message, connection: FhirConnection) -> Deferred[Answer]:
        """Answer one request. Never fails."""
        try:
            sender = self._sender(connection)
            self._admit(sender)
        except FhirRefusal as refused:
            self._count(refused.status)
            return succeed(refused.answer())
        self._under_way[sender.peer or sender.remote] += 1
        answer: Deferred[Answer] = maybeDeferred(self._dispatch, message, sender)  # type: ignore[call-overload]
        answer.addErrback(self._failed)
        return answer.addCallback(self._done, sender)

    def _sender(self, connection: FhirConnection) -> Sender:
        """Who is at the other end; proven once for each connection. A certificate that
        is not allowed has ended in the handshake; none at all, where that is optional there, ends here. Raises FhirRefusal 401."""
        if connection.sender is None:
            address = connection.transport.getPeer()
            peer = ""
            if self._options.tls is not None:
                peer = self._context.tls.peer(connection.transport)
                if not peer and self._options.tls.allow:
                    self._context.audit("fhir.refused", channel=self._context.name, remote=address.host, reason="no certificate shown")
                    raise FhirRefusal(401, "this server wants a client certificate", headers={"Connection": "close"})
            connection.sender = Sender(peer, f"{address.host}:{address.port}")
        return connection.sender

    def _admit(self, sender: Sender) -> None:
        """Raises FhirRefusal 503, 429 where more is under way than the channel allows."""
        if self._server.stopping or self._under_way.total() >= self._options.requests:
            raise FhirRefusal(503, "the server is busy; try again later", headers={"Retry-After": "1"})
        if self._under_way[sender.peer or sender.remote] >= self._options.requests_per_peer:
            raise FhirRefusal(429, "too many requests at once from this sender", headers={"Retry-After": "1"})

    def _dispatch(self, message: Message, sender: Sender) -> Answer | Deferred[Answer]:
        method, target, _ = message.start
        found = route(method, target, self._base)
        check_acceptable(message.headers, found)
        url = self._url(message)
        if found.kind == "metadata":
            return Answer(200, capability_statement(self._context.node, url, reads=self._reading is not None))
        if found.kind in _WRITES.get(method, ()) and self._writes is not None:
            return self._writes.write(found, message, sender, url)
        return self._reads.read(found, message, sender, url)

    def _url(self, message: Message) -> str:
        """The base address as this client sees it."""
        if self._options.public_url:
            return str(self._options.public_url)
        scheme = "http" if self._options.tls is None else "https"
        return f"{scheme}://{message.headers.get('host', 'localhost')}{self._base}"

    def _count(self, status: int) -> None:
        counter = self._answered.get(status)
        if counter is None:
            labels = {"channel": self._context.name, "status": str(status)}
            counter = self._context.metrics.counter("meridian_fhir_answers_total", "FHIR requests answered, by HTTP status", **labels)
            self._answered[status] = counter
        counter.inc()

    def _failed(self, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, FhirRefusal):
            return error.answer()
        if isinstance(error, StoreError):
            return FhirRefusal(503, error.text, headers={"Retry-After": "5"}).answer()
        self._context.log.error("unexpected failure in a request", exc_info=error, extra={"channel": self._context.name})
        return refusal(500, "an error in the server")

    def _done(self, answer: Answer, sender: Sender) -> Answer:
        self._count(answer.status)
        who = sender.peer or sender.remote
        self._under_way[who] -= 1
        if not self._under_way[who]:
            del self._under_way[who]
        if not self._under_way:
            idle, self._idle = self._idle, []
            for waiting in idle:
                self._context.reactor.callLater(0, waiting.callback, None)  # after the answer is written
        return answer
