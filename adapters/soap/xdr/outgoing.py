"""What the Document Source submits: a payload with its attachments, and the metadata that a site gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha1
from typing import Any, Final
from uuid import UUID, uuid5

from adapters.soap.xdr.options import CODED, code_of
from engine.errors import PermanentDelivery
from engine.formats.soap import Attachment, include
from engine.formats.xds.model import Association, Author, Code, Described, DocumentEntry, Submission, SubmissionSet
from engine.formats.xds.names import ATTRIBUTES, HAS_MEMBER, STABLE
from engine.formats.xds.writing import write_submission
from engine.options import Settings

_NAMESPACE: Final = UUID("6f1f5d0c-4f0e-5c6a-9d0b-6a3f5e7c2b81")
LOINC: Final = "2.16.840.1.113883.6.1"
_SYSTEMS: Final = {
    "http://loinc.org": LOINC,
    "http://snomed.info/sct": "2.16.840.1.113883.6.96",
    "http://terminology.hl7.org/CodeSystem/v3-Confidentiality": "2.16.840.1.113883.5.25",
    "http://terminology.hl7.org/CodeSystem/v3-ActCode": "2.16.840.1.113883.5.4",
}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """`unique_id` of the submission set: the receipt's reference."""

    unique_id: str
    payload: Any
    attachments: Sequence[Attachment]


@dataclass(slots=True)
class Document:
    """A document with what is known of it. Values are by the attribute's name."""

    content: bytes
    mime_type: str
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    codes: dict[str, tuple[Code, ...]] = field(default_factory=dict)
    authors: tuple[Author, ...] = ()

    def says(self, attribute: str, *values: str) -> None:
        """Keep what is not empty."""
        found = tuple(value for value in values if value)
        if found:
            self.values[attribute] = found

    def codes_as(self, attribute: str, *codes: Code) -> None:
        found = tuple(code for code in codes if code.code)
        if found:
            self.codes[attribute] = found


class Metadata:
    """A site's own part of it: who submits, and the codes of what a document does not say."""

    def __init__(self, options: Settings) -> None:
        self._options = options
        given = options.codes or {}
        self.codes: Mapping[str, Code] = {
            attribute: code for name, attribute in CODED.items() if (code := code_of(given.get(name))) is not None
        }

    @property
    def patient_domain(self) -> str:
        return self._options.patient_domain or ""

    @property
    def zone(self) -> str:
        return str(self._options.zone)

    def submission(self, documents: Sequence[Document], key: str, received_at: int) -> Outgoing:
        """Of what `key` identifies: the same key gives the same identifiers, so that a submission that comes again is known. Raises
        PermanentDelivery where something that the standard requires is known neither from the documents nor from the options."""
        if not self._options.source_id:
            raise PermanentDelivery("the option source_id is needed to make a submission", location="xdr.source_id")
        entries = [self._entry(document, number, key) for number, document in enumerate(documents, 1)]
        the_set = self._set(documents, entries, key, received_at)
        members = [Association(HAS_MEMBER, the_set.id, entry.id, "Original") for entry in entries]
        missing = [f"{one.kind}.{name}" for one in (the_set, *entries) for name in _lacking(one)]
        if missing:
            raise PermanentDelivery(f"not known, and no default in the options: {', '.join(dict.fromkeys(missing))}", location=missing[0])
        attachments = [
            Attachment(f"{entry.id}@{the_set.unique_id}", document.mime_type, document.content)
            for entry, document in zip(entries, documents, strict=True)
        ]
        references = {entry.id: include(one.content_id) for entry, one in zip(entries, attachments, strict=True)}
        payload = write_submission(Submission([the_set], entries, [], members), references)
        return Outgoing(the_set.unique_id, payload, attachments)

    def _entry(self, document: Document, number: int, key: str) -> DocumentEntry:
        entry = DocumentEntry(f"DocumentEntry[{number}]", dict(document.values), dict(document.codes), document.authors)
        entry.values.update(
            entryUUID=(f"Document{number:02}",),
            mimeType=(document.mime_type,),
            objectType=(STABLE,),
            hash=(sha1(document.content, usedforsecurity=False).hexdigest(),),
            size=(str(len(document.content)),),
        )
        entry.values.setdefault("uniqueId", (oid_of(f"{key}/{number}"),))
        entry.values.setdefault("languageCode", (self._options.language,))
        for attribute, code in self.codes.items():
            if attribute != "contentTypeCode":
                entry.codes.setdefault(attribute, (code,))
        if not any(author.institutions for author in entry.authors) and self._options.institution:
            entry.authors = (*entry.authors, Author(institutions=(self._options.institution,)))
        return entry

    def _set(self, documents: Sequence[Document], entries: Sequence[DocumentEntry], key: str, received_at: int) -> SubmissionSet:
        patient = next((entry.patient_id for entry in entries if entry.patient_id), "")
        the_set = SubmissionSet("SubmissionSet[1]", authors=entries[0].authors)
        the_set.values.update(
            entryUUID=("SubmissionSet01",),
            uniqueId=(oid_of(key),),
            sourceId=(self._options.source_id,),
            submissionTime=(dtm(datetime.fromtimestamp(received_at / 1e6, UTC)),),
        )
        said = {"patientId": (patient,), "title": (self._options.title or "",), "intendedRecipient": tuple(self._options.recipients)}
        the_set.values.update({name: values for name, values in said.items() if any(values)})
        content_type = self.codes.get("contentTypeCode") or documents[0].codes.get("typeCode", (Code(""),))[0]
        if content_type.code:
            the_set.codes["contentTypeCode"] = (content_type,)
        return the_set


def _lacking(one: Described) -> list[str]:
    """What full metadata requires and is not there."""
    return [row.attribute for row in ATTRIBUTES.of[one.kind].values() if row.full == "R" and not one.get(row.attribute)]


# --- identifiers, times, codes ---------------------------------------------------------------------------


def oid_of(name: str) -> str:
    """The OID of `name`'s version 5 UUID in our own namespace (ITU-T X.667: 2.25)."""
    return f"2.25.{uuid5(_NAMESPACE, name).int}"


def dtm(at: datetime) -> str:
    """To the second, in UTC."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def offset(zone: str) -> timezone:
    """``+08:00``"""
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return timezone(timedelta(minutes=-minutes if zone[0] == "-" else minutes))


def scheme_of(system: str) -> str:
    """A FHIR system as a coding scheme: its OID where there is one (MHD table of systems), else itself."""
    return _SYSTEMS.get(system, system.removeprefix("urn:oid:"))


def cx(value: str, authority: str) -> str:
    """A patient's identifier (4.2.3.1.7)."""
    return f"{value}^^^&{authority}&ISO"
