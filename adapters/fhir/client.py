"""One HTTP/1.1 connection to a FHIR server, with one request under way at a time.

What a lost connection means depends on how far the request was. Before the TLS handshake is over nothing was sent. A TLS alert on a
fresh connection means that the server never read the request: in TLS 1.3 our handshake is over before the server has looked at our
certificate. Anything later is uncertain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from OpenSSL.SSL import Error as TlsError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from adapters.fhir.http1 import HttpFramer, Message
from engine.errors import DeliveryError, FramingError, TransientDelivery, UncertainDelivery

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall


@implementer(IHandshakeListener)
class ClientConnection(Protocol):
    """`ready` fires when requests may be sent, or fails with a DeliveryError. `closed(connection)` is called once at the end."""

    transport: Any

    def __init__(self, closed: Callable[[ClientConnection], None], *, tls: bool, timeout: float, most_answer: int, reactor: Any) -> None:
        self.ready: Deferred[ClientConnection] = Deferred()
        self._closed, self._tls, self._timeout, self._reactor = closed, tls, timeout, reactor
        self._framer = HttpFramer(responses=True, most_body=most_answer)
        self._answer: Deferred[Message] | None = None
        self._timer: DelayedCall | None = None
        self._failure: DeliveryError | None = None
        self._answered = self._lost = False

    @property
    def usable(self) -> bool:
        return not self._lost and self._failure is None and self._answer is None

    def connectionMade(self) -> None:
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        if not self._tls:
            self._is_ready()

    def handshakeCompleted(self) -> None:
        self._is_ready()

    def _is_ready(self) -> None:
        if not self.ready.called:
            self.ready.callback(self)

    def send(self, request: bytes) -> Deferred[Message]:
        """Fires with the response; fails with Transient (nothing was taken) or UncertainDelivery."""
        self._answer = Deferred()
        self._timer = self._reactor.callLater(self._timeout, self._timed_out)
        self.transport.write(request)
        return self._answer

    def close(self) -> None:
        self.transport.loseConnection()

    def abort(self, reason: str) -> None:
        """Give up on a connection that is not ready yet."""
        self._failure = self._failure or TransientDelivery(reason, whole_destination=True)
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._failure is not None:
            return
        try:
            messages = self._framer.feed(data)
        except FramingError as error:
            self._give_up(f"the server's answer cannot be read: {error.text}")
            return
        if messages and self._answer is None:
            self._give_up("the server answers what was not asked")
            return
        for message in messages[:1]:
            self._answered = True
            self._settle(message)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008  Twisted's own signature
        self._lost = True
        failure = self._failure or self._why(reason)
        if not self.ready.called:
            self.ready.errback(failure)
        if self._answer is not None:
            self._last_answer(failure)
        self._closed(self)

    def _last_answer(self, failure: DeliveryError) -> None:
        """The answer that ends with the connection, if that is how the server frames it."""
        messages: list[Message] = []
        if self._failure is None:
            try:
                messages = self._framer.finish()
            except FramingError:
                messages = []
        self._settle(messages[0] if messages else Failure(failure))

    def _why(self, reason: Failure) -> DeliveryError:
        if not self.ready.called:
            return TransientDelivery(f"no secure connection: {_words(reason)}" if self._tls else "connection lost", whole_destination=True)
        words = _words(reason)
        if not self._answered and "alert" in words:
            return TransientDelivery(f"the server refused the TLS connection: {words}", whole_destination=True)
        return UncertainDelivery(f"the connection was lost before the answer: {words}")

    def _timed_out(self) -> None:
        self._give_up("no answer in time")

    def _give_up(self, text: str) -> None:
        self._failure = UncertainDelivery(text)
        self._settle(Failure(self._failure))
        self.transport.abortConnection()

    def _settle(self, result: Message | Failure) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.callback(result)


def _words(reason: Failure) -> str:
    """Why a connection ended, in OpenSSL's own words where it was TLS; never content."""
    error: Any = reason.value
    if isinstance(error, TlsError) and error.args and error.args[0]:
        return ", ".join(str(part[-1]) for part in error.args[0] if part)
    return reason.type.__name__ if reason.type is not None else "closed"
