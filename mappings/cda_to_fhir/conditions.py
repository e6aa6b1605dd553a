"""Problems and diagnoses -> Condition; allergies -> AllergyIntolerance."""

from __future__ import annotations

import re
from typing import Final

from engine.formats.cda import Element, attribute, children, first
from mappings.cda_to_fhir.people import PERSON
from mappings.cda_to_fhir.statements import WITHDRAWN, About, Kit
from mappings.cda_to_fhir.values import null_flavor
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body, Draft

SNOMED: Final = "http://snomed.info/sct"
_ENDED: Final = frozenset(("resolved", "inactive", "remission"))
_CONCERN: Final = {"completed": "resolved", "active": "active", "suspended": "inactive", "aborted": "inactive"}
_STATUSES: Final = {
    "55561003": "active",
    "73425007": "inactive",
    "413322009": "resolved",
    "277022003": "remission",
    "246455001": "recurrence",
}
"""SNOMED CT qualifiers of C-CDA's value set Problem Status."""
_KINDS: Final = {
    "419199007": ("allergy", ""), "416098002": ("allergy", "medication"), "414285001": ("allergy", "food"),
    "426232007": ("allergy", "environment"),
    "420134006": ("", ""), "418038007": ("", ""), "419511003": ("", "medication"), "418471000": ("", "food"),
    "59037007": ("intolerance", "medication"), "235719002": ("intolerance", "food"),
}  # fmt: skip
"""SNOMED CT codes of C-CDA's value set Allergy and Intolerance Type -> type and category."""
_SEVERITIES: Final = {
    "255604002": "mild",
    "371923003": "mild",
    "6736007": "moderate",
    "371924009": "moderate",
    "24484000": "severe",
    "399166001": "severe",
}
_CRITICALITIES: Final = {"CRITL": "low", "CRITH": "high", "CRITU": "unable-to-assess"}
_DENIAL: Final = re.compile("否认|无|没有|未发现|未见|暂无|不")
_NOTHING: Final = re.compile(
    "(?:无|否|没有|未发现|未见|暂无|否认|none|nka|nkda|(?:否认|无|没有|未发现|未见|暂无)有?(?:已知|明显|明确)?的?(?:药物|食物)?(?:[、及和或与](?:药物|食物))?"
    "过敏(?:史|药物|食物)?)[。.]?",
    re.IGNORECASE,
)
"""Words for no allergy, and nothing more. What is denied in other words stays what was written."""


def _concept(system: str, code: str) -> Body:
    return {"coding": [coding(TERMINOLOGY + system, code)]}


