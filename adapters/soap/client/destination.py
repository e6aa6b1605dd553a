"""The SOAP client: a request is built in a thread, sent over Meridian's own HTTP client, its reply read in a thread.

zeep knows the WSDL, words requests and reads replies; it never sees a socket, and no thread waits for the network. A call ends within
`within`; while the destination stops, within `timeout`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from adapters.soap.client.content import Content, pieces_of
from adapters.soap.client.options import DESTINATION, address_of, operations_of, port_of
from adapters.soap.client.reply import Replies
from adapters.soap.client.request import Requests
from adapters.soap.client.securing import secure
from engine.errors import TransientDelivery, UncertainDelivery
from engine.http_client import HttpClient
from engine.message import Parcel, Receipt
from engine.options import Settings

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

    from adapters.soap.client.packaging import Outgoing
    from adapters.soap.client.pinned import Operation
    from engine.contracts import Context
    from engine.http1 import Message

_THREADS: Final = 2
"""What zeep does is pure Python under one lock; the rest is lxml, which lets others run."""
T = TypeVar("T")


class SoapDestination:
    """engine.contracts.Destination. Receipt.answer is the reply as engine.message.SOAP messages are kept."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self.max_in_flight: int = options.connections
        port = port_of(options)
        self._url = address_of(options, port)
        self._client = HttpClient(Settings(DESTINATION, {**options, "url": self._url}), context)
        self._requests = Requests(
            options.wsdl.describe(),
            operations_of(options, port),
            port.version,
            body=options.body,
            headers=options.headers,
            addressed_to=self._url if options.addressing else "",
            threshold=options.mtom_threshold if options.mtom else None,
        )
        self._replies = Replies(options, options.wsdl.describe(), context.clock)
        self._pool = ThreadPool(0, _THREADS, f"{context.name} soap")
        self._calls: set[_Call] = set()

    # --- life ------------------------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        self._pool.start()
        return maybeDeferred(self._open)

    def _open(self) -> None:
        """Raises ConfigError where a certificate, key or secret cannot be used."""
        self._client.open()
        if self._options.security is not None:
            self._requests.secure = secure(self._options.security, self._context)

    def wind_up(self) -> None:
        for call in self._calls:
            call.hurry(self._options.timeout)

    def close(self) -> Deferred[None]:
        self.wind_up()
        ended = DeferredList([call.ended for call in self._calls]) if self._calls else succeed(None)
        return ended.addCallback(lambda _: self._client.close()).addBoth(self._stop_threads)

    def _stop_threads(self, result: Any) -> Any:
        if self._pool.started and not self._pool.joined:
            self._pool.stop()
        return result

    # --- delivery --------------------------------------------------------------------------------

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        call = _Call(self, parcel)
        self._calls.add(call)
        call.ended.addCallback(lambda _: self._calls.discard(call))
        return call.begin()

    def build(self, parcel: Parcel) -> tuple[Outgoing, Operation]:
        """In a thread. Raises PermanentDelivery."""
        return self._requests.build(
            Content(parcel, self._context.name, self._context.body_file, self._options.tables, self._options.documents)
        )

    def send(self, request: Outgoing) -> Deferred[Message]:
        parts = urlsplit(self._url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {**self._options.http_headers, **request.headers}
        return self._client.request("POST", target, headers, pieces_of(request.package))

    def read(self, reply: Message, operation: Operation) -> Receipt:
        """In a thread. Raises DeliveryError."""
        return self._replies.receipt(reply, operation)

    def in_thread(self, work: Callable[..., T], *arguments: Any) -> Deferred[T]:
        made: Deferred[T] = deferToThreadPool(self._context.reactor, self._pool, work, *arguments)
        return made

    def later(self, seconds: float, act: Callable[[], None]) -> DelayedCall:
        made: DelayedCall = self._context.reactor.callLater(seconds, act)
        return made

    def seconds(self) -> float:
        return float(self._context.reactor.seconds())

    @property
    def within(self) -> float:
        return float(self._options.within)


class _Call:
    """One attempt. `ended` fires when nothing of it is under way any more."""

    def __init__(self, destination: SoapDestination, parcel: Parcel) -> None:
        self._destination, self._parcel = destination, parcel
        self.ended: Deferred[None] = Deferred()
        self._sent = False

    def begin(self) -> Deferred[Receipt]:
        self._timer = self._destination.later(self._destination.within, self._too_late)
        self._under_way = self._destination.in_thread(self._destination.build, self._parcel)
        receipt: Deferred[Receipt] = self._under_way.addCallback(self._send)
        return receipt.addBoth(self._end)

    def hurry(self, seconds: float) -> None:
        """Be over in so many seconds, if not earlier."""
        if self._timer.active() and self._timer.getTime() - self._destination.seconds() > seconds:
            self._timer.reset(seconds)

    def _send(self, built: tuple[Outgoing, Operation]) -> Deferred[Receipt]:
        self._sent = True
        request, operation = built
        sent = self._destination.send(request)
        return sent.addCallback(lambda reply: self._destination.in_thread(self._destination.read, reply, operation))

    def _too_late(self) -> None:
        self._under_way.cancel()

    def _end(self, result: Any) -> Any:
        if self._timer.active():
            self._timer.cancel()
        self.ended.callback(None)
        if isinstance(result, Failure) and result.check(CancelledError):
            if self._sent:
                raise UncertainDelivery("the call took longer than it may")
            raise TransientDelivery("the request could not be built in time")
        return result
