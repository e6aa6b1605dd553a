"""Encounters: the one that a document is of, and those that it tells of."""

from __future__ import annotations

from typing import Final

from engine.formats.cda import Element, attribute, children, first, text_of
from mappings.cda_to_fhir.people import PERSON
from mappings.cda_to_fhir.statements import PLANNED, WITHDRAWN, About, Kit
from mappings.hl7v2_to_fhir.references import query_of
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import KEY_SYSTEM, Body, Draft, name_uuid

_CLASSES: Final = frozenset(("AMB", "EMER", "FLD", "HH", "IMP", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS", "VR"))
_STATUS: Final = {"nullified": WITHDRAWN, "cancelled": "cancelled", "aborted": "cancelled"}
_NONE: Final = frozenset(_STATUS.values())
_ACT_CODE: Final = "2.16.840.1.113883.5.4"


class Encounters:
    """The rules for encounters of one document."""

    def __init__(self, kit: Kit) -> None:
        self._kit, self._source, self._values, self._people = kit, kit.source, kit.values, kit.people

    def own(self) -> None:
        """encompassingEncounter, known by its number; without one by the patient and the time of admission, as in HL7 v2."""
        source = self._source
        element = first(source.header.root, "componentOf", "encompassingEncounter")
        if element is None or source.patient is None:
            return
        time = first(element, "effectiveTime")
        period = self._values.period(time) or ({"start": start} if (start := self._values.time(time)) else None)
        identifiers = source.identifiers(element)
        location = first(element, "location", "healthCareFacility")
        place, house = self._people.places(first(location, "serviceProviderOrganization"))
        named = first(location, "location", "name")
        if not (identifiers or period or place):
            return
        draft = Draft("Encounter", "create", "", [], {})
        body = draft.body
        if identifiers:
            query = query_of(identifiers[0])
            draft.identify(name_uuid(f"Encounter {query}"), query)
        else:
            at = attribute(first(time, "low"), "value") or attribute(time, "value")
            uuid = name_uuid(f"Encounter {source.patient.query} admitted {at}" if at else f"Encounter {source.key}")
            identifiers = [{"system": KEY_SYSTEM, "value": uuid}]
            draft.identify(uuid, query_of(identifiers[0]))
        body["identifier"] = identifiers
        body["status"] = "finished" if period and "end" in period else "unknown"
        self._kind(body, first(element, "code"))
        body["subject"] = source.patient.ref
        source.set(body, "period", period, time)
        for one in children(element, "responsibleParty"):
            who = self._people.who(first(one, "assignedEntity"), PERSON)
            source.add(body, "participant", {"individual": who} if who else None, one)
        for one in children(element, "encounterParticipant"):
            who = self._people.who(first(one, "assignedEntity"), PERSON)
            source.add(body, "participant", {"individual": who} if who else None, one)
        disposition = self._values.concept(first(element, "dischargeDispositionCode"))
        if disposition:
            source.set(body, "hospitalization", {"dischargeDisposition": disposition}, first(element, "dischargeDispositionCode"))
        if place is None and named is not None and text_of(named):
            place = {"display": text_of(named)}
        source.add(body, "location", {"location": place} if place else None, location)
        source.set(body, "serviceProvider", house, location)
        source.claim(body, element)
        source.use(*children(element, "id"))
        source.encounter = source.tx.put(draft)
        source.drafts.append(source.encounter)

    def told(self, statement: Element, about: About) -> Body | None:
        """An encounter activity of a section; where and with whom it was. One that is known already is not written over by the mention."""
        source = self._source
        draft = source.draft("Encounter", statement, "create")
        body = draft.body
        planned = attribute(statement, "moodCode") in PLANNED
        time = first(statement, "effectiveTime")
        period = self._values.period(time) or ({"start": start} if (start := self._values.onset(time)) else None)
        over = period and (len(period) == 2 or attribute(time, "value"))
        known, _ = self._kit.status(statement, about, _STATUS, "")
        body["status"] = known if known in _NONE else "planned" if planned else "finished" if over else "unknown"
        self._kind(body, first(statement, "code"))
        source.set(body, "period", period, time)
        if source.patient is not None:
            body["subject"] = source.patient.ref
        for one in children(statement, "performer"):
            who = self._people.who(first(one, "assignedEntity"), PERSON)
            source.add(body, "participant", {"individual": who} if who else None, one)
        for one in children(statement, "participant"):
            role = first(one, "participantRole")
            label = text_of(first(role, "playingEntity", "name")) or attribute(first(role, "code"), "displayName")
            if attribute(one, "typeCode") == "LOC" and label:
                source.add(body, "location", {"location": {"display": label}}, one)
        self._kit.reasons(body, statement)
        return source.finish(draft, statement).ref

    def _kind(self, body: Body, code: Element | None) -> None:
        """The class, from the code or a translation of it; the code itself is the type."""
        self._source.use(code)
        known = [one for one in (code, *children(code, "translation")) if attribute(one, "code") in _CLASSES]
        own = next((attribute(one, "code") for one in known if attribute(one, "codeSystem") in (_ACT_CODE, "")), "")
        body["class"] = coding(TERMINOLOGY + "v3-ActCode", own) if own else coding(TERMINOLOGY + "v3-NullFlavor", "UNK")
        if code is not None and attribute(code, "code") != own:
            self._source.add(body, "type", self._values.concept(code), code)
