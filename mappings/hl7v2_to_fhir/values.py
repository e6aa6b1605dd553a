"""OBX: the value by its type (OBX-2, table 0125), the reference range, and Encapsulated Data.

What does not fit its declared type stays as a string: an NM of `see comment` becomes valueString, never nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from mappings.conditions import View
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.context import Convert, V2Transaction, part
from mappings.hl7v2_to_fhir.primitives import decimal
from mappings.transaction import Body, Draft

Value = tuple[str, Any]
"""(element name such as valueQuantity, what it holds)"""

_ATTACHMENT: Final = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Observation.valueAttachment"
_COMPARATORS: Final = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "≤": "<=", "≥": ">=", "=<": "<=", "=>": ">="}
_COMPARED: Final = re.compile(r"(<=|>=|=<|=>|<|>|≤|≥)\s*([+-]?\d*\.?\d+)")
_RANGE: Final = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:-|–|~|～|--|to|至)\s*([+-]?\d+(?:\.\d+)?)")
_MEDIA: Final = {"AP": "application", "AU": "audio", "FT": "text", "IM": "image", "NS": "image", "SD": "application", "SI": "image"}
_TOP_LEVEL: Final = frozenset(("application", "audio", "image", "text", "video", "multipart", "model"))
_TEXT_TYPES: Final = frozenset(("ST", "FT", "TX", "VR", ""))


class Values:
    """Reads OBX-5 and OBX-7; needs the maps for concepts and units."""

    def __init__(self, concept: Convert, unit: Convert) -> None:
        self._concept = concept
        self._unit = unit
        self._ranges: dict[tuple[str, str], Body] = {}
        self._by_type: dict[str, Callable[[str, str, V2Transaction], Value | None]] = {
            **dict.fromkeys(("NM", "SI", "MO"), self._number),
            **dict.fromkeys(("CE", "CWE", "CF", "CNE", "IS", "ID", "CNN"), self._coded),
            **dict.fromkeys(("DT", "TS", "DTM"), self._moment),
            "TM": self._time,
            "SN": self._structured,
            "CQ": self._composite,
            "DR": self._period,
            "NR": self._range,
            **dict.fromkeys(("NA", "MA"), self._samples),
        }

    def value(self, raw: str, draft: Draft, tx: V2Transaction, view: View) -> None:
        """OBX-5 -> value[x], components where it repeats, an attachment for ED and RP."""
        fields = view["OBX"]
        kind = fields[2] if len(fields) > 2 else ""
        unit = fields[6] if len(fields) > 6 else ""
        if kind in ("ED", "RP"):
            self._attach(raw, kind, draft, tx)
        elif kind in _TEXT_TYPES or "~" not in raw:
            self._put(draft.body, self.read(kind, raw.replace("~", "\n") if kind in _TEXT_TYPES else raw, unit, tx))
        else:
            self._components(kind, raw, unit, draft, tx)

    def _components(self, kind: str, raw: str, unit: str, draft: Draft, tx: V2Transaction) -> None:
        for repetition in raw.split("~"):
            component: Body = {}
            self._put(component, self.read(kind, repetition, unit, tx) if repetition else None)
            if component:
                code = draft.body.get("code")
                draft.body.setdefault("component", []).append({"code": code, **component} if code else component)

    @staticmethod
    def _put(body: Body, value: Value | None) -> None:
        if value is not None:
            body[value[0]] = value[1]

    def read(self, kind: str, text: str, unit: str, tx: V2Transaction) -> Value | None:
        """One repetition as value[x]; a string where its type cannot hold it."""
        if not text or text == '""':
            return None
        reader = self._by_type.get(kind)
        found = reader(text, unit, tx) if reader else None
        if found is not None:
            return found
        words = tx.text(text)
        if kind not in _TEXT_TYPES:
            tx.lose(f"a value of type {kind}", "kept as text")
        return ("valueString", words) if words.strip() else None

    def _quantity(self, value: orjson.Fragment, unit: str, tx: V2Transaction, comparator: str = "") -> Body:
        quantity: Body = {"value": value}
        if comparator:
            quantity["comparator"] = comparator
        return {**quantity, **self._unit(unit, tx)} if unit and unit != '""' else quantity

    def _number(self, text: str, unit: str, tx: V2Transaction) -> Value | None:
        value = decimal(text)
        if value is not None:
            return "valueQuantity", self._quantity(value, unit, tx)
        compared = _COMPARED.fullmatch(tx.text(text).strip())
        limit = decimal(compared[2]) if compared else None
        if compared is None or limit is None:
            return None
        return "valueQuantity", self._quantity(limit, unit, tx, _COMPARATORS[compared[1]])

    def _coded(self, text: str, _: str, tx: V2Transaction) -> Value | None:
        concept = self._concept(text, tx)
        return ("valueCodeableConcept", concept) if concept else None

    def _moment(self, text: str, _: str, tx: V2Transaction) -> Value | None:
        value = times.date_time(text.split("^", 1)[0], tx.zone)
        return ("valueDateTime", value) if value else None

    def _time(self, text: str, _: str, tx: V2Transaction) -> Value | None:
        value = times.time(text.split("^", 1)[0])
        return ("valueTime", value) if value else None

    def _structured(self, text: str, unit: str, tx: V2Transaction) -> Value | None:
        """SN (v2.5.1 §2.A.71): comparator, number, separator or suffix, number."""
        parts = text.split("^")
        comparator, mark = tx.text(part(parts, 1)).strip(), part(parts, 3)
        low, high = decimal(part(parts, 2)), decimal(part(parts, 4))
        sign = _COMPARATORS.get(comparator, "")
        odd = bool(comparator) and not sign and comparator != "="
        if not odd and low is not None:
            if mark in (":", "/") and high is not None:
                numerator = self._quantity(low, unit, tx, sign)
                return "valueRatio", {"numerator": numerator, "denominator": self._quantity(high, unit, tx)}
            if mark == "-" and high is not None and not sign:
                return "valueRange", {"low": self._quantity(low, unit, tx), "high": self._quantity(high, unit, tx)}
            if not mark and high is None and not part(parts, 4):
                return "valueQuantity", self._quantity(low, unit, tx, sign)
        sent = [comparator, *(tx.text(part(parts, n)) for n in (2, 3, 4)), tx.text(unit.split("^", 1)[0])]
        words = " ".join(word for word in sent if word)
        return ("valueString", words) if words else None

    def _composite(self, text: str, unit: str, tx: V2Transaction) -> Value | None:
        number, _, own = text.partition("^")
        value = decimal(number)
        return None if value is None else ("valueQuantity", self._quantity(value, own.replace("&", "^") or unit, tx))

    def _period(self, text: str, _: str, tx: V2Transaction) -> Value | None:
        period = period_of(text, tx)
        return ("valuePeriod", period) if period else None

    def _range(self, text: str, unit: str, tx: V2Transaction) -> Value | None:
        parts = text.split("^")
        made = {
            name: self._quantity(value, unit, tx) for name, n in (("low", 1), ("high", 2)) if (value := decimal(part(parts, n))) is not None
        }
        return ("valueRange", made) if made else None

    def _samples(self, text: str, unit: str, tx: V2Transaction) -> Value | None:
        words = text.replace("~", "^").split("^")
        if any(word and decimal(word) is None for word in words):
            return None
        origin = self._quantity(orjson.Fragment("0"), unit, tx)
        data = " ".join(word or "E" for word in words)
        dimensions = text.split("~", 1)[0].count("^") + 1
        return "valueSampledData", {"origin": origin, "period": 1, "dimensions": dimensions, "data": data}

    def _attach(self, raw: str, kind: str, draft: Draft, tx: V2Transaction) -> None:
        for repetition in raw.split("~"):
            attachment = encapsulated(repetition, tx) if kind == "ED" else pointer(repetition, tx)
            if attachment:
                draft.body.setdefault("extension", []).append({"url": _ATTACHMENT, "valueAttachment": attachment})

    def reference_range(self, raw: str, draft: Draft, tx: V2Transaction, view: View) -> None:
        """OBX-7: the text, and low and high where it says nothing else."""
        fields = view["OBX"]
        unit = fields[6] if len(fields) > 6 and fields[6] != '""' else ""
        found = self._ranges.get((raw, unit)) if tx.losses is None else None
        if found is None:
            found = self._read_range(tx.text(raw).strip(), unit, tx)
            if len(self._ranges) > 4096:
                self._ranges.clear()
            self._ranges[raw, unit] = found
        if found:
            draft.body["referenceRange"] = [found]

    def _read_range(self, text: str, unit: str, tx: V2Transaction) -> Body:
        if not text:
            return {}
        made: Body = {}
        both = _RANGE.fullmatch(text)
        one = _COMPARED.fullmatch(text)
        if both and float(both[1]) <= float(both[2]):
            low, high = decimal(both[1]), decimal(both[2])
            if low is not None and high is not None:
                made = {"low": self._quantity(low, unit, tx), "high": self._quantity(high, unit, tx)}
        elif one and (limit := decimal(one[2])) is not None:
            made = {"high" if _COMPARATORS[one[1]].startswith("<") else "low": self._quantity(limit, unit, tx)}
        return {**made, "text": text}


def period_of(text: str, tx: V2Transaction) -> Body | None:
    """DR -> Period."""
    parts = text.split("^") if "^" in text else text.split("&")
    made = {name: value for name, n in (("start", 1), ("end", 2)) if part(parts, n) and (value := times.date_time(part(parts, n), tx.zone))}
    return made or None


def encapsulated(text: str, tx: V2Transaction) -> Body | None:
    """ED (v2.5.1 §2.A.24) -> Attachment; ED.4 is A (text), Hex or Base64."""
    parts = text.split("^")
    kind, subtype, encoding, data = (part(parts, number).strip() for number in (2, 3, 4, 5))
    attachment: Body = {}
    media = _media_type(kind, subtype)
    if media:
        attachment["contentType"] = media
    if data:
        attachment["data"] = _base64(data, encoding.upper(), tx)
    return attachment or None


def _media_type(kind: str, subtype: str) -> str:
    if "/" in subtype:
        return subtype.lower()
    top = _MEDIA.get(kind.upper(), kind.lower())
    top = top if top in _TOP_LEVEL else {"pdf": "application", "rtf": "application"}.get(subtype.lower(), "")
    if not subtype:
        return {"text": "text/plain", "application": "application/octet-stream"}.get(top, "")
    return f"{top}/{subtype.lower()}" if top else subtype.lower()


def _base64(data: str, encoding: str, tx: V2Transaction) -> str:
    plain = tx.text(data)
    try:
        if encoding == "BASE64":
            squeezed = "".join(plain.split())
            base64.b64decode(squeezed, validate=True)
            return squeezed
        if encoding == "HEX":
            return base64.b64encode(bytes.fromhex(plain)).decode()
    except (binascii.Error, ValueError):
        tx.lose(f"data declared as {encoding}", "is not; the text as sent was encoded")
    return base64.b64encode(plain.encode()).decode()


def pointer(text: str, tx: V2Transaction) -> Body | None:
    """RP (v2.5.1 §2.A.65) -> Attachment that points elsewhere."""
    parts = text.split("^")
    where, media = tx.text(part(parts, 1)).strip(), _media_type(part(parts, 3), part(parts, 4))
    attachment: Body = {}
    if where:
        attachment["url"] = where.replace(" ", "%20")
        if part(parts, 2):
            attachment["title"] = tx.text(part(parts, 2).replace("&", " ").strip())
    if media:
        attachment["contentType"] = media
    return attachment or None
