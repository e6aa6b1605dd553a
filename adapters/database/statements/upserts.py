"""INSERT that becomes an UPDATE where the row is there: in the words of each database, made by SQLAlchemy of a table, a key and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from adapters.database.tables import table_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

NATIVE: Final = ("postgresql", "sqlite", "mysql")
"""Dialects that have it in one statement; in the others it is an UPDATE, and an INSERT where that found nothing."""


class Upsert:
    """Rows of `table`, known by `key`. `keep` are columns that keep their value in a row that is there."""

    def __init__(self, table: str, columns: Sequence[str], key: Sequence[str], keep: Sequence[str]) -> None:
        self._table = table_of(table, columns)
        self.key = list(key)
        self._changed = [name for name in columns if name not in key and name not in keep]

    def statement(self, dialect: str) -> Any:
        """For a dialect of NATIVE."""
        if dialect == "mysql":
            insert = mysql.insert(self._table)
            changed = self._changed or self.key[:1]  # there is no DO NOTHING; to set a key to itself is that
            return insert.on_duplicate_key_update({name: insert.inserted[name] for name in changed})
        made: Any = postgresql.insert(self._table) if dialect == "postgresql" else sqlite.insert(self._table)
        if not self._changed:
            return made.on_conflict_do_nothing(index_elements=self.key)
        return made.on_conflict_do_update(index_elements=self.key, set_={name: made.excluded[name] for name in self._changed})

    def update(self) -> sa.Update:
        """Its parameters are the columns' names behind an underscore, as those of a condition must not be those of a value."""
        found = sa.update(self._table).where(*(self._table.c[name] == sa.bindparam(f"_{name}") for name in self.key))
        changed = self._changed or self.key[:1]
        return found.values({name: sa.bindparam(f"_{name}") for name in changed})

    def insert(self) -> sa.Insert:
        return sa.insert(self._table)

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """How many rows were touched, as the database counts them."""
        dialect = connection.dialect.name
        if dialect in NATIVE:
            return max(connection.execute(self.statement(dialect), list(rows)).rowcount, 0)
        return sum(self._portable(connection, row) for row in rows)

    def _portable(self, connection: Connection, row: Mapping[str, Any]) -> int:
        shadowed = {f"_{name}": value for name, value in row.items()}
        if connection.execute(self.update(), shadowed).rowcount:
            return 1
        try:
            with connection.begin_nested():
                return connection.execute(self.insert(), row).rowcount
        except IntegrityError:  # somebody else has just inserted it
            return connection.execute(self.update(), shadowed).rowcount
