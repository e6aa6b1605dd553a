"""One HTTP/1.1 connection to a server, with one request under way at a time. Request bodies may be streamed, and so may answers.

What a lost connection means depends on how far the request was. Before the TLS handshake is over nothing was sent. A TLS alert on a
fresh connection means that the server never read the request: in TLS 1.3 our handshake is over before the server has looked at our
certificate. Anything later is uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from OpenSSL.SSL import Error as TlsError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPullProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from engine.errors import DeliveryError, FramingError, TransientDelivery, UncertainDelivery
from engine.http1 import Begin, HttpFramer, Message, Sink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.base import DelayedCall

Body = bytes | Iterator[bytes]
"""What follows a request's head. An iterator is asked for its next piece when the one before has gone out; it may raise DeliveryError."""


@implementer(IHandshakeListener)
class ClientConnection(Protocol):
    """`ready` fires when requests may be sent, or fails with a DeliveryError. `closed(connection)` is called once at the end.
    `timeout` seconds are given to the answer, and to each step of a body or an answer that is streamed."""

    transport: Any

    def __init__(self, closed: Callable[[ClientConnection], None], *, tls: bool, timeout: float, most_answer: int, reactor: Any) -> None:
        self.ready: Deferred[ClientConnection] = Deferred(self._cancelled_early)
        self._closed, self._tls, self._timeout, self._reactor = closed, tls, timeout, reactor
        self._framer = HttpFramer(responses=True, most_body=most_answer, begin=self._begin_answer)
        self._answer: Deferred[Message] | None = None
        self._begin: Begin | None = None
        self._feed: _Feed | None = None
        self._timer: DelayedCall | None = None
        self._failure: DeliveryError | None = None
        self._answered = self._lost = False

    @property
    def usable(self) -> bool:
        return not self._lost and self._failure is None and self._answer is None and self._feed is None

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

    def send(self, head: bytes, body: Body = b"", begin: Begin | None = None) -> Deferred[Message]:
        """Fires with the response; fails with Transient (nothing was taken), UncertainDelivery, or what `body` or the sink raised.
        `begin` may give a sink for the answer's body (engine.http1.Begin). Cancelled, it is given up: uncertain."""
        self._answer, self._begin = Deferred(self._cancelled), begin
        answer = self._answer  # it may be gone when a body of no length has been fed
        self._wait()
        if isinstance(body, bytes):
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self._feed = _Feed(body, self)
            self.transport.registerProducer(self._feed, False)
        return answer

    def close(self) -> None:
        self.transport.loseConnection()

    def abort(self, reason: str) -> None:
        """Give up on a connection that is not ready yet."""
        self._failure = self._failure or TransientDelivery(reason, whole_destination=True)
        self.transport.abortConnection()

    # --- the request's body ----------------------------------------------------------------------

    def wants(self, body: Iterator[bytes]) -> None:
        """The transport has room for the next piece."""
        try:
            piece = next(body, None)
        except DeliveryError as error:
            self._give_up(error)
            return
        self._wait()
        if piece is None:
            self._end_feed()
        else:
            self.transport.write(piece)

    def _end_feed(self) -> None:
        if self._feed is not None:
            feed, self._feed = self._feed, None
            feed.end()
            self.transport.unregisterProducer()

    # --- the answer ------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self._failure is not None:
            return
        try:
            messages = self._framer.feed(data)
        except FramingError as error:
            self._give_up(UncertainDelivery(f"the server's answer cannot be read: {error.text}"))
            return
        except DeliveryError as error:
            self._give_up(error)
            return
        if messages and self._answer is None:
            self._give_up(UncertainDelivery("the server answers what was not asked"))
            return
        for message in messages[:1]:
            self._answered = True
            self._settle(message)

    def _begin_answer(self, start: tuple[str, str, str], headers: Mapping[str, str]) -> Sink | None:
        sink = self._begin(start, headers) if self._begin is not None else None
        if sink is None:
            return None

        def step(data: bytes) -> None:
            self._wait()
            sink(data)

        return step

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008  Twisted's own signature
        self._lost = True
        failure = self._failure or self._why(reason)
        if not self.ready.called:
            self.ready.errback(failure)
        if self._answer is not None:
            self._last_answer(failure)
        if self._feed is not None:
            self._feed.end()
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

    # --- ends ------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """From now on, the timeout."""
        if self._timer is not None and self._timer.active():
            self._timer.reset(self._timeout)
        else:
            self._timer = self._reactor.callLater(self._timeout, self._timed_out)

    def _timed_out(self) -> None:
        self._give_up(UncertainDelivery("no answer in time"))

    def _cancelled_early(self, ready: Deferred[ClientConnection]) -> None:
        self.abort("given up before there was a secure connection")
        ready.errback(self._failure)

    def _cancelled(self, _: Any) -> None:
        self._give_up(UncertainDelivery("given up before the answer"))

    def _give_up(self, failure: DeliveryError) -> None:
        self._failure = failure
        self._settle(Failure(failure))
        self.transport.abortConnection()

    def _settle(self, result: Message | Failure) -> None:
        """An answer before the body is out leaves a connection on which nothing more can be said."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        answer, self._answer = self._answer, None
        if self._feed is not None and not self._lost:
            self._failure = self._failure or UncertainDelivery("the server answered before it had read")
            self._end_feed()
            self.transport.abortConnection()
        if answer is not None:
            answer.callback(result)


@implementer(IPullProducer)
class _Feed:
    """A request's body on its way to the transport."""

    def __init__(self, body: Iterator[bytes], connection: ClientConnection) -> None:
        self._body: Iterator[bytes] | None = body
        self._connection = connection

    def resumeProducing(self) -> None:
        if self._body is not None:
            self._connection.wants(self._body)

    def stopProducing(self) -> None:
        """The connection is lost, and hears that itself."""

    def end(self) -> None:
        """Let go of the body, and of the files that it has open."""
        body, self._body = self._body, None
        close = getattr(body, "close", None)
        if close is not None and not getattr(body, "gi_running", False):
            close()


def _words(reason: Failure) -> str:
    """Why a connection ended, in OpenSSL's own words where it was TLS; never content."""
    error: Any = reason.value
    if isinstance(error, TlsError) and error.args and error.args[0]:
        return ", ".join(str(part[-1]) for part in error.args[0] if part)
    return reason.type.__name__ if reason.type is not None else "closed"
