"""Clinical documents taken into a Bundle: the DocumentReference with the bytes as they came, and all that the document says."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from engine.errors import MappingError, UnsupportedError
from engine.formats.cda import LIMITS, Claimed, ClinicalDocument, Code, Element, Id, attribute, children, cross_check, first, id_of, read
from mappings.cda_to_fhir import people as persons
from mappings.cda_to_fhir.attachment import Content, attach
from mappings.cda_to_fhir.composition import RELATIONS, Header
from mappings.cda_to_fhir.context import FLAGS, CdaTransaction, Described, Mapped
from mappings.cda_to_fhir.entries import Entries
from mappings.cda_to_fhir.loading import Compiled, compile_all
from mappings.cda_to_fhir.observations import grouped
from mappings.cda_to_fhir.people import PROFESSIONAL, People
from mappings.cda_to_fhir.source import CUT, MOST, Source, identifier
from mappings.cda_to_fhir.statements import Kit
from mappings.cda_to_fhir.values import Values
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.references import query_of
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import KEY_SYSTEM, Body, Draft, name_uuid

_FLAGGED: Final = {
    "type": "The envelope names another type of document",
    "title": "The envelope names another title",
    "time": "The envelope names another time",
    "patient-unproven": "Document and envelope have no number of the patient in common",
}
_RELATED_ROLES: Final = frozenset(("order", "report", "specimen", "prescription"))
_SHA256: Final = "urn:meridian:sha256"
_UNSAID: Final = Code()
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

    def patient(self, tx: CdaTransaction, ids: Iterable[Id], name: str = "", gender: Code = _UNSAID, birth: str = "") -> Draft:
        """The patient that an envelope names, put in; the same one as the document's where they share the number that names the record."""
        numbers = tuple(ids)
        draft = persons.patient(
            self.compiled, tx, numbers, f"{tx.sender} {' '.join(f'{one.root}^{one.extension}' for one in numbers)} {name}"
        )
        if name:
            draft.body["name"] = [persons.name_of(name)]
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
        """A clinical document. Raises ParseError, UnsupportedError (no CDA), MappingError (its id or patient is not the envelope's)."""
        header = read(content, LIMITS)
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
        heading.encounter()
        reference = _Reference(source, values, people, told, row).draft(attached)
        reference = tx.put(reference)
        source.drafts.append(reference)
        if header.non_xml_body is None:
            composition = heading.composition(reference.body)
            source.drafts.append(composition)
            if row is not None and row["report"]:
                self._report(source, row["report"], composition, reference)
        unmapped = source.flag()
        if source.statements > MOST:
            reference.body.setdefault("meta", {}).setdefault("tag", []).append(CUT)
        for flag in flags:
            tags = reference.body.setdefault("meta", {}).setdefault("tag", [])
            tags.append({"system": FLAGS, "code": f"envelope-{flag}", "display": _FLAGGED[flag]})
        source.claim(reference.body, header.root, "the document against its envelope")
        self._uncarried(source)
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
        number = number or {"system": _SHA256, "value": digest}
        _identify(draft, number)
        body = draft.body
        body["masterIdentifier"] = number
        body["status"] = described.status
        _tell(body, described, self.compiled, tx, digest)
        if described.patient is not None:
            body["subject"] = described.patient.ref
        if described.title:
            made["title"] = described.title
        body["content"] = [{"attachment": made, **({"format": described.format} if described.format else {})}]
        tx.claim(body, place.rstrip("/") or "content", "attachment")
        draft = tx.put(draft)
        self._claim_binary(tx, place.rstrip("/") or "content")
        return Mapped(draft.ref, draft, described.patient, None, 0)

    def _claim_binary(self, tx: CdaTransaction, place: str) -> None:
        for draft in tx.drafts:
            if draft.kind == "Binary":
                tx.claim(draft.body, place, "the bytes as they came")

    # --- the whole as a report ------------------------------------------------------------------------

    def _report(self, source: Source, category: str, composition: Draft, reference: Draft) -> None:
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
        body["performer"] = [
            one for one in composition.body["author"] if "reference" in one and entries[one["reference"]].kind in PROFESSIONAL
        ]
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

    def _uncarried(self, source: Source) -> None:
        """While explaining: everything with a value of which nothing was made."""
        if source.tx.notes is None:
            return
        self._claim_binary(source.tx, source.path(source.header.root))
        for element in source.header.root.iter():
            if not (element.attrib or (element.text and element.text.strip())) or _protocol(element):
                continue
            path = source.path(element)
            steps = path.split("/")
            if not any("/".join(steps[:length]) in source.marked for length in range(2, len(steps) + 1)):
                source.lost(element, "not carried")


