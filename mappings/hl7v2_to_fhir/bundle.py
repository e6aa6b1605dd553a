"""The finished transaction Bundle: entries with their conditional requests, and the Provenance of the whole."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.context import Convert, V2Transaction, first
from mappings.hl7v2_to_fhir.identity import Known, settle
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding, uri_part
from mappings.transaction import Body, Draft, Ready, Transaction

_FIRST: Final = {"Patient": 0, "Encounter": 1}
_PARTICIPANT: Final = TERMINOLOGY + "provenance-participant-type"
_AUTHOR: Final = {"coding": [coding(_PARTICIPANT, "author", "Author")]}
_ASSEMBLER: Final[Body] = {"type": {"coding": [coding(_PARTICIPANT, "assembler", "Assembler")]}, "who": {"display": "Meridian"}}


def finish(tx: V2Transaction) -> None:
    """Settle every draft's identity; of two that turn out to be the same one, the first takes what it lacks from the other."""
    known = Known()
    known.count_orders(tx.drafts)
    settled: dict[tuple[str, str], Draft] = {}
    for draft in sorted(tx.drafts, key=lambda draft: _FIRST.get(draft.kind, 2)):
        settle(draft, known, tx)
        same = settled.setdefault((draft.kind, draft.ref["reference"]), draft)
        if same is not draft:
            for name, value in draft.body.items():
                same.body.setdefault(name, value)
    kept = set(map(id, settled.values()))
    tx.drafts = [draft for draft in tx.drafts if id(draft) in kept]
    for draft in tx.drafts:
        if draft.kind == "Patient" and "link" in draft.body:
            _no_self_link(draft)


def _no_self_link(draft: Draft) -> None:
    links = [link for link in draft.body["link"] if link["other"].get("reference") != draft.ref["reference"]]
    if links:
        draft.body["link"] = links
    else:
        del draft.body["link"]


def provenance(tx: V2Transaction, msh: list[str], body: bytes, organization: Convert, device: Convert) -> Draft:
    """Where all of this comes from: the v2 message by control id and SHA-256, its sender, its time (guide: MSH[Provenance-Source])."""
    draft = Draft("Provenance", "put", "MSH", msh, {})
    draft.body["target"] = [other.ref for other in tx.drafts] + [{"reference": url} for url in tx.entries]
    at = first(msh[7]) if len(msh) > 7 else ""
    recorded, occurred = times.instant(at, tx.zone), times.date_time(at, tx.zone)
    if recorded:
        draft.body["recorded"] = recorded
    if occurred:
        draft.body["occurredDateTime"] = occurred
    what, sent = tx.source if tx.source[0] else ("HL7 v2 message", "^".join(msh[9].split("^")[:3]))
    draft.body["activity"] = {"coding": [coding(TERMINOLOGY + "v2-0003", tx.event)], "text": f"message - {sent}"}
    author: Body = {"type": _AUTHOR}
    application = device(msh[3], tx) if msh[3].strip('^"') else None
    facility = organization(msh[4], tx) if msh[4].strip('^"') else None
    if application:
        author["who"] = application
    if facility:
        author["onBehalfOf" if application else "who"] = facility
    agents = [author] if "who" in author else []
    draft.body["agent"] = [*agents, _ASSEMBLER]
    system = f"urn:meridian:message:{uri_part(tx.sender)}"
    draft.body["entity"] = [
        {
            "role": "source",
            "what": {"identifier": {"system": system, "value": tx.control_id or "unknown"}, "display": f"{what} {sent}"},
        },
        {"role": "source", "what": {"identifier": {"system": "urn:meridian:sha256", "value": sha256(body).hexdigest()}}},
    ]
    draft.body["entity"] += [{"role": "source", "what": other.ref} for other in tx.drafts if other.kind == "Device"]
    return draft


def bundle(tx: Transaction, identifier: Body, timestamp: str | None) -> Body:
    """All drafts and ready resources as a transaction."""
    entries = [_draft_entry(draft) for draft in tx.drafts]
    entries += [_ready_entry(ready) for ready in tx.entries.values()]
    made: Body = {"resourceType": "Bundle", "identifier": identifier, "type": "transaction"}
    if timestamp:
        made["timestamp"] = timestamp
    made["entry"] = entries
    return made


def _draft_entry(draft: Draft) -> dict[str, Any]:
    kind = draft.kind
    url = draft.ref["reference"]
    if not draft.query:
        draft.body["id"] = url[9:]
        request = {"method": "PUT", "url": f"{kind}/{url[9:]}"}
    elif draft.write == "put":
        request = {"method": "PUT", "url": f"{kind}?{draft.query}"}
    else:
        request = {"method": "POST", "url": kind, "ifNoneExist": draft.query}
    return {"fullUrl": url, "resource": _without_empty(draft.body), "request": request}


def _ready_entry(ready: Ready) -> dict[str, Any]:
    request = {"method": "POST", "url": ready.kind, "ifNoneExist": ready.query}
    return {"fullUrl": ready.url, "resource": _without_empty(ready.body), "request": request}


def _without_empty(body: Body) -> Body:
    """A reference that found nobody to point to leaves an empty element, which FHIR does not allow (FHIR R4, json#null)."""
    return {name: value for name, value in body.items() if value} if {} in body.values() else body
