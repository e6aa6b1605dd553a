"""The CapabilityStatement (R4 5.2): what this server really does, from the tables that make it do so."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from adapters.fhir.parameters import PARAMETERS
from adapters.fhir.resource_types import RESOURCE_TYPES

_DOCUMENTATION = (
    "JSON only; application/fhir+xml is answered 406 or 415. Search knows the parameters listed, without modifiers and chains; "
    "what is not listed is refused. References in transactions are rewritten in Reference.reference and in url and uri elements, not in "
    "narrative. A write with the header Idempotency-Key that comes again is answered as the first time and changes nothing."
)

_MUTUAL_TLS = "mutual TLS; what a client may do follows from the party its certificate names"


@lru_cache(maxsize=8)
def capability_statement(node: str, url: str, *, reads: bool, tokens: bool = False) -> bytes:
    """`reads`: whether a repository is there to read from; without it the server only takes messages. `tokens`: whether it gives tokens
    to systems (SMART App Launch 2.2: OAuth URIs extension)."""
    system = [{"code": "transaction"}, {"code": "batch"}]
    statement: dict[str, Any] = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-01",
        "kind": "instance",
        "software": {"name": "Meridian"},
        "implementation": {"description": f"Meridian node {node}", "url": url},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "documentation": _DOCUMENTATION,
                "security": _security(url) if tokens else {"cors": False, "description": _MUTUAL_TLS},
                "resource": [_resource(name, reads=reads) for name in sorted(RESOURCE_TYPES)],
                "interaction": system,
            }
        ],
    }
    return orjson.dumps(statement)


def _security(url: str) -> dict[str, Any]:
    return {
        "cors": False,
        "service": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}]}],
        "description": f"{_MUTUAL_TLS}, or its token: SMART backend services",
        "extension": [{
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": [{"url": "token", "valueUri": f"{url}/token"}],
        }],
    }  # fmt: skip


def _resource(name: str, *, reads: bool) -> dict[str, Any]:
    codes = ["create", "update", "delete", *(["read", "vread", "history-instance", "search-type"] if reads else [])]
    resource: dict[str, Any] = {
        "type": name,
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned-update",
        "readHistory": reads,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "not-match" if reads else "not-supported",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "referencePolicy": ["literal", "local"],
    }
    if reads:
        search = {parameter.name: str(parameter.kind) for parameter in PARAMETERS[name].values()}
        search |= {"_id": "token", "_lastUpdated": "date"}
        resource["searchParam"] = [{"name": key, "type": kind} for key, kind in sorted(search.items())]
    return resource
