"""Rows of PostgreSQL's log as a SELECT of the same session would give them: psycopg's own loaders read their text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from psycopg import Error
from psycopg.pq import Format

from adapters.database.capture.changes import Change
from adapters.database.capture.pgoutput import Delete, Insert, MessageCut, Relation, Tuple, Unchanged, Update
from adapters.database.capture.state import Unreadable
from adapters.database.capture.subject import Subject
from adapters.database.sessions import Undecodable
from adapters.database.values import Row
from engine.formats.rows import Odd, exact

_JSON: Final = (114, 3802)
_TEXTS: Final = (18, 19, 25, 1042, 1043)
Load = Callable[[bytes], Any]


class Loading:
    """`connection` is a psycopg connection set up as those of polls are; `encoding` is the Python codec of the log's text; `base` gives
    the type that a domain is made of."""

    def __init__(self, connection: Any, encoding: str, base: Callable[[int], int]) -> None:
        self._connection, self._encoding, self._base = connection, encoding, base

    def of(self, oid: int, *, raw: bool) -> Load:
        """`raw`: a column whose character set the site says itself."""
        if raw:
            return bytes
        oid = self._base(oid)
        if oid in _JSON:
            return lambda text: exact(text.decode())
        found = None if oid in _TEXTS else self._connection.adapters.get_loader(oid, Format.TEXT)
        return self._text if found is None else self._tolerant(found(oid, self._connection).load)

    def _text(self, text: bytes) -> Any:
        try:
            return text.decode(self._encoding)
        except UnicodeDecodeError:
            return Undecodable(text)

    def _tolerant(self, load: Load) -> Load:
        def read(text: bytes) -> Any:
            try:
                return load(text)
            except (Error, ValueError):
                return Odd(text.decode("ascii", "replace"))

        return read


class RelationRows:
    """The rows of one table as the log describes it from here on."""

    def __init__(self, relation: Relation, subject: Subject, loading: Loading) -> None:
        self.relation, self.subject = relation, subject
        self.names = [column.name for column in relation.columns]
        self._loads = [loading.of(column.type, raw=column.name in subject.reading.charsets) for column in relation.columns]
        self._columns = subject.reading.columns(self.names)
        self._in_key = frozenset(column.name for column in relation.columns if column.in_key)

    def change(self, message: Insert | Update | Delete, position: str) -> Change:
        match message:
            case Insert(_, new):
                return Change(self.subject, "insert", position, self._row(new, {}))
            case Delete(_, old, whole):
                return Change(self.subject, "delete", position, before=self._old(old, whole))
            case Update(_, new, old, whole):
                before = None if old is None else self._old(old, whole)
                known = dict(zip(self.names, old, strict=False)) if old is not None and whole else {}
                unchanged = tuple(n for n, value in zip(self.names, new, strict=False) if isinstance(value, Unchanged) and n not in known)
                return Change(self.subject, "update", position, self._row(new, known), before, unchanged)

    def _row(self, values: Tuple, known: Mapping[str, Any]) -> Row:
        """`known` are the old values, where the whole old row is in the log. Raises MessageCut."""
        if len(values) != len(self.names):
            raise MessageCut(f"a row of {self.subject.name} has {len(values)} columns in the log, its table {len(self.names)}")
        given = [known.get(name, value) if isinstance(value, Unchanged) else value for name, value in zip(self.names, values, strict=True)]
        gone = {name for name, value in zip(self.names, given, strict=True) if isinstance(value, Unchanged)}
        raw = [load(value) if isinstance(value, bytes) else None for load, value in zip(self._loads, given, strict=True)]
        row = self._columns.row(raw)
        return row._replace(values={name: value for name, value in row.values.items() if name not in gone}) if gone else row

    def _old(self, values: Tuple, whole: bool) -> Row:
        row = self._row(values, {})
        if whole:
            return row
        if missing := [name for name in self.subject.key if name not in self._in_key]:
            raise Unreadable(f"the replica identity of {self.subject.name} has no {', '.join(missing)} any more: which row was changed?")
        return row._replace(
            values={name: value for name, value in row.values.items() if name in self._in_key},
            types={name: kind for name, kind in row.types.items() if name in self._in_key},
        )
