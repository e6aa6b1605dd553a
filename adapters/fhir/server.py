"""Connections of the FHIR server: bytes to requests, answers to bytes, and the limits on what a client may do to us.

One request of a connection is handled at a time; pipelined ones wait, with the transport paused. A request must have arrived in full
`receive_within` seconds after its first byte, however its sender spreads it. After a refusal that ends the connection the rest of what
the client sends is read and dropped for a moment, so that it can read the answer before the connection closes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from adapters.fhir.envelopes import Sender
from adapters.fhir.outcome import REASONS, Answer, refusal
from engine.errors import FramingError
from engine.http1 import HttpFramer, Message, head

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

LINGER: Final = 2.0
CONTENT_TYPE: Final = "application/fhir+json; charset=utf-8"

Handle = Callable[[Message, "FhirConnection"], "Deferred[Answer]"]
"""Answers a request that came over a connection. Must not fail."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, bytes and counts; see options.SOURCE."""

    receive_within: float
    idle: float
    most_body: int
    connections: int


class FhirConnection(Protocol):
    """One client's connection."""

    transport: Any

    def __init__(self, factory: FhirServer) -> None:
        self._server = factory
        self._framer = HttpFramer(responses=False, most_body=factory.limits.most_body)
        self._waiting: deque[Message] = deque()
        self._busy = self._closing = self._continued = False
        self._timer: DelayedCall | None = None
        self._timer_is_deadline = False
        self.sender: Sender | None = None  # known from the first request on, when the handshake is over

    def connectionMade(self) -> None:
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        self._server.connections.add(self)
        if len(self._server.connections) > self._server.limits.connections:
            self._last(refusal(503, "too many connections; try again later"))
        else:
            self._await()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._server.connections.discard(self)
        self._closing = True
        self._waiting.clear()
        self._stop_timer()

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            messages = self._framer.feed(data)
        except FramingError as error:
            self._last(refusal(int(error.reply_hint or 400), error.text))
            return
        self._waiting.extend(messages)
        if self._framer.expects_continue and not self._continued:
            self._continued = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._busy:
            if self._waiting:
                self.transport.pauseProducing()
        else:
            self._next()

    # --- requests ----------------------------------------------------------------------------------

    def _next(self) -> None:
        while self._waiting and not self._busy and not self._closing:
            self._continued = False
            self._stop_timer()
            self._busy = True
            message = self._waiting.popleft()
            self._server.handle(message, self).addCallback(self._answer, message)
        if not self._busy and not self._closing:
            self._await()

    def _answer(self, answer: Answer, message: Message) -> None:
        self._busy = False
        if self._closing:
            return
        keep = message.keep_alive and not self._server.stopping and answer.headers.get("Connection") != "close"
        self.transport.write(_wire(answer, keep=keep, body=message.start[0] != "HEAD"))
        if not keep:
            self._close()
            return
        self.transport.resumeProducing()
        self._next()

    def close_if_idle(self) -> None:
        """The server stops: close now, or after the answer that is due."""
        if not self._busy:
            self._close()

    # --- ends ----------------------------------------------------------------------------------------

    def _last(self, answer: Answer) -> None:
        """Answer, then hear the client out for a moment and close."""
        self._closing = True
        self.transport.write(_wire(answer, keep=False, body=True))
        self._set_timer(LINGER, self.transport.abortConnection)

    def _close(self) -> None:
        """Close in order; a client that does not play along is cut off."""
        self._closing = True
        self._set_timer(LINGER, self.transport.abortConnection)
        self.transport.loseConnection()

    def _await(self) -> None:
        """Between requests the connection may be silent; within one there is a deadline that no byte moves."""
        if self._framer.idle:
            self._timer_is_deadline = False
            self._set_timer(self._server.limits.idle, self._close)
        elif not self._timer_is_deadline or self._timer is None:
            self._timer_is_deadline = True
            self._set_timer(self._server.limits.receive_within, self._too_slow)

    def _too_slow(self) -> None:
        self._last(refusal(408, "the request did not arrive in time"))

    def _set_timer(self, seconds: float, function: Callable[[], Any]) -> None:
        self._stop_timer()
        self._timer = self._server.reactor.callLater(seconds, function)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class FhirServer(Factory):
    """The connections of one listener."""

    noisy = False

    def __init__(self, handle: Handle, limits: Limits, reactor: Any) -> None:
        self.handle, self.limits, self.reactor = handle, limits, reactor
        self.connections: set[FhirConnection] = set()
        self.stopping = False

    def buildProtocol(self, addr: Any) -> FhirConnection:
        return FhirConnection(self)

    def stop(self) -> None:
        """Close what is idle; what is being answered closes after its answer."""
        self.stopping = True
        for connection in list(self.connections):
            connection.close_if_idle()


def _wire(answer: Answer, *, keep: bool, body: bool) -> bytes:
    headers = dict(answer.headers)
    if answer.body:
        headers.setdefault("Content-Type", CONTENT_TYPE)
    if answer.status not in (204, 304):
        headers["Content-Length"] = str(len(answer.body))
    headers["Cache-Control"] = "no-store"
    if not keep:
        headers["Connection"] = "close"
    start = f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Unknown')}"
    return head(start, headers) + (answer.body if body and answer.status not in (204, 304) else b"")
