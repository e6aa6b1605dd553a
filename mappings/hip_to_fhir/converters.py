"""Elements of a message -> FHIR values: text, times, codes, quantities, names, addresses (ISO 21090 data types as WS/T 846.1 has them)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mappings.hip_to_fhir.context import Found, HipTransaction, child, children, is_blank
from mappings.hip_to_fhir.elements import Convert
from mappings.hl7v2_to_fhir import primitives, times
from mappings.hl7v2_to_fhir.context import clean, escaped
from mappings.hl7v2_to_fhir.terminology import Codes, CodingSystems, coding
from mappings.transaction import Body, Defaulted, Unfit

ICD_10: Final = "http://hl7.org/fhir/sid/icd-10"
_WHO: Final = re.compile(r"[A-Z]\d\d(?:\.\d)?(?:[+*]|)")
_POSTCODE: Final = re.compile(r"\d{6}")
_PARTS: Final = {"STA": "state", "CTY": "city", "CPA": "district", "CNT": "country", "ZIP": "postalCode"}
"""Types of the parts of an address (ISO 21090 AddressPartType) -> elements of Address; the others are lines."""


def string(found: Found, tx: HipTransaction) -> str | None:
    return tx.said(found) or None


def date_time(found: Found, tx: HipTransaction) -> Any:
    return _timed(found, tx, times.date_time)


def date(found: Found, tx: HipTransaction) -> Any:
    return _timed(found, tx, times.date)


def instant(found: Found, tx: HipTransaction) -> Any:
    """Only what has a time of day; a day alone is said beside the element."""
    return _timed(found, tx, times.instant)


def _timed(found: Found, tx: HipTransaction, convert: Any) -> Any:
    text = tx.said(found)
    return (convert(text, tx.zone) or Unfit(text)) if text else None


def period(found: Found, tx: HipTransaction) -> Body | None:
    """IVL_TS as ``low`` and ``high``, or as the attributes validTimeLow and validTimeHigh (QSC_TS)."""
    element, _ = found
    made = {}
    for name, tag, attribute in (("start", "low", "validTimeLow"), ("end", "high", "validTimeHigh")):
        inner = child(element, tag)
        text = (tx.said((inner, "")) if inner is not None else "") or tx.get(element, attribute)
        if text and (value := times.date_time(text, tx.zone)):
            made[name] = value
    return made or None


def part_of_period(name: str) -> Convert:
    """One moment as the `start` or `end` of a Period."""

    def convert(found: Found, tx: HipTransaction) -> Body | None:
        moment = times.date_time(tx.said(found), tx.zone)
        return {name: moment} if moment else None

    return convert


def boolean(found: Found, tx: HipTransaction) -> Any:
    return primitives.boolean(escaped(tx.said(found)), tx) if tx.said(found) else None


def integer(found: Found, tx: HipTransaction) -> Any:
    return primitives.integer(tx.said(found), tx) if tx.said(found) else None


def annotation(found: Found, tx: HipTransaction) -> Body | None:
    text = tx.said(found)
    return {"text": text} if text else None


def text_only(found: Found, tx: HipTransaction) -> Body | None:
    """What is only said in words, as a CodeableConcept."""
    return annotation(found, tx)


def address(found: Found, tx: HipTransaction) -> Body | None:
    """AD: its parts by their type; one without types, or without parts, is one line of text."""
    element, _ = found
    parts = [(tx.get(part, "type"), tx.said((part, ""))) for item in children(element, "item") for part in children(item, "part")]
    if not any(text for _, text in parts):
        text = tx.said(found)
        return {"text": text} if text else None
    made: Body = {}
    whole = []
    for kind, text in parts:
        if not text:
            continue
        name = _PARTS.get(kind.upper(), "postalCode" if _POSTCODE.fullmatch(text) else "")
        if name and name not in made:
            made[name] = text
        elif kind and kind.upper() != "AL":
            made.setdefault("line", []).append(text)
        if name != "postalCode":
            whole.append(text)
    return {"text": "".join(whole), **made} if whole else made or None


@dataclass(frozen=True, slots=True)
class Concepts:
    """The coded types: what the message calls a coding system, and what a code table makes of a code."""

    systems: CodingSystems

    def system(self, oid: str, name: str, code: str, tx: HipTransaction) -> str:
        """The URI of a coding system by its OID, or its name where that is known; what names none is the sender's own."""
        uri = self.systems.resolve(oid, tx.facility) if oid else self.systems.uris.get(name) or self.systems.uris.get(name.upper(), "")
        if uri == ICD_10 and not _WHO.fullmatch(code):
            return f"urn:oid:{oid}" if oid[:2] in ("0.", "1.", "2.") else "urn:meridian:codes:ICD-10-CN"  # the national extension of it
        return uri or self.systems.resolve("L", tx.facility)

    def url(self, found: Found, tx: HipTransaction) -> str | None:
        """What identifies a value set, as a canonical URL."""
        text = tx.said(found)
        return (
            self.systems.resolve(text if re.fullmatch(r"[0-2](\.\d+)+|urn:\S+|https?://\S+", text) else f"99{text}", tx.facility)
            if text
            else None
        )

    def read(self, found: Found, tx: HipTransaction) -> tuple[str, str, str]:
        """(code, display, system)."""
        element, attribute = found
        if attribute:
            code = tx.get(element, attribute)
            return code, "", self.system(tx.get(element, "codeSystem"), tx.get(element, "codeSystemName"), code, tx)
        code, display = tx.get(element, "code"), tx.get(element, "displayName")
        for name in ("displayName", "originalText"):
            inner = child(element, name)
            display = display or (tx.said((inner, "")) if inner is not None else "")
        system = self.system(tx.get(element, "codeSystem"), tx.get(element, "codeSystemName"), code, tx) if code else ""
        return code, display or (tx.get(element, "value") or tx.get(element, "") if not code else ""), system

    def concept(self, codes: Codes | None) -> Convert:
        """A CodeableConcept: the table's target first, then what was sent."""

        def convert(found: Found, tx: HipTransaction) -> Body | None:
            code, display, system = self.read(found, tx)
            if is_blank(code):
                return {"text": display} if display else None
            target = codes.find(code, system) if codes else None
            if codes and not target and not codes.open:
                tx.unknown(code, codes.name)
            own = coding(system, code, display)
            if not target or not target["to"]:
                return {"coding": [own], **({"text": display} if display else {})}
            mapped = coding(target["system"], target["to"], target["display"])
            same = (mapped.get("system"), mapped["code"]) == (own.get("system"), own["code"])
            return {"coding": [mapped] if same else [mapped, own], **({"text": display} if display else {})}

        return convert

    def coding(self, codes: Codes | None) -> Convert:
        concept = self.concept(codes)

        def convert(found: Found, tx: HipTransaction) -> Body | None:
            made = concept(found, tx)
            return None if not made else made["coding"][0] if "coding" in made else {"display": made["text"]}

        return convert

    def code(self, codes: Codes) -> Convert:
        """A code of FHIR's own. What the table does not know goes along beside the element, and takes its default (`*`)."""
        fallback: Mapping[str, str] | None = codes.targets.get("*")

        def convert(found: Found, tx: HipTransaction) -> Any:
            code, display, system = self.read(found, tx)
            if is_blank(code):
                return None
            target = codes.find(code, system)
            if target and target["to"]:
                return target["to"]
            tx.unknown(code, codes.name)
            original = coding(system, code, display)
            return Defaulted(fallback["to"], code, original) if fallback else Unfit(code, original)

        return convert