_FORMAL: Final = frozenset(("realmCode", "typeId", "templateId", "statusCode"))
_STRUCTURAL: Final = frozenset(
    ("classCode", "moodCode", "typeCode", "determinerCode", "contextControlCode", "contextConductionInd", "nullFlavor", "ID")
)


def _protocol(element: Element) -> bool:
    """What says how a document is written, not what it says."""
    name = str(element.tag).rpartition("}")[2]
    if name in _FORMAL:
        return True
    told = [one for one in element.attrib if str(one) not in _STRUCTURAL and "schemaLocation" not in str(one)]
    return not told and not (element.text and element.text.strip())


def _identify(draft: Draft, number: Body) -> None:
    query = query_of(number)
    draft.identify(name_uuid(f"DocumentReference {query}"), query)


def _tell(body: Body, told: Described, compiled: Compiled, tx: CdaTransaction, digest: str) -> None:
    """What the envelope says."""
    numbers = [{"system": _SHA256, "value": digest}]
    if told.set_id and (one := identifier(compiled, tx.facility, told.set_id)) is not None:
        numbers.insert(0, one)
    body["identifier"] = [one for one in numbers if one != body["masterIdentifier"]] or numbers
    if told.type:
        body["type"] = told.type
    for name, value in (("category", told.category), ("securityLabel", told.security), ("author", told.authors)):
        if value:
            body[name] = list(value)
    at = times.instant(told.time, tx.zone) if told.time else None
    if at:
        body["date"] = at
    if told.custodian:
        body["custodian"] = told.custodian
    if told.description:
        body["description"] = told.description
    if told.encounter:
        body["context"] = {"encounter": [told.encounter]}
    for name, value in told.extra.items():
        body.setdefault(name, value)


