"""From a driver's rows to those of a record: character sets, the site's zone, kinds that only the column's type tells.

A value is given as it is or not at all: text whose bytes are not of its character set stays bytes and makes the row unreadable, a local
time that the zone had twice or never stays without an offset, a date that is none is null and odd.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from adapters.database.sessions import Undecodable
from engine.formats.rows import Odd, exact, worded

Convert = Callable[[Any], Any]


class Row(NamedTuple):
    """`values` and `types` as a Record has them; `odd` are columns without a form, `unreadable` those whose bytes are no text."""

    values: dict[str, Any]
    types: dict[str, str]
    odd: tuple[str, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """How the columns of one result are read.

    `charsets`: column -> character set of its bytes ("" = every column of text that came as bytes); `declared`: column -> kind by the
    type the database declares (decimal, date, datetime, time, boolean, json, bit, utc, uuid, inet4, inet6), for what the driver does not
    know;
    `padded`: columns whose blanks at the end are padding; `zone` is that of datetimes without one.
    """

    zone: ZoneInfo | None = None
    charsets: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)
    padded: frozenset[str] = frozenset()

    def columns(self, names: Sequence[str], hints: Sequence[str] = ()) -> Columns:
        """A reader for a result of these columns; `hints` are kinds by the driver's own type codes ("" = none)."""
        known = hints or [""] * len(names)
        return Columns([(name, self._convert(name, hint)) for name, hint in zip(names, known, strict=True)], self.zone)

    def _convert(self, name: str, hint: str) -> Convert | None:
        charset = self.charsets.get(name)
        if charset:
            return _decoder(charset, name in self.padded)
        if name in self.padded:
            return lambda value: value.rstrip(" ") if isinstance(value, str) else value
        return _DECLARED.get(hint or self.declared.get(name, ""))


class Columns:
    """Reads rows of one result."""

    def __init__(self, columns: Sequence[tuple[str, Convert | None]], zone: ZoneInfo | None) -> None:
        self._columns, self._zone = columns, zone

    def row(self, raw: Sequence[Any]) -> Row:
        values: dict[str, Any] = {}
        types: dict[str, str] = {}
        odd, unreadable = [], []
        for (name, convert), value in zip(self._columns, raw, strict=True):
            read = convert(value) if convert is not None and value is not None else value
            if isinstance(read, Undecodable):
                unreadable.append(name)
                read = read.content
            elif self._zone is not None and isinstance(read, datetime):
                read = placed(read, self._zone)
            elif isinstance(read, list) and any(isinstance(one, Undecodable) for one in read):
                unreadable.append(name)
                read = [one.content if isinstance(one, Undecodable) else one for one in read]
            values[name], kind = worded(read)
            if kind == "odd":
                odd.append(name)
            elif kind:
                types[name] = kind
        return Row(values, types, tuple(odd), tuple(unreadable))


def placed(at: datetime, zone: ZoneInfo) -> datetime:
    """A naive datetime as an instant of `zone`; as it is where the zone's clocks showed it twice, or never."""
    if at.tzinfo is not None:
        return at
    first, second = at.replace(tzinfo=zone), at.replace(tzinfo=zone, fold=1)
    return first if first.utcoffset() == second.utcoffset() else at


def hints_of(backend: str, description: Sequence[Sequence[Any]]) -> list[str]:
    """Kinds by the type codes of a cursor's description (PEP 249), where they tell more than the value does."""
    if backend != "mysql":
        return [""] * len(description)
    return [_MYSQL.get(column[1], "") if column[1] != _BIT or column[3] != 1 else "bit1" for column in description]


def instants(raw: Sequence[Any], hints: Sequence[str]) -> Sequence[Any]:
    """A driver's row in which every instant is aware: MariaDB's TIMESTAMP comes as the local time of its session, which is UTC."""
    return raw if "utc" not in hints else [_utc(value) if hint == "utc" else value for value, hint in zip(raw, hints, strict=True)]


_BIT: Final = 16
_MYSQL: Final = {7: "utc", _BIT: "bit", 245: "json"}  # pymysql.constants.FIELD_TYPE: TIMESTAMP, BIT, JSON


# --- what a column's type tells ------------------------------------------------------------------


def _decoder(charset: str, padded: bool) -> Convert:
    """Bytes as text of `charset`; what came as text was not asked for as bytes and is as it is."""
    codec = codecs.lookup(charset)

    def decode(value: Any) -> Any:
        content = value.content if isinstance(value, Undecodable) else value
        if not isinstance(content, bytes | bytearray | memoryview):
            return content
        try:
            text = codec.decode(bytes(content), "strict")[0]
        except UnicodeDecodeError:
            return Undecodable(bytes(content))
        return text.rstrip(" ") if padded else text

    return decode


def _tolerant(convert: Convert) -> Convert:
    """A file of SQLite may hold anything in a column of any type: what is none of that type is given as it is."""

    def read(value: Any) -> Any:
        try:
            return convert(value)
        except (ValueError, TypeError, InvalidOperation):
            return value

    return read


def _decimal(value: Any) -> Any:
    return Decimal(repr(value) if isinstance(value, float) else value)


def _datetime(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _json(value: Any) -> Any:
    return exact(value) if isinstance(value, str | bytes) else value


def _odd_date(convert: Convert) -> Convert:
    return lambda value: convert(value) if not isinstance(value, str) or not value.startswith("0000-") else Odd(value)


def _inet6(address: IPv6Address) -> str:
    """As MariaDB writes it: addresses of version 4 inside in their own form."""
    last = IPv4Address(address.packed[12:])
    if address.ipv4_mapped is not None:
        return f"::ffff:{last}"
    return f"::{last}" if 0xFFFF < int(address) < 1 << 32 else str(address)


_DECLARED: Final[dict[str, Convert]] = {
    "decimal": _tolerant(_decimal),
    "date": _tolerant(_odd_date(lambda value: date.fromisoformat(value) if isinstance(value, str) else value)),
    "datetime": _tolerant(_odd_date(_datetime)),
    "time": _tolerant(lambda value: time.fromisoformat(value) if isinstance(value, str) else value),
    "boolean": lambda value: bool(value) if value in (0, 1) else value,
    "json": _tolerant(_json),
    "utc": _utc,
    "bit": lambda value: int.from_bytes(value, "big") if isinstance(value, bytes) else value,
    "bit1": lambda value: value == b"\x01" if isinstance(value, bytes) else value,
    "uuid": lambda value: str(UUID(bytes=value)) if isinstance(value, bytes) else value,
    "inet4": lambda value: str(IPv4Address(value)) if isinstance(value, bytes) else value,
    "inet6": lambda value: _inet6(IPv6Address(value)) if isinstance(value, bytes) else value,
}
