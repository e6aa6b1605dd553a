"""Procedures -> Procedure; what is planned or ordered -> ServiceRequest; the history of relatives -> FamilyMemberHistory."""

from __future__ import annotations

from typing import Final

from engine.formats.cda import Element, attribute, children, first, text_of
from mappings.cda_to_fhir.people import ACTOR
from mappings.cda_to_fhir.statements import DATA_ELEMENTS, WITHDRAWN, About, Kit
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body

_STATUS: Final = {"completed": "completed", "active": "in-progress", "aborted": "stopped", "cancelled": "not-done", "held": "on-hold",
                  "suspended": "on-hold", "nullified": "entered-in-error", "new": "preparation"}  # fmt: skip
_REQUEST: Final = {"active": "active", "completed": "completed", "aborted": "revoked", "cancelled": "revoked", "held": "on-hold",
                   "suspended": "on-hold", "nullified": "entered-in-error", "new": "draft"}  # fmt: skip
_INTENTS: Final = {"RQO": "order", "INT": "plan", "APT": "plan", "PRMS": "plan", "PRP": "proposal", "ARQ": "proposal"}


class Procedures:
    """The rules for procedures of one document."""

    def __init__(self, kit: Kit) -> None:
        self._kit, self._source, self._values = kit, kit.source, kit.values

    def procedure(self, statement: Element, about: About, name: Element | None = None) -> Body | None:
        """What was done. `name` is the data element that tells its name, where this one tells its code. In WS/T 500 the procedure stands in
        the value where its code is the data element."""
        source, kit, values = self._source, self._kit, self._values
        code, told = self._what(statement, name)
        if code is None:
            source.lost(statement, "not carried: a procedure without code and name")
            return None
        draft = source.draft("Procedure", statement)
        body = draft.body
        known, status = kit.status(statement, about, _STATUS, "completed")
        source.set(body, "status", "not-done" if kit.denied(statement, about) and known != WITHDRAWN else known, status)
        source.set(body, "code", code, told)
        kit.subject(draft)
        kit.put_when(body, "performed", statement, about)
        for element, who in kit.performers(statement):
            role = values.concept(first(element, "assignedEntity", "code")) if first(element, "functionCode") is None else None
            actor: Body = {"actor": who}
            if role:
                actor["function"] = role
            source.add(body, "performer", actor, element)
        for element in children(statement, "targetSiteCode"):
            source.add(body, "bodySite", values.concept(element), element)
        method = first(statement, "methodCode")
        if method is not None and (label := attribute(method, "displayName")):
            source.add(body, "note", {"text": label}, method)
        kit.reasons(body, statement)
        for _, inner in kit.related(statement):
            if attribute(first(inner, "code"), "codeSystem") == DATA_ELEMENTS and kit.element_row(inner) is None:
                kit.remark(body, inner)
        kit.notes(body, statement)
        return source.finish(draft, statement).ref

    def _what(self, statement: Element, name: Element | None) -> tuple[Body | None, Element | None]:
        code, value = first(statement, "code"), first(statement, "value")
        concept = None
        if attribute(code, "codeSystem") == DATA_ELEMENTS:
            told = value if value is not None else code
            if value is not None:
                words = self._values.readable(value)
                concept = self._values.concept(value) if self._values.kind(value) == "concept" else {"text": words} if words else None
            else:
                concept = self._values.concept(code)
        else:
            told, concept = code, self._values.concept(code)
        label = self._values.readable(first(name, "value")) if name is not None else ""
        if label:
            concept = {**(concept or {}), "text": label}
            self._source.use(name)
        if concept is None and (text := self._source.words(first(statement, "text"))):
            concept, told = {"text": text}, first(statement, "text")
        return concept, told

    def request(self, statement: Element, about: About) -> Body | None:
        """What is planned, proposed or ordered."""
        source, kit, values = self._source, self._kit, self._values
        code, told = self._what(statement, None)
        if code is None:
            source.lost(statement, "not carried: a plan of nothing named")
            return None
        draft = source.draft("ServiceRequest", statement)
        body = draft.body
        source.set(body, "status", *kit.status(statement, about, _REQUEST, "active"))
        source.set(body, "intent", _INTENTS.get(attribute(statement, "moodCode"), "plan"), statement)
        source.set(body, "code", code, told)
        if kit.denied(statement, about):
            source.set(body, "doNotPerform", True, statement, "negationInd")
        kit.subject(draft)
        kit.put_when(body, "occurrence", statement, about)
        author = kit.author(statement, ACTOR)
        if author is not None:
            source.set(body, "requester", author[1], author[0])
            source.set(body, "authoredOn", author[2], author[0])
        for element, who in kit.performers(statement):
            source.add(body, "performer", who, element)
        for element in children(statement, "targetSiteCode"):
            source.add(body, "bodySite", values.concept(element), element)
        kit.reasons(body, statement)
        kit.notes(body, statement)
        return source.finish(draft, statement).ref

    def family(self, statement: Element, about: About) -> Body:
        """A relative (of whom one may know no more than that) with what they had: Family History Organizer, or one statement alone."""
        source, kit, values = self._source, self._kit, self._values
        relative = first(statement, "subject", "relatedSubject")
        kin = values.concept(first(relative, "code")) or {"coding": [coding(TERMINOLOGY + "v3-RoleCode", "FAMMEMB", "family member")]}
        draft = source.draft("FamilyMemberHistory", statement)
        body = draft.body
        source.set(body, "status", *kit.status(statement, about, {"nullified": WITHDRAWN, "completed": "completed"}, "completed"))
        kit.subject(draft, "patient", encounter="")
        source.set(body, "relationship", kin, first(relative, "code"))
        person = first(relative, "subject")
        name = first(person, "name")
        source.set(body, "name", text_of(name), name)
        sex = first(person, "administrativeGenderCode")
        row = source.compiled.codes["gender"].get(attribute(sex, "code"))
        if row is not None:
            concept = {"coding": [coding("http://hl7.org/fhir/administrative-gender", row["to"])]}
            source.set(body, "sex", concept, sex)
        born = first(person, "birthTime")
        moment = values.time(born)
        source.set(body, "bornDate", moment[:10] if moment else None, born)
        dead = first(person, "deceasedInd")
        source.set(body, "deceasedBoolean", attribute(dead, "value") in ("true", "1") or None, dead)
        for one in (statement, *(inner for _, inner in kit.related(statement))):
            self._disease(body, one, about)
        return source.finish(draft, statement).ref

    def _disease(self, body: Body, statement: Element, about: About) -> None:
        """What a relative had, and when; what they had not is said in words."""
        source, kit, values = self._source, self._kit, self._values
        value = first(statement, "value")
        words = values.readable(value)
        disease = (values.concept(value) if values.kind(value) == "concept" else {"text": words}) if value is not None and words else None
        if disease is None:
            return
        if kit.denied(statement, about):
            source.add(body, "note", {"text": f"not: {words}"}, statement)
            return
        made: Body = {"code": disease}
        age = values.quantity(first(kit.part(statement, "age"), "value"))
        if age and "value" in age:
            made["onsetAge"] = age
        elif onset := values.onset(first(statement, "effectiveTime")):
            made["onsetString"] = onset
        source.add(body, "condition", made, statement)
