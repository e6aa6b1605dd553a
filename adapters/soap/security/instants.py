"""xsd:dateTime with a zone <-> microseconds since 1970 UTC (WSS 1.1 clause 10: times are UTC; an offset is understood)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_INSTANT: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(text: str) -> int:
    """Raises ValueError for what is no instant: a time without a zone is none."""
    found = _INSTANT.fullmatch(text.strip(" \t\r\n"))
    if found is None:
        raise ValueError("not a date and time with a zone")
    date = datetime(*map(int, found.group(1, 2, 3, 4, 5, 6)), tzinfo=UTC)  # type: ignore[misc,arg-type]
    hours, minutes = int(found[9] or 0), int(found[10] or 0)
    if hours > 14 or minutes > 59:
        raise ValueError("not an offset from UTC")
    offset = timedelta(hours=hours, minutes=minutes)
    fraction = int((found[7] or "0").ljust(6, "0")[:6])
    return (date - _EPOCH + (offset if found[8] == "-" else -offset)) // timedelta(microseconds=1) + fraction


def instant(at: int) -> str:
    """To the millisecond, as most toolkits can read."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
