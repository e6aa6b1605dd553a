"""The compiled mapping: a submission in, a FHIR transaction Bundle out."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from engine.errors import MappingError, UnsupportedError, ValidationError
from engine.formats.hl7v2.separators import STANDARD
from engine.formats.soap import SoapMessage, read
from engine.formats.xds.model import Submission
from engine.formats.xds.names import XDSB
from engine.formats.xds.reading import read_submission
from engine.message import FHIR_JSON, Excerpt, Lineage, Rendition
from mappings.cda_to_fhir import CdaTransaction
from mappings.hl7v2_to_fhir import bundle
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding, uri_part
from mappings.notes import Notes, written
from mappings.transaction import Body, Draft, name_uuid
from mappings.xdr_to_fhir.loading import Compiled, compile_all
from mappings.xdr_to_fhir.metadata import Metadata, id_of, utc
from mappings.xdr_to_fhir.packages import folder_list, submission_list
from mappings.xdr_to_fhir.references import References

_PARTICIPANT: Final = TERMINOLOGY + "provenance-participant-type"
_ABSENT: Final = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}


class XdrMapper:
    """engine.contracts.Mapper. Pure, but for a big message's file; pickles as the path of the site's mappings."""

    headers = True

    def __init__(self, site_mappings: Path | None, compiled: Compiled) -> None:
        self._site_mappings, self._compiled = site_mappings, compiled

    def __reduce__(self) -> tuple[Any, ...]:
        return _compile_again, (self._site_mappings,)

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """The Bundle for one submission. Raises ParseError, UnsupportedError (another payload), ValidationError (no submission set),
        MappingError (a document of another patient, or not the one that its entry describes)."""
        return self._map(body, CdaTransaction())

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same Bundle, and for each element the attribute, or the place in a document, that it came from."""
        notes = Notes()
        tx = CdaTransaction(notes=notes, losses=[])
        rendition = self._map(body, tx)
        otherwise = Lineage("", "SubmissionSet[1]", "links and provenance of the submission")
        identifier = Lineage("Bundle.identifier", "SubmissionSet[1].uniqueId", "the submission")
        return rendition, [identifier, *written(tx, notes, otherwise), *notes.lost]

    def _map(self, body: bytes, tx: CdaTransaction) -> Rendition:
        message = read(body)
        submission = _submission(message)
        self._begin(tx, submission)
        metadata = Metadata(self._compiled, tx)
        references = References(metadata, self._compiled.documents, message, submission)
        mapped = [references.add(entry) for entry in submission.entries]
        references.relate()
        patient = next((one.patient for one in mapped if one.patient is not None), None) or metadata.patient(submission.set)
        for folder in submission.folders:
            folder_list(metadata, submission, folder, references.made, patient)
        submission_list(metadata, submission, references.made, patient)
        digest = body.digest if isinstance(body, Excerpt) else sha256(body).hexdigest()
        _provenance(metadata, submission, digest)
        identifier = {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": tx.control_id}
        made = bundle.bundle(tx, identifier, tx.drafts[-1].body.get("recorded"))
        unmapped = metadata.unknown + sum(one.unmapped for one in mapped)
        return Rendition(orjson.dumps(made), FHIR_JSON, "Bundle", _order_keys(patient), unmapped)

    def _begin(self, tx: CdaTransaction, submission: Submission) -> None:
        """Who has sent this, and whose numbers are in it."""
        source = submission.set.get("sourceId")
        sources, facilities = self._compiled.sources, self._compiled.documents.compiled.v2.facilities
        row = sources.get(source) or sources.get("*")
        houses = [text.partition("^")[0] for author in submission.set.authors for text in author.institutions]
        name = next((text for text in houses if text), "")
        tx.facility = row["facility"] if row is not None else facilities.get(name, name)
        tx.sender, tx.control_id = f"XDS|{source}", submission.set.unique_id
        tx.unescape = partial(STANDARD.unescape, charset="utf-8")


def _submission(message: SoapMessage) -> Submission:
    """Raises UnsupportedError, ValidationError, MappingError."""
    if message.payload is None or message.payload.tag != f"{{{XDSB}}}ProvideAndRegisterDocumentSetRequest":
        raise UnsupportedError("the message is no document submission (ITI-41)", location="Body", hl7_code="200")
    submission = read_submission(message.payload)
    if len(submission.sets) != 1:
        raise ValidationError("there is not one submission set", location="SubmissionSet", hl7_code="101")
    for one in submission.described():
        if not one.unique_id:
            raise ValidationError("there is no uniqueId", location=f"{one.path}.uniqueId", hl7_code="101")
    of_set = id_of(submission.set.patient_id)
    for one in submission.described():
        if of_set and one.patient_id and id_of(one.patient_id) != of_set:
            raise MappingError("it is of another patient than its submission set", location=f"{one.path}.patientId", hl7_code="204")
    return submission


def _order_keys(patient: Draft) -> tuple[str, ...]:
    """Every identifier of the patient, the one that names the record first."""
    found = [f"{one.get('system', '')}|{one['value']}" for one in patient.body["identifier"]]
    named = patient.query.removeprefix("identifier=")
    return tuple(dict.fromkeys([*(one for one in found if one == named), *found]))


def _provenance(metadata: Metadata, submission: Submission, digest: str) -> None:
    """Where all of this comes from: the submission by its uniqueId and the SHA-256 of the message, its author, its time."""
    tx, the_set = metadata.tx, submission.set
    draft = Draft("Provenance", "put", "", [], {})
    body = draft.body
    authors = metadata.authors(the_set)
    body["target"] = [other.ref for other in tx.drafts] + [{"reference": url} for url in tx.entries]
    recorded = utc(the_set.get("submissionTime"))
    if recorded and len(recorded) > 10:
        metadata.put(body, "recorded", recorded, f"{the_set.path}.submissionTime")
    else:
        body["_recorded"] = _ABSENT
    body["activity"] = {"text": "submission - IHE XDS"}
    agents: list[Body] = [{"type": {"coding": [coding(_PARTICIPANT, "author", "Author")]}, "who": authors[0]}] if authors else []
    body["agent"] = [*agents, {"type": {"coding": [coding(_PARTICIPANT, "assembler", "Assembler")]}, "who": {"display": "Meridian"}}]
    identifier = {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": tx.control_id}
    body["entity"] = [
        {"role": "source", "what": {"identifier": identifier, "display": the_set.get("title") or "document submission"}},
        {"role": "source", "what": {"identifier": {"system": "urn:meridian:sha256", "value": digest}}},
    ]
    draft.identify(name_uuid(f"Provenance {tx.sender} {tx.control_id} {digest}"), "")
    tx.drafts.append(draft)


def _compile_again(site_mappings: Path | None) -> XdrMapper:
    return XdrMapper(site_mappings, compile_all(site_mappings))
