"""What the database has of what a group of Bundles is about: read at once before the group is planned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Text, any_, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY

from adapters.database.landing.planning import Current, Key, wanted
from adapters.database.landing.requests import Incoming, Token
from adapters.database.landing.schema import MOST, Schema

_AT_ONCE: Final = 400
"""Values in one IN list."""


class Known:
    """planning.Known: read at once what will be asked, and one by one what is asked beside that."""

    def __init__(self, connection: Connection, schema: Schema, group: Iterable[Incoming]) -> None:
        self._connection, self._schema = connection, schema
        self._current: dict[Key, Current | None] = {}
        self._holders: dict[tuple[str, str], list[tuple[str, str]]] = {}
        values, keys = wanted(group)
        self._read_holders({(kind, value[:MOST]) for kind, value in values})
        keys |= {(kind, name) for (kind, _), holders in self._holders.items() for _, name in holders}
        self._read_current(keys)

    def current(self, key: Key) -> Current | None:
        if key not in self._current:
            self._read_current({key})
        return self._current[key]

    def holders(self, resource_type: str, token: Token) -> list[str]:
        key = (resource_type, token.value[:MOST])
        if key not in self._holders:
            self._read_holders({key})
        return [name for system, name in self._holders[key] if token.system in (None, system)]

    def _read_current(self, keys: set[Key]) -> None:
        resources = self._schema.resources.c
        columns = (resources.resource_type, resources.id, resources.version, resources.deleted, resources.content_digest)
        self._current.update(dict.fromkeys(keys))
        for kind, names in by_type(keys).items():
            for among in self._among(resources.id, names):
                query = select(*columns).where(resources.resource_type == kind, among)
                for _, name, version, deleted, digest in self._connection.execute(query):
                    self._current[kind, name] = Current(version, bool(deleted), digest)

    def _read_holders(self, values: set[tuple[str, str]]) -> None:
        identifier = self._schema.tables["identifier"].c
        columns = (identifier.resource_type, identifier.value, identifier.system, identifier.resource_id)
        self._holders.update({key: [] for key in values})
        kinds = sorted({kind for kind, _ in values})
        for among in self._among(identifier.value, sorted({value for _, value in values})):
            query = select(*columns).where(among, identifier.resource_type.in_(kinds))
            for kind, value, system, name in self._connection.execute(query):
                if (kind, value) in self._holders:
                    self._holders[kind, value].append((system or "", name))

    def _among(self, column: Any, values: Sequence[str]) -> Iterator[Any]:
        return among(self._connection, column, values)


def by_type(keys: Iterable[Key]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind, name in sorted(keys):
        found.setdefault(kind, []).append(name)
    return found


def among(connection: Connection, column: Any, values: Sequence[str]) -> Iterator[Any]:
    """Conditions that together say "one of these": PostgreSQL takes them as one array, others as lists of no great length."""
    if connection.dialect.name == "postgresql":
        if values:
            yield column == any_(bindparam(None, list(values), type_=ARRAY(Text)))
        return
    for some in _pages(values):
        yield column.in_(some)


def _pages(values: Sequence[Any]) -> Iterator[list[Any]]:
    left = iter(values)
    while page := list(islice(left, _AT_ONCE)):
        yield page
