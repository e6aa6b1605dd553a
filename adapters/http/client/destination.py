"""The destination ``http``: each parcel is one request over a few keep-alive connections; a body that is a file is streamed from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.http.client.grants import Grants
from adapters.http.client.options import DESTINATION
from adapters.http.client.outcomes import Outcomes
from adapters.http.client.request import Content, Outgoing, build, signed
from engine.errors import ConfigError, TransientDelivery
from engine.http_client import HttpClient
from engine.options import Settings

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http1 import Message
    from engine.message import Parcel, Receipt


class HttpDestination:
    """engine.contracts.Destination. Receipt.answer and DeliveryError.answer are in the form of engine.http_answers.kept_form."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self.max_in_flight: int = options.connections
        oauth2 = options.auth.oauth2 if options.auth is not None else None
        own = {"url": options.url.root, "auth": None if oauth2 is not None else options.auth}
        self._client = HttpClient(Settings(DESTINATION, {**options, **own}), context)
        self._grants = Grants(oauth2, options, context) if oauth2 is not None else None
        self._outcomes = Outcomes(options, context.clock)
        self._pool = ThreadPool(0, 1, f"{context.name} http")
        self._under_way: set[Deferred[None]] = set()

    # --- life ------------------------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        self._pool.start()
        return maybeDeferred(self._open)

    def _open(self) -> None:
        """Raises ConfigError where a certificate, key or secret cannot be used."""
        self._client.open()
        if self._grants is not None:
            self._grants.open()
        self._secrets()
        if self._options.signature is not None:
            signed(self._options, Outgoing("", "", {}, b"", 0), "", 0)

    def close(self) -> Deferred[None]:
        ended = DeferredList(list(self._under_way)) if self._under_way else succeed(None)
        closed = ended.addCallback(lambda _: self._client.close())
        if self._grants is not None:
            grants = self._grants
            closed.addCallback(lambda _: grants.close())
        return closed.addBoth(self._stop_threads)

    def _stop_threads(self, result: Any) -> Any:
        if self._pool.started and not self._pool.joined:
            self._pool.stop()
        return result

    # --- delivery --------------------------------------------------------------------------------

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        watch: Deferred[None] = Deferred()
        self._under_way.add(watch)
        delivered = maybeDeferred(self._deliver, parcel)
        return delivered.addBoth(self._ended, watch)

    def _ended(self, result: Any, watch: Deferred[None]) -> Any:
        self._under_way.discard(watch)
        watch.callback(None)
        return result

    def _deliver(self, parcel: Parcel) -> Deferred[Any]:
        """Raises DeliveryError."""
        outgoing = build(self._options, parcel, self._context.name, self._context.body_file)
        secrets = self._secrets_now()
        token: Deferred[Any] = self._grants.token() if self._grants is not None else succeed("")
        return token.addCallback(self._sign, outgoing, secrets, parcel)

    def _sign(self, token: str, outgoing: Outgoing, secrets: Mapping[str, str], parcel: Parcel) -> Deferred[Any]:
        message_id = parcel.idempotency_key or Content(parcel, self._context.name, self._context.body_file, {}).message_id
        now = self._context.clock()
        if isinstance(outgoing.body, bytes) or self._options.signature is None:
            made: Deferred[Any] = maybeDeferred(signed, self._options, outgoing, message_id, now)
        else:
            made = deferToThreadPool(self._context.reactor, self._pool, signed, self._options, outgoing, message_id, now)
        made.addErrback(_unsigned)
        return made.addCallback(self._send, outgoing, secrets, token).addCallback(self._read, token)

    def _send(self, signature: Mapping[str, str], outgoing: Outgoing, secrets: Mapping[str, str], token: str) -> Deferred[Message]:
        headers = {**outgoing.headers, **secrets, **signature}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if isinstance(outgoing.body, bytes):
            return self._client.request(outgoing.method, outgoing.target, headers, outgoing.body)
        headers["Content-Length"] = str(outgoing.size)
        return self._client.request(outgoing.method, outgoing.target, headers, outgoing.pieces())

    def _read(self, message: Message, token: str) -> Receipt:
        """Raises DeliveryError."""
        if self._grants is not None and message.start[1] == "401":
            self._grants.forget(token)
        return self._outcomes.receipt(message)

    # --- secrets ---------------------------------------------------------------------------------

    def _secrets(self) -> Mapping[str, str]:
        """Raises ConfigError."""
        return {name: secret.reveal() for name, secret in self._options.secret_headers.items()}

    def _secrets_now(self) -> Mapping[str, str]:
        """Raises TransientDelivery: a secret that is being replaced is no fault of a message."""
        try:
            return self._secrets()
        except ConfigError as error:
            raise TransientDelivery(f"no credentials: {error.text}", whole_destination=True) from None


def _unsigned(failure: Any) -> Any:
    failure.trap(ConfigError)
    raise TransientDelivery("the request cannot be signed: its secret is not there", whole_destination=True) from None
