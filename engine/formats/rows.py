"""Records out of a database as JSON: one message is one business record (a row, or a header row with its detail rows).

    {"origin": "lis", "table": "lab.result", "change": "read", "key": {"id": 7}, "row": {"id": 7, "value": "1.50", …},
     "details": {"items": [{"code": "K"}, …]}, "types": {"value": "decimal", "items.code": "text"}, "position": "…"}

Nothing is rounded and nothing guessed: decimals are strings with their digits, a naive datetime stays naive ("datetime"), one whose
zone is known has its offset ("instant"), binary is base64, JSON is nested. What has no such form (a zero date, infinity) is null,
and its column is among `odd`. Columns stand in the order of the select.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import orjson

from engine.errors import ParseError
from engine.formats.fhir import Exact, dump, parse
from engine.message import ROWS
from engine.values import value

CHANGES: Final = ("read", "insert", "update", "delete", "snapshot", "truncate")
KINDS: Final = ("decimal", "date", "time", "datetime", "instant", "binary", "json", "text", "integer", "float", "boolean")


@value(frozen=True, slots=True)
class Record:
    """A record. The values are as JSON has them (`worded`); `types` says the kind of each, details' as ``items.code``.

    `origin` is the database as the channel calls it, `before` what the row was where a capture knows it, `position` where it was read
    (a watermark, a log position), `odd` the columns whose value had no form and is null. `unchanged` are columns that are missing in the
    row of an update because the log has no value for them: it stayed as it was.
    """

    origin: str
    table: str
    row: Mapping[str, Any]
    change: str = "read"
    key: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    details: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    position: str = ""
    odd: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    def native(self, column: str) -> Any:
        """A value of the row as Python has it: Decimal, date, datetime, bytes … Raises KeyError."""
        return native(self.row[column], self.types.get(column, ""))


def write(record: Record) -> bytes:
    """Raises ParseError for a value that JSON cannot have (half a surrogate pair, an integer of more than 64 bits)."""
    content = {
        "origin": record.origin,
        "table": record.table,
        "change": record.change,
        "key": record.key,
        "row": record.row,
        **({"before": record.before} if record.before is not None else {}),
        **({"details": record.details} if record.details else {}),
        "types": record.types,
        "position": record.position,
        **({"odd": list(record.odd)} if record.odd else {}),
        **({"unchanged": list(record.unchanged)} if record.unchanged else {}),
    }
    try:
        return dump(content)
    except orjson.JSONEncodeError:
        raise ParseError("the record has a value that JSON cannot have") from None


def read(body: bytes) -> Record:
    """Raises ParseError."""
    return record_of(parse(body))


def is_record(content: Mapping[str, Any]) -> bool:
    """Whether an object is meant as a record, rather than as any other JSON."""
    return {"origin", "table", "change", "row"} <= content.keys()


def record_of(content: Mapping[str, Any]) -> Record:
    """Of a parsed object. Raises ParseError."""
    for name, kind in _MEMBERS.items():
        if not isinstance(content.get(name, _ABSENT.get(name)), kind):
            raise ParseError(f"a record's {name!r} is missing or of the wrong kind", location=name)
    if content["change"] not in CHANGES:
        raise ParseError(f"a record's change is one of {', '.join(CHANGES)}", location="change")
    return Record(
        content["origin"],
        content["table"],
        content["row"],
        content["change"],
        content["key"],
        content.get("before"),
        _checked_details(content.get("details", {})),
        content.get("types", {}),
        content.get("position", ""),
        tuple(content.get("odd", ())),
        tuple(content.get("unchanged", ())),
    )


_MEMBERS: Final[dict[str, Any]] = {
    "origin": str,
    "table": str,
    "change": str,
    "key": dict,
    "row": dict,
    "before": dict | None,
    "details": dict,
    "types": dict,
    "position": str,
    "odd": list,
    "unchanged": list,
}
_ABSENT: Final[dict[str, Any]] = {"details": {}, "types": {}, "position": "", "odd": [], "unchanged": []}


def _checked_details(details: dict[str, Any]) -> dict[str, Any]:
    for name, rows in details.items():
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ParseError("details are lists of rows", location=f"details.{name}")
    return details


# --- values --------------------------------------------------------------------------------------


class Odd:
    """A value of a database that has no form here: a zero date, infinity, a year after 9999. It becomes null."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def worded(value: Any) -> tuple[Any, str]:
    """A driver's value as JSON has it, and its kind; (None, "") for NULL, (None, "odd") for what has no form.

    Text is taken as it is; an aware datetime is an instant. What is none of the known kinds is its text.
    """
    if value is None:
        return None, ""
    of = _WORDS.get(type(value))
    if of is not None:
        return of(value)
    if isinstance(value, str):
        return str(value), "text"
    if isinstance(value, list | tuple | dict | set | frozenset):
        return nested(value), "json"
    return str(value), "text"


