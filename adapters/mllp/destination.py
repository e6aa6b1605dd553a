"""The MLLP destination: a few connections, opened when there is something to send."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS

from adapters.mllp.client import MllpClient
from engine.errors import ConfigError, MeridianError, TransientDelivery

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.message import Parcel, Receipt
    from engine.options import Settings


class MllpDestination:
    """engine.contracts.Destination"""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self.max_in_flight = options.connections * options.in_flight
        self._clients: list[MllpClient] = []
        self._connecting = 0
        self._draining = False
        self._queue: deque[tuple[Parcel, Deferred[Receipt]]] = deque()
        self._closing: Deferred[None] | None = None
        self._unexpected = context.metrics.counter(
            "meridian_mllp_unexpected_acks_total", "acknowledgments that answer nothing", destination=context.name
        )

    def open(self) -> Deferred[None]:
        return succeed(None)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        for client in self._clients:
            if client.room > 0:
                return client.send(parcel)
        done: Deferred[Receipt] = Deferred()
        self._queue.append((parcel, done))
        if len(self._clients) + self._connecting < self._options.connections:
            self._connect()
        return done

    def close(self) -> Deferred[None]:
        closing: Deferred[None] = Deferred()
        self._closing = closing
        for client in list(self._clients):
            client.close()
        self._look_closed()
        return closing

    # --- connections -----------------------------------------------------------------------------

    def _connect(self) -> None:
        self._connecting += 1
        host, port = self._options.connect
        host = host or "127.0.0.1"
        reactor: Any = self._context.reactor
        endpoint: Any = HostnameEndpoint(reactor, host, port, timeout=self._options.connect_timeout)
        try:
            if self._options.tls is not None:
                endpoint = wrapClientTLS(self._context.tls.client(self._options.tls, host, self._context.name), endpoint)
        except ConfigError as error:
            self._connecting -= 1
            self._fail_queue(f"TLS cannot begin: {error}")
            return
        client = MllpClient(
            self._options, reactor, self._context.log, freed=self._freed, closed=self._closed, unexpected=self._unexpected.inc
        )
        connected: Deferred[Any] = connectProtocol(endpoint, client)
        connected.addCallback(lambda _: client.ready.addTimeout(self._options.connect_timeout, reactor))
        connected.addCallbacks(self._connected, self._not_connected)

    def _connected(self, client: MllpClient) -> None:
        self._connecting -= 1
        self._clients.append(client)
        self._freed(client)
        if self._closing is not None:
            client.close()

    def _not_connected(self, failure: Failure) -> None:
        self._connecting -= 1
        host, port = self._options.connect
        error = failure.value
        why = error.text if isinstance(error, MeridianError) else failure.getErrorMessage()
        self._context.log.warning("cannot connect", extra={"destination": self._context.name, "reason": why})
        if not self._clients:
            self._fail_queue(f"cannot connect to {host}:{port}: {why}")
        self._look_closed()

    def _fail_queue(self, why: str) -> None:
        waiting, self._queue = self._queue, deque()
        for _, done in waiting:
            done.errback(TransientDelivery(why, whole_destination=True))

    def _freed(self, client: MllpClient) -> None:
        if self._draining:
            return  # a message that was settled as it was written leads back here
        self._draining = True
        while self._queue and client.room > 0:
            parcel, done = self._queue.popleft()
            client.send(parcel).chainDeferred(done)
        self._draining = False

    def _closed(self, client: MllpClient) -> None:
        if client in self._clients:
            self._clients.remove(client)
        if self._queue and len(self._clients) + self._connecting < self._options.connections and self._closing is None:
            self._connect()  # messages waited for room on it
        self._look_closed()

    def _look_closed(self) -> None:
        if self._closing is not None and not self._clients and not self._connecting:
            closing, self._closing = self._closing, None
            self._fail_queue("closing")
            closing.callback(None)
