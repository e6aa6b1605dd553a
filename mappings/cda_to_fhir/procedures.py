"""Procedures -> Procedure; what is planned or ordered -> ServiceRequest; the history of relatives -> FamilyMemberHistory."""

from __future__ import annotations

from typing import Final

from engine.formats.cda import Element, attribute, children, first, text_of
from mappings.cda_to_fhir.people import ACTOR
from mappings.cda_to_fhir.statements import DATA_ELEMENTS, About, Kit
from mappings.hl7v2_to_fhir.terminology import coding
from mappings.transaction import Body

_STATUS: Final = {"completed": "completed", "active": "in-progress", "aborted": "stopped", "cancelled": "not-done", "held": "on-hold",
                  "suspended": "on-hold", "nullified": "entered-in-error", "new": "preparation"}  # fmt: skip
_REQUEST: Final = {"completed": "completed", "aborted": "revoked", "cancelled": "revoked", "held": "on-hold", "suspended": "on-hold",
                   "nullified": "entered-in-error", "new": "draft"}  # fmt: skip
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
        status = first(statement, "statusCode")
        known = _STATUS.get(attribute(status, "code"), "completed")
        done = "not-done" if kit.denied(statement, about) else known
        source.set(body, "status", done, status if status is not None else statement)
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
        status = first(statement, "statusCode")
        known = _REQUEST.get(attribute(status, "code"), "active")
        source.set(body, "status", known, status if status is not None else statement)
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

    def family(self, organizer: Element, about: About) -> Body | None:
        """Family History Organizer: a relative with what they had."""
        source, kit, values = self._source, self._kit, self._values
        relative = first(organizer, "subject", "relatedSubject")
        kin = values.concept(first(relative, "code"))
        if kin is None:
            source.lost(organizer, "not carried: a relative whose relationship is not told")
            return None
        draft = source.draft("FamilyMemberHistory", organizer)
        body = draft.body
        source.set(body, "status", "completed", organizer)
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
        for _, inner in kit.related(organizer):
            value = first(inner, "value")
            disease = values.concept(value)
            if disease is not None and not kit.denied(inner, about):
                made: Body = {"code": disease}
                if onset := values.onset(first(inner, "effectiveTime")):
                    made["onsetString"] = onset
                source.add(body, "condition", made, inner)
        return source.finish(draft, organizer).ref