class _Reference:
    """The DocumentReference of a clinical document: what it says of itself, then what its envelope says."""

    def __init__(self, source: Source, values: Values, people: People, told: Described, row: Any) -> None:
        self._source, self._values, self._people, self._told, self._row = source, values, people, told, row
        self._root = source.header.root

    def draft(self, attached: Body) -> Draft:
        source, header, told = self._source, self._source.header, self._told
        draft = Draft("DocumentReference", "put", "", [], {})
        number = source.number
        _identify(draft, number)
        body = draft.body
        source.set(body, "masterIdentifier", number, first(self._root, "id"))
        numbers = [one for one in (source.identifier(header.set_id) if header.set_id else None,) if one and one != number]
        body["identifier"] = [*numbers, {"system": _SHA256, "value": source.digest}]
        source.claim({}, first(self._root, "setId"))
        source.claim({}, first(self._root, "versionNumber"))
        body["status"] = told.status
        version = header.version
        replaces = any(one.type == "RPLC" and one.id for one in header.related)
        body["docStatus"] = "amended" if replaces or (version.isdigit() and int(version[:6]) > 1) else "final"
        self._kind(body)
        assert source.patient is not None
        body["subject"] = source.patient.ref
        time = first(self._root, "effectiveTime")
        source.set(body, "date", times.instant(header.effective_time, source.tx.zone), time)
        self._parties(body)
        for one in children(self._root, "relatedDocument"):
            self._relation(body, one)
        self._security(body)
        self._content(body, attached)
        self._context(body)
        self._rest(body)
        source.claim(body, self._root)
        return draft

    def _kind(self, body: Body) -> None:
        source = self._source
        code = first(self._root, "code")
        concept = self._values.concept(code) or {}
        for one in concept.get("coding", ())[:1]:
            if "display" not in one and self._row is not None and self._row["title"]:
                one["display"] = self._row["title"]
        source.set(body, "type", concept, code)
        if self._row is not None and self._row["category"]:
            source.by_row(self._row)
            concept = {"coding": [coding("http://loinc.org", self._row["category"], self._row["display"])]}
            source.add(body, "category", concept, code, "documents.csv")

    def _parties(self, body: Body) -> None:
        source = self._source
        for one in children(self._root, "author"):
            who = self._people.practitioner(first(one, "assignedAuthor"))
            source.add(body, "author", who, one)
            if who is not None and who not in source.authors:
                source.authors.append(who)
        for name in ("legalAuthenticator", "authenticator"):
            one = first(self._root, name)
            if one is not None and "authenticator" not in body:
                source.set(body, "authenticator", self._people.who(first(one, "assignedEntity"), PROFESSIONAL), one)
        house = first(self._root, "custodian", "assignedCustodian", "representedCustodianOrganization")
        if house is not None:
            source.set(body, "custodian", self._people.organization(house), house)

    def _relation(self, body: Body, one: Element) -> None:
        target = self._source.identifier(id_of(first(one, "parentDocument", "id")))
        code = RELATIONS.get(attribute(one, "typeCode"))
        if target is not None and code and target["value"]:
            made = {"code": code, "target": {"type": "DocumentReference", "identifier": target}}
            self._source.add(body, "relatesTo", made, one)

    def _security(self, body: Body) -> None:
        element = first(self._root, "confidentialityCode")
        concept = self._values.concept(element)
        if concept and "coding" not in concept and attribute(element, "code"):
            concept = {"coding": [coding(TERMINOLOGY + "v3-Confidentiality", attribute(element, "code"))]}
        self._source.add(body, "securityLabel", concept, element)

    def _content(self, body: Body, made: Body) -> None:
        header = self._source.header
        if header.language:
            made["language"] = header.language
            self._source.claim({}, first(self._root, "languageCode"))
        if header.title or self._told.title:
            made["title"] = header.title or self._told.title
            self._source.claim({}, first(self._root, "title"))
        at = self._values.time(first(self._root, "effectiveTime"))
        if at:
            made["creation"] = at
        body["content"] = [{"attachment": made, **({"format": self._told.format} if self._told.format else {})}]
        if (inner := self._inside()) is not None:
            body["content"].append({"attachment": inner})

    def _inside(self) -> Body | None:
        """What a document without structure holds (a scan): its bytes, beside those of the document."""
        body = self._source.header.non_xml_body
        if body is None or attribute(body.element, "representation") != "B64":
            return None
        try:
            content = b64decode("".join("".join(body.element.itertext()).split()), validate=True)
        except ValueError:
            self._source.lost(body.element, "not carried: no base64")
            return None
        made, _ = attach(self._source.tx, content, body.media_type or "application/octet-stream")
        self._source.claim(made, body.element)
        return made

    def _context(self, body: Body) -> None:
        source = self._source
        made: Body = {}
        if source.encounter is not None:
            made["encounter"] = [source.encounter.ref]
        for one in children(self._root, "documentationOf"):
            event = first(one, "serviceEvent")
            if (code := self._values.concept(first(event, "code"))) is not None:
                made.setdefault("event", []).append(code)
            if (period := self._values.period(first(event, "effectiveTime"))) and "period" not in made:
                made["period"] = period
        role = first(self._root, "recordTarget", "patientRole")
        for one in children(role, "id"):
            row = source.compiled.identifiers.get(attribute(one, "root"))
            if row is not None and row["role"] in _RELATED_ROLES and (number := source.identifier(id_of(one))) is not None:
                made.setdefault("related", []).append({"identifier": number})
        if made:
            body["context"] = made

    def _rest(self, body: Body) -> None:
        """What only the envelope says."""
        told: Body = {"masterIdentifier": body["masterIdentifier"]}
        _tell(told, self._told, self._source.compiled, self._source.tx, self._source.digest)
        for name, value in told.items():
            if name == "context" and "context" in body:
                body["context"] = {**value, **body["context"]}
            else:
                body.setdefault(name, value)
