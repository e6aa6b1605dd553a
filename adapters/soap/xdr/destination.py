"""The destination `xdr`: a Document Source (IHE ITI-41).

Success                                          taken; the receipt is the submission set's uniqueId
Failure, and only of time or room                Transient for the whole destination (XDSRepositoryBusy, …OutOfResources, NotAvailable)
Failure, XDSDuplicateUniqueIdInRegistry alone,   taken: it is what an earlier attempt brought, whose answer was lost. The identifiers of
 when this is not the first attempt              what is made here are the same at every attempt
any other Failure                                Permanent
faults, other answers, none                      as `exchange` and engine.http_client say
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lxml import etree
from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.soap.xdr.exchange import MOST_KEPT, Request, Secure, read_answer, request, security, unreadable
from adapters.soap.xdr.from_cda import from_cda
from adapters.soap.xdr.from_fhir import from_fhir
from adapters.soap.xdr.outgoing import Metadata, Outgoing
from adapters.soap.xdr.relay import relay
from engine.errors import LocalProtocolError, ParseError, PermanentDelivery, StoreError, TransientDelivery
from engine.formats.xds.names import FAILURE, PROVIDE, SUCCESS
from engine.formats.xds.responses import RegistryResponse, read_response
from engine.http_client import HttpClient
from engine.message import CDA, FHIR_JSON, SOAP, WHOLE, BodyRef, Excerpt, Receipt

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http1 import Message
    from engine.message import Parcel
    from engine.options import Settings

_THREADS: Final = 2
_MOST_MADE: Final = 128 << 20
"""Bytes of a Bundle or document of which a submission is made; those are read whole."""
_THERE_BEFORE: Final = frozenset({"XDSDuplicateUniqueIdInRegistry"})


class DocumentSource:
    """engine.contracts.Destination"""

    reads_files = True

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._secure: Secure | None = None
        self.max_in_flight: int = options.connections
        self._client = HttpClient(options, context)
        self._metadata = Metadata(options)
        self._pool = ThreadPool(0, _THREADS, f"{context.name} submissions")
        self._under_way: set[Deferred[Any]] = set()

    def open(self) -> Deferred[None]:
        self._pool.start()
        return maybeDeferred(self._open)

    def _open(self) -> None:
        """Raises ConfigError."""
        self._secure = security(self._options.security, self._context)
        self._client.open()

    def close(self) -> Deferred[None]:
        waited = DeferredList(list(self._under_way), consumeErrors=True) if self._under_way else succeed(None)
        return waited.addCallback(lambda _: self._client.close()).addBoth(self._closed)

    def _closed(self, result: Any) -> Any:
        self._pool.stop()
        return result

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        watch: Deferred[None] = Deferred()
        self._under_way.add(watch)
        made: Deferred[tuple[str, Request]] = deferToThreadPool(self._context.reactor, self._pool, self._made, parcel)
        return made.addCallback(self._send, parcel).addBoth(self._ended, watch)

    def _ended(self, result: Any, watch: Deferred[None]) -> Any:
        self._under_way.discard(watch)
        watch.callback(None)
        return result

    # --- in a thread -----------------------------------------------------------------------------------

    def _made(self, parcel: Parcel) -> tuple[str, Request]:
        """Raises DeliveryError."""
        outgoing = self._outgoing(parcel)
        new_id = f"{self._context.name}/{self._context.new_id()}"
        try:
            return outgoing.unique_id, request(self._options.url, PROVIDE, outgoing.payload, new_id, outgoing.attachments, self._secure)
        except LocalProtocolError as error:
            raise PermanentDelivery(f"the message cannot be sent on: {error.text}") from None

    def _outgoing(self, parcel: Parcel) -> Outgoing:
        if parcel.content_type == SOAP:
            return relay(*self._beginning(parcel.body))
        if parcel.content_type not in (FHIR_JSON, CDA):
            raise PermanentDelivery(f"content of type {parcel.content_type} cannot be submitted: map it first")
        body = self._whole(parcel.body)
        documents = [from_cda(body, self._metadata)] if parcel.content_type == CDA else from_fhir(body, self._metadata)
        key = f"{self._context.name}/{parcel.idempotency_key or f'{parcel.message_id}/{parcel.seq}'}"
        return self._metadata.submission(documents, key, parcel.received_at)

    def _beginning(self, body: bytes | BodyRef) -> tuple[bytes, Any]:
        """What engine.formats.soap reads, and the file of it."""
        if isinstance(body, bytes):
            return body, None
        try:
            file = self._context.body_file(body)
            with file.open("rb") as opened:
                return Excerpt(opened.read(WHOLE), body.digest, file), file
        except (OSError, StoreError) as error:
            raise PermanentDelivery(f"the message cannot be read back: {error}") from None

    def _whole(self, body: bytes | BodyRef) -> bytes:
        if isinstance(body, bytes):
            return body
        if body.size > _MOST_MADE:
            raise PermanentDelivery(f"no submission is made of more than {_MOST_MADE >> 20} MB")
        try:
            return self._context.body_file(body).read_bytes()
        except (OSError, StoreError) as error:
            raise PermanentDelivery(f"the message cannot be read back: {error}") from None

    # --- sending -----------------------------------------------------------------------------------------

    def _send(self, made: tuple[str, Request], parcel: Parcel) -> Deferred[Receipt]:
        unique_id, out = made
        sent = self._client.request("POST", self._client.path or "/", out.headers, out.pieces())
        return sent.addCallback(self._settled, unique_id, parcel.attempt)

    def _settled(self, message: Message, unique_id: str, attempt: int) -> Receipt | Deferred[Receipt]:
        answer = read_answer(message, self._context.clock)
        kept = etree.tostring(answer.root, encoding="UTF-8")[:MOST_KEPT]  # out of its package: who sent us the message may hear it
        if answer.payload is None:
            return fail(unreadable(ParseError("the Body is empty"), kept))
        try:
            response = read_response(answer.payload)
        except ParseError as error:
            return fail(unreadable(error, kept))
        if response.status == SUCCESS:
            return Receipt(unique_id or "taken", kept)
        if attempt > 1 and {one.code for one in response.errors if not one.warning} == _THERE_BEFORE:
            return Receipt(f"{unique_id} (was there)", kept)
        return fail(_refused(response, kept))


def _refused(response: RegistryResponse, kept: bytes) -> TransientDelivery | PermanentDelivery:
    codes = ", ".join(dict.fromkeys(one.code for one in response.errors if one.code.isalnum())) or "no error code"
    if response.is_transient:
        return TransientDelivery(f"the recipient cannot take it now: {codes}", answer=kept, whole_destination=True)
    what = "refused it" if response.status == FAILURE else "took a part of it only"
    return PermanentDelivery(f"the recipient {what}: {codes}", answer=kept)
