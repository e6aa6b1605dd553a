"""Partial dates (R4 date, dateTime, instant) as the range of time that they cover: ``1971-03`` is all of that March."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
)


def days(text: str) -> tuple[date | None, date | None]:
    """The first day that a date covers and the first one after it; None where there is no such day."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None, None
    year, month, day = (int(part) if part else 0 for part in match.group(1, 2, 3))
    try:
        first = date(year, month or 1, day or 1)
    except ValueError:
        return None, None
    try:
        if day:
            return first, first + timedelta(days=1)
        return first, date(year + 1, 1, 1) if not month else (first + timedelta(days=31)).replace(day=1)
    except (ValueError, OverflowError):  # the end of the year 9999 is after all that a date can say
        return first, None


def instants(text: str, zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    """The first microsecond UTC that a date or time covers and the first one after it. What names no zone is of `zone`."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None, None
    hour, minute, second, fraction, offset = match.group(4, 5, 6, 7, 8)
    if hour is None:
        first, after = days(text)
        return _midnight(first, zone), _midnight(after, zone)
    year, month, day = (int(part) for part in match.group(1, 2, 3))
    leap = second == "60"  # FHIR allows the leap second, Python does not
    try:
        local = datetime(year, month, day, int(hour), int(minute), 59 if leap else int(second or 0), tzinfo=UTC)
        low = (local.replace(tzinfo=zone).astimezone(UTC) if offset is None else local - _offset(offset)) + leap * _SECOND
        low += timedelta(microseconds=int((fraction or "0")[:6].ljust(6, "0")))
        step = (
            timedelta(minutes=1) if second is None else _SECOND if not fraction else timedelta(microseconds=10 ** max(0, 6 - len(fraction)))
        )
    except (ValueError, OverflowError):
        return None, None
    return low, low + step if low <= _END - step else None


_END: Final = datetime.max.replace(tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


def _midnight(day: date | None, zone: tzinfo) -> datetime | None:
    if day is None:
        return None
    try:
        return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return None


def _offset(text: str) -> timedelta:
    if text == "Z":
        return timedelta(0)
    size = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return size if text[0] == "+" else -size
