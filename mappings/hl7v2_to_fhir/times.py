"""HL7 v2 times (DT, TM, TS, DTM; v2.5.1 §2.A.22) -> FHIR date, dateTime, instant and time, with the precision kept.

A FHIR time of day needs an offset from UTC. It is the value's own, else the one in MSH-7 (which holds for the whole
message), else the one zones.csv gives for the facility. FHIR knows no hour or minute precision: what is missing
below the hour is filled with zeros.
"""

from __future__ import annotations

import re
from datetime import date as calendar_date
from functools import lru_cache
from typing import Final

_V2: Final = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?")
_ISO: Final = re.compile(r"(\d{4})(?:[-/](\d\d?)(?:[-/](\d\d?)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(\.\d{1,6})?)?)?)?)?)?(Z|[+-]\d\d:?\d\d)?")
_TIME: Final = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(\.\d{1,6})?)?)?(?:[+-]\d{4})?")
OFFSET: Final = re.compile(r"[+-](?:0\d|1[0-4]):?[0-5]\d")


@lru_cache(maxsize=8192)
def date_time(text: str, zone: str) -> str | None:
    """`text` as FHIR dateTime; None where it is no time that exists."""
    match = _V2.fullmatch(text) or _ISO.fullmatch(text)
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    if not _exists(year, month, day):
        return None
    if day is None or hour is None:
        return "-".join(part.zfill(2) for part in (year, month, day) if part)
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        return None
    own = colon(offset) if offset else zone
    return f"{year}-{month:0>2}-{day:0>2}T{hour}:{minute or '00'}:{second or '00'}{fraction or ''}{own}" if own else None


def date(text: str, zone: str) -> str | None:
    """The day (or month, or year) of `text`."""
    value = date_time(text, zone)
    return value[:10] if value else None


def instant(text: str, zone: str) -> str | None:
    """`text` as FHIR instant; None where it has no time of day."""
    value = date_time(text, zone)
    return value if value and len(value) > 10 else None


def time(text: str) -> str | None:
    """`text` as FHIR time."""
    match = _TIME.fullmatch(text)
    if not match or int(match[1]) > 23 or int(match[2] or 0) > 59 or int(match[3] or 0) > 59:
        return None
    return f"{match[1]}:{match[2] or '00'}:{match[3] or '00'}{match[4] or ''}"


def offset_of(text: str) -> str:
    """The offset that `text` carries, as +hh:mm, or ""."""
    match = _V2.fullmatch(text) or _ISO.fullmatch(text)
    return colon(match[8]) if match and match[8] else ""


def colon(offset: str) -> str:
    """+0800 -> +08:00"""
    if offset == "Z":
        return "+00:00"
    return "" if not OFFSET.fullmatch(offset) else offset if ":" in offset else f"{offset[:3]}:{offset[3:]}"


def _exists(year: str, month: str | None, day: str | None) -> bool:
    try:
        calendar_date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return False
    return True
