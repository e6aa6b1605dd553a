"""The outbox: keys of the messages whose statements were committed, in the same database and the same transaction.

A message that comes again finds its key and changes nothing. A key is kept as its SHA-256: the databases compare text each in their own
way (case, blanks at the end), and a key may be longer than an index takes. `answer` is what the sender was told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mssql, mysql
from sqlalchemy.schema import CreateTable

from adapters.database.statements.conversions import for_driver
from adapters.database.tables import split

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Dialect


_WHOLE: Final = mssql.VARBINARY("max")  # type: ignore[no-untyped-call]  # SQLAlchemy's own choice is IMAGE, which is to go


def digest_of(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def outbox_table(name: str) -> sa.Table:
    schema, table = split(name)
    return sa.Table(
        table,
        sa.MetaData(),
        sa.Column("digest", sa.String(64), primary_key=True),  # first: what is looked up by, however many rows a destination has
        sa.Column("destination", sa.String(190), primary_key=True),
        sa.Column("applied_at", sa.DateTime, nullable=False),
        sa.Column("answer", sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql").with_variant(_WHOLE, "mssql")),
        sa.Index(f"{table}_applied_at", "applied_at"),
        schema=schema,
    )


def ddl(name: str, dialect: Dialect) -> str:
    """The statement that makes the table, for an administrator to run."""
    return str(CreateTable(outbox_table(name)).compile(dialect=dialect)).strip()


class Outbox:
    """One destination's part of the table."""

    def __init__(self, table: str, destination: str) -> None:
        self._table = outbox_table(table)
        self._plain = sa.table(self._table.name, *(sa.column(one.name) for one in self._table.c), schema=self._table.schema)
        self._destination = destination[:190]

    def create(self, connection: Connection) -> None:
        """Where it is not there."""
        self._table.create(connection, checkfirst=True)

    def applied(self, connection: Connection, digests: Sequence[str]) -> dict[str, bytes]:
        """Those that are there, with what was answered."""
        columns = self._plain.c
        asked = sa.select(columns.digest, columns.answer).where(columns.destination == self._destination, columns.digest.in_(list(digests)))
        return {row[0]: bytes(row[1] or b"") for row in connection.execute(asked)}

    def note(self, connection: Connection, digests: Sequence[str], now: datetime) -> None:
        """Raises IntegrityError where one is there already: its transaction was still under way when we looked."""
        at = for_driver(now, connection.dialect.name)
        rows = [{"destination": self._destination, "digest": digest, "applied_at": at, "answer": None} for digest in digests]
        connection.execute(sa.insert(self._plain), rows)

    def tell(self, connection: Connection, answers: Mapping[str, bytes]) -> None:
        """Keep what was answered, for a message that comes again."""
        columns = self._plain.c
        for digest, answer in answers.items():
            found = sa.update(self._plain).where(columns.destination == self._destination, columns.digest == digest)
            connection.execute(found.values(answer=answer))

    def purge(self, connection: Connection, before: datetime) -> int:
        """Forget what was applied before then."""
        columns = self._plain.c
        old = sa.delete(self._plain).where(
            columns.destination == self._destination, columns.applied_at < for_driver(before, connection.dialect.name)
        )
        return connection.execute(old).rowcount
