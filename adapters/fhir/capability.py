"""The CapabilityStatement (R4 5.2): what this channel really does, from its options, from the tables that make it do so, and by asking its
`accept` rules about each interaction."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from adapters.fhir.envelopes import interaction
from adapters.fhir.parameters import PARAMETERS
from adapters.fhir.requests import MESSAGE
from adapters.fhir.resource_types import RESOURCE_TYPES
from engine.message import FHIR_JSON, Envelope

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http_answers import Sender
    from engine.options import Settings

_WRITES: Final = {"POST": "create", "PUT": "update", "DELETE": "delete"}
_READS: Final = ("read", "vread", "history-instance", "search-type")
_MESSAGING: Final = "http://hl7.org/fhir/OperationDefinition/MessageHeader-process-message"
_ANSWERED: Final = "Writes are answered with their result."
_KEPT: Final = (
    "Writes are answered 202 Accepted once they are kept on disk; what becomes of them is not told here. Their conditions and If-Match go"
    " with them to whoever carries them out."
)
_READING: Final = {
    "own": "A client reads the versions that it sent itself; of others' resources it hears 404.",
    "all": "A client reads everything.",
    "": "Nothing can be read here.",
}
_VALIDATING: Final = {
    "none": "Resources are not checked against R4.",
    "structure": "Elements, types, cardinalities, required codes and contained resources are checked against R4; faults are answered 422.",
    "fhir.resources": "Resources are checked against R4 and the models of fhir.resources; faults are answered 422.",
}
_DOCUMENTATION: Final = (
    "PATCH is not offered. Search knows the parameters listed, without modifiers and chains; what is not listed is refused. References in"
    " transactions are rewritten in Reference.reference and in url and uri elements, not in narrative. A write with the header"
    " Idempotency-Key that comes again is answered as the first time and changes nothing. XML is converted to JSON and back; comments in it"
    " are dropped."
)
_CERTIFICATES: Final = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "Certificates"}]}
_SMART: Final = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}]}
_OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_PROVING: Final = {
    "required": "Mutual TLS: what a client may do follows from the party its certificate names.",
    "optional": "TLS; a client may show a certificate, and what it may do follows from the party that it names.",
    "none": "TLS; clients are not asked who they are.",
    "": "No TLS: clients are not asked who they are.",
}

_UPLOAD: Final = (
    "POST [base]/$upload?device=NAME&first=NUMBER takes application/fhir+ndjson, gzip too: each line one resource or Bundle with a number "
    "of its own, reported line by line. GET [base]/$upload?device=NAME says where to go on."
)


class Channel(NamedTuple):
    """What of a channel its statement depends on. `taken`: message types that its `accept` could take from this client."""

    node: str
    url: str
    taken: frozenset[str]
    answered: bool
    reads: str
    validate: str
    messages: bool
    client_auth: str
    tokens: bool


def capability_statement(options: Settings, context: Context, url: str, sender: Sender) -> bytes:
    """For the client `sender`, who sees us at `url`."""
    taken = frozenset(probe.message_type for probe in _probes(sender) if context.may_take(probe))
    proving = str(options.tls.client_auth) if options.tls is not None else ""
    reads = str(options.reads) if options.repository else ""
    tokens = options.auth is not None and options.auth.tokens is not None
    return _statement(Channel(context.node, url, taken, context.answered, reads, options.validate, options.messages, proving, tokens))


def _probes(sender: Sender) -> Iterator[Envelope]:
    """One envelope for each kind of write, with the facts that it would have."""
    for name in sorted(RESOURCE_TYPES):
        for method in _WRITES:
            facts = {"request.method": method, "resource.type": name}
            yield Envelope(b"", FHIR_JSON, interaction(method, name), peer=sender.peer, remote=sender.remote, facts=facts)
    for kind in ("transaction", "batch"):
        facts = {"request.method": "POST", "bundle.type": kind}
        yield Envelope(b"", FHIR_JSON, f"Bundle {kind}", peer=sender.peer, remote=sender.remote, facts=facts)


@lru_cache(maxsize=8)
def _statement(channel: Channel) -> bytes:
    statement: dict[str, Any] = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-01",
        "kind": "instance",
        "software": {"name": "Meridian"},
        "implementation": {"description": f"Meridian node {channel.node}", "url": channel.url},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json", "application/fhir+xml", "xml"],
        "rest": [_rest(channel)],
    }
    if channel.messages:
        statement["messaging"] = [_messaging(channel)]
    return orjson.dumps(statement)


def _rest(channel: Channel) -> dict[str, Any]:
    told = (_ANSWERED if channel.answered else _KEPT, _READING[channel.reads], _VALIDATING[channel.validate], _DOCUMENTATION)
    rest: dict[str, Any] = {
        "mode": "server",
        "documentation": " ".join(told),
        "security": _security(channel),
        "resource": [made for name in sorted(RESOURCE_TYPES) if (made := _resource(name, channel))["interaction"]],
    }
    system = [{"code": kind} for kind in ("transaction", "batch") if f"Bundle {kind}" in channel.taken]
    if not rest["resource"]:
        del rest["resource"]
    if system:
        rest["interaction"] = system
    rest["operation"] = [{"name": "upload", "definition": "urn:meridian:fhir:upload", "documentation": _UPLOAD}]
    if channel.messages:
        rest["operation"].append({"name": MESSAGE.removeprefix("$"), "definition": _MESSAGING})
    return rest


def _security(channel: Channel) -> dict[str, Any]:
    """With tokens of its own: SMART App Launch 2.2, OAuth URIs extension."""
    services = [] if channel.client_auth in ("", "none") else [_CERTIFICATES]
    security: dict[str, Any] = {"cors": False, "description": _PROVING[channel.client_auth]}
    if channel.tokens:
        services.append(_SMART)
        security["description"] += " Tokens are given by its token endpoint (SMART backend services)."
        security["extension"] = [{"url": _OAUTH_URIS, "extension": [{"url": "token", "valueUri": f"{channel.url}/token"}]}]
    return {**security, "service": services} if services else security


def _messaging(channel: Channel) -> dict[str, Any]:
    protocol = {"system": "http://terminology.hl7.org/CodeSystem/message-transport", "code": "http"}
    return {
        "endpoint": [{"protocol": protocol, "address": f"{channel.url}/{MESSAGE}"}],
        "documentation": (
            "Messages are answered once they are kept, by a message whose response.code is ok, transient-error (send it again) or"
            " fatal-error."
            " A message with a MessageHeader.id that came before is answered as the first time. Asynchronous answers are not offered."
        ),
    }


def _resource(name: str, channel: Channel) -> dict[str, Any]:
    writes = [word for method, word in _WRITES.items() if interaction(method, name) in channel.taken]
    reads = bool(channel.reads)
    made: dict[str, Any] = {
        "type": name,
        "interaction": [{"code": code} for code in (*writes, *(_READS if reads else ()))],
        "versioning": "versioned-update" if channel.answered and reads else "no-version",
        "readHistory": reads,
        "updateCreate": "update" in writes,
        "conditionalCreate": channel.answered and "create" in writes,
        "conditionalRead": "not-match" if reads else "not-supported",
        "conditionalUpdate": channel.answered and "update" in writes,
        "conditionalDelete": "single" if channel.answered and "delete" in writes else "not-supported",
        "referencePolicy": ["literal", "local"],
    }
    if reads:
        search = {parameter.name: str(parameter.kind) for parameter in PARAMETERS[name].values()}
        search |= {"_id": "token", "_lastUpdated": "date"}
        made["searchParam"] = [{"name": key, "type": kind} for key, kind in sorted(search.items())]
    return made
