"""TQ, RI and RPT -> Timing. Only what is certain becomes structure; the pattern is always kept as a code or text."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final

from mappings.conditions import View
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.context import V2Transaction, part
from mappings.hl7v2_to_fhir.primitives import UCUM, decimal
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body, Draft

_EVERY: Final = re.compile(r"Q(\d+)([SMHDWL])")
_UNITS: Final = {"S": "s", "M": "min", "H": "h", "D": "d", "W": "wk", "L": "mo"}
_DAILY: Final = {"QD": 1, "BID": 2, "TID": 3, "QID": 4}
_PERIOD_UNITS: Final = frozenset(("s", "min", "h", "d", "wk", "mo", "a"))
_REPEAT_CODES: Final = TERMINOLOGY + "v2-0335"
_DURATION: Final = re.compile(r"([SMHDWL])(\d+)")


def pattern(words: str, tx: V2Transaction) -> Body:
    """A repeat pattern (table 0335) as Timing: structured for Qnx and the daily ones, else as its code."""
    code = tx.text(words).strip()
    every = _EVERY.fullmatch(code)
    if every and int(every[1]) > 0:
        repeat = {"frequency": 1, "period": int(every[1]), "periodUnit": _UNITS[every[2]]}
        return {"repeat": repeat, "code": {"coding": [coding(_REPEAT_CODES, code)]}}
    if code in _DAILY:
        return {"repeat": {"frequency": _DAILY[code], "period": 1, "periodUnit": "d"}, "code": {"coding": [coding(_REPEAT_CODES, code)]}}
    return {"code": {"text": code}} if code else {}


def bounds(start: str, end: str, tx: V2Transaction) -> Body:
    """boundsPeriod of two TS."""
    made = {name: value for name, text in (("start", start), ("end", end)) if text and (value := times.date_time(text, tx.zone))}
    return {"boundsPeriod": made} if made else {}


def tq(text: str, tx: V2Transaction) -> Body | None:
    """TQ (v2.5.1 §2.A.81): interval, duration, start, end, text, occurrences."""
    parts = text.split("^")
    interval = part(parts, 2).split("&")
    timing = pattern(part(interval, 1), tx)
    limits = bounds(part(parts, 4), part(parts, 5), tx)
    duration = _DURATION.fullmatch(part(parts, 3))
    if duration and not limits:
        unit = _UNITS[duration[1]]
        limits = {"boundsDuration": {"value": int(duration[2]), "unit": unit, "system": UCUM, "code": unit}}
    count = part(parts, 12)
    if count.isdecimal() and 0 < int(count) < 10**6:
        limits["count"] = int(count)
    clock = [value for word in part(interval, 2).split(",") if word and (value := times.time(word))]
    if clock:
        limits["timeOfDay"] = clock
    if limits:
        timing.setdefault("repeat", {}).update(limits)
    if part(parts, 8):
        timing.setdefault("code", {}).setdefault("text", tx.text(part(parts, 8)))
    return timing or None


def rpt(text: str, tx: V2Transaction) -> Body | None:
    """RPT (v2.5.1 §2.A.66): pattern code, period quantity and units."""
    parts = text.split("^")
    timing = pattern(part(parts, 1).split("&", 1)[0], tx)
    period, unit = decimal(part(parts, 5)), part(parts, 6).split("&", 1)[0]
    if period is not None and unit in _PERIOD_UNITS:
        timing["repeat"] = {"frequency": 1, "period": period, "periodUnit": unit}
    return timing or None


def procedure_start(text: str, tx: V2Transaction) -> Any:
    """PR1-5 where PR1-7 tells the length: a period; its end is put by procedure_end."""
    start = times.date_time(text.split("^", 1)[0], tx.zone)
    return {"start": start} if start else None


def procedure_end(raw: str, draft: Draft, tx: V2Transaction, view: View) -> None:
    """PR1-7, minutes: the end of a period whose start has a time of day."""
    period = draft.body.get("performedPeriod")
    if period and len(period["start"]) > 10 and raw.isdecimal() and len(raw) < 6:
        period["end"] = (datetime.fromisoformat(period["start"]) + timedelta(minutes=int(raw))).isoformat()
