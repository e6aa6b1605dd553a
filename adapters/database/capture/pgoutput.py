"""The messages of PostgreSQL's output plugin pgoutput, protocol version 1, as values.

PostgreSQL documentation, chapter 55 "Frontend/Backend Protocol", section 55.9 "Logical Replication Message Formats" (53.9 before
version 14): integers are big-endian, strings end with a zero byte. Version 1 gives whole transactions in the order of their commits,
one after the other, so that nothing here waits for an end that may not come.

A message is read whole or not at all: one that is cut short, or has bytes left over, is an error and never a wrong row.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from engine.errors import RemoteProtocolError


class Unchanged(Enum):
    """The value of a column that is stored out of line (TOAST) and was not changed: it is not in the log."""

    TOAST = "unchanged"


Value = bytes | None | Unchanged
"""One column: the text of its value, None for NULL, or not given."""
Tuple = Sequence[Value]


class MessageCut(RemoteProtocolError):
    """Bytes that are no message of pgoutput."""

    code = "protocol.pgoutput"


@dataclass(frozen=True, slots=True)
class Begin:
    """`lsn` is that of the transaction's commit record: transactions come in its order. `at` is microseconds since 2000-01-01 UTC."""

    lsn: int
    at: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """`end` is where the next thing in the log begins: what is confirmed when all of the transaction is kept."""

    lsn: int
    end: int
    at: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The transaction came from another server."""

    lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class Column:
    """`in_key`: part of the replica identity."""

    name: str
    type: int
    modifier: int
    in_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as it is from here on. `identity`: d default (primary key), n nothing, f full, i index."""

    id: int
    schema: str
    table: str
    identity: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """A data type that is not built in."""

    id: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    relation: int
    new: Tuple


@dataclass(frozen=True, slots=True)
class Update:
    """`old` is the old row where the identity is full (`whole`), the old key where that was changed, else None."""

    relation: int
    new: Tuple
    old: Tuple | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    relation: int
    old: Tuple
    whole: bool


@dataclass(frozen=True, slots=True)
class Truncate:
    relations: tuple[int, ...]
    cascade: bool
    restart_identity: bool


Message = Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate


class _Bytes:
    """A cursor over one message."""

    __slots__ = ("_at", "_content")

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._content):
            raise MessageCut("a message of pgoutput ends too early")
        found, self._at = self._content[self._at : end], end
        return found

    def number(self, form: str) -> int:
        return int(struct.unpack(">" + form, self.take(struct.calcsize(form)))[0])

    def letter(self, allowed: str) -> str:
        found = chr(self.take(1)[0])
        if found not in allowed:
            raise MessageCut(f"a message of pgoutput has {found!r} where one of {allowed} stands")
        return found

    def text(self) -> str:
        end = self._content.find(b"\0", self._at)
        if end < 0:
            raise MessageCut("a message of pgoutput ends in a name")
        found = self.take(end - self._at)
        self._at += 1
        try:
            return found.decode()
        except UnicodeDecodeError:
            return found.decode("latin-1")  # a name in a database that says nothing of its encoding: only compared with itself

    def tuple(self) -> Tuple:
        return tuple(self._value() for _ in range(self.number("H")))

    def _value(self) -> Value:
        match self.letter("nut"):
            case "n":
                return None
            case "u":
                return Unchanged.TOAST
            case _:
                return self.take(self.number("i"))

    def end(self) -> None:
        if self._at != len(self._content):
            raise MessageCut(f"a message of pgoutput has {len(self._content) - self._at} bytes too many")


def read(content: bytes) -> Message:
    """Raises MessageCut."""
    source = _Bytes(content)
    kind = source.letter("".join(_READ))
    message = _READ[kind](source)
    source.end()
    return message


def _begin(source: _Bytes) -> Begin:
    return Begin(source.number("Q"), source.number("q"), source.number("I"))


def _commit(source: _Bytes) -> Commit:
    if source.number("B"):
        raise MessageCut("a commit of pgoutput has flags, which are none yet")
    return Commit(source.number("Q"), source.number("Q"), source.number("q"))


def _relation(source: _Bytes) -> Relation:
    number, schema, table, identity = source.number("I"), source.text(), source.text(), source.letter("dnfi")
    columns = []
    for _ in range(source.number("H")):
        in_key = bool(source.number("B") & 1)
        columns.append(Column(source.text(), source.number("I"), source.number("i"), in_key))
    return Relation(number, schema or "pg_catalog", table, identity, tuple(columns))


def _insert(source: _Bytes) -> Insert:
    relation, _ = source.number("I"), source.letter("N")
    return Insert(relation, source.tuple())


def _update(source: _Bytes) -> Update:
    relation, kind, old = source.number("I"), source.letter("KON"), None
    if kind != "N":
        old = source.tuple()
        source.letter("N")
    return Update(relation, source.tuple(), old, kind == "O")


def _delete(source: _Bytes) -> Delete:
    relation, kind = source.number("I"), source.letter("KO")
    return Delete(relation, source.tuple(), kind == "O")


def _truncate(source: _Bytes) -> Truncate:
    count, options = source.number("I"), source.number("B")
    return Truncate(tuple(source.number("I") for _ in range(count)), bool(options & 1), bool(options & 2))


_READ: Final[dict[str, Callable[[_Bytes], Message]]] = {
    "B": _begin,
    "C": _commit,
    "O": lambda source: Origin(source.number("Q"), source.text()),
    "R": _relation,
    "Y": lambda source: Type(source.number("I"), source.text(), source.text()),
    "I": _insert,
    "U": _update,
    "D": _delete,
    "T": _truncate,
}


# --- positions in the log ------------------------------------------------------------------------


def lsn_text(lsn: int) -> str:
    """As PostgreSQL writes it (pg_lsn): two hexadecimal numbers."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_of(text: str) -> int:
    """Raises ValueError."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
