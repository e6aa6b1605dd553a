"""FHIR instants and the comparisons of search on dates (R4 2.24.0.1, 3.1.1.4.7), in microseconds since 1970-01-01 UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Final

from adapters.fhir.outcome import FhirRefusal

_DATE: Final = re.compile(
    r"(?P<prefix>eq|ge|gt|le|lt|sa|eb)?(?P<date>(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?)"
)
_END_OF_TIME: Final = 1 << 62


def instant(microseconds: int) -> str:
    """``2024-05-01T08:30:00.123Z``."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{microseconds // 1000 % 1000:03d}Z"


def http_date(microseconds: int) -> str:
    """``Wed, 01 May 2024 08:30:00 GMT`` (RFC 9110 5.6.7)."""
    return formatdate(microseconds / 1e6, usegmt=True)


def comparison(value: str) -> tuple[int, int]:
    """``ge2024-05`` as a half-open range of microseconds. A time without zone is read as UTC. Raises FhirRefusal 400."""
    match = _DATE.fullmatch(value.replace(" ", "+"))  # a + that was not percent-encoded arrives as a space
    if match is None:
        raise FhirRefusal(400, "a date needs the form ge2024-05-01T08:30:00Z", issue="value")
    try:
        low, high = _bounds(match)
    except (ValueError, OverflowError) as error:
        raise FhirRefusal(400, "there is no such date", issue="value") from error
    prefix = match["prefix"] or "eq"
    return {
        "eq": (low, high), "ge": (low, _END_OF_TIME), "gt": (high, _END_OF_TIME), "sa": (high, _END_OF_TIME),
        "le": (0, high), "lt": (0, low), "eb": (0, low),
    }[prefix]  # fmt: skip


def _bounds(match: re.Match[str]) -> tuple[int, int]:
    """The first microsecond that a date of any precision covers, and the first one after it."""
    year, month, day, hour, minute, second, fraction, zone = match.group(3, 4, 5, 6, 7, 8, 9, 10)
    start = datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
    if zone and zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        start -= offset if zone[0] == "+" else -offset
    low = int((start - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    if fraction:
        low += int(fraction.ljust(6, "0"))
        return low, low + int(10 ** (6 - len(fraction)))
    if month is None:
        return low, low + _span(start, start.replace(year=start.year + 1))
    if day is None:
        return low, low + _span(start, (start + timedelta(days=32)).replace(day=1))
    step = 86_400 if hour is None else 60 if second is None else 1
    return low, low + step * 1_000_000


def _span(start: datetime, end: datetime) -> int:
    return int((end - start) / timedelta(microseconds=1))
