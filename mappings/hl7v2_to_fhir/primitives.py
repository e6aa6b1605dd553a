"""HL7 v2 primitive and coded types -> FHIR primitives, Coding, CodeableConcept and Quantity."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.context import Convert, Terms, V2Transaction, cached, components, first, part
from mappings.hl7v2_to_fhir.terminology import Codes, coding
from mappings.transaction import Absent, Body, Defaulted, Unfit

_NUMBER: Final = re.compile(r"([+-]?)0*(\d+)?(?:\.(\d*))?")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
UCUM: Final = "http://unitsofmeasure.org"


def string(text: str, tx: V2Transaction) -> str | None:
    return tx.text(text).strip() or None


def all_text(text: str, tx: V2Transaction) -> str | None:
    """Text whose components, if any, are text too (a ^ that somebody forgot to escape)."""
    return tx.text(text).rstrip() or None


def boolean(text: str, tx: V2Transaction) -> Any:
    """Table 0136 and what is sent instead of it."""
    word = first(text).upper()
    if word in ("Y", "YES", "TRUE", "T", "1", "是"):
        return True
    return False if word in ("N", "NO", "FALSE", "F", "0", "否") else Unfit(tx.text(text))


def integer(text: str, tx: V2Transaction) -> Any:
    digits = first(text).strip()
    return int(digits) if digits.lstrip("+-").isascii() and digits.lstrip("+-").isdigit() and len(digits) < 10 else Unfit(tx.text(text))


def positive(text: str, tx: V2Transaction) -> Any:
    value = integer(text, tx)
    return value if isinstance(value, int) and value > 0 else Unfit(tx.text(text))


def decimal(text: str) -> orjson.Fragment | None:
    """An NM as a JSON number with every digit that was sent (5.10 stays 5.10); None where it is no number."""
    match = _NUMBER.fullmatch(text.strip())
    if not match or (match[2] is None and not match[3]) or not text.isascii():
        return None
    sign, whole, fraction = match.groups()
    return orjson.Fragment(f"{'-' if sign == '-' else ''}{whole or '0'}{'.' + fraction if fraction else ''}")


def date_time(text: str, tx: V2Transaction) -> Any:
    return times.date_time(first(text), tx.zone) or Unfit(tx.text(text))


def date(text: str, tx: V2Transaction) -> Any:
    return times.date(first(text), tx.zone) or Unfit(tx.text(text))


def instant(text: str, tx: V2Transaction) -> Any:
    return times.instant(first(text), tx.zone) or Unfit(tx.text(text))


def time(text: str, tx: V2Transaction) -> Any:
    return times.time(first(text)) or Unfit(tx.text(text))


def language(text: str, tx: V2Transaction) -> Any:
    word = first(text)
    return word if _LANGUAGE.fullmatch(word) else Unfit(tx.text(text))


def code_map(codes: Codes, terms: Terms) -> Convert:
    """A coded field -> a code of FHIR's own. What the table does not know goes along beside the element."""
    fallback = codes.targets.get("*")

    def convert(text: str, tx: V2Transaction) -> Any:
        parts = components(text)
        for number in (1, 4):
            word = tx.text(part(parts, number)).strip()
            target = codes.find(word, part(parts, number + 2)) if word else None
            if target and target["to"]:
                return target["to"]
        word = tx.text(part(parts, 1) or part(parts, 4) or part(parts, 2)).strip()
        if not word:
            return None
        system = part(parts, 3)
        original = coding(terms.systems.resolve(system, tx.facility) if system else codes.system, word, tx.text(part(parts, 2)))
        tx.lose(f"code {word!r}", f"no row in codes/{codes.name}.csv")
        return Defaulted(fallback["to"], word, original) if fallback else Unfit(word, original)

    return cached(convert)


def coding_map(codes: Codes | None, terms: Terms) -> Convert:
    """CWE, CE, IS, ID -> Coding: the table's target, else what was sent."""
    concept = concept_map(codes, terms)

    def convert(text: str, tx: V2Transaction) -> Any:
        made = concept(text, tx)
        found = made.get("coding") if made else None
        return found[0] if found else {"display": made["text"]} if made else None

    return convert


