"""Rows of a binary log as a SELECT would give them. The reader's own values are taken where they are exact, and put right where not."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pymysql.charset import charset_by_name
from pymysqlreplication.constants import FIELD_TYPE, NONE_SOURCE
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent

from adapters.database.capture.changes import Change
from adapters.database.capture.state import Unreadable
from adapters.database.capture.subject import Subject
from adapters.database.sessions import Undecodable
from adapters.database.values import Row
from engine.formats.rows import Odd

_CHANGED: Final = {UpdateRowsEvent: "update", DeleteRowsEvent: "delete"}
_RAW: Final = "binary"  # a character set that the reader does not know: it leaves the bytes as they are
_OUT_OF_RANGE: Final = (NONE_SOURCE.OUT_OF_DATE_RANGE, NONE_SOURCE.OUT_OF_DATETIME_RANGE, NONE_SOURCE.OUT_OF_DATETIME2_RANGE)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - as the reader gives it
Convert = Callable[[Any], Any]


def described(columns: Sequence[Any]) -> dict[str, str]:
    """The columns as the log has them now: name -> type in a few words."""
    return {column.name: _word(column) for column in columns}


def _word(column: Any) -> str:
    size = "/".join(str(getattr(column, name)) for name in ("precision", "decimals", "max_length", "fsp", "bits") if hasattr(column, name))
    return f"type {column.type}{f' ({size})' if size else ''}{' unsigned' if column.unsigned else ''}"


def truncated(schema: str, query: str) -> Iterator[tuple[str, str]]:
    """Schema and table that a statement empties."""
    return _named(_TRUNCATE, schema, query)


def parted(schema: str, query: str) -> Iterator[tuple[str, str]]:
    """Schema and table of which a statement takes a whole partition away."""
    return _named(_PARTED, schema, query)


def _named(pattern: re.Pattern[str], schema: str, query: str) -> Iterator[tuple[str, str]]:
    if (match := pattern.match(query)) is not None:
        named = [one.replace("``", "`") if one else None for one in (match[1] or match[2], match[3] or match[4])]
        yield (str(named[0]), str(named[1])) if named[1] else (schema, str(named[0]))


_NAME: Final = r"(?:`((?:[^`]|``)+)`|([\w$]+))"
_TABLE: Final = rf"{_NAME}(?:\s*\.\s*{_NAME})?"
_COMMENTS: Final = r"\s*(?:/\*.*?\*/\s*)*"
_TRUNCATE: Final = re.compile(rf"{_COMMENTS}TRUNCATE\s+(?:TABLE\s+)?{_TABLE}", re.IGNORECASE | re.DOTALL)
_PARTED: Final = re.compile(
    rf"{_COMMENTS}ALTER\s+(?:ONLINE\s+)?(?:IGNORE\s+)?TABLE\s+(?:IF\s+EXISTS\s+)?{_TABLE}\s.*?\b(?:TRUNCATE|DROP|EXCHANGE|CONVERT)\s+PARTITION\b",
    re.IGNORECASE | re.DOTALL,
)


class Rows:
    """The rows of one table as the log describes it from here on."""

    def __init__(self, columns: Sequence[Any], subject: Subject) -> None:
        self.subject = subject
        self.names = [column.name for column in columns]
        self._converts = {column.name: _convert(column, subject) for column in columns}
        self._columns = subject.reading.columns(self.names)
        for column in columns:
            _worded(column, subject)
            if column.character_set_name is not None and column.type not in (FIELD_TYPE.ENUM, FIELD_TYPE.SET):
                column.character_set_name = _RAW  # the reader would raise, or guess, where bytes are not of their character set

    def of(self, event: Any) -> Iterator[tuple[str, Any, Any]]:
        """Kind, row and old row of each change of an event, as the reader has them."""
        kind = _CHANGED.get(type(event), "insert")
        for row in event.rows:
            if kind == "update":
                yield kind, (row["after_values"], row["after_none_sources"]), (row["before_values"], row["before_none_sources"])
            else:
                given = row["values"], row["none_sources"]
                yield kind, *((given, None) if kind == "insert" else (None, given))

    def change(self, kind: str, position: str, row: Any, before: Any) -> Change:
        unchanged = tuple(n for n, source in row[1].items() if source == NONE_SOURCE.COLS_BITMAP) if row else ()
        old = self._row(*before) if before else None
        if row is None:
            return Change(self.subject, kind, position, before=old)
        return Change(self.subject, kind, position, self._row(*row), old, unchanged)

    def _row(self, values: Mapping[str, Any], sources: Mapping[str, Any]) -> Row:
        raw = [self._value(name, values[name], sources.get(name)) for name in self.names]
        row = self._columns.row(raw)
        gone = {name for name, source in sources.items() if source == NONE_SOURCE.COLS_BITMAP}
        return row._replace(values={name: value for name, value in row.values.items() if name not in gone}) if gone else row

    def _value(self, name: str, value: Any, source: Any) -> Any:
        if value is None:
            if source in _OUT_OF_RANGE:
                return Odd("no date")
            return "" if source == NONE_SOURCE.EMPTY_SET else None
        convert = self._converts[name]
        return value if convert is None else convert(value)


def _worded(column: Any, subject: Subject) -> None:
    """The reader takes the words of every ENUM and SET for UTF-8: others are taken from the table as it is now. Raises Unreadable."""
    first = 1 if column.type == FIELD_TYPE.ENUM else 0
    logged = getattr(column, "enum_values" if first else "set_values", None) or []
    if all(word and word.isascii() for word in logged[first:]) or (encoding := _encoding(column.character_set_name)) == "utf8":
        return
    words = subject.choices.get(column.name, ())
    if logged[first:] != [_as_utf8(word.encode(encoding)) for word in words]:
        raise Unreadable(f"the words of {column.name} of {subject.name} in the log are not those that the table has now")
    logged[first:] = words


def _as_utf8(word: bytes) -> str:
    """What the reader makes of it."""
    try:
        return word.decode()
    except UnicodeDecodeError:
        return ""


def _encoding(charset: str) -> str:
    known = charset_by_name(charset)
    return known.encoding if known is not None else charset


def _convert(column: Any, subject: Subject) -> Convert | None:
    if column.character_set_name is not None and column.type not in (FIELD_TYPE.ENUM, FIELD_TYPE.SET):
        return _text(column, raw=column.name in subject.reading.charsets)
    of = _CONVERTS.get(column.type)
    return None if of is None else of(column)


def _text(column: Any, *, raw: bool) -> Convert | None:
    """Bytes of a BINARY column end with zeros that the log leaves out."""
    if column.character_set_name == _RAW:
        if column.type == FIELD_TYPE.STRING:
            return lambda value: _bytes(value).ljust(column.max_length, b"\0")
        return _bytes
    if raw:
        return _bytes
    encoding = _encoding(column.character_set_name)

    def decode(value: bytes) -> Any:
        try:
            return _bytes(value).decode(encoding)
        except (UnicodeDecodeError, LookupError):
            return Undecodable(value)

    return decode


def _bytes(value: Any) -> bytes:
    """The reader gives no bytes at all as text, whatever the character set."""
    return b"" if value == "" else bytes(value)


def _float(value: float) -> float:
    """The shortest number that is this one in single precision, as the server shows it."""
    packed = struct.pack("<f", value)
    for digits in range(6, 9):
        if struct.pack("<f", short := float(f"{value:.{digits}g}")) == packed:
            return short
    return float(f"{value:.9g}")


def _timestamp(value: datetime) -> Any:
    if value == _EPOCH:
        return Odd("no date")  # TIMESTAMP 0000-00-00
    return (value + timedelta(seconds=2**32) if value < _EPOCH else value).replace(tzinfo=UTC)  # MariaDB 11.5 goes on to 2106


def _time(column: Any) -> Convert:
    """The reader gets fractions of negative times wrong."""
    fraction = getattr(column, "fsp", 0)
    return lambda value: Odd("negative time") if fraction and value < timedelta(0) else value


def _bit(column: Any) -> Convert:
    return (lambda value: value == "1") if column.bits == 1 else (lambda value: int(value, 2))


def _set(column: Any) -> Convert:
    return lambda value: ",".join(one for one in column.set_values if one in value)


_CONVERTS: Final[dict[int, Callable[[Any], Convert]]] = {
    FIELD_TYPE.FLOAT: lambda _: _float,
    FIELD_TYPE.TIMESTAMP: lambda _: _timestamp,
    FIELD_TYPE.TIMESTAMP2: lambda _: _timestamp,
    FIELD_TYPE.TIME2: _time,
    FIELD_TYPE.BIT: _bit,
    FIELD_TYPE.SET: _set,
    FIELD_TYPE.YEAR: lambda _: lambda value: 0 if value == 1900 else value,
}
