"""The FHIR destination: posts Bundles over a few keep-alive connections, and reads from the answer what became of them.

2xx                         settled; in a batch-response or transaction-response every entry must be 2xx or 3xx too
other answers, and none     as engine.http_client says, with the OperationOutcome kept; what is uncertain is repeated with the same
                            Idempotency-Key
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, Final

import orjson
from twisted.internet.defer import Deferred, fail, maybeDeferred

from adapters.fhir.outcome import Answer
from engine.errors import PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.http_client import HttpClient, is_transient, refusal_of
from engine.message import BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http1 import Message
    from engine.options import Settings

_KEPT_HEADERS: Final = {"etag": "ETag", "location": "Location", "last-modified": "Last-Modified", "retry-after": "Retry-After"}
_HEADERS: Final = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json", "Prefer": "return=minimal"}


class FhirDestination:
    """engine.contracts.Destination. Receipt.answer and DeliveryError.answer are in the form of adapters.fhir.outcome.Answer."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self.max_in_flight: int = options.connections
        self._client = HttpClient(options, context)

    def open(self) -> Deferred[None]:
        return maybeDeferred(self._client.open)

    def close(self) -> Deferred[None]:
        return self._client.close()

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if isinstance(parcel.body, BodyRef):
            return fail(PermanentDelivery("the Bundle is too big to be posted"))
        headers, body = dict(_HEADERS), parcel.body
        if parcel.idempotency_key:
            headers["Idempotency-Key"] = parcel.idempotency_key
        if self._options.gzip:
            body = gzip.compress(body, 5)
            headers["Content-Encoding"] = "gzip"
        sent = self._client.request("POST", self._client.path or "/", headers, body)
        return sent.addCallback(_receipt, self._context.clock)


# --- what an answer means ----------------------------------------------------------------------------


def _receipt(message: Message, clock: Any) -> Receipt:
    """Raises DeliveryError."""
    status = int(message.start[1])
    headers = {_KEPT_HEADERS[name]: value for name, value in message.headers.items() if name in _KEPT_HEADERS}
    kept = Answer(status, message.body, headers).encode()
    if not 200 <= status < 300:
        raise refusal_of(message, kept, clock)
    _check_entries(message.body, kept)
    return Receipt(headers.get("Location", str(status)), kept)


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
    if all(is_transient(status) for _, status in failed):
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
