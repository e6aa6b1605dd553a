"""Substance administrations -> MedicationStatement (taken), MedicationRequest (prescribed), Immunization."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from engine.formats.cda import XSI_TYPE, Element, attribute, children, first, text_of
from mappings.cda_to_fhir.people import ACTOR, PROFESSIONAL
from mappings.cda_to_fhir.statements import DATA_ELEMENTS, PLANNED, WITHDRAWN, About, Kit
from mappings.hl7v2_to_fhir.primitives import decimal
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body

_STATEMENT: Final = {"completed": "completed", "active": "active", "aborted": "stopped", "suspended": "on-hold", "held": "on-hold",
                     "nullified": "entered-in-error", "cancelled": "not-taken"}  # fmt: skip
_REQUEST: Final = {"completed": "completed", "active": "active", "aborted": "stopped", "suspended": "on-hold", "held": "on-hold",
                   "nullified": "entered-in-error", "cancelled": "cancelled", "new": "draft"}  # fmt: skip
_GIVEN: Final = {"completed": "completed", "aborted": "not-done", "cancelled": "not-done", "held": "not-done", "suspended": "not-done",
                 "nullified": WITHDRAWN}  # fmt: skip
_PERIOD_UNITS: Final = frozenset(("s", "min", "h", "d", "wk", "mo", "a"))
_EVENTS: Final = frozenset(("HS", "WAKE", "C", "CM", "CD", "CV", "AC", "ACM", "ACD", "ACV", "PC", "PCM", "PCD", "PCV"))
"""Event codes of EIVL that FHIR has too (value set event-timing)."""
_TOTAL: Final = "DE06.00.135.00"


class Medications:
    """The rules for substance administrations of one document."""

    def __init__(self, kit: Kit, prescribed: bool) -> None:
        self._kit, self._source, self._values, self._prescribed = kit, kit.source, kit.values, prescribed

    def medication(self, statement: Element, about: About) -> Body | None:
        """What was taken or is to be taken."""
        source, kit = self._source, self._kit
        drug, told = self._drug(statement)
        if drug is None:
            source.lost(statement, "not carried: a medication without code and name")
            return None
        request = self._prescribed or attribute(statement, "moodCode") in PLANNED
        denied = kit.denied(statement, about)
        if denied:
            request = False
        draft = source.draft("MedicationRequest" if request else "MedicationStatement", statement)
        body = draft.body
        known, status = kit.status(statement, about, _REQUEST if request else _STATEMENT, "unknown")
        source.set(body, "status", "not-taken" if denied and known != WITHDRAWN else known, status)
        if request:
            source.set(body, "intent", "plan" if attribute(statement, "moodCode") in ("PRP", "ARQ") else "order", statement, "moodCode")
        source.set(body, "medicationCodeableConcept", drug, told)
        kit.subject(draft, encounter="encounter" if request else "context")
        if not request:
            period = next((found for time in children(statement, "effectiveTime") if (found := self._bounds(time))), None)
            if period is not None:
                source.set(body, "effective" + period[0], period[1], first(statement, "effectiveTime"))
        author = kit.author(statement, ACTOR if request else PROFESSIONAL)
        if author is not None:
            source.set(body, "requester" if request else "informationSource", author[1], author[0])
            source.set(body, "authoredOn" if request else "dateAsserted", author[2], author[0])
        kit.reasons(body, statement)
        self._dosage(body, "dosageInstruction" if request else "dosage", statement)
        self._rest(body, statement, request=request)
        kit.notes(body, statement)
        return source.finish(draft, statement).ref

    def _drug(self, statement: Element) -> tuple[Body | None, Element | None]:
        product = first(statement, "consumable", "manufacturedProduct")
        for name in ("manufacturedMaterial", "manufacturedLabeledDrug"):
            material = first(product, name)
            if material is None:
                continue
            code = first(material, "code")
            concept = self._values.concept(code) or {}
            label = self._source.words(first(material, "name"))
            if label:
                concept.setdefault("text", label)
            if concept:
                return concept, material
        return None, None

    def _bounds(self, time: Element) -> tuple[str, Any] | None:
        """A statement's time, where it is no pattern of repetition."""
        if _kind(time) in ("PIVL", "EIVL", "SXPR"):
            return None
        return self._values.when(time)

    # --- dosage -----------------------------------------------------------------------------------

    def _dosage(self, body: Body, name: str, statement: Element) -> None:
        source, values = self._source, self._values
        dosage: Body = {}
        text = source.words(first(statement, "text"))
        sig = self._kit.part(statement, "instruction")
        if sig is not None:
            text = source.words(first(sig, "text")) or text
        if text:
            dosage["text"] = text
        timing = self._timing(statement)
        if timing:
            dosage["timing"] = timing
        condition = first(statement, "precondition", "criterion")
        if condition is not None:
            words = source.words(first(condition, "text"))
            concept = values.concept(first(condition, "value")) or ({"text": words} if words else None)
            dosage["asNeededCodeableConcept" if concept else "asNeededBoolean"] = concept or True
        for tag, target in (("routeCode", "route"), ("approachSiteCode", "site")):
            if (concept := values.concept(first(statement, tag))) is not None:
                dosage[target] = concept
        amount = self._dose_and_rate(statement)
        if amount:
            dosage["doseAndRate"] = [amount]
        most = values.ratio(limit) if (limit := first(statement, "maxDoseQuantity")) is not None else None
        if most:
            dosage["maxDosePerPeriod"] = most
        if dosage:
            source.add(body, name, dosage, statement, "dosage")
            for tag in ("text", "routeCode", "doseQuantity", "rateQuantity", "approachSiteCode", "maxDoseQuantity", "precondition"):
                if (part := first(statement, tag)) is not None:
                    source.use(part)
            for part in children(statement, "effectiveTime"):
                source.use(part)

    def _dose_and_rate(self, statement: Element) -> Body:
        made: Body = {}
        for tag, name in (("doseQuantity", "dose"), ("rateQuantity", "rate")):
            element = first(statement, tag)
            if element is None or (tag == "rateQuantity" and not attribute(element, "unit") and first(element, "low") is None):
                continue  # a rate without unit is a frequency: see _timing
            ends = {end: amount for end in ("low", "high") if (amount := self._values.quantity(first(element, end))) and "value" in amount}
            whole = self._values.quantity(element)
            if ends:
                made[f"{name}Range"] = ends
            elif whole and "value" in whole:
                made[f"{name}Quantity"] = whole
        return made

    def _timing(self, statement: Element) -> Body:
        """PIVL, EIVL and the bounds that go with them; several PIVL (a Timing has one) in words. WS/T 500 writes the frequency as a
        rate without a unit."""
        made: Body = {}
        patterns: list[Body] = []
        events: list[str] = []
        bounds: Body = {}
        request = self._prescribed or attribute(statement, "moodCode") in PLANNED
        for time in _times(statement):
            kind = _kind(time)
            if kind == "PIVL":
                patterns += [every] if (every := self._every(time)) else []
            elif kind == "EIVL":
                events += [event] if (event := attribute(first(time, "event"), "code")) in _EVENTS else []
            elif period := self._values.period(time):
                bounds = period
            elif request and (moment := self._values.time(time)):
                made.setdefault("event", []).append(moment)
        repeat = {**(patterns[0] if len(patterns) == 1 else {}), **({"when": events} if events else {})}
        if bounds and request:
            repeat["boundsPeriod"] = bounds
        if repeat:
            made["repeat"] = repeat
        rate = first(statement, "rateQuantity")
        words = [_words(time) for time in _times(statement) if _kind(time) == "PIVL"] if len(patterns) > 1 else []
        if rate is not None and not attribute(rate, "unit") and (word := attribute(rate, "value")):
            words.append(word)
        if words:
            made["code"] = {"text": "; ".join(words)}
        return made

    def _every(self, time: Element) -> Body:
        """PIVL: each `period`; one of which 3 times a day is meant comes as 8 h."""
        period = first(time, "period")
        number, unit = decimal(attribute(period, "value")), attribute(period, "unit")
        if number is None or unit not in _PERIOD_UNITS:
            low, high = first(period, "low"), first(period, "high")
            number, most = decimal(attribute(low, "value")), decimal(attribute(high, "value"))
            unit = attribute(low, "unit")
            if number is None or most is None or unit not in _PERIOD_UNITS:
                return {}
            return {"frequency": 1, "period": number, "periodMax": most, "periodUnit": unit}
        return {"frequency": 1, "period": number, "periodUnit": unit}

    def _rest(self, body: Body, statement: Element, *, request: bool) -> None:
        """Form, and the data elements inside, of which a prescription has a place for the total amount only."""
        form = first(statement, "administrationUnitCode")
        if form is not None and (label := attribute(form, "displayName") or text_of(form) or attribute(form, "code")):
            self._source.add(body, "note", {"text": label}, form)
        for _, inner in self._kit.related(statement):
            code = first(inner, "code")
            if attribute(code, "codeSystem") != DATA_ELEMENTS:
                continue
            total = self._values.quantity(first(inner, "value")) if attribute(code, "code") == _TOTAL else None
            if request and total and "value" in total:
                self._source.set(body, "dispenseRequest", {"quantity": total}, inner)
            else:
                self._kit.remark(body, inner)

    # --- immunizations ------------------------------------------------------------------------------

    def immunization(self, statement: Element, about: About) -> Body | None:
        """An immunization given, or refused (negationInd). A planned one is a prescription."""
        if attribute(statement, "moodCode") in PLANNED:
            return self.medication(statement, about)
        source, kit, values = self._source, self._kit, self._values
        vaccine, told = self._drug(statement)
        if vaccine is None:
            source.lost(statement, "not carried: an immunization without a vaccine")
            return None
        draft = source.draft("Immunization", statement)
        body = draft.body
        refused = kit.denied(statement, about)
        known, status = kit.status(statement, about, _GIVEN, "completed")
        known = "completed" if known == "unknown" else known
        source.set(body, "status", "not-done" if refused and known != WITHDRAWN else known, status)
        source.set(body, "vaccineCode", vaccine, told)
        kit.subject(draft, "patient")
        time = first(statement, "effectiveTime")
        at = values.onset(time)
        source.set(body, "occurrenceDateTime" if at else "occurrenceString", at or "unknown", time if time is not None else statement)
        product = first(statement, "consumable", "manufacturedProduct")
        lot = first(product, "manufacturedMaterial", "lotNumberText")
        source.set(body, "lotNumber", text_of(lot), lot)
        maker = first(product, "manufacturerOrganization")
        source.set(body, "manufacturer", kit.people.organization(maker) if maker is not None else None, maker)
        dose = values.quantity(first(statement, "doseQuantity"))
        source.set(body, "doseQuantity", dose if dose and "value" in dose else None, first(statement, "doseQuantity"))
        for tag, target in (("routeCode", "route"), ("approachSiteCode", "site")):
            element = first(statement, tag)
            source.set(body, target, values.concept(element), element)
        for element, who in kit.performers(statement):
            actor = {"function": {"coding": [coding(TERMINOLOGY + "v2-0443", "AP", "Administering Provider")]}, "actor": who}
            source.add(body, "performer", actor, element)
        refusal = kit.part(statement, "refusal")
        code = first(refusal, "code")
        source.set(body, "statusReason", values.concept(code) if refused else None, code)
        kit.reasons(body, statement)
        kit.notes(body, statement)
        return source.finish(draft, statement).ref


def _kind(time: Element) -> str:
    """PIVL_TS -> PIVL"""
    return (time.get(XSI_TYPE) or "").rpartition(":")[2].partition("_")[0]


def _words(time: Element) -> str:
    """A PIVL for a person to read."""
    period = first(time, "period")
    ends = [one for one in (period, first(period, "low"), first(period, "high")) if attribute(one, "value")]
    return f"every {'-'.join(attribute(one, 'value') for one in ends)} {attribute(ends[0], 'unit')}" if ends else ""


def _times(statement: Element) -> Iterator[Element]:
    """The times of a statement; of a set of times (SXPR) its members."""
    for time in children(statement, "effectiveTime"):
        yield from children(time, "comp") if _kind(time) == "SXPR" else (time,)
