"""The compiled mapping: one clinical document in, a FHIR transaction Bundle out."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from engine.formats.cda import ClinicalDocument
from engine.message import FHIR_JSON, Excerpt, Lineage, Rendition
from mappings.cda_to_fhir.composition import ABSENT
from mappings.cda_to_fhir.context import CdaTransaction, Mapped
from mappings.cda_to_fhir.documents import Documents, documents
from mappings.hl7v2_to_fhir import bundle, times
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding, uri_part
from mappings.notes import Notes, written
from mappings.transaction import Body, Draft, name_uuid

_PARTICIPANT: Final = TERMINOLOGY + "provenance-participant-type"


class CdaMapper:
    """engine.contracts.Mapper. Pure; pickles as the path of the site's mappings."""

    headers = True

    def __init__(self, site_mappings: Path | None, rules: Documents) -> None:
        self._site_mappings, self._rules = site_mappings, rules

    def __reduce__(self) -> tuple[Any, ...]:
        return _compile_again, (self._site_mappings,)

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """The Bundle for one document. Raises ParseError (no id, not well-formed, too big), UnsupportedError (no CDA)."""
        return self._map(body, CdaTransaction())[0]

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same Bundle, and for each element where in the document it came from."""
        notes = Notes()
        tx = CdaTransaction(notes=notes, losses=[])
        rendition = self._map(body, tx)[0]
        otherwise = Lineage("", "ClinicalDocument", "links and provenance of the document")
        identifier = Lineage("Bundle.identifier", "ClinicalDocument/id", "the document")
        return rendition, [identifier, *written(tx, notes, otherwise), *notes.lost]

    def _map(self, body: bytes, tx: CdaTransaction) -> tuple[Rendition, Mapped]:
        mapped = self._rules.document(tx, body)
        header = mapped.header
        assert header is not None
        tx.sender = f"CDA|{tx.facility}"
        tx.control_id = "^".join(filter(None, (header.id.root, header.id.extension)))
        digest = body.digest if isinstance(body, Excerpt) else sha256(body).hexdigest()
        source = provenance(tx, header, digest)
        tx.drafts.append(source)
        identifier = {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": tx.control_id}
        made = bundle.bundle(tx, identifier, source.body.get("recorded"))
        return Rendition(orjson.dumps(made), FHIR_JSON, "Bundle", order_keys(mapped), mapped.unmapped), mapped


def order_keys(mapped: Mapped) -> tuple[str, ...]:
    """Every identifier of the patient, the one that names the record first."""
    if mapped.patient is None:
        return ()
    found = [f"{one.get('system', '')}|{one['value']}" for one in mapped.patient.body["identifier"]]
    named = mapped.patient.query.removeprefix("identifier=")
    return tuple(dict.fromkeys([*(one for one in found if one == named), *found]))


def provenance(tx: CdaTransaction, header: ClinicalDocument, digest: str) -> Draft:
    """Where all of this comes from: the document by its id and the SHA-256 of its bytes, its custodian, its time."""
    draft = Draft("Provenance", "put", "", [], {})
    body = draft.body
    body["target"] = [other.ref for other in tx.drafts] + [{"reference": url} for url in tx.entries]
    at = times.instant(header.effective_time, tx.zone)
    if at:
        body["recorded"] = at
    else:
        body["_recorded"] = ABSENT
    what = header.title or header.code.display or header.code.code or "clinical document"
    body["activity"] = {"text": "document - HL7 CDA R2"}
    agents: list[Body] = []
    custodian = next((one.body["custodian"] for one in tx.drafts if one.kind == "DocumentReference" and "custodian" in one.body), None)
    if custodian:
        agents.append({"type": {"coding": [coding(_PARTICIPANT, "custodian", "Custodian")]}, "who": custodian})
    body["agent"] = [*agents, {"type": {"coding": [coding(_PARTICIPANT, "assembler", "Assembler")]}, "who": {"display": "Meridian"}}]
    identifier = {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": tx.control_id}
    body["entity"] = [
        {"role": "source", "what": {"identifier": identifier, "display": what}},
        {"role": "source", "what": {"identifier": {"system": "urn:meridian:sha256", "value": digest}}},
    ]
    draft.identify(name_uuid(f"Provenance {tx.sender} {tx.control_id} {digest}"), "")
    return draft


def _compile_again(site_mappings: Path | None) -> CdaMapper:
    return CdaMapper(site_mappings, documents(site_mappings))
