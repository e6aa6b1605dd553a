"""From the text that a message has to the value that a database takes, and to the form that each driver takes it in. Pure.

What does not fit is refused, never rounded, shortened or guessed; the text of the refusal holds no value.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from adapters.database.values import placed
from engine.formats.rows import exact

KINDS: Final = ("text", "integer", "decimal", "float", "date", "time", "datetime", "instant", "boolean", "binary", "json")

_WHEN: Final = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)"
    r"(?:[T ]?(\d\d)(?::?(\d\d)(?::?(\d\d)(\.\d{1,9})?)?)?)?\s?(Z|[+-]\d\d:?\d\d)?"
)
"""ISO 8601 (FHIR) and HL7 v2's DTM (v2.5.1 clause 2.A.22), to the day at least."""
_TIME: Final = re.compile(r"(\d\d):?(\d\d)(?::?(\d\d)(\.\d{1,9})?)?")
_INTEGER: Final = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_TRUE: Final = frozenset(("true", "t", "1", "y", "yes", "是"))
_FALSE: Final = frozenset(("false", "f", "0", "n", "no", "否"))


class Misfit(ValueError):
    """A value cannot be of its type. The text holds no value."""


def converted(value: Any, kind: str, zone: ZoneInfo | None, form: str | None = None) -> Any:
    """`value` as `kind`; what is no text comes from a record and has its own type already. None stays None. Raises Misfit."""
    if value is None:
        return None
    try:
        return _CONVERT[kind](_spoken(value, kind), zone, form)
    except (ValueError, ArithmeticError) as error:
        raise Misfit(error.args[0] if isinstance(error, Misfit) else f"is no {kind}") from None


def _spoken(value: Any, kind: str) -> str:
    if isinstance(value, str):
        return value if kind in ("text", "json") else value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, bytes):
        raise Misfit(f"is binary, no {kind}")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _integer(text: str, *_: Any) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError
    return int(text)


def _decimal(text: str, *_: Any) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    return Decimal(text)


def _float(text: str, *_: Any) -> float:
    return float(_decimal(text))


def _boolean(text: str, *_: Any) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _read(text: str, form: str | None) -> datetime:
    """A day, with its time where there is one."""
    if form is not None:
        return datetime.strptime(text, form)  # noqa: DTZ007 - whether it has a zone is what is asked next
    match = _WHEN.fullmatch(text)
    if match is None:
        raise ValueError
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    zone = "+00:00" if offset == "Z" else offset or ""
    micro = (fraction or ".0")[1:7].ljust(6, "0")
    return datetime.fromisoformat(f"{year}-{month}-{day}T{hour or '00'}:{minute or '00'}:{second or '00'}.{micro}{zone}")


def _date(text: str, zone: ZoneInfo | None, form: str | None) -> date:
    """The day as it is written."""
    return _read(text, form).date()


def _time(text: str, zone: ZoneInfo | None, form: str | None) -> time:
    if form is not None:
        return _read(text, form).time()
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError
    hour, minute, second, fraction = match.groups()
    return time(int(hour), int(minute), int(second or 0), int((fraction or ".0")[1:7].ljust(6, "0")))


def _datetime(text: str, zone: ZoneInfo | None, form: str | None) -> datetime:
    """Local time of `zone`; what has an offset is brought there."""
    at = _read(text, form)
    if at.tzinfo is None:
        return at
    if zone is None:
        raise Misfit("has an offset from UTC; `zone` must say whose local time the column holds")
    return at.astimezone(zone).replace(tzinfo=None)


def _instant(text: str, zone: ZoneInfo | None, form: str | None) -> datetime:
    at = _read(text, form)
    if at.tzinfo is None:
        if zone is None:
            raise Misfit("has no offset from UTC; `zone` must say which local time it is")
        at = placed(at, zone)
    if at.tzinfo is None:
        raise Misfit("is a local time that clocks showed twice, or never")
    return at.astimezone(UTC)


def _json(text: str, *_: Any) -> str:
    exact(text)
    return text


_CONVERT: Final[dict[str, Callable[..., Any]]] = {
    "text": lambda text, *_: text,
    "integer": _integer,
    "decimal": _decimal,
    "float": _float,
    "boolean": _boolean,
    "date": _date,
    "time": _time,
    "datetime": _datetime,
    "instant": _instant,
    "binary": lambda text, *_: b64decode(text, validate=True),
    "json": _json,
}


def for_driver(value: Any, backend: str) -> Any:
    """As the driver of a database takes it: SQLite knows no decimals and times, the others' know aware datetimes in their own ways."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        utc = value.astimezone(UTC)
        if backend in ("mysql", "oracle"):  # their sessions are in UTC
            return utc.replace(tzinfo=None)
        if backend == "mssql":
            return utc.isoformat(" ")
    if backend != "sqlite" or value is None or isinstance(value, str | int | float | bytes):
        return value
    return value.isoformat(" ") if isinstance(value, datetime) else str(value)