def concept_map(codes: Codes | None, terms: Terms) -> Convert:
    """CWE, CE, CNE, IS, ID -> CodeableConcept with every coding that was sent; the table's target goes first."""

    def convert(text: str, tx: V2Transaction) -> Body | None:
        parts = components(text)
        codings: list[Body] = []
        for code, name, system, version in ((1, 2, 3, 7), (4, 5, 6, 8), (10, 11, 12, 13)):
            word, display = tx.text(part(parts, code)).strip(), tx.text(part(parts, name)).strip()
            if not word and (not display or code == 1):
                continue
            codings.extend(_codings(codes, terms, tx, (word, display, part(parts, system), part(parts, version))))
        words = tx.text(part(parts, 9)).strip() or ("" if part(parts, 1) else tx.text(part(parts, 2)).strip())
        concept: Body = {}
        if codings:
            concept["coding"] = codings
        if words:
            concept["text"] = words
        return concept or None

    return cached(convert)


def _codings(codes: Codes | None, terms: Terms, tx: V2Transaction, sent: tuple[str, str, str, str]) -> list[Body]:
    word, display, system, version = sent
    uri = terms.systems.resolve(system, tx.facility) if system else ""
    if codes is None:
        return [coding(uri, word, display, version)]
    target = codes.find(word, system)
    if not uri and (target or codes.open):
        uri = codes.system
    if not target or not target["to"]:
        if not codes.open and not target and not uri.startswith("http"):
            tx.lose(f"code {word!r}", f"no row in codes/{codes.name}.csv")
        return [coding(uri, word, display, version)]
    mapped = coding(target["system"] or codes.system, target["to"], target["display"])
    original = coding(uri, word, display, version)
    if mapped["code"] == original.get("code"):
        if mapped.get("system") == uri:
            return [{**mapped, **original}]
        if uri == codes.system and display in ("", mapped.get("display")):
            return [mapped]  # a v2 table that FHIR only gave another name
    return [mapped, original]


def first_text(text: str, tx: V2Transaction) -> str | None:
    """A coded element as one line of text (CWE[string])."""
    parts = components(text)
    return tx.text(part(parts, 9) or part(parts, 2) or part(parts, 1)).strip() or None


def quantity_map(units: Codes, terms: Terms) -> Convert:
    """CQ -> Quantity; also the bare NM that is sent in its place."""

    def convert(text: str, tx: V2Transaction) -> Body | None:
        parts = text.split("^") if "^" in text else text.split("&")
        value = decimal(part(parts, 1))
        rest = "^".join(parts[1:]).replace("&", "^") if len(parts) > 1 else ""
        quantity = {} if value is None else {"value": value}
        if value is None and part(parts, 1):
            return {"unit": tx.text(text.replace("^", " ").replace("&", " ")).strip()}
        return {**quantity, **unit_map(units, terms)(rest, tx)} or None

    return convert


def unit_map(units: Codes, terms: Terms) -> Convert:
    """A unit (OBX-6, CQ-2) -> unit, and system and code where they are known to be UCUM's."""

    def convert(text: str, tx: V2Transaction) -> Body:
        parts = components(text) if text else []
        word, name = tx.text(part(parts, 1)).strip(), tx.text(part(parts, 2)).strip()
        if not word and not name:
            return {}
        system = terms.systems.resolve(part(parts, 3), tx.facility) if part(parts, 3) else ""
        target = units.find(word, part(parts, 3)) or (units.find(name, "") if not word else None)
        made: Body = {"unit": name or word}
        if system == UCUM and word:
            made.update(system=UCUM, code=word)
        elif target and target["to"]:
            made.update(system=UCUM, code=target["to"])
        elif system and word:
            made.update(system=system, code=word)
        else:
            tx.lose(f"unit {word or name!r}", "no row in codes/units.csv")
        return made

    return cached(convert)


def days(text: str, tx: V2Transaction) -> Any:
    """A length of stay in days."""
    value = decimal(first(text))
    return None if value is None else {"value": value, "unit": "days", "system": UCUM, "code": "d"}


def nobody_knows(_: str, __: V2Transaction) -> Absent:
    return Absent()
