"""Those whom a document names -> Patient, Practitioner, Organization, Location. Who is known from HL7 v2 by the same number is the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from engine.formats.cda import Code, Element, Id, attribute, children, first, id_of, local, text_of
from mappings.cda_to_fhir.context import CdaTransaction
from mappings.cda_to_fhir.loading import Compiled
from mappings.cda_to_fhir.names import address, human_name, telecom
from mappings.cda_to_fhir.source import Source, distinct, identifier, main_number
from mappings.cda_to_fhir.values import Values
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.context import escaped
from mappings.hl7v2_to_fhir.references import query_of, ready
from mappings.transaction import KEY_SYSTEM, Body, Draft, Ready, name_uuid

PERSON: Final = frozenset(("Practitioner",))
PROFESSIONAL: Final = frozenset(("Practitioner", "Organization"))
ACTOR: Final = frozenset(("Practitioner", "Organization", "Device"))
"""Who may stand in an element, as FHIR R4 has it: a person only, no device, any."""
_CONTACTS: Final = frozenset(("CON", "ECON", "NOK", "PRS", "GUAR", "CAREGIVER"))
_PLACES: Final = ("ward", "room", "bed")


def patient(compiled: Compiled, tx: CdaTransaction, ids: Iterable[Id], fallback: str) -> Draft:
    """A Patient with its identifiers and identity, not yet put in. `fallback` names one who has no number."""
    draft = Draft("Patient", "create", "", [], {})
    identifiers = distinct(identifier(compiled, tx.facility, one, "patient") for one in ids)
    main = main_number(identifiers)
    if main is None:
        main = {"system": KEY_SYSTEM, "value": name_uuid(f"Patient {fallback}")}
        identifiers.append(main)
    draft.body["identifier"] = identifiers
    draft.identify(name_uuid(f"Patient {query_of(main)}"), query_of(main))
    return draft


def gender(compiled: Compiled, code: Code) -> str:
    row = compiled.codes["gender"].get(code.code) if code.code else None
    return row["to"] if row else "unknown" if code.code else ""


class People:
    """The people of one document."""

    def __init__(self, source: Source, values: Values) -> None:
        self._source, self._values, self._tx = source, values, source.tx

    # --- patient ----------------------------------------------------------------------------------

    def patient(self) -> Draft:
        """recordTarget."""
        source, header = self._source, self._source.header
        draft = patient(source.compiled, self._tx, header.patient_ids, source.key)
        role = first(header.root, "recordTarget", "patientRole")
        body = draft.body
        source.claim(body, role if role is not None else header.root, "patient ids")
        for element in children(role, "id"):
            source.use(element)
        person = first(role, "patient")
        for element in children(role, "addr"):
            source.add(body, "address", address(element), element)
        for element in children(role, "telecom"):
            source.add(body, "telecom", telecom(element), element)
        if person is not None:
            self._person(body, person)
        for element in children(source.header.root, "participant"):
            self._contact(body, first(element, "associatedEntity"))
        managing = first(role, "providerOrganization")
        if managing is not None and (house := self.organization(managing)):
            source.set(body, "managingOrganization", house, managing)
        draft = self._tx.put(draft)
        source.patient = draft
        source.drafts.append(draft)
        return draft

    def _person(self, body: Body, person: Element) -> None:
        source, values = self._source, self._values
        for element in children(person, "id"):
            source.use(element)
        for element in children(person, "name"):
            source.add(body, "name", human_name(element), element)
        sex = first(person, "administrativeGenderCode")
        source.set(body, "gender", gender(source.compiled, source.header.patient_gender), sex)
        born = first(person, "birthTime")
        source.set(body, "birthDate", times.date(source.header.patient_birth, self._tx.zone), born)
        died = first(person, "deceasedTime")
        source.set(body, "deceasedDateTime", values.time(died), died)
        dead = first(person, "deceasedInd")
        if "deceasedDateTime" not in body:
            source.set(body, "deceasedBoolean", {"true": True, "1": True, "false": False, "0": False}.get(attribute(dead, "value")), dead)
        status = first(person, "maritalStatusCode")
        source.set(body, "maritalStatus", values.concept(status), status)
        for element in children(person, "languageCommunication"):
            code = first(element, "languageCode")
            if language := attribute(code, "code"):
                spoken: Body = {"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": language}]}}
                if attribute(first(element, "preferenceInd"), "value") == "true":
                    spoken["preferred"] = True
                source.add(body, "communication", spoken, element)

    def _contact(self, body: Body, entity: Element | None) -> None:
        """A participant whom one may call about the patient, or who is related to them."""
        if entity is None or attribute(entity, "classCode") not in _CONTACTS:
            return
        made: Body = {}
        if (kin := self._values.concept(first(entity, "code"))) is not None:
            made["relationship"] = [kin]
        name = first(entity, "associatedPerson", "name")
        if name is not None and (called := human_name(name)):
            made["name"] = called
        if points := [point for element in children(entity, "telecom") if (point := telecom(element))]:
            made["telecom"] = points
        if (place := first(entity, "addr")) is not None and (lives := address(place)):
            made["address"] = lives
        if "name" in made or "telecom" in made or "address" in made:
            self._source.add(body, "contact", made, entity)

    # --- professionals ----------------------------------------------------------------------------

    def who(self, role: Element | None, kinds: Collection[str]) -> Body | None:
        """An assigned entity as a reference, where what it is may stand there."""
        reference = self.practitioner(role)
        made = self._tx.entries.get(reference["reference"]) if reference is not None else None
        return reference if made is not None and made.kind in kinds else None

    def practitioner(self, role: Element | None) -> Body | None:
        """An assigned entity as a reference to its Practitioner; to its organization (or device) where it names no person."""
        if role is None:
            return None
        source = self._source
        identifiers = [
            one
            for child in children(role, "id")
            if (ii := id_of(child)).extension and (one := source.identifier(ii, "staff" if self._known(ii) else "")) is not None
        ]
        playing = first(role, "assignedPerson")
        names = [name for element in children(playing, "name") if (name := human_name(element))]
        if not identifiers and not names:
            device = first(role, "assignedAuthoringDevice")
            if device is not None and (reference := self._device(device)):
                return reference
            house = first(role, "representedOrganization")
            return self.organization(house) if house is not None else None
        body: Body = {"identifier": identifiers} if identifiers else {}
        if names:
            body["name"] = names
        for point in [made for element in children(role, "telecom") if (made := telecom(element))]:
            body.setdefault("telecom", []).append(point)
        label = text_of(first(playing, "name"))
        return self._refer(ready("Practitioner", body, f"{self._tx.facility} {label}"), role, label)

    def _known(self, one: Id) -> bool:
        return one.root in self._source.compiled.identifiers

    def _device(self, device: Element) -> Body | None:
        words = [text_of(first(device, name)) for name in ("manufacturerModelName", "softwareName")]
        if not any(words):
            return None
        kinds = (("model-name", words[0]), ("user-friendly-name", words[1]))
        body = {"deviceName": [{"name": word, "type": kind} for kind, word in kinds if word]}
        return self._refer(ready("Device", body, f"{self._tx.facility} {' '.join(words)}"), device, words[1] or words[0])

    def organization(self, element: Element) -> Body | None:
        """An organization; what it is part of is put in too."""
        source = self._source
        identifiers = [
            one
            for child in children(element, "id")
            if (ii := id_of(child)) and (one := source.identifier(ii)) is not None and (ii.extension or not self._known(ii))
        ]
        label = next((text for one in children(element, "name") if (text := text_of(one))), "")
        whole = first(element, "asOrganizationPartOf", "wholeOrganization")
        if not identifiers and not label:
            return self.organization(whole) if whole is not None else None
        body: Body = {"identifier": identifiers} if identifiers else {}
        if label:
            body["name"] = label
        for name, convert in (("telecom", telecom), ("addr", address)):
            points = [one for child in children(element, name) if (one := convert(child))]
            if points:
                body["telecom" if name == "telecom" else "address"] = points
        above = self.organization(whole) if whole is not None else None
        if above:
            body["partOf"] = above
        return self._refer(ready("Organization", body, f"{self._tx.facility} {label}"), element, label)

    def _refer(self, made: Ready, element: Element, label: str) -> Body:
        if self._tx.notes is not None:
            path = self._source.path(element)
            self._source.marked.add(path)
            self._tx.notes.made([made.url], path, local(element.tag))
        reference = self._tx.refer(made)
        return {**reference, "display": label} if label else reference

    # --- places -----------------------------------------------------------------------------------

    def places(self, organization: Element | None) -> tuple[Body | None, Body | None]:
        """Where an encounter was, as WS/T 500 nests it (bed, room, department, ward, hospital): (the smallest place, who runs it)."""
        named: dict[str, str] = {}
        house: Body | None = None
        for element in _chain(organization):
            ids = [one for child in children(element, "id") if (one := id_of(child))]
            row = next((self._source.compiled.identifiers[one.root] for one in ids if one.root in self._source.compiled.identifiers), None)
            role = row["role"] if row else ""
            label = text_of(first(element, "name")) or next((one.extension for one in ids if one.extension), "")
            if role in (*_PLACES, "department"):
                if label:
                    named.setdefault(role, label)
            elif house is None and (ids or label):
                house = self.organization(element)
        ward = named.get("ward") or named.get("department", "")
        words = [ward, named.get("room", ""), named.get("bed", ""), self._tx.facility]
        if not any(words[:3]):
            return None, house
        before = set(self._tx.entries)
        place: Body | None = self._source.compiled.v2.vocabulary.converter("Location", "")(
            "^".join(escaped(word) for word in words), self._tx
        )
        if self._tx.notes is not None and organization is not None:
            path = self._source.path(organization)
            self._source.marked.add(path)
            self._tx.notes.made(set(self._tx.entries) - before, path, "places")
        return place, house


def _chain(organization: Element | None) -> Iterator[Element]:
    while organization is not None:
        yield organization
        organization = first(organization, "asOrganizationPartOf", "wholeOrganization")
