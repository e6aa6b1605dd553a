"""Text of a column -> a value of a FHIR type. What does not fit its element is kept beside it (mappings.transaction.Unfit), not guessed."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from mappings.hl7v2_to_fhir import loading as v2
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.context import V2Transaction, escaped
from mappings.hl7v2_to_fhir.primitives import UCUM, decimal
from mappings.hl7v2_to_fhir.terminology import Codes, coding
from mappings.transaction import Body, Defaulted, Unfit

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\ud800-\udfff]")
_INTEGER: Final = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_TRUE: Final = frozenset(("true", "t", "1", "y", "yes", "是"))
_FALSE: Final = frozenset(("false", "f", "0", "n", "no", "否"))
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_EXPONENT: Final = re.compile(r"[+-]?\d+(?:\.\d*)?[eE][+-]?\d{1,2}", re.ASCII)
UNMAPPED: Final = {"system": "urn:meridian:mapping", "code": "unmapped-code", "display": "A code that no table of the site knows"}


@dataclass(slots=True)
class RowTransaction(V2Transaction):
    """One record's transaction; `unmapped` counts the codes that no table knew in the resource at hand."""

    unmapped: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """What a rule says beside its source; `display` and `unit` are texts of the row already."""

    codes: Codes | None = None
    system: str = ""
    authority: str = ""
    type: str = ""
    use: str = ""
    zone: ZoneInfo | None = None
    form: str | None = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """What other columns say of the same thing."""

    display: str = ""
    unit: str = ""


Convert = Callable[[str, Options, Beside, RowTransaction], Any]


def clean(text: str) -> str:
    """What a FHIR string can hold (FHIR R4, datatypes#string)."""
    return _CONTROL.sub(" ", text).strip()


def _string(text: str, *_: Any) -> str | None:
    return clean(text) or None


def _boolean(text: str, *_: Any) -> Any:
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else Unfit(clean(text))


def _whole(low: int, text: str, *_: Any) -> Any:
    word = text.strip()
    fits = _INTEGER.fullmatch(word) is not None and low <= int(word) < 2**31
    return int(word) if fits else Unfit(clean(text))


def number(text: str) -> Any:
    """A decimal with its digits, None where it is none; one with an exponent is written out."""
    word = text.strip()
    if _EXPONENT.fullmatch(word):
        from decimal import Decimal

        word = format(Decimal(word), "f")
    return decimal(word)


def _decimal(text: str, *_: Any) -> Any:
    found = number(text)
    return Unfit(clean(text)) if found is None else found


def _code(text: str, options: Options, _: Beside, tx: RowTransaction) -> Any:
    word = " ".join(clean(text).split())
    if not word:
        return None
    if options.codes is None:
        return word if not options.allowed or word in options.allowed else _unknown(word, options, tx)
    target = options.codes.find(word, "")
    if target and target["to"]:
        return target["to"]
    return _unknown(word, options, tx)


def _unknown(word: str, options: Options, tx: RowTransaction) -> Any:
    tx.unmapped += 1
    fallback = options.codes.targets.get("*") if options.codes else None
    original = coding(options.codes.system if options.codes else "", word)
    return Defaulted(fallback["to"], word, original) if fallback else Unfit(word, original)


def _codings(text: str, options: Options, beside: Beside, tx: RowTransaction) -> list[Body]:
    word, codes = " ".join(clean(text).split()), options.codes
    own = coding(options.system or (codes.system if codes else ""), word, clean(beside.display))
    target = codes.find(word, options.system) if codes else None
    if target and target["to"]:
        mapped = coding(target["system"] or codes.system if codes else "", target["to"], target["display"])
        same = (mapped.get("system"), mapped["code"]) == (own.get("system"), own.get("code"))
        return [{**mapped, **own}] if same else [mapped, own]
    if codes is not None and not codes.open:
        tx.unmapped += 1
    return [own]


def _coding(text: str, options: Options, beside: Beside, tx: RowTransaction) -> Body | None:
    return _codings(text, options, beside, tx)[0] if clean(text) else None


def _concept(text: str, options: Options, beside: Beside, tx: RowTransaction) -> Body | None:
    """Every coding, the table's first; of text without table and system, the text."""
    word, shown = clean(text), clean(beside.display)
    if not word:
        return {"text": shown} if shown else None
    if options.codes is None and not options.system:
        return {"text": word}
    return {"coding": _codings(text, options, beside, tx), **({"text": shown} if shown else {})}


def _quantity(units: Codes, text: str, options: Options, beside: Beside, tx: RowTransaction) -> Any:
    """A number with its unit, as UCUM where the table of units knows it; ``<0.5`` has a comparator."""
    word = text.strip()
    comparator = next((mark for mark in ("<=", ">=", "<", ">") if word.startswith(mark)), "")
    value = number(word.removeprefix(comparator))
    if value is None:
        return {"extension": [Unfit(clean(text)).extension]} if clean(text) else None
    made: Body = {"value": value, **({"comparator": comparator} if comparator else {})}
    unit = clean(beside.unit)
    if unit:
        target = units.find(unit, "")
        made["unit"] = unit
        if options.system:
            made |= {"system": options.system, "code": unit}
        elif target and target["to"]:
            made |= {"system": UCUM, "code": target["to"]}
        else:
            tx.unmapped += 1
    return made


