"""Observations: results, vital signs, history, and every data element that has no resource of its own; reports that group them."""

from __future__ import annotations

from typing import Final

from engine.formats.cda import Element, attribute, children, first
from mappings.cda_to_fhir.statements import DATA_ELEMENTS, About, Kit
from mappings.cda_to_fhir.values import absent, null_flavor
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body

LOINC: Final = "http://loinc.org"
_CATEGORY: Final = TERMINOLOGY + "observation-category"
_CATEGORIES: Final = {
    "vital-signs": "Vital Signs", "laboratory": "Laboratory", "imaging": "Imaging", "social-history": "Social History", "survey": "Survey",
    "exam": "Exam", "procedure": "Procedure",
}  # fmt: skip
_OF_ROLE: Final = {"vital": "vital-signs", "result": "laboratory", "social": "social-history"}
_STATUS: Final = {"completed": "final", "active": "preliminary", "aborted": "cancelled", "cancelled": "cancelled", "held": "registered",
                  "suspended": "registered", "new": "registered", "nullified": "entered-in-error", "obsolete": "amended"}  # fmt: skip
_GROUPED: Final = {"LAB": "Laboratory", "RAD": "Radiology"}


class Observations:
    """The rules for observations of one document."""

    def __init__(self, kit: Kit) -> None:
        self._kit, self._source, self._values = kit, kit.source, kit.values

    def observation(self, statement: Element, about: About, others: tuple[Element, ...] = ()) -> Body | None:
        """One observation. `others` are the data elements of its group that tell its value, unit or finding."""
        kit, source, values = self._kit, self._source, self._values
        draft = source.draft("Observation", statement)
        body = draft.body
        source.set(body, "status", *kit.status(statement, about, _STATUS, "final"))
        self._category(body, statement, about)
        self._code(body, statement, about)
        kit.subject(draft)
        kit.put_when(body, "effective", statement, about)
        for element, who in kit.performers(statement):
            source.add(body, "performer", who, element)
        author = kit.author(statement)
        if author is not None and author[1]:
            source.add(body, "performer", author[1], author[0])
        self._value(body, statement, about, others)
        for element in children(statement, "interpretationCode"):
            source.add(body, "interpretation", values.concept(element), element)
        self._ranges(body, statement)
        for name, target in (("methodCode", "method"), ("targetSiteCode", "bodySite")):
            element = first(statement, name)
            source.set(body, target, values.concept(element), element)
        kit.notes(body, statement)
        self._components(body, statement, about)
        if not any(name.startswith("value") or name in ("component", "hasMember") for name in body) and "dataAbsentReason" not in body:
            flavor = null_flavor(first(statement, "value"))
            if not flavor and not _says(body):
                source.lost(statement, "not carried: it has neither a value nor parts")
                return None
            body["dataAbsentReason"] = absent(flavor)
        return source.finish(draft, statement).ref

    def _category(self, body: Body, statement: Element, about: About) -> None:
        role = self._kit.role(statement, about)
        code = _OF_ROLE.get(role, "") if role in ("vital", "social") else about.category or _OF_ROLE.get(role, "")
        if code in _CATEGORIES:
            body["category"] = [{"coding": [coding(_CATEGORY, code, _CATEGORIES[code])]}]

    def _code(self, body: Body, statement: Element, about: About) -> None:
        """Its code; that of LOINC first where a table has one for the data element."""
        source = self._source
        element = first(statement, "code")
        concept = self._values.concept(element) or {"text": about.title or "unknown"}
        row = self._kit.element_row(statement)
        if row is not None and row["to"]:
            source.by_row(row)
            concept["coding"] = [coding(LOINC, row["to"], row["display"]), *concept.get("coding", [])]
        source.set(body, "code", concept, element if element is not None else statement)

    def _value(self, body: Body, statement: Element, about: About, others: tuple[Element, ...]) -> None:
        source, values, kit = self._source, self._values, self._kit
        told = {(row["role"] if (row := kit.element_row(one)) is not None else ""): one for one in others}
        inner_unit = next((one for _, one in kit.related(statement) if _is(kit, one, "unit")), None)
        unit_of = told.get("unit", inner_unit)
        unit = values.readable(first(unit_of, "value")) if unit_of is not None else ""
        row = kit.element_row(statement)
        default = row["unit"] if row is not None else ""
        element = first(told["value"], "value") if "value" in told else first(statement, "value")
        if "value" in told and row is not None and row["role"] == "item":
            self._item(body, statement)
        found = values.value(element, unit, default)
        if found is None and "value" not in told and "finding" in told:
            element = first(told["finding"], "value")
            found = values.value(element)
        elif "finding" in told:
            finding = first(told["finding"], "value")
            source.add(body, "interpretation", values.concept(finding), told["finding"])
        if kit.denied(statement, about) and found is not None:
            source.set(body, "valueString", f"not: {values.readable(element)}", element, "negationInd")
        elif found is not None:
            source.set(body, f"value{found[0]}", found[1], element)
        elif null_flavor(element):
            source.set(body, "dataAbsentReason", absent(null_flavor(element)), element)
        for one in (*others, *([inner_unit] if inner_unit is not None else [])):
            source.use(one)

    def _item(self, body: Body, statement: Element) -> None:
        """The test that a group is of: what the data element's value names is what was observed."""
        value = first(statement, "value")
        named = self._values.concept(value)
        if named is None and (text := self._values.readable(value)):
            named = {"text": text}
        if named:
            body["code"] = named
            self._source.claim(body, value)

    def _ranges(self, body: Body, statement: Element) -> None:
        for one in children(statement, "referenceRange"):
            inside = first(one, "observationRange")
            value = first(inside, "value")
            made: Body = {}
            unit = next((unit for name in ("low", "high") if (unit := attribute(first(value, name), "unit"))), "")
            for name in ("low", "high"):
                end = self._values.quantity(first(value, name), unit)
                if end and "value" in end:
                    made[name] = end
            text = self._source.words(first(inside, "text")) or (self._values.readable(value) if value is not None and not made else "")
            if text:
                made["text"] = text
            self._source.add(body, "referenceRange", made, one)

    def _components(self, body: Body, statement: Element, about: About) -> None:
        """Data elements inside a data element belong to it; other observations inside stand for themselves."""
        for _, inner in self._kit.related(statement):
            role = self._kit.role(inner, About())
            code = first(inner, "code")
            if role in ("comment", "unit", "reaction", "severity", "criticality", "status", "instruction", "indication"):
                continue
            if first(inner, "subject") is not None:
                self._source.lost(inner, "not carried: about somebody else than the patient")
                continue
            if attribute(code, "codeSystem") == DATA_ELEMENTS:
                self._component(body, inner)
                if not about.too_deep:
                    self._components(body, inner, about.within())
            elif not about.too_deep and self._source.count(inner) and (reference := self.observation(inner, about.within())) is not None:
                body.setdefault("hasMember", []).append(reference)

    def _component(self, body: Body, inner: Element) -> None:
        element = first(inner, "value")
        row = self._kit.element_row(inner)
        found = self._values.value(element, "", row["unit"] if row is not None else "")
        concept = self._values.concept(first(inner, "code"))
        if concept is None or (found is None and not null_flavor(element)):
            return
        if row is not None and row["to"]:
            concept["coding"] = [coding(LOINC, row["to"], row["display"]), *concept.get("coding", [])]
        made: Body = {"code": concept}
        if found is not None and self._kit.denied(inner, About()):
            made["valueString"] = f"not: {self._values.readable(element)}"
        elif found is not None:
            made[f"value{found[0]}"] = found[1]
        else:
            made["dataAbsentReason"] = absent(null_flavor(element))
        self._source.add(body, "component", made, inner)

    # --- reports ----------------------------------------------------------------------------------

    def report(self, organizer: Element, about: About, results: list[Body]) -> Body | None:
        """An organizer of results as DiagnosticReport."""
        source, kit = self._source, self._kit
        code = first(organizer, "code")
        concept = self._values.concept(code)
        if concept is None:
            return None
        draft = source.draft("DiagnosticReport", organizer)
        body = draft.body
        source.set(body, "status", *kit.status(organizer, about, _STATUS, "final"))
        section = "RAD" if about.category == "imaging" else "LAB" if about.category in ("", "laboratory") else ""
        if section:
            body["category"] = [grouped(section)]
        source.set(body, "code", concept, code)
        kit.subject(draft)
        kit.put_when(body, "effective", organizer, about)
        for element, who in kit.performers(organizer):
            source.add(body, "performer", who, element)
        if results:
            body["result"] = results
        return source.finish(draft, organizer).ref


def grouped(code: str) -> Body:
    return {"coding": [coding(TERMINOLOGY + "v2-0074", code, _GROUPED.get(code, ""))]}


def _is(kit: Kit, statement: Element, role: str) -> bool:
    row = kit.element_row(statement)
    return row is not None and row["role"] == role


def _says(body: Body) -> bool:
    """Whether an observation without a value says something all the same: when, by whom, or in a note."""
    return any(name in body for name in ("note", "interpretation", "performer"))