def code_system_concept(found: Found, tx: HipTransaction) -> Body | None:
    """An item of a value set: code, display, and whether it is out of use (1 in use, 0 not)."""
    element, _ = found
    coded, state = child(element, "code"), child(element, "statusCode")
    code = tx.get(coded, "code") if coded is not None else ""
    if not code:
        return None
    shown = child(coded, "displayName")
    display = tx.said((shown, "")) if shown is not None else tx.get(coded, "displayName")
    made: Body = {"code": " ".join(code.split()), **({"display": display} if display else {})}
    if state is not None and (word := tx.get(state, "code")):
        made["property"] = [{"code": "inactive", "valueBoolean": word in ("0", "inactive")}]
    return made


class Quantities:
    """PQ, and a value whose type only xsi:type tells."""

    def __init__(self, units: Callable[[str, Any], Any], concepts: Concepts) -> None:
        self._units, self._concept = units, concepts.concept(None)

    def quantity(self, found: Found, tx: HipTransaction) -> Body | None:
        element, _ = found
        value = primitives.decimal(tx.get(element, "value"))
        if value is None:
            return None
        unit = tx.get(element, "unit")
        return {"value": value, **(self._units(escaped(unit), tx) if unit else {})}

    def days(self, found: Found, tx: HipTransaction) -> Body | None:
        value = primitives.decimal(tx.get(found[0], "value"))
        return None if value is None else {"value": value, "unit": tx.get(found[0], "unit"), "system": primitives.UCUM, "code": "d"}

    def any_value(self, found: Found, tx: HipTransaction) -> Body | None:
        """An observation's ``value`` as the value[x] it is: CD, BL, PQ, TS, else text."""
        element, _ = found
        kind = next((clean(text) for name, text in element.attrib.items() if name.endswith("}type")), "").rpartition(":")[2]
        if kind in ("CD", "CE", "CV", "CO", "CS") or (not kind and tx.get(element, "code")):
            concept = self._concept(found, tx)
            return {"valueCodeableConcept": concept} if concept else None
        if kind == "BL" and (text := tx.said(found)) in ("true", "false", "1", "0"):
            return {"valueBoolean": text in ("true", "1")}
        if kind in ("PQ", "REAL", "INT") and (quantity := self.quantity(found, tx)):
            return {"valueQuantity": quantity}
        if kind == "TS" and (moment := times.date_time(tx.said(found), tx.zone)):
            return {"valueDateTime": moment}
        text = tx.said(found)
        return {"valueString": text} if text else None
