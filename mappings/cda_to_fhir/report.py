"""A document that is a report as a whole -> DiagnosticReport."""

from __future__ import annotations

from engine.formats.cda import first
from mappings.cda_to_fhir.observations import grouped
from mappings.cda_to_fhir.people import PROFESSIONAL
from mappings.cda_to_fhir.source import Source
from mappings.hl7v2_to_fhir.references import query_of
from mappings.transaction import KEY_SYSTEM, Draft, name_uuid


def report(source: Source, category: str, composition: Draft, reference: Draft) -> None:
    """A document that is a report as a whole (WS/T 500 C0006, C0007): its observations are the results."""
    header, tx = source.header, source.tx
    draft = Draft("DiagnosticReport", "put", "", [], {})
    role = first(header.root, "recordTarget", "patientRole")
    numbers = source.identifiers(role, "report")
    uuid = name_uuid(f"DiagnosticReport {source.key}")
    numbers = numbers or [{"system": KEY_SYSTEM, "value": uuid}]
    query = query_of(numbers[0])
    draft.identify(name_uuid(f"DiagnosticReport {query}"), query)
    body = draft.body
    body["identifier"] = numbers
    orders = source.identifiers(role, "order")
    if orders:
        body["basedOn"] = [{"type": "ServiceRequest", "identifier": one} for one in orders]
    body["status"] = "amended" if composition.body["status"] == "amended" else "final"
    body["category"] = [grouped(category)]
    body["code"] = composition.body["type"]
    body["subject"] = composition.body["subject"]
    if source.encounter is not None:
        body["encounter"] = source.encounter.ref
    if "date" in composition.body:
        body["effectiveDateTime"] = composition.body["date"]
        if len(composition.body["date"]) > 10:
            body["issued"] = composition.body["date"]
    entries = tx.entries
    body["performer"] = [one for one in composition.body["author"] if "reference" in one and entries[one["reference"]].kind in PROFESSIONAL]
    specimens = source.identifiers(role, "specimen")
    if specimens:
        body["specimen"] = [{"type": "Specimen", "identifier": one} for one in specimens]
    results = [one.ref for one in source.drafts if one.kind == "Observation"]
    if results:
        body["result"] = results
    if not body["performer"]:
        del body["performer"]
    attached = reference.body["content"][0]["attachment"]
    body["presentedForm"] = [{name: attached[name] for name in ("contentType", "url", "size", "hash", "title") if name in attached}]
    source.claim(body, header.root, "the document as a report")
    draft = tx.put(draft)
    source.drafts.append(draft)
