"""What the source makes of a body, without a server: for a channel's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.fhir import exact
from adapters.fhir.outcome import FhirRefusal
from adapters.fhir.requests import MESSAGE, Route
from adapters.fhir.validation import check
from adapters.fhir.write import Write
from engine.errors import ParseError
from engine.formats.fhir_r4.xml import from_xml
from engine.http1 import Message
from engine.http_answers import Sender
from engine.message import FHIR_XML, Envelope, Judgement, Verdict

if TYPE_CHECKING:
    from engine.options import Settings


def rehearse(options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
    """A Bundle as it would be posted to the base (R4 3.1.0.11), a message where the channel takes messages, any other resource as a create
    of its type (R4 3.1.0.8); in XML where it begins so."""
    original = b""
    try:
        if body.lstrip()[:1] == b"<":
            original, body = body, from_xml(body, most=options.most_body)
    except ParseError as error:
        return _write(options, Route("system"), body, peer, content_type=FHIR_XML).envelope(0), _fault(error)
    write = _write(options, _route(body, messages=options.messages), body, peer, original=original)
    fault = None
    try:
        write.read()
        check(options.validate, write.content, body)
    except (ParseError, FhirRefusal) as error:
        fault = _fault(error)
    envelope: Envelope = write.envelope(0)
    return envelope, fault


def _fault(error: ParseError | FhirRefusal) -> Judgement:
    return Judgement(Verdict.INVALID, error.text, "207", error.location)


def _write(options: Settings, found: Route, body: bytes, peer: str, **more: object) -> Write:
    place = MESSAGE if found.kind == "message" else found.resource_type
    target = f"/{options.base.strip('/')}/{place}".rstrip("/")
    return Write(found, Message(("POST", target, "HTTP/1.1"), {}, body, keep_alive=True), Sender(peer, ""), body, **more)  # type: ignore[arg-type]


def _route(body: bytes, *, messages: bool) -> Route:
    try:
        content = exact.inspect(body)
    except ParseError:
        return Route("system")
    kind = content.get("resourceType", "")
    if messages and kind == "Bundle" and content.get("type") == "message":
        return Route("message")
    return Route("system") if kind == "Bundle" or not isinstance(kind, str) else Route("type", kind)
