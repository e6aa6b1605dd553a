"""Document entries -> DocumentReference (IHE ITI TF-3 clause 4.5.1.1): what metadata says of a document, around what the document says."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from typing import Any, Final

from engine.errors import ParseError
from engine.formats.cda import LIMITS, Id
from engine.formats.soap import Part, SoapMessage
from engine.formats.xds import names
from engine.formats.xds.claims import claimed
from engine.formats.xds.model import DocumentEntry, Submission
from mappings.cda_to_fhir import CdaTransaction, Described, Documents, Mapped
from mappings.cda_to_fhir.attachment import INLINE
from mappings.cda_to_fhir.context import FLAGS
from mappings.hl7v2_to_fhir.references import query_of
from mappings.transaction import Body, Draft, name_uuid
from mappings.xdr_to_fhir.metadata import Metadata, instant, utc

_URI: Final = "urn:ietf:rfc:3986"
_RELATES: Final = {
    "RPLC": ("replaces",),
    "APND": ("appends",),
    "XFRM": ("transforms",),
    "XFRM_RPLC": ("replaces", "transforms"),
    "signs": ("signs",),
}
_MARKUP: Final = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe<", b"\xfe\xff\x00<")
_CARRIED_ELSEWHERE: Final = ("repositoryUniqueId", "homeCommunityId", "documentAvailability", "URI")
OTHER_ID: Final = {"system": FLAGS, "code": "envelope-id", "display": "The envelope gives the document another id than its own"}
UNREADABLE: Final = {"system": FLAGS, "code": "unreadable", "display": "The document is no XML, though it begins like it"}


class References:
    """Of one message."""

    def __init__(self, metadata: Metadata, documents: Documents, message: SoapMessage, submission: Submission) -> None:
        self._metadata, self._documents, self._message, self._submission = metadata, documents, message, submission
        self._tx: CdaTransaction = metadata.tx
        self.made: dict[str, Mapped] = {}

    def add(self, entry: DocumentEntry) -> Mapped:
        """Take one document in. Raises MappingError where it is not that of its entry."""
        patient = self._metadata.patient(entry)
        described = self._described(entry, patient)
        element = self._submission.contents.get(entry.id)
        part = self._message.content_of(element) if element is not None else None
        mapped = self._taken(entry, described, part)
        body = mapped.document.body
        if entry.id.startswith("urn:uuid:"):
            number = {"system": _URI, "value": entry.id}
            self._tx.claim(number, f"{entry.path}.entryUUID", "entryUUID")
            if number not in body.setdefault("identifier", []):
                body["identifier"].append(number)
        self._tx.claim(body, entry.path, "document entry")
        for name in (*_CARRIED_ELSEWHERE, *entry.extra):
            if entry.all(name) or name in entry.extra:
                self._tx.lost(f"{entry.path}.{name}", "not carried")
        self.made[entry.id] = mapped
        return mapped

    def _taken(self, entry: DocumentEntry, described: Described, part: Part | None) -> Mapped:
        place = f"{entry.path}/"
        if part is None:
            return self._by_metadata(entry, described, _said(entry))
        if not bytes(part.content[:8]).lstrip(b" \t\r\n").startswith(_MARKUP):
            if part.size > INLINE:
                return self._by_metadata(entry, described, _digested(entry, part))
            return self._documents.attachment(self._tx, part.content, entry.get("mimeType"), described, place)
        if part.size > LIMITS.size:
            return self._by_metadata(entry, described, _digested(entry, part))
        try:
            claim = replace(claimed(entry), id=Id())
            return self._named(entry, self._documents.take(self._tx, part.content, entry.get("mimeType"), claim, described, place))
        except ParseError:
            mapped = self._documents.attachment(self._tx, part.content, entry.get("mimeType"), described, place)
            mapped.document.body["meta"] = {"tag": [UNREADABLE]}
            self._tx.claim(mapped.document.body, entry.path, "the document cannot be read")
            return mapped

    def _named(self, entry: DocumentEntry, mapped: Mapped) -> Mapped:
        """Senders give a document's entry a uniqueId that is not the document's own id (against IHE PCC TF-2 4.1.1): both are kept."""
        body, number = mapped.document.body, _number(entry)
        if mapped.header is None or _same(body["masterIdentifier"], number):
            return mapped
        self._tx.claim(number, f"{entry.path}.uniqueId", "uniqueId")
        body.setdefault("identifier", []).insert(0, number)
        body.setdefault("meta", {}).setdefault("tag", []).append(OTHER_ID)
        self._tx.claim(body, entry.path, "the document against its entry")
        return replace(mapped, unmapped=mapped.unmapped + 1, flags=(*mapped.flags, "id"))

    # --- what the metadata says -------------------------------------------------------------------------------

    def _described(self, entry: DocumentEntry, patient: Draft) -> Described:
        said = self._metadata
        types, formats = said.concepts(entry, "typeCode"), entry.codes.get("formatCode", ())
        return Described(
            id=claimed(entry).id,
            title=entry.get("title"),
            time=instant(entry.get("creationTime")),
            type=types[0] if types else None,
            category=said.concepts(entry, "classCode"),
            security=said.concepts(entry, "confidentialityCode"),
            language=entry.get("languageCode"),
            patient=patient,
            authors=said.authors(entry),
            status="superseded" if entry.get("availabilityStatus") == names.DEPRECATED else "current",
            description=entry.get("comments"),
            format=said.coding(formats[0], f"{entry.path}.formatCode") if formats else None,
            extra=self._extra(entry, patient),
        )

    def _extra(self, entry: DocumentEntry, patient: Draft) -> Body:
        said, made = self._metadata, Body()
        context: Body = {}
        said.put(context, "event", said.concepts(entry, "eventCodeList"), f"{entry.path}.eventCodeList")
        period: Body = {}
        said.put(period, "start", utc(entry.get("serviceStartTime")), f"{entry.path}.serviceStartTime")
        said.put(period, "end", utc(entry.get("serviceStopTime")), f"{entry.path}.serviceStopTime")
        if period:
            context["period"] = period
        for attribute, name in (("healthcareFacilityTypeCode", "facilityType"), ("practiceSettingCode", "practiceSetting")):
            said.put(context, name, next(iter(said.concepts(entry, attribute)), None), f"{entry.path}.{attribute}")
        said.put(context, "sourcePatientInfo", dict(patient.ref), f"{entry.path}.{_of_patient(entry)}")
        numbers = [{"identifier": number} for text in entry.all("referenceIdList") if (number := said.number(text))]
        said.put(context, "related", numbers, f"{entry.path}.referenceIdList")
        made["context"] = context
        signers = [who for text in entry.all("legalAuthenticator") if (who := said.person(text, f"{entry.path}.legalAuthenticator"))]
        if signers:
            self._tx.claim(signers[0], f"{entry.path}.legalAuthenticator", "person")
            made["authenticator"] = signers[0]
        return made

    def _by_metadata(self, entry: DocumentEntry, described: Described, attachment: Body) -> Mapped:
        """A document whose bytes do not go along: too big, or not in the message."""
        draft = Draft("DocumentReference", "put", "", [], {})
        body, source = draft.body, entry.path
        number = _number(entry)
        self._metadata.put(body, "masterIdentifier", number, f"{source}.uniqueId")
        body["status"] = described.status
        for name, value, attribute in (
            ("type", described.type, "typeCode"),
            ("category", list(described.category), "classCode"),
            ("author", list(described.authors), "author"),
            ("securityLabel", list(described.security), "confidentialityCode"),
            ("date", utc(entry.get("creationTime")) if len(entry.get("creationTime")) > 8 else None, "creationTime"),
            ("description", described.description, "comments"),
        ):
            self._metadata.put(body, name, value, f"{source}.{attribute}")
        if described.patient is not None:
            body["subject"] = described.patient.ref
        for name, attribute in (("title", "title"), ("language", "languageCode")):
            self._metadata.put(attachment, name, entry.get(attribute), f"{source}.{attribute}")
        self._metadata.put(attachment, "creation", utc(entry.get("creationTime")), f"{source}.creationTime")
        body["content"] = [{"attachment": attachment, **({"format": described.format} if described.format else {})}]
        body.update({name: value for name, value in described.extra.items() if value})
        draft.identify(name_uuid(f"DocumentReference {query_of(number)}"), query_of(number))
        self._tx.claim(body, source, "document entry")
        draft = self._tx.put(draft)
        return Mapped(draft.ref, draft, described.patient, None, 0)

    # --- relations ----------------------------------------------------------------------------------------------

    def relate(self) -> None:
        """RPLC and its like (4.2.2.2), when every document is there."""
        for one in self._submission.associations:
            codes = _RELATES.get(names.RELATIONSHIPS.get(one.kind, ""), ())
            source = self.made.get(one.source)
            if source is None:
                continue
            target = self.made.get(one.target)
            outside: Body = {"type": "DocumentReference", "identifier": {"system": _URI, "value": one.target}}
            for code in codes:
                relation: Body = {"code": code, "target": dict(target.document.ref) if target is not None else outside}
                self._tx.claim(relation, one.path, "relationship")
                if relation not in source.document.body.setdefault("relatesTo", []):
                    source.document.body["relatesTo"].append(relation)
            if not codes:
                self._tx.lost(one.path, "not carried: FHIR has no such relation")


def _of_patient(entry: DocumentEntry) -> str:
    return next((name for name in ("sourcePatientInfo", "sourcePatientId", "patientId") if entry.all(name)), "entryUUID")


def _number(entry: DocumentEntry) -> Body:
    """uniqueId as the same identifier that the document's own id makes."""
    one = claimed(entry).id
    if one.extension:
        return {"system": f"urn:oid:{one.root}", "value": one.extension}
    return {"system": _URI, "value": one.root if one.root.startswith("urn:") else f"urn:{'uuid' if '-' in one.root else 'oid'}:{one.root}"}


def _same(one: Body, other: Body) -> bool:
    return (one.get("system"), one["value"]) == (other.get("system"), other["value"])


def _said(entry: DocumentEntry) -> Body:
    """An attachment of what the entry says of it."""
    made: dict[str, Any] = {"contentType": entry.get("mimeType") or "application/octet-stream"}
    if entry.get("size").isdecimal():
        made["size"] = int(entry.get("size")[:10])
    if entry.get("hash"):
        try:
            made["hash"] = b64encode(bytes.fromhex(entry.get("hash"))).decode()
        except ValueError:
            return made
    return made


def _digested(entry: DocumentEntry, part: Part) -> Body:
    """An attachment whose bytes are in Meridian's store, by their digest."""
    sha1 = b64encode(part.sha1()).decode()
    url = f"urn:sha256:{part.sha256()}"
    return {"contentType": entry.get("mimeType") or "application/octet-stream", "size": part.size, "hash": sha1, "url": url}
