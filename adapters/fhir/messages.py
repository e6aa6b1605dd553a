"""FHIR messaging (R4 2.4): message Bundles at $process-message, and the message Bundles that answer them. Pure.

A message is the one sent before when MessageHeader.id is the same (R4 2.4.3.1), whatever else of its transport is new: Bundle.id,
timestamp and meta are not compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import orjson

from adapters.fhir.entries import Request
from adapters.fhir.instants import instant
from adapters.fhir.outcome import Answer, FhirRefusal
from adapters.fhir.resource_types import RESOURCE_TYPES
from engine.formats import fhir

_TRANSPORT: Final = frozenset({"id", "meta", "timestamp"})


@dataclass(frozen=True, slots=True)
class Header:
    """What is needed of a MessageHeader. `event` is its code (`coded`, with `system`) or uri; `source` and `destination` are endpoints."""

    id: str
    event: str
    coded: bool
    system: str
    source: str
    destination: str

    def facts(self) -> dict[str, str]:
        named = {"message.event_system": self.system, "message.header_id": self.id, "message.destination": self.destination}
        return {"bundle.type": "message", **{name: value for name, value in named.items() if value}}


def read_header(content: Any) -> Header:
    """The header of a message Bundle (R4 2.4.2). Raises FhirRefusal 400 with the place."""
    if content.get("resourceType") != "Bundle" or content.get("type") != "message":
        raise _wrong("$process-message takes a Bundle of the type message", "Bundle.type")
    entries = content.get("entry")
    first = entries[0] if isinstance(entries, list) and entries and isinstance(entries[0], dict) else {}
    header = first.get("resource")
    if not isinstance(header, dict) or header.get("resourceType") != "MessageHeader":
        raise _wrong("the first entry of a message holds its MessageHeader", "Bundle.entry[0].resource")
    event, coding = header.get("eventUri"), header.get("eventCoding")
    if isinstance(coding, dict):
        event = coding.get("code")
    if not isinstance(event, str) or not event:
        raise _wrong("a MessageHeader needs its event: eventCoding with a code, or eventUri", "Bundle.entry[0].resource.event")
    if event.partition(" ")[0] in RESOURCE_TYPES:  # who may send that would be let in with whatever the message brings
        raise _wrong("an event is not named as a type of resource, or an interaction with one", "Bundle.entry[0].resource.event")
    identity = header.get("id") or _text(content.get("identifier"), "value")
    if not isinstance(identity, str) or not identity:
        raise _wrong("a message needs MessageHeader.id, by which it is known when it comes again", "Bundle.entry[0].resource.id")
    destinations = header.get("destination")
    return Header(
        identity,
        event,
        isinstance(coding, dict),
        _text(coding, "system"),
        _text(header.get("source"), "endpoint"),
        _text(destinations[0] if isinstance(destinations, list) and destinations else None, "endpoint"),
    )


def contents(content: Mapping[str, Any]) -> list[Request]:
    """What a message brings, its header included, each as if it were created. Raises FhirRefusal 400 with the place."""
    found = []
    for index, entry in enumerate(content["entry"]):
        place = f"Bundle.entry[{index}]"
        resource = entry.get("resource") if isinstance(entry, dict) else None
        name = resource.get("resourceType") if isinstance(resource, dict) else None
        if not isinstance(name, str) or name not in RESOURCE_TYPES:
            raise _wrong("each entry of a message holds a resource of R4", f"{place}.resource")
        url = entry.get("fullUrl")
        found.append(Request("POST", name, resource=resource, full_url=url if isinstance(url, str) else "", location=place))
    return found


def _wrong(text: str, location: str) -> FhirRefusal:
    return FhirRefusal(400, text, issue="invalid", location=location)


def _text(element: Any, name: str) -> str:
    value = element.get(name) if isinstance(element, dict) else None
    return value if isinstance(value, str) else ""


def digest(content: Mapping[str, Any]) -> bytes:
    """Of what makes a message the same one."""
    return hashlib.sha256(fhir.dump({name: value for name, value in content.items() if name not in _TRANSPORT})).digest()


def response(header: Header, answer: Answer, endpoint: str, now: int) -> Answer:
    """The message that answers (R4 2.4.4): response.code ok, transient-error (send it again) or fatal-error (do not), with the
    OperationOutcome of `answer` where it has one. An answer that is a message already goes on as it is. `endpoint` is our address, `now` in
    microseconds UTC."""
    content = _parsed(answer.body)
    if content.get("resourceType") == "Bundle" and content.get("type") == "message":
        return answer
    code = "ok" if answer.status < 400 else "transient-error" if answer.status >= 500 or answer.status == 429 else "fatal-error"
    name = f"{endpoint}/{header.id}/{code}"
    own, details = uuid5(NAMESPACE_URL, name), uuid5(NAMESPACE_URL, f"{name}/details")
    made: dict[str, Any] = {
        "resourceType": "MessageHeader",
        "id": str(own),
        **_event(header),
        "source": {"endpoint": endpoint},
        "response": {"identifier": header.id, "code": code},
    }
    if header.source:
        made["destination"] = [{"endpoint": header.source}]
    entries: list[dict[str, Any]] = [{"fullUrl": f"urn:uuid:{own}", "resource": made}]
    if content.get("resourceType") == "OperationOutcome":
        made["response"]["details"] = {"reference": f"urn:uuid:{details}"}
        entries.append({"fullUrl": f"urn:uuid:{details}", "resource": content})
    bundle = {"resourceType": "Bundle", "id": str(uuid5(own, "bundle")), "type": "message", "timestamp": instant(now), "entry": entries}
    headers = {name: value for name, value in answer.headers.items() if name == "Retry-After"}
    return Answer(answer.status if code != "ok" else 200, orjson.dumps(bundle), headers)


def _event(header: Header) -> dict[str, Any]:
    if not header.coded:
        return {"eventUri": header.event}
    return {"eventCoding": {**({"system": header.system} if header.system else {}), "code": header.event}}


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}
