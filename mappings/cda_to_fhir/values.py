"""HL7 V3 data types (CDA R2 clause 2; Data Types R1) -> FHIR data types."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson

from engine.formats.cda import XSI_TYPE, Element, attribute, children, first, text_of
from mappings.cda_to_fhir.source import NATIONAL, Source
from mappings.cda_to_fhir.ucum import is_ucum
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.primitives import UCUM, decimal
from mappings.hl7v2_to_fhir.terminology import coding
from mappings.transaction import Body

_INTEGER: Final = re.compile(r"[+-]?\d{1,9}")
_CODE: Final = re.compile(r"[^\s]+(\s[^\s]+)*")
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
NULL_FLAVORS: Final = {
    "UNK": "unknown", "ASKU": "asked-unknown", "NAV": "temp-unknown", "NASK": "not-asked", "NA": "not-applicable", "MSK": "masked",
    "OTH": "unsupported", "NINF": "negative-infinity", "PINF": "positive-infinity", "NI": "unknown",
}  # fmt: skip
"""NullFlavor (HL7 V3) -> data-absent-reason, as terminology.hl7.org maps them."""
_COMPARATORS: Final = (("low", "inclusive", ">=", ">"), ("high", "inclusive", "<=", "<"))
_DATA_TYPES: Final = {
    "CD": "concept", "CE": "concept", "CV": "concept", "CO": "concept", "CS": "concept", "PQ": "quantity", "REAL": "quantity",
    "MO": "money",
    "INT": "integer", "BL": "boolean", "ST": "string", "ED": "string", "TS": "time", "IVL_PQ": "range", "IVL_TS": "period", "RTO": "ratio",
    "RTO_PQ_PQ": "ratio", "RTO_QTY_QTY": "ratio", "IVL_INT": "range", "IVL_REAL": "range", "II": "string", "SC": "string",
}  # fmt: skip


def number(text: str) -> orjson.Fragment | None:
    """A REAL with its digits; one with an exponent (XML Schema allows it, JSON numbers are kept plain here) is written out."""
    if "e" not in text.lower():
        return decimal(text)
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    exponent = value.as_tuple().exponent
    return decimal(format(value, "f")) if isinstance(exponent, int) and abs(exponent) < 40 else None


def null_flavor(element: Element | None) -> str:
    return attribute(element, "nullFlavor")


def absent(flavor: str) -> Body:
    """A dataAbsentReason."""
    code = NULL_FLAVORS.get(flavor, "unknown")
    return {"coding": [coding(_ABSENT, code)]}


class Values:
    """The converters for one document."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._tables = source.compiled
        self._units = source.compiled.v2.vocabulary.terms.codes["units"]

    # --- codes ----------------------------------------------------------------------------------

    def system(self, oid: str) -> str:
        """The URI of a code system. What no table knows becomes urn:oid: and is noted as unknown."""
        known = self._tables.systems.get(oid) or self._tables.v2.vocabulary.terms.systems.uris.get(oid)
        if known or not oid:
            return known or ""
        uri = self._tables.v2.vocabulary.terms.systems.resolve(oid, self._source.tx.facility)
        if not oid.startswith(NATIONAL):
            self._source.unknown.add(uri)
        return uri

    def coding(self, element: Element) -> Body | None:
        code = attribute(element, "code")
        if not code or not _CODE.fullmatch(code) or null_flavor(element):
            return None
        return coding(
            self.system(attribute(element, "codeSystem")), code, attribute(element, "displayName"), attribute(element, "codeSystemVersion")
        )

    def concept(self, element: Element | None) -> Body | None:
        """CD: the code, what a site's table knows it as (first), its translations; originalText as text, a name without a code too; and
        what qualifies it (on which side), which no coding here says."""
        if element is None:
            return None
        codings: list[Body] = []
        for one in (element, *children(element, "translation")):
            if (own := self.coding(one)) is not None:
                codings += [*self._also(own, attribute(one, "codeSystem")), own]
        made: Body = {"coding": [one for number, one in enumerate(codings) if one not in codings[:number]]} if codings else {}
        text = self._source.words(first(element, "originalText"))
        if not text and not codings:
            text = attribute(element, "displayName") or _own_text(element)
        if qualified := _qualified(element):
            base = text or next((name for one in codings if (name := one.get("display") or one["code"])), "")
            text = f"{base} ({qualified})" if base else qualified
        if not text:
            names = [attribute(name, "displayName") for q in children(element, "qualifier") for name in children(q, "name")]
            text = next((name for name in names if name), "")
        if text:
            made["text"] = text
        return made or None

    def _also(self, own: Body, oid: str) -> list[Body]:
        row = self._tables.codes["tests"].get(f"{oid}|{own['code']}") or self._tables.codes["tests"].get(own["code"])
        if row is None or not row["to"]:
            return []
        self._source.by_row(row)
        return [coding(row["system"] or "http://loinc.org", row["to"], row["display"])]

    # --- quantities -----------------------------------------------------------------------------

    def quantity(self, element: Element | None, unit: str = "", default: str = "") -> Body | None:
        """PQ, REAL, INT. `unit` is one told elsewhere, `default` the UCUM code of a value without any."""
        text = attribute(element, "value") or _own_text(element)
        value = number(text)
        own = attribute(element, "unit") or unit
        if value is None:
            return {"unit": f"{text} {own}".strip()} if text and own else None
        return {"value": value, **self.unit(own, default)}

    def unit(self, word: str, default: str = "") -> Body:
        if not word or word == "1":
            return {"unit": default, "system": UCUM, "code": default} if default else {}
        row = self._tables.codes["units"].get(word)
        known = row["to"] if row else (self._units.find(word, "") or {}).get("to", "")
        if known:
            return {"unit": word, "system": UCUM, "code": known}
        return {"unit": word, "system": UCUM, "code": word} if is_ucum(word) else {"unit": word}

    def money(self, element: Element) -> Body | None:
        value = number(attribute(element, "value") or _own_text(element))
        word = attribute(element, "currency")
        row = self._tables.codes["currency"].get(word)
        code = row["to"] if row else word
        if value is None:
            return None
        return {"value": value, "unit": word, "system": "urn:iso:std:iso:4217", "code": code} if code else {"value": value}

    def range(self, element: Element) -> tuple[str, Any] | None:
        """IVL_PQ: a range, or with one end only a quantity that says how it compares."""
        unit = next((unit for end in ("low", "high") if (unit := attribute(first(element, end), "unit"))), "")
        ends = {name: self.quantity(first(element, name), unit) for name in ("low", "high", "center")}
        low, high = ends["low"], ends["high"]
        if low and high and "value" in low and "value" in high:
            return "Range", {"low": low, "high": high}
        for name, flag, closed, opened in _COMPARATORS:
            end = ends[name]
            if end and "value" in end:
                return "Quantity", {"comparator": opened if attribute(first(element, name), flag) == "false" else closed, **end}
        whole = ends["center"] or self.quantity(element) or {}
        return ("Quantity", whole) if "value" in whole else self._string(whole.get("unit", ""))

    def ratio(self, element: Element) -> Body | None:
        made = {name: value for name in ("numerator", "denominator") if (value := self.quantity(first(element, name))) and "value" in value}
        return made if len(made) == 2 else None

    # --- times ----------------------------------------------------------------------------------

    def time(self, element: Element | None) -> str | None:
        """TS as dateTime."""
        text = attribute(element, "value") or _own_text(element)
        return times.date_time(text, self._source.tx.zone) if text else None

    def period(self, element: Element | None) -> Body | None:
        """IVL_TS with its ends; one moment is no period."""
        made = {name: value for name, end in (("start", "low"), ("end", "high")) if (value := self.time(first(element, end))) is not None}
        return made if "start" not in made or "end" not in made or made["start"][:10] <= made["end"][:10] else {"start": made["start"]}

    def when(self, element: Element | None) -> tuple[str, Any] | None:
        """("DateTime", …) or ("Period", …), None where no time is told."""
        moment = self.time(element)
        if moment:
            return "DateTime", moment
        centre = self.time(first(element, "center"))
        if centre:
            return "DateTime", centre
        period = self.period(element)
        return ("Period", period) if period else None

    def onset(self, element: Element | None) -> str | None:
        """The moment, or the beginning."""
        return self.time(element) or self.time(first(element, "low")) or self.time(first(element, "center"))

    # --- value[x] -------------------------------------------------------------------------------

    def kind(self, element: Element) -> str:
        """Which converter a value is for; where xsi:type does not say it, what it looks like."""
        declared = (element.get(XSI_TYPE) or "").rpartition(":")[2].strip()
        known = _DATA_TYPES.get(declared)
        if known:
            return known
        if attribute(element, "code") or (attribute(element, "displayName") and not attribute(element, "value")):
            return "concept"
        if attribute(element, "currency"):
            return "money"
        if attribute(element, "unit"):
            return "quantity"
        if first(element, "low") is not None or first(element, "high") is not None:
            return "period" if self.period(element) else "range"
        return "number" if number(attribute(element, "value")) is not None else "string"

    def value(self, element: Element | None, unit: str = "", default: str = "") -> tuple[str, Any] | None:
        """(the type in value[x], the value), None for none. What has none of its own may have it in other units or in words."""
        if (found := self._own(element, unit, default)) is not None or element is None:
            return found
        for one in children(element, "translation"):
            word = attribute(one, "unit") or attribute(one, "displayName") or attribute(one, "code")
            if (amount := self.quantity(one, word)) and "value" in amount:
                return "Quantity", amount
        return self._string(self._source.words(first(element, "originalText")))

    def _own(self, element: Element | None, unit: str, default: str) -> tuple[str, Any] | None:
        if element is None or (null_flavor(element) and not len(element) and not text_of(element)):
            return None
        kind = self.kind(element)
        text = attribute(element, "value") or _own_text(element)
        if kind in ("range", "period"):
            return self._span(kind, element)
        if kind == "integer" and not unit and not default:
            return ("Integer", int(text)) if _INTEGER.fullmatch(text) else self._string(text)
        if kind == "boolean":
            word = text.lower()
            return ("Boolean", word in ("true", "1")) if word in ("true", "false", "1", "0") else self._string(text)
        if kind in ("integer", "number", "quantity") or (kind == "string" and default and number(text) is not None):
            amount = self.quantity(element, unit, default) or {}
            return ("Quantity", amount) if "value" in amount else self._string(amount.get("unit", text))
        if kind == "time":
            return self._named("DateTime", self.time(element)) or self._string(text)
        if kind == "string":
            return self._string(self._source.words(element) or attribute(element, "value") or attribute(element, "displayName"))
        made = {"concept": self.concept, "money": self.money, "ratio": self.ratio}[kind](element)
        return self._named({"concept": "CodeableConcept", "money": "Quantity", "ratio": "Ratio"}[kind], made) or self._string(text)

    def _span(self, kind: str, element: Element) -> tuple[str, Any] | None:
        return self.when(element) if kind == "period" else self.range(element)

    @staticmethod
    def _named(name: str, value: Any) -> tuple[str, Any] | None:
        return (name, value) if value else None

    @staticmethod
    def _string(text: str) -> tuple[str, Any] | None:
        return ("String", text) if text else None

    def readable(self, element: Element | None) -> str:
        """A value as a person reads it."""
        if element is None:
            return ""
        shown = attribute(element, "displayName") or self._source.words(element) or self._source.words(first(element, "originalText"))
        if shown:
            return shown
        number = attribute(element, "value")
        return f"{number} {attribute(element, 'unit') or attribute(element, 'currency')}".strip() or attribute(element, "code")


def _qualified(element: Element) -> str:
    """What the qualifiers of a CD say: ``Laterality: Left``."""
    found = []
    for qualifier in children(element, "qualifier"):
        name, value = (
            attribute(first(qualifier, tag), "displayName") or attribute(first(qualifier, tag), "code") for tag in ("name", "value")
        )
        value = value or text_of(first(qualifier, "value", "originalText"))
        if value:
            found.append(f"{name}: {value}" if name else value)
    return ", ".join(found)


def _own_text(element: Element | None) -> str:
    """The text directly inside, without that of child elements."""
    return "" if element is None else " ".join((element.text or "").split())
