"""What the source makes of a body, without a server: for a channel's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.fhir import exact
from adapters.fhir.outcome import FhirRefusal
from adapters.fhir.requests import Route
from adapters.fhir.validation import check
from adapters.fhir.write import Write
from engine.errors import ParseError
from engine.http1 import Message
from engine.http_answers import Sender
from engine.message import Envelope, Judgement, Verdict

if TYPE_CHECKING:
    from engine.options import Settings


def rehearse(options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
    """A Bundle as it would be posted to the base (R4 3.1.0.11), any other resource as a create of its type (R4 3.1.0.8)."""
    found = _route(body)
    base = "/" + options.base.strip("/")
    target = f"{base}/{found.resource_type}".rstrip("/")
    write = Write(found, Message(("POST", target, "HTTP/1.1"), {}, body, keep_alive=True), Sender(peer, ""), body)
    fault = None
    try:
        write.read()
        check(options.validate, write.content, body)
    except ParseError as error:
        fault = Judgement(Verdict.INVALID, error.text, "207", error.location)
    except FhirRefusal as refused:
        fault = Judgement(Verdict.INVALID, refused.text, "207", refused.location)
    envelope: Envelope = write.envelope(0)
    return envelope, fault


def _route(body: bytes) -> Route:
    try:
        kind = exact.inspect(body).get("resourceType", "")
    except ParseError:
        return Route("system")
    return Route("system") if kind == "Bundle" or not isinstance(kind, str) else Route("type", kind)
