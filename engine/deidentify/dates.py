"""Dates moved by days, in the notation that they came in; what is no date becomes empty.

DICOM DA, DT (PS3.5 table 6.2-1) and HL7 DT, DTM (v2.5.1 §2.A.21) are digits, YYYY[MM[DD[HHMMSS…]]]; FHIR date and dateTime are ISO 8601.
The time of day and its zone stay. A date without a day is moved as if it were the middle of its month or year, and stays without a day.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

_DIGITS: Final = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{0,6}(?:\.\d{1,6})?)([+-]\d{4})?", re.ASCII)
_ISO: Final = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?(T[0-9:.]{5,20}(?:Z|[+-]\d{2}:\d{2})?)?", re.ASCII)
_OLD_DA: Final = re.compile(r"(\d{4})\.(\d{2})\.(\d{2})", re.ASCII)


def shifted_digits(text: str, shift: timedelta) -> str:
    """``20240131``, ``202401``, ``20240131083000.000+0800`` and ``2024.01.31`` of old DICOM, moved into the past."""
    found = _DIGITS.fullmatch(_OLD_DA.sub(r"\1\2\3", text.strip()))
    moved = _moved(found, shift) if found else None
    if found is None or moved is None or (found[4] and not found[3]):
        return ""
    words = f"{moved.year:04d}", f"{moved.month:02d}" if found[2] else "", f"{moved.day:02d}" if found[3] else ""
    return "".join((*words, found[4], found[5] or ""))


def shifted_iso(text: str, shift: timedelta) -> str:
    """``2024-01-31``, ``2024-01``, ``2024`` and ``2024-01-31T08:30:00+08:00``, moved into the past."""
    found = _ISO.fullmatch(text.strip())
    moved = _moved(found, shift) if found else None
    if found is None or moved is None or (found[4] and not found[3]):
        return ""
    words = [f"{moved.year:04d}", *([f"{moved.month:02d}"] if found[2] else []), *([f"{moved.day:02d}"] if found[3] else [])]
    return "-".join(words) + (found[4] or "")


def _moved(found: re.Match[str], shift: timedelta) -> date | None:
    try:
        return date(int(found[1]), int(found[2] or 7), int(found[3] or 15)) - shift
    except (ValueError, OverflowError):
        return None


def shifted_range(text: str, shift: timedelta) -> str:
    """A DICOM range (PS3.4 C.2.2.2.5): ``20240101-20240131``, open at either end; a single date too."""
    first, dash, last = text.partition("-") if re.fullmatch(r"[\d.]*-[\d.]*", text) else (text, "", "")
    moved = [shifted_digits(one, shift) if one.strip() else "" for one in (first, last)]
    return dash.join(moved) if dash else moved[0]


def notations(text: str) -> list[str]:
    """The ways in which a date of birth is written, of one in digits or ISO; none for what is no whole date."""
    found = _DIGITS.fullmatch(_OLD_DA.sub(r"\1\2\3", text.strip())) or _ISO.fullmatch(text.strip())
    if found is None or not found[2] or not found[3]:
        return []
    year, month, day = found[1], found[2], found[3]
    forms = [
        f"{year}{month}{day}",
        *(f"{day}{mark}{month}{mark}{year}" for mark in "./-"),
        f"{month}/{day}/{year}",
        f"{month}-{day}-{year}",
    ]
    forms += [f"{year}{mark}{month}{mark}{day}" for mark in "-./"]
    return [*forms, f"{year}年{int(month)}月{int(day)}日", f"{year}年{month}月{day}日"]
