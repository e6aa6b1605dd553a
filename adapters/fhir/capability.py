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

_UPLOAD = (
    "POST [base]/$upload?device=NAME&first=NUMBER takes application/fhir+ndjson, gzip too: each line one resource or Bundle with a number "
    "of its own, reported line by line. GET [base]/$upload?device=NAME says where to go on."
)


@lru_cache(maxsize=8)
def capability_statement(node: str, url: str, *, reads: bool) -> bytes:
    """`reads`: whether a repository is there to read from; without it the server only takes messages."""
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
                "security": {"cors": False, "description": "mutual TLS; what a client may do follows from the party its certificate names"},
                "resource": [_resource(name, reads=reads) for name in sorted(RESOURCE_TYPES)],
                "interaction": system,
                "operation": [{"name": "upload", "definition": "urn:meridian:fhir:upload", "documentation": _UPLOAD}],
            }
        ],
    }
    return orjson.dumps(statement)


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