def measured(text: str) -> bool:
    """Whether it is a number, with a comparator or without."""
    return number(text.strip().lstrip("<>=")) is not None


def _identifier(cx: Callable[[str, V2Transaction], Any], text: str, options: Options, _: Beside, tx: RowTransaction) -> Body | None:
    """As HL7 v2's CX (v2.5.1 clause 2.A.14), so that a number is the same identifier whichever way it has come."""
    value = clean(text)
    if not value:
        return None
    made: Body | None = cx(f"{escaped(value)}^^^{escaped(options.authority)}^{escaped(options.type)}", tx)
    if made is None:
        return None
    if options.system:
        made = {**made, "system": options.system}
        made.pop("assigner", None)
    return {**({"use": options.use} if options.use else {}), **made}


def _name(text: str, options: Options, *_: Any) -> Body | None:
    value = clean(text)
    return {**({"use": options.use} if options.use else {}), "text": value} if value else None


def _contact(text: str, options: Options, *_: Any) -> Body | None:
    value = clean(text)
    said = {"system": options.system or "phone", "value": value, "use": options.use}
    return {name: part for name, part in said.items() if part} if value else None


def _in_member(member: str, text: str, *_: Any) -> Body | None:
    value = clean(text)
    return {member: value} if value else None


def _binary(text: str, *_: Any) -> Any:
    try:
        b64decode(text, validate=True)
    except ValueError:
        return Unfit("not base64")
    return text or None


def _id(text: str, *_: Any) -> Any:
    return text.strip() if _ID.fullmatch(text.strip()) else Unfit(clean(text))


def _uri(text: str, *_: Any) -> Any:
    word = clean(text)
    return word if word and " " not in word else Unfit(word)


# --- times ---------------------------------------------------------------------------------------


def _date_time(text: str, options: Options) -> str | None:
    """As FHIR dateTime with the precision that it has; None where it is no time that exists, or its offset is nowhere said."""
    word = text.strip()
    if options.form is not None:
        try:
            read = datetime.strptime(word, options.form)  # noqa: DTZ007 - whether it has a zone is asked below
        except ValueError:
            return None
        word = read.isoformat() if any(mark in options.form for mark in ("%H", "%I", "%X", "%c")) else read.date().isoformat()
    word = re.sub(r"(\.\d{6})\d+", r"\1", word)
    made = times.date_time(word, "+00:00")
    if made is None or len(made) <= 10 or times.offset_of(word):
        return made
    return _placed(made.removesuffix("+00:00"), options.zone)


def _placed(local: str, zone: ZoneInfo | None) -> str | None:
    """None where the zone's clocks showed it twice or never."""
    if zone is None:
        return None
    at = datetime.fromisoformat(local)
    first, second = at.replace(tzinfo=zone), at.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second.utcoffset():
        return None
    return local + first.isoformat()[-6:]


def _time_of(least: int, most: int, text: str, options: Options, *_: Any) -> Any:
    made = _date_time(text, options)
    return Unfit(clean(text)) if made is None or len(made) < least else made[:most]


def _time(text: str, options: Options, *_: Any) -> Any:
    word = text.strip()
    if options.form is not None:
        try:
            word = datetime.strptime(word, options.form).time().isoformat()  # noqa: DTZ007
        except ValueError:
            return Unfit(clean(text))
    return times.time(word) or Unfit(clean(text))


# --- by type -------------------------------------------------------------------------------------


def converters(shared: v2.Compiled) -> Mapping[str, Convert]:
    """FHIR type -> what makes it of text."""
    quantity = partial(_quantity, shared.vocabulary.terms.codes["units"])
    found: dict[str, Convert] = dict.fromkeys(("string", "markdown"), _string)
    found |= dict.fromkeys(("uri", "url", "canonical", "oid", "uuid"), _uri)
    found |= dict.fromkeys(("Quantity", "Age", "Duration", "Count", "Distance", "SimpleQuantity"), quantity)
    return {
        **found,
        "id": _id,
        "code": _code,
        "boolean": _boolean,
        "integer": partial(_whole, -(2**31)),
        "unsignedInt": partial(_whole, 0),
        "positiveInt": partial(_whole, 1),
        "decimal": _decimal,
        "date": partial(_time_of, 4, 10),
        "dateTime": partial(_time_of, 4, 40),
        "instant": partial(_time_of, 11, 40),
        "time": _time,
        "base64Binary": _binary,
        "CodeableConcept": _concept,
        "Coding": _coding,
        "Identifier": partial(_identifier, shared.vocabulary.converter("CX", "")),
        "HumanName": _name,
        "ContactPoint": _contact,
        "Address": partial(_in_member, "text"),
        "Annotation": partial(_in_member, "text"),
        "Reference": partial(_in_member, "display"),
    }