class Conditions:
    """The rules for problems, diagnoses and allergies of one document."""

    def __init__(self, kit: Kit) -> None:
        self._kit, self._source, self._values = kit, kit.source, kit.values

    # --- conditions -------------------------------------------------------------------------------

    def condition(self, anchor: Element, members: list[Element], about: About) -> Body | None:
        """One Condition of one statement, or of the data elements of a group that name and code the same diagnosis."""
        source, kit = self._source, self._kit
        code, told = self._diagnosis(members)
        if code is None:
            source.lost(anchor, "not carried: a diagnosis without code and name")
            return None
        draft = source.draft("Condition", anchor)
        body = draft.body
        source.set(body, "code", code, told)
        for member in members:
            source.use(member)
        kit.subject(draft)
        problem = about.role == "problem"
        body["category"] = [_concept("condition-category", "problem-list-item" if problem else "encounter-diagnosis")]
        label = kit.name(members[0])
        if attribute(first(members[0], "code"), "codeSystem") == "2.16.156.10011.2.2.1" and label:
            source.add(body, "category", {"text": label}, first(members[0], "code"))
        self._course(body, members[0], about, problem=problem)
        self._record(body, draft, anchor)
        for site in children(members[0], "targetSiteCode"):
            source.add(body, "bodySite", self._values.concept(site), site)
        kit.notes(body, anchor)
        if about.withdrawn:  # con-5: what is in error has no clinical status
            body.pop("clinicalStatus", None)
            body["verificationStatus"] = _concept("condition-ver-status", WITHDRAWN)
        elif kit.denied(members[0], about):
            body["verificationStatus"] = _concept("condition-ver-status", "refuted")
        return source.finish(draft, anchor).ref

    def _diagnosis(self, members: list[Element]) -> tuple[Body | None, Element | None]:
        """The concept that the members' values are, with the element that told it."""
        concept: Body = {}
        told = None
        for member in members:
            for value in children(member, "value"):
                found = self._values.concept(value) if self._values.kind(value) == "concept" else None
                words = (found or {}).get("text") or ("" if found else self._values.readable(value))
                if found and "coding" in found:
                    concept.setdefault("coding", []).extend(one for one in found["coding"] if one not in concept.get("coding", ()))
                if words:
                    concept.setdefault("text", words)
                told = told if told is not None else value if found or words else None
        return concept or None, told

    def _course(self, body: Body, statement: Element, about: About, *, problem: bool) -> None:
        """Onset and abatement; the status from what the document says, an end where there is one."""
        source, values = self._source, self._values
        time = first(statement, "effectiveTime")
        start = values.time(time) or values.time(first(time, "low"))
        end = values.time(first(time, "high"))
        source.set(body, "onsetDateTime", start, time)
        source.set(body, "abatementDateTime", end, time)
        told = self._kit.part(statement, "status")
        value = first(told, "value") if told is not None else None
        status = _STATUSES.get(attribute(value, "code"), "")
        if not status:
            status = "resolved" if end else _CONCERN.get(about.status, "active" if problem else "")
        if end and status not in _ENDED:
            status = "resolved"
        if status:
            body["clinicalStatus"] = _concept("condition-clinical", status)
            source.claim(body, told if told is not None else statement)

    def _record(self, body: Body, draft: Draft, statement: Element) -> None:
        author = self._kit.author(statement, PERSON)
        if author is not None:
            self._source.set(body, "recorder", author[1], author[0])
            self._source.set(body, "recordedDate", author[2], author[0])

    # --- allergies --------------------------------------------------------------------------------

    def allergy(self, statement: Element, about: About) -> Body | None:
        """An allergy observation of C-CDA."""
        source, values, kit = self._source, self._values, self._kit
        value = first(statement, "value")
        substance = self._substance(statement)
        denied = kit.denied(statement, about)
        code = substance[0]
        if denied and (code is None or null_flavor(substance[1])):
            code = self._none_known(attribute(value, "code"))
        elif code is None:
            code = values.concept(value)
        if code is None:
            source.lost(statement, "not carried: an allergy to nothing named")
            return None
        draft = source.draft("AllergyIntolerance", statement)
        body = draft.body
        source.set(body, "code", code, substance[1] if substance[1] is not None else value)
        kind, category = _KINDS.get(attribute(value, "code"), ("", ""))
        source.set(body, "type", kind, value)
        source.set(body, "category", [category] if category else None, value)
        kit.subject(draft, "patient")
        refuted = denied and substance[0] is not None and not null_flavor(substance[1])
        self._verified(body, statement, about, "refuted" if refuted else "confirmed")
        time = first(statement, "effectiveTime")
        source.set(body, "onsetDateTime", values.onset(time), time)
        self._record(body, draft, statement)
        criticality = kit.part(statement, "criticality")
        source.set(body, "criticality", _CRITICALITIES.get(attribute(first(criticality, "value"), "code")), criticality)
        self._reactions(body, statement)
        kit.notes(body, statement)
        return source.finish(draft, statement).ref

    def _substance(self, statement: Element) -> tuple[Body | None, Element | None]:
        """What the patient does not tolerate: the consumable that takes part."""
        for participant in children(statement, "participant"):
            for role in participant:
                entity = first(role, "playingEntity")
                code = first(entity, "code")
                concept = self._values.concept(code)
                name = next((text for tag in ("name", "desc") if (text := self._source.words(first(entity, tag)))), "")
                if name and (concept is None or attribute(code, "codeSystem") == "2.16.156.10011.2.2.1"):
                    return {"text": name}, entity
                if concept is not None and attribute(code, "codeSystem") != "2.16.156.10011.2.2.1":
                    return concept, code
                if code is not None and null_flavor(code):
                    return None, code
        return None, None

    def _none_known(self, kind: str) -> Body | None:
        rows = self._source.compiled.codes["negations"]
        row = rows.get(kind) or rows.get("*")
        if row is None:
            return None
        self._source.by_row(row)
        return {"coding": [coding(row["system"] or SNOMED, row["to"], row["display"])]}

    def _verified(self, body: Body, statement: Element, about: About, word: str) -> None:
        if about.withdrawn:  # ait-2: what is in error has no clinical status
            body["verificationStatus"] = _concept("allergyintolerance-verification", WITHDRAWN)
            return
        value = first(self._kit.part(statement, "status"), "value")
        status = _STATUSES.get(attribute(value, "code"), "") or _CONCERN.get(about.status, "active")
        time = first(statement, "effectiveTime")
        if self._values.time(first(time, "high")):
            status = "resolved"
        status = status if status in ("active", "inactive", "resolved") else "inactive" if status == "remission" else "active"
        body["clinicalStatus"] = _concept("allergyintolerance-clinical", status)
        body["verificationStatus"] = _concept("allergyintolerance-verification", word)

    def _reactions(self, body: Body, statement: Element) -> None:
        for reaction in self._kit.parts(statement, "reaction"):
            value = first(reaction, "value")
            manifestation = self._values.concept(value)
            if manifestation is None:
                continue
            made: Body = {"manifestation": [manifestation]}
            inner = self._kit.part(reaction, "severity")
            severity = _SEVERITIES.get(attribute(first(inner, "value"), "code"))
            if severity:
                made["severity"] = severity
            if onset := self._values.onset(first(reaction, "effectiveTime")):
                made["onset"] = onset
            self._source.add(body, "reaction", made, reaction)

    def told_allergies(self, anchor: Element, members: list[Element], about: About) -> list[Body]:
        """The data elements for allergies: whether there are any, and to what, in words or codes. Each substance is one of its own; that
        there is none is said only where no substance is named."""
        found, none = self._told(members)
        flags = [flag for member in members if self._is_flag(member) and (flag := self._flag(first(member, "value"))) is not None]
        if not found and (none is not None or False in flags):
            words = none[0].get("text", "") if none is not None else ""
            element = none[1] if none is not None else anchor
            found = [(anchor, {**(self._none_known(_denied_kind(words)) or {}), **({"text": words} if words else {})}, element)]
        elif not found and True in flags:
            found = [(anchor, {"text": self._kit.name(anchor)}, anchor)]
        for member in members if found else ():
            self._source.use(member)
        return [self._told_allergy(member, code, element, about) for member, code, element in found]

    def _told(self, members: list[Element]) -> tuple[list[tuple[Element, Body, Element]], tuple[Body, Element] | None]:
        """([(the data element, the substance, what tells it)], what says that there is none)."""
        found: list[tuple[Element, Body, Element]] = []
        none: tuple[Body, Element] | None = None
        for member in members:
            if self._is_flag(member):
                code, element = self._substance(member)
            else:
                element = first(member, "value")
                words = self._values.readable(element)
                kind = self._values.kind(element) if element is not None else ""
                code = self._values.concept(element) if kind == "concept" else {"text": words} if words else None
            if code is None or element is None:
                continue
            if _NOTHING.fullmatch(self._values.readable(element)):
                none = none or (code, element)
            else:
                found.append((member, code, element))
        return found, none

    def _told_allergy(self, member: Element, code: Body, element: Element, about: About) -> Body:
        source = self._source
        draft = source.draft("AllergyIntolerance", member)
        source.set(draft.body, "code", code, element)
        self._kit.subject(draft, "patient")
        denial = _DENIAL.match(code.get("text", "")) and "coding" not in code
        self._verified(
            draft.body, member, about, "refuted" if self._kit.denied(member, about) else "unconfirmed" if denial else "confirmed"
        )
        self._record(draft.body, draft, member)
        return source.finish(draft, member).ref

    def _is_flag(self, member: Element) -> bool:
        row = self._kit.element_row(member)
        return row is not None and row["role"] == "allergy-flag"

    def _flag(self, value: Element | None) -> bool | None:
        """Whether there are allergies. A code means what its name says; by itself it may mean either in another value set."""
        found = self._values.value(value)
        if found is None:
            return None
        if found[0] == "Boolean":
            return bool(found[1])
        word = attribute(value, "displayName") or (str(found[1]) if found[0] == "String" else "")
        return True if word in ("有", "是", "true") else False if word in ("无", "否", "false", "没有") else None


def _denied_kind(words: str) -> str:
    """What words deny allergies to, as the kind of allergy (SNOMED CT)."""
    drugs, food = "药物" in words or words.upper().startswith("NKDA"), "食物" in words
    return "416098002" if drugs and not food else "414285001" if food and not drugs else ""
