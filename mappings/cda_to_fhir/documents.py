"""Clinical documents taken into a Bundle: the DocumentReference with the bytes as they came, and all that the document says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from engine.errors import MappingError, UnsupportedError
from engine.formats.cda import LIMITS, NO_CODE, Claimed, ClinicalDocument, Code, Id, children, cross_check, read
from mappings.cda_to_fhir import names
from mappings.cda_to_fhir import people as persons
from mappings.cda_to_fhir.attachment import Content, attach
from mappings.cda_to_fhir.carried import claim_binaries, uncarried
from mappings.cda_to_fhir.composition import Header
from mappings.cda_to_fhir.context import FLAGS, CdaTransaction, Described, Mapped
from mappings.cda_to_fhir.encounters import Encounters
from mappings.cda_to_fhir.entries import Entries
from mappings.cda_to_fhir.loading import Compiled, compile_all
from mappings.cda_to_fhir.people import People
from mappings.cda_to_fhir.reference import SHA256, Reference, identify, tell
from mappings.cda_to_fhir.report import report
from mappings.cda_to_fhir.source import CUT, MOST, Source, identifier
from mappings.cda_to_fhir.statements import Kit
from mappings.cda_to_fhir.values import Values
from mappings.hl7v2_to_fhir import times
from mappings.transaction import Draft

_FLAGGED: Final = {
    "type": "The envelope names another type of document",
    "title": "The envelope names another title",
    "time": "The envelope names another time",
    "patient-unproven": "Document and envelope have no number of the patient in common",
}
_XML: Final = "text/xml"
_BEGIN: Final = 64 << 10
"""Bytes within which a clinical document has its root element."""


def documents(site_mappings: Path | None) -> Documents:
    """The rules compiled for a site. Raises ConfigError with every fault."""
    return Documents(compile_all(site_mappings))


class Documents:
    """Takes documents into Bundles."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled

    def describe(self, tx: CdaTransaction, header: ClinicalDocument) -> None:
        """Whose document it is, and where its times are, as far as the envelope has not said it."""
        facilities = self.compiled.v2.facilities
        if not tx.facility:
            numbers = [one.extension or one.root for one in header.custodian.ids]
            names = [name for name in (*numbers, header.custodian.name) if name]
            tx.facility = next((facilities[name] for name in names if name in facilities), names[0] if names else "")
        if not tx.zone:
            zones = self.compiled.v2.zones
            tx.zone = times.offset_of(header.effective_time) or zones.get(tx.facility) or zones.get("*", "")

    def patient(self, tx: CdaTransaction, ids: Iterable[Id], name: str = "", gender: Code = NO_CODE, birth: str = "") -> Draft:
        """The patient that an envelope names, put in; the same one as the document's where they share the number that names the record."""
        numbers = tuple(ids)
        draft = persons.patient(
            self.compiled, tx, numbers, f"{tx.sender} {' '.join(f'{one.root}^{one.extension}' for one in numbers)} {name}"
        )
        if name:
            draft.body["name"] = [names.name_of(name)]
        if sex := persons.gender(self.compiled, gender):
            draft.body["gender"] = sex
        if born := times.date(birth, tx.zone) if birth else None:
            draft.body["birthDate"] = born
        return tx.put(draft)

    def take(
        self, tx: CdaTransaction, content: Content, media_type: str, claimed: Claimed | None = None, described: Described | None = None,
        place: str = "",
    ) -> Mapped:  # fmt: skip
        """A document, or an attachment where it is none: what is no XML, or XML of another kind. What names itself a clinical document and
        cannot be read is at fault (ParseError)."""
        begin = bytes(content[:_BEGIN]).replace(b"\x00", b"")
        if b"ClinicalDocument" in begin and begin.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<"):
            try:
                return self.document(tx, content, claimed, described, place)
            except UnsupportedError:
                pass
        return self.attachment(tx, content, media_type, described or Described(), place)

    def document(
        self, tx: CdaTransaction, content: Content, claimed: Claimed | None = None, described: Described | None = None, place: str = ""
    ) -> Mapped:
        """A clinical document. Raises ParseError, UnsupportedError (no CDA, or of several patients), MappingError (it is another than the
        envelope says, or another patient's)."""
        header = read(content, LIMITS)
        if len(list(children(header.root, "recordTarget"))) > 1:
            raise UnsupportedError("a document of several patients", location=f"{place}ClinicalDocument/recordTarget[2]", hl7_code="207")
        flags = self._checked(header, claimed, place)
        self.describe(tx, header)
        told = described or Described()
        attached, digest = attach(tx, content, _XML)
        source = Source(self.compiled, tx, header, digest, place)
        values = Values(source)
        people = People(source, values)
        row = self.compiled.documents.get(header.code.code)
        kit = Kit(source, values, people)
        entries = Entries(kit, prescribed=row is not None and row["medication"] == "request")
        patient = people.patient()
        heading = Header(kit, entries)
        Encounters(kit).own()
        reference = Reference(source, values, people, told, row).draft(attached)
        reference = tx.put(reference)
        source.drafts.append(reference)
        if header.non_xml_body is None:
            composition = heading.composition(reference.body)
            source.drafts.append(composition)
            if row is not None and row["report"]:
                report(source, row["report"], composition, reference)
        unmapped = source.flag()
        if source.statements > MOST:
            reference.body.setdefault("meta", {}).setdefault("tag", []).append(CUT)
        for flag in flags:
            tags = reference.body.setdefault("meta", {}).setdefault("tag", [])
            tags.append({"system": FLAGS, "code": f"envelope-{flag}", "display": _FLAGGED[flag]})
        source.claim(reference.body, header.root, "the document against its envelope")
        uncarried(source)
        return Mapped(reference.ref, reference, patient, header, unmapped + len(flags), flags)

    @staticmethod
    def _checked(header: ClinicalDocument, claimed: Claimed | None, place: str) -> tuple[str, ...]:
        """The fields in which the document differs from its envelope without being another one."""
        found = cross_check(header, claimed) if claimed is not None else []
        for one in found:
            if one.grave:
                where = "ClinicalDocument/id" if one.field == "id" else "ClinicalDocument/recordTarget/patientRole/id"
                what = "document" if one.field == "id" else "patient"
                raise MappingError(f"the document is of another {what} than its envelope says", location=f"{place}{where}", hl7_code="204")
        return tuple(one.field for one in found)

    def attachment(self, tx: CdaTransaction, content: Content, media_type: str, described: Described, place: str = "") -> Mapped:
        """Bytes that are no clinical document: a DocumentReference of what the envelope says, and the bytes."""
        made, digest = attach(tx, content, media_type or "application/octet-stream")
        draft = Draft("DocumentReference", "put", "", [], {})
        number = identifier(self.compiled, tx.facility, described.id) if described.id else None
        number = number or {"system": SHA256, "value": digest}
        identify(draft, number)
        body = draft.body
        body["masterIdentifier"] = number
        body["status"] = described.status
        tell(body, described, self.compiled, tx, digest)
        if described.patient is not None:
            body["subject"] = described.patient.ref
        if described.title:
            made["title"] = described.title
        body["content"] = [{"attachment": made, **({"format": described.format} if described.format else {})}]
        tx.claim(body, place.rstrip("/") or "content", "attachment")
        draft = tx.put(draft)
        claim_binaries(tx, place.rstrip("/") or "content")
        return Mapped(draft.ref, draft, described.patient, None, 0)
