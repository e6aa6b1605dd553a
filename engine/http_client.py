"""A client of one HTTP server: a few keep-alive connections, the credentials, and what a refusal means for a delivery.

408 425 429, 5xx            Transient, after Retry-After where given; 503 and 429 pause the whole destination
401 403                     Transient for the whole destination: not the message is at fault but an agreement between the two
                            sites, and it would be wrong to dead-letter a morning's messages for an expired permission
other 4xx, 3xx              Permanent
no connection, TLS refused  Transient for the whole destination
sent, and no answer         Uncertain
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory

from engine.errors import ConfigError, DeliveryError, PermanentDelivery, TransientDelivery
from engine.http1 import Begin, Message, head
from engine.http_connection import Body, ClientConnection

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.options import Settings

_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_AGAIN: Final = frozenset({408, 425, 429})
_AGREEMENT: Final = frozenset({401, 403})
_PAUSING: Final = frozenset({429, 503})
_MOST_WAIT: Final = 86400.0
"""Seconds. A clock that is wrong at the server must not keep a destination from being tried for years."""


class HttpClient:
    """`options` are those of engine.http_options. All methods belong to the reactor thread. `path` is that of the url, without a
    slash at its end."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        parts = urlsplit(options.url)
        self._tls = parts.scheme == "https"
        self._host, self._port = str(parts.hostname), parts.port or (443 if self._tls else 80)
        self.path = parts.path
        self._headers = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "Meridian"}
        self._idle: deque[tuple[ClientConnection, DelayedCall]] = deque()
        self._under_way: set[Deferred[Any]] = set()
        self._endpoint: Any = None

    # --- life ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Raises ConfigError where a secret is not there, or cannot be one."""
        self._authorize()
        reactor, bind = self._context.reactor, HostnameEndpoint
        endpoint: Any = bind(reactor, self._host, self._port, timeout=self._options.connect_timeout)
        if self._tls:
            creator = self._context.tls.client(self._options.tls, self._host, self._context.name)
            endpoint = wrapClientTLS(creator, endpoint)
        self._endpoint = endpoint

    def _authorize(self) -> None:
        if self._options.auth is not None:
            self._headers["Authorization"] = authorization(self._options.auth)

    def close(self) -> Deferred[None]:
        """Finishes what is under way first."""
        finished = DeferredList(list(self._under_way), consumeErrors=True) if self._under_way else succeed(None)
        return finished.addCallback(self._close_idle)

    def _close_idle(self, _: Any) -> None:
        while self._idle:
            connection, timer = self._idle.popleft()
            timer.cancel()
            connection.close()

    # --- requests --------------------------------------------------------------------------------

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: Body = b"", begin: Begin | None = None
    ) -> Deferred[Message]:
        """Fires with the response, whatever its status; fails with a DeliveryError. A streamed `body` needs its Content-Length among the
        `headers`. `begin`: see ClientConnection.send."""
        sized = {"Content-Length": str(len(body))} if isinstance(body, bytes) and (body or method != "GET") else {}
        start = head(f"{method} {target} HTTP/1.1", {**self._headers, **headers, **sized})
        connection = self._take()
        if connection is None:
            sent = self._connect().addCallback(lambda made: self._send(made, start, body, begin))
        else:
            sent = self._send(connection, start, body, begin)
        watch: Deferred[None] = Deferred()
        self._under_way.add(watch)
        return sent.addCallback(self._read_again).addBoth(self._ended, watch)

    def _ended(self, result: Any, watch: Deferred[None]) -> Any:
        self._under_way.discard(watch)
        watch.callback(None)
        return result

    def _read_again(self, message: Message) -> Message:
        """After a 401 the token may be another one by now: the next attempt shows what the file then holds."""
        if message.start[1] == "401":
            try:
                self._authorize()
            except ConfigError as error:
                self._context.log.error("no credentials", extra={"channel": self._context.name, "reason": str(error)})
        return message

    # --- connections -----------------------------------------------------------------------------

    def _take(self) -> ClientConnection | None:
        """The connection used last, which is the least likely to be closed by the server just now."""
        while self._idle:
            connection, timer = self._idle.pop()
            timer.cancel()
            if connection.usable:
                return connection
        return None

    def _connect(self) -> Deferred[ClientConnection]:
        connection = ClientConnection(
            self._forget,
            tls=self._tls,
            timeout=self._options.timeout,
            most_answer=self._options.most_answer,
            reactor=self._context.reactor,
        )
        limit = self._context.reactor.callLater(self._options.connect_timeout, connection.abort, "no secure connection in time")
        factory = Factory.forProtocol(lambda: connection)
        factory.noisy = False
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        connecting.addErrback(_no_connection).addCallback(lambda _: connection.ready)
        return connecting.addBoth(_cancel, limit)

    def _send(self, connection: ClientConnection, start: bytes, body: Body, begin: Begin | None) -> Deferred[Message]:
        return connection.send(start, body, begin).addCallback(self._release, connection)

    def _release(self, message: Message, connection: ClientConnection) -> Message:
        if message.keep_alive and connection.usable:
            self._idle.append((connection, self._context.reactor.callLater(self._options.idle, self._retire, connection)))
        else:
            connection.close()
        return message

    def _retire(self, connection: ClientConnection) -> None:
        self._idle = deque(pair for pair in self._idle if pair[0] is not connection)
        connection.close()

    def _forget(self, connection: ClientConnection) -> None:
        """A connection has ended, perhaps while idle."""
        for pair in [pair for pair in self._idle if pair[0] is connection]:
            self._idle.remove(pair)
            pair[1].cancel()


def authorization(auth: Settings) -> str:
    """The Authorization header (RFC 9110 11.6.2). Raises ConfigError."""
    if auth.basic is not None:
        pair = f"{auth.basic.user}:{auth.basic.password.reveal()}"
        return f"Basic {b64encode(pair.encode()).decode()}"
    token: str = auth.bearer.reveal()
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{auth.bearer} holds no bearer token: letters, digits and -._~+/ with = at the end")
    return f"Bearer {token}"


def _no_connection(failure: Failure) -> Failure:
    if isinstance(failure.value, DeliveryError):
        return failure
    raise TransientDelivery(f"no connection: {type(failure.value).__name__}", whole_destination=True) from failure.value


def _cancel(result: Any, timer: DelayedCall) -> Any:
    if timer.active():
        timer.cancel()
    return result


# --- what a refusal means --------------------------------------------------------------------------


def refusal_of(message: Message, kept: bytes, clock: Callable[[], int]) -> DeliveryError:
    """The error for a response that is not 2xx; `kept` is what the store keeps of it."""
    status = int(message.start[1])
    text = f"the server answered {status}"
    after = retry_after(message.headers.get("retry-after", ""), clock)
    if status in _AGREEMENT:
        return TransientDelivery(f"{text}: it does not permit us this", answer=kept, retry_after=after, whole_destination=True)
    if is_transient(status):
        return TransientDelivery(text, answer=kept, retry_after=after, whole_destination=status in _PAUSING)
    return PermanentDelivery(text, answer=kept)


def is_transient(status: int) -> bool:
    """Whether the same request may be taken a while later."""
    return status in _AGAIN or status >= 500


def retry_after(value: str, clock: Callable[[], int]) -> float | None:
    """Seconds to wait, from seconds or a date (RFC 9110 10.2.3); a day at most. None where it says neither."""
    if value.isdecimal():
        return min(float(value[:9]), _MOST_WAIT)
    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - clock() / 1e6), _MOST_WAIT) if value else None
    except (ValueError, OverflowError):
        return None
