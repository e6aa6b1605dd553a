"""The FHIR destination: posts Bundles over a few keep-alive connections, and reads from the answer what became of them.

2xx                         settled; in a batch-response or transaction-response every entry must be 2xx or 3xx too
408 425 429, 5xx            Transient, after Retry-After where given; 503 and 429 pause the whole destination
401 403                     Transient for the whole destination: not the message is at fault but an agreement between the two
                            sites, and it would be wrong to dead-letter a morning's messages for an expired permission
other 4xx, 3xx              Permanent, with the OperationOutcome kept
no connection, TLS refused  Transient for the whole destination
sent, and no answer         Uncertain: repeated with the same Idempotency-Key
"""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections import deque
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory

from adapters.fhir.client import ClientConnection
from adapters.fhir.http1 import Message, head
from adapters.fhir.outcome import Answer
from engine.errors import ConfigError, DeliveryError, PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.message import BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.options import Settings

_KEPT_HEADERS: Final = {"etag": "ETag", "location": "Location", "last-modified": "Last-Modified", "retry-after": "Retry-After"}
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_AGAIN: Final = frozenset({408, 425, 429})
_AGREEMENT: Final = frozenset({401, 403})
_PAUSING: Final = frozenset({429, 503})


class FhirDestination:
    """engine.contracts.Destination. Receipt.answer and DeliveryError.answer are in the form of adapters.fhir.outcome.Answer."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self.max_in_flight: int = options.connections
        parts = urlsplit(options.url)
        self._tls = parts.scheme == "https"
        self._host, self._port = str(parts.hostname), parts.port or (443 if self._tls else 80)
        self._target = parts.path or "/"
        self._headers = {
            "Host": parts.netloc.rpartition("@")[2],
            "User-Agent": "Meridian",
            "Content-Type": "application/fhir+json",
            "Accept": "application/fhir+json",
            "Prefer": "return=minimal",
        }
        self._idle: deque[tuple[ClientConnection, DelayedCall]] = deque()
        self._under_way: set[Deferred[Any]] = set()
        self._endpoint: Any = None

    # --- life ------------------------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        self._authorize()
        reactor, bind = self._context.reactor, HostnameEndpoint
        endpoint: Any = bind(reactor, self._host, self._port, timeout=self._options.connect_timeout)
        if self._tls:
            creator = self._context.tls.client(self._options.tls, self._host, self._context.name)
            endpoint = wrapClientTLS(creator, endpoint)
        self._endpoint = endpoint
        return succeed(None)

    def _authorize(self) -> None:
        """Raises ConfigError where the secret is not there, or cannot be one."""
        if self._options.auth is not None:
            self._headers["Authorization"] = authorization(self._options.auth)

    def close(self) -> Deferred[None]:
        finished = DeferredList(list(self._under_way), consumeErrors=True) if self._under_way else succeed(None)
        return finished.addCallback(self._close_idle)

    def _close_idle(self, _: Any) -> None:
        while self._idle:
            connection, timer = self._idle.popleft()
            timer.cancel()
            connection.close()

    # --- delivery --------------------------------------------------------------------------------

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if isinstance(parcel.body, BodyRef):
            return fail(PermanentDelivery("the Bundle is too big to be posted"))
        request = self._request(parcel.body, parcel.idempotency_key)
        connection = self._take()
        sent = self._connect().addCallback(self._send, request) if connection is None else self._send(connection, request)
        watch: Deferred[None] = Deferred()
        self._under_way.add(watch)
        return sent.addCallback(self._read_again).addCallback(_receipt, self._context.clock).addBoth(self._ended, watch)

    def _ended(self, result: Any, watch: Deferred[None]) -> Any:
        self._under_way.discard(watch)
        watch.callback(None)
        return result

    def _request(self, body: bytes, idempotency_key: str) -> bytes:
        headers = dict(self._headers)
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        if self._options.gzip:
            body = gzip.compress(body, 5)
            headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(body))
        return head(f"POST {self._target} HTTP/1.1", headers) + body

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

    def _send(self, connection: ClientConnection, request: bytes) -> Deferred[Message]:
        return connection.send(request).addCallback(self._release, connection)

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


# --- what an answer means ----------------------------------------------------------------------------


def _receipt(message: Message, clock: Any) -> Receipt:
    """Raises DeliveryError."""
    status = int(message.start[1])
    headers = {_KEPT_HEADERS[name]: value for name, value in message.headers.items() if name in _KEPT_HEADERS}
    kept = Answer(status, message.body, headers).encode()
    if 200 <= status < 300:
        _check_entries(message.body, kept)
        return Receipt(headers.get("Location", str(status)), kept)
    text = f"the server answered {status}"
    after = _retry_after(message.headers.get("retry-after", ""), clock)
    if status in _AGREEMENT:
        raise TransientDelivery(f"{text}: it does not permit us this", answer=kept, retry_after=after, whole_destination=True)
    if status in _AGAIN or status >= 500:
        raise TransientDelivery(text, answer=kept, retry_after=after, whole_destination=status in _PAUSING)
    raise PermanentDelivery(text, answer=kept)


def _check_entries(body: bytes, kept: bytes) -> None:
    """Look into a batch-response or transaction-response: its own 200 says nothing of the entries (R4 3.1.0.11.1)."""
    if b"-response" not in body[:4096] and b"-response" not in body:
        return
    statuses = _statuses(body)
    failed = [(index, status) for index, status in enumerate(statuses) if status >= 400]
    if not failed:
        return
    index, status = failed[0]
    text, location = f"{len(failed)} of {len(statuses)} entries were refused, the first with {status}", f"Bundle.entry[{index}]"
    if all(status >= 500 or status in _AGAIN for _, status in failed):
        raise TransientDelivery(text, location=location, answer=kept)
    raise PermanentDelivery(text, location=location, answer=kept)


def _statuses(body: bytes) -> list[int]:
    try:
        bundle = orjson.loads(body)
        if bundle.get("resourceType") != "Bundle" or not str(bundle.get("type")).endswith("-response"):
            return []
        return [int(entry["response"]["status"][:3]) for entry in bundle.get("entry", [])]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UncertainDelivery("the server's answer is no FHIR Bundle that can be read") from error


def _retry_after(value: str, clock: Any) -> float | None:
    """Seconds to wait, from seconds or a date (RFC 9110 10.2.3)."""
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - clock() / 1e6) if value else None
    except ValueError:
        return None