def nested(value: Any) -> Any:
    """A JSON value, or an array of a database's values, as nested JSON."""
    if isinstance(value, Mapping):
        return {str(name): nested(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [nested(one) for one in value]
    return value if isinstance(value, Exact) else worded(value)[0]


def exact(text: str | bytes) -> Any:
    """JSON text as nested values in which every number keeps its digits. Raises ValueError."""
    return json.loads(text, parse_float=Exact, parse_int=lambda digits: int(digits) if len(digits) < 19 else Exact(digits))


def _decimal(value: Decimal) -> tuple[Any, str]:
    return (format(value, "f"), "decimal") if value.is_finite() else (None, "odd")


def _float(value: float) -> tuple[Any, str]:
    return (value, "float") if math.isfinite(value) else (None, "odd")


def _datetime(value: datetime) -> tuple[Any, str]:
    return value.isoformat(), "datetime" if value.tzinfo is None else "instant"


def _timedelta(value: timedelta) -> tuple[Any, str]:
    """MariaDB's TIME is a span of up to 838 hours; within one day it is a time."""
    if timedelta(0) <= value < timedelta(days=1):
        return (datetime(1, 1, 1, tzinfo=UTC) + value).time().isoformat(), "time"
    sign, span = ("-", -value) if value < timedelta(0) else ("", value)
    seconds = span.days * 86400 + span.seconds
    part = f".{span.microseconds:06d}" if span.microseconds else ""
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{part}", "text"


_WORDS: Final[dict[type[Any], Callable[[Any], tuple[Any, str]]]] = {
    str: lambda value: (value, "text"),
    bool: lambda value: (value, "boolean"),
    int: lambda value: (value, "integer") if -(2**63) <= value < 2**64 else (str(value), "decimal"),
    Exact: lambda value: (value, "float"),
    Decimal: _decimal,
    float: _float,
    datetime: _datetime,
    date: lambda value: (value.isoformat(), "date"),
    time: lambda value: (value.isoformat(), "time"),
    timedelta: _timedelta,
    bytes: lambda value: (b64encode(value).decode(), "binary"),
    bytearray: lambda value: (b64encode(value).decode(), "binary"),
    memoryview: lambda value: (b64encode(value).decode(), "binary"),
    Odd: lambda value: (None, "odd"),
}


def native(value: Any, kind: str) -> Any:
    """The Python value that `worded` wrote as `value`. Raises ValueError where they do not fit together."""
    if value is None:
        return None
    of = _NATIVES.get(kind)
    try:
        return of(value) if of is not None else value
    except (TypeError, ArithmeticError, AttributeError):
        raise ValueError(f"not a {kind}") from None


def _instant(value: str) -> datetime:
    at = datetime.fromisoformat(value)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


_NATIVES: Final[dict[str, Callable[[Any], Any]]] = {
    "decimal": Decimal,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "datetime": datetime.fromisoformat,
    "instant": _instant,
    "binary": lambda value: b64decode(value, validate=True),
    "float": float,
    "integer": lambda value: int(repr(value)) if isinstance(value, Exact) else value,
}


# --- the document --------------------------------------------------------------------------------

_STEP: Final = re.compile(r'(?:"([^"]+)"|([^.\[\]"]+))(?:\[(\d{1,6})\])?(?:\.|$)')


@lru_cache(maxsize=4096)
def steps(path: str) -> tuple[tuple[str, int | None], ...]:
    """``details.items[0].code``: names with an index or None; a name with a dot stands in quotes. Raises ValueError."""
    found, at = [], 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            break
        found.append((match[1] or match[2], None if match[3] is None else int(match[3])))
        at = match.end()
    if not found or at < len(path) or path.endswith(".") or found[0][0] not in _MEMBERS:
        raise ValueError(f"{path!r} is not a path such as row.patient_no, key.id, details.items[0].code, table or change")
    return tuple(found)


class Document:
    """engine.contracts.Document; `record` is what was decoded."""

    __slots__ = ("record",)

    def __init__(self, record: Record) -> None:
        self.record = record

    def get(self, path: str) -> str | None:
        """The text at `path`, None where there is none or NULL; of a list without an index the first is meant."""
        (member, index), *rest = steps(path)
        here = _chosen(getattr(self.record, member), index)
        for name, number in rest:
            here = _chosen(here.get(name), number) if isinstance(here, Mapping) else None
        if here is None or isinstance(here, str):
            return here
        return dump(here).decode()

    def indexes(self, path: str) -> range:
        """The indexes of the rows (or of the JSON array) at `path`. Raises ValueError."""
        here: Any = self.record
        for name, number in steps(path):
            here = getattr(here, name) if here is self.record else here.get(name) if isinstance(here, Mapping) else None
            if number is not None:
                here = _chosen(here, number)
        return range(len(here) if isinstance(here, list | tuple) else here is not None)

    def native(self, path: str) -> Any:
        """The value at `path` as Python has it where it is a column's: Decimal, date, datetime, bytes. Raises ValueError."""
        (member, _), *rest = steps(path)
        text = self.get(path)
        if text is None or len(rest) != (2 if member == "details" else 1) or member not in ("row", "before", "key", "details"):
            return text
        column = ".".join(name for name, _ in rest)
        kind = self.record.types.get(column, "")
        if kind in ("text", "json", ""):
            return text
        here = getattr(self.record, member)
        for name, number in rest:
            here = _chosen(here[name], number)
        return native(here, kind)


def _chosen(here: Any, index: int | None) -> Any:
    if isinstance(here, list | tuple):
        return here[index or 0] if (index or 0) < len(here) else None
    return here if not index else None


class Codec:
    """engine.contracts.Codec for application/rows+json."""

    content_type = ROWS

    def decode(self, body: bytes) -> Document:
        return Document(read(body))

    def check_path(self, path: str) -> None:
        steps(path)

    check_repeating = check_path


codec: Final = Codec()
