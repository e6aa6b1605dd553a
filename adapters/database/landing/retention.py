"""Forgets what was landed long ago: versions that are no longer current, and the book of messages.

1. The version that a resource has now is never deleted, nor are the rows that show it.
2. Nothing is deleted that an export has not passed: each export notes in landing_state how far its folder has come. Where none has
   noted anything of a table, all of it is kept, unless the site says that there is no export.
3. A step looks at so many sequence numbers and is a short transaction of its own, under the lock under which landings and notes are made.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Table, delete, func, insert, select, update
from sqlalchemy.engine import Engine

from adapters.database.landing.landing import lock
from adapters.database.landing.schema import CLOCK, Schema, sequence_of

if TYPE_CHECKING:
    from engine.options import Settings

STEP: Final = 5_000
"""Sequence numbers that one step looks at."""


class Retention:
    """One destination's. A run goes from the oldest sequence number to the highest that may be deleted, step by step."""

    def __init__(self, schema: Schema, keep: Settings) -> None:
        self._schema, self._keep = schema, keep
        self._after: int | None = None

    def step(self, engine: Engine, now: datetime) -> bool:
        """Whether there is more to do. Raises SQLAlchemyError."""
        with engine.begin() as connection:
            lock(connection, self._schema)
            ends = {table.name: self._end(connection, table) for table, _ in self._aged()}
            end = max(ends.values())
            after = self._oldest(connection) - 1 if self._after is None else self._after
            if after >= end:
                self._after = None
                return False
            upto = min(after + STEP, end)
            for table, age in self._aged():
                self._delete(connection, table, after, min(upto, ends[table.name]), now - timedelta(seconds=age))
        self._after = upto
        return True

    def _aged(self) -> list[tuple[Table, float]]:
        both = ((self._schema.versions, self._keep.versions), (self._schema.messages, self._keep.messages))
        return [(table, age) for table, age in both if age]

    def _end(self, connection: Connection, table: Table) -> int:
        """The highest sequence number that may go: what every export has passed."""
        passed = passed_by(connection, self._schema, table)
        if passed or not self._keep.without_export:
            return min(passed.values(), default=0)
        state = self._schema.state.c
        return int(connection.execute(select(state.value).where(state.name == CLOCK)).scalar_one())

    def _oldest(self, connection: Connection) -> int:
        found = [connection.execute(select(func.min(sequence_of(table)))).scalar() for table, _ in self._aged()]
        return min((int(one) for one in found if one is not None), default=1)

    def _delete(self, connection: Connection, table: Table, after: int, upto: int, before: datetime) -> None:
        numbers = sequence_of(table)
        old = delete(table).where(numbers > after, numbers <= upto)
        if table is self._schema.messages:
            connection.execute(old.where(table.c.landed_at < before))
            return
        now = self._schema.resources.c
        current = select(now.version).where(now.resource_type == table.c.resource_type, now.id == table.c.id).scalar_subquery()
        connection.execute(old.where(table.c.last_updated < before, table.c.version < current))


def passed_by(connection: Connection, schema: Schema, table: Table) -> dict[str, int]:
    """Each export that has noted something of a table, by its folder (the end of it, where that is long) -> how far it has come."""
    state = schema.state.c
    noted = select(state.name, state.value).where(state.name.startswith(f"{table.name}@", autoescape=True))
    return {name.partition("@")[2]: int(value) for name, value in connection.execute(noted)}


def note(connection: Connection, schema: Schema, folder: str, passed: dict[str, int]) -> None:
    """An export has come so far: table -> sequence number. Only those that are deleted from are noted. The caller commits."""
    lock(connection, schema)
    for table in (schema.versions.name, schema.messages.name):
        if table not in passed:
            continue
        name = _named(table, folder)
        there = update(schema.state).where(schema.state.c.name == name).values(value=passed[table])
        if not connection.execute(there).rowcount and connection.execute(_there(schema, name)).first() is None:
            connection.execute(insert(schema.state).values(name=name, value=passed[table]))


def forget(connection: Connection, schema: Schema, folder: str) -> bool:
    """That export is no more: nothing waits for it. Whether anything was noted of it. The caller commits."""
    names = [_named(table.name, folder) for table in (schema.versions, schema.messages)]
    return bool(connection.execute(delete(schema.state).where(schema.state.c.name.in_(names))).rowcount)


def _there(schema: Schema, name: str) -> Any:
    """MariaDB counts a row that is as it was for none."""
    return select(schema.state.c.name).where(schema.state.c.name == name)


def _named(table: str, folder: str) -> str:
    """Of 64 characters at most: the end of the folder's name, told apart by a digest where it is long."""
    whole = f"{table}@{folder}"
    return whole if len(whole) <= 64 else f"{table}@{sha256(folder.encode()).hexdigest()[:8]}…{folder[-(54 - len(table)) :]}"
