"""The DocumentReference of a document: what it says of itself, and what only its envelope says."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, Final

from engine.formats.cda import Element, attribute, children, first, id_of
from mappings.cda_to_fhir.attachment import attach
from mappings.cda_to_fhir.composition import RELATIONS
from mappings.cda_to_fhir.context import CdaTransaction, Described
from mappings.cda_to_fhir.loading import Compiled
from mappings.cda_to_fhir.people import PROFESSIONAL, People
from mappings.cda_to_fhir.source import Source, distinct, identifier
from mappings.cda_to_fhir.values import Values
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.references import query_of
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body, Draft, name_uuid

_RELATED_ROLES: Final = frozenset(("order", "report", "specimen", "prescription"))
SHA256: Final = "urn:meridian:sha256"


def identify(draft: Draft, number: Body) -> None:
    query = query_of(number)
    draft.identify(name_uuid(f"DocumentReference {query}"), query)


def tell(body: Body, told: Described, compiled: Compiled, tx: CdaTransaction, digest: str) -> None:
    """What the envelope says."""
    group = identifier(compiled, tx.facility, told.set_id) if told.set_id else None
    body["identifier"] = distinct([body["masterIdentifier"], group, {"system": SHA256, "value": digest}])
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


class Reference:
    """The DocumentReference of a clinical document: what it says of itself, then what its envelope says."""

    def __init__(self, source: Source, values: Values, people: People, told: Described, row: Any) -> None:
        self._source, self._values, self._people, self._told, self._row = source, values, people, told, row
        self._root = source.header.root

    def draft(self, attached: Body) -> Draft:
        source, header, told = self._source, self._source.header, self._told
        draft = Draft("DocumentReference", "put", "", [], {})
        number = source.number
        identify(draft, number)
        body = draft.body
        source.set(body, "masterIdentifier", number, first(self._root, "id"))
        group = source.identifier(header.set_id) if header.set_id else None
        body["identifier"] = distinct([number, group, {"system": SHA256, "value": source.digest}])
        source.use(first(self._root, "setId"))
        source.use(first(self._root, "versionNumber"))
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
            self._source.use(first(self._root, "languageCode"))
        if header.title or self._told.title:
            made["title"] = header.title or self._told.title
            self._source.use(first(self._root, "title"))
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
        tell(told, self._told, self._source.compiled, self._source.tx, self._source.digest)
        for name, value in told.items():
            if name == "context" and "context" in body:
                body["context"] = {**value, **body["context"]}
            else:
                body.setdefault(name, value)
