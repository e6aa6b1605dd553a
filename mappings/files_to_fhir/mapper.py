"""The compiled mapping: a file with its label in, a FHIR transaction Bundle out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson

from engine.errors import UnsupportedError, ValidationError
from engine.formats.cda import Id
from engine.formats.files.labelled import Label, read
from engine.message import FHIR_JSON, Excerpt, Lineage, Rendition
from mappings.cda_to_fhir import CdaTransaction, Described
from mappings.files_to_fhir.loading import Compiled, compile_all
from mappings.hl7v2_to_fhir import bundle, times
from mappings.hl7v2_to_fhir.mapper import order_keys
from mappings.hl7v2_to_fhir.references import query_of
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.notes import Notes, written
from mappings.transaction import Body, Draft, name_uuid

_PARTICIPANT: Final = TERMINOLOGY + "provenance-participant-type"
_ABSENT: Final = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
_UNMAPPED: Final = {"system": "urn:meridian:mapping", "code": "unmapped-type", "display": "No table knows this type of document"}
_SHA256: Final = "urn:meridian:sha256"


class FilesMapper:
    """engine.contracts.Mapper. Pure, but for a big file; pickles as the path of the site's mappings."""

    headers = True

    def __init__(self, site_mappings: Path | None, compiled: Compiled) -> None:
        self._site_mappings, self._compiled = site_mappings, compiled

    def __reduce__(self) -> tuple[Any, ...]:
        return _compile_again, (self._site_mappings,)

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """The Bundle of one file. Raises ParseError (no label), ValidationError (its name says no patient, or a time that is none),
        UnsupportedError (no file in it)."""
        return self._map(body, CdaTransaction())

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same Bundle, and for each element the fact of the label that it came from."""
        notes = Notes()
        tx = CdaTransaction(notes=notes, losses=[])
        rendition = self._map(body, tx)
        return rendition, [
            Lineage("Bundle.identifier", "sha256", "the file"),
            *written(tx, notes, Lineage("", "name", "the file")),
            *notes.lost,
        ]

    def _map(self, body: bytes, tx: CdaTransaction) -> Rendition:
        label, begin = read(body)
        if not label.size:
            raise UnsupportedError("the file is empty", location="size", hl7_code="200")
        facts = label.facts
        if not facts.get("patient"):
            raise ValidationError("the file's name says no patient", location="facts.patient", hl7_code="101")
        tx.facility, tx.zone = self._compiled.facility, self._compiled.zone
        tx.sender, tx.control_id = "FILE|", label.sha256
        patient = self._patient(facts["patient"], tx)
        described, unmapped = self._described(label, patient, tx)
        mapped = self._compiled.documents.attachment(tx, _content(body, begin), label.content_type, described)
        document = mapped.document.body
        if unmapped:
            document["meta"] = {"tag": [_UNMAPPED]}
        if facts.get("encounter"):
            system = f"urn:meridian:ns:{tx.facility}:visit"
            context = document.setdefault("context", {})
            context["encounter"] = [{"type": "Encounter", "identifier": {"system": system, "value": facts["encounter"]}}]
            tx.claim(context, "facts.encounter", "visit")
        tx.claim(document, "name", "the file")
        _provenance(tx, label)
        made = bundle.bundle(tx, {"system": _SHA256, "value": label.sha256}, None)
        return Rendition(orjson.dumps(made), FHIR_JSON, "Bundle", order_keys(tx), unmapped)

    def _patient(self, number: str, tx: CdaTransaction) -> Draft:
        """Known by the number alone: the same Patient that HL7 v2 and rows name by it."""
        draft = Draft("Patient", "create", "", [], {})
        identifier = {"system": self._compiled.patient_system, "value": number}
        draft.body["identifier"] = [identifier]
        draft.identify(name_uuid(f"Patient {query_of(identifier)}"), query_of(identifier))
        tx.claim(draft.body, "facts.patient", "patient")
        return tx.put(draft)

    def _described(self, label: Label, patient: Draft, tx: CdaTransaction) -> tuple[Described, int]:
        """And how many codes no table knew."""
        facts = label.facts
        at = facts.get("date", "")
        if at and times.date_time(at, tx.zone) is None:
            raise ValidationError("the date in the file's name is none", location="facts.date", hl7_code="102")
        described = Described(title=facts.get("title") or label.name, patient=patient, status="current")
        if facts.get("id"):
            described = replace(described, id=Id(extension=facts["id"]))
        if at:
            period: Body = {"start": times.date_time(at, tx.zone)}
            tx.claim(period, "facts.date", "date")
            described = replace(described, extra={"context": {"period": period}})
        word = facts.get("type", "")
        if not word:
            return described, 0
        row = self._compiled.types.get(word.lower())
        kind: Body = {"coding": [coding(row["system"], row["code"], row["display"])]} if row is not None else {"text": word}
        tx.claim(kind, "facts.type", f"types.csv row {word.lower()}{' (site)' if row.site else ''}" if row is not None else "as it stands")
        return replace(described, type=kind), int(row is None)


def _content(body: bytes, begin: int) -> memoryview | Excerpt:
    """The file itself: in memory, or where a big one lies."""
    if not isinstance(body, Excerpt):
        return memoryview(body)[begin:]
    rest = Excerpt(bytes(body[begin:]), body.digest, body.file)
    rest.begin = begin
    return rest


def _provenance(tx: CdaTransaction, label: Label) -> None:
    """Where all of this comes from: the file by its SHA-256. When it was written nobody knows for sure."""
    draft = Draft("Provenance", "put", "", [], {})
    draft.body["target"] = [other.ref for other in tx.drafts]
    draft.body["_recorded"] = _ABSENT
    draft.body["activity"] = {"text": "file"}
    assembler = {"coding": [coding(_PARTICIPANT, "assembler", "Assembler")]}
    draft.body["agent"] = [{"type": assembler, "who": {"display": "Meridian"}}]
    draft.body["entity"] = [{"role": "source", "what": {"identifier": {"system": _SHA256, "value": label.sha256}, "display": label.name}}]
    draft.identify(name_uuid(f"Provenance FILE {label.sha256}"), "")
    tx.claim(draft.body, "sha256", "provenance")
    tx.drafts.append(draft)


def _compile_again(site_mappings: Path | None) -> FilesMapper:
    return FilesMapper(site_mappings, compile_all(site_mappings))
