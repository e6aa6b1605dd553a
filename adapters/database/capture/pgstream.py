"""Replication connections to PostgreSQL, and the commands that only they understand (documentation, section 55.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg2
from psycopg import _encodings
from psycopg2.extras import LogicalReplicationConnection
from sqlalchemy.engine import Connection

from adapters.database.capture.pgoutput import lsn_of
from adapters.database.connection import driver_arguments
from adapters.database.polling.subject import Unusable

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

_FORMS: Final = "-c datestyle=ISO,YMD -c intervalstyle=iso_8601 -c timezone=UTC -c extra_float_digits=1 -c bytea_output=hex"
"""Values in the log are written as this session says: as the sessions of polls have it."""


def connect(options: Settings, context: Context, **given: Any) -> Any:
    """Raises psycopg2.Error."""
    arguments = driver_arguments(options.connection, context)
    arguments.pop("client_encoding", None)
    return psycopg2.connect(**{**arguments, **given}, options=_FORMS, connection_factory=LogicalReplicationConnection)


def replication(options: Settings, context: Context, sql: Connection) -> tuple[Any, str]:
    """A connection for the log, and the Python codec of its text. Where the site says a column's character set, nothing is converted."""
    info = sql.connection.driver_connection.info  # type: ignore[union-attr]
    server = info.parameter_status("server_encoding")
    if any(table.charset for table in options.tables) or server == "SQL_ASCII":
        codec = "utf-8" if server == "SQL_ASCII" else _encodings.pg2pyenc(server.encode())
        return connect(options, context, client_encoding="SQL_ASCII"), codec
    return connect(options, context, client_encoding=options.connection.charset or "UTF8"), info.encoding


class Server:
    """One connection for commands."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._connection = connect(options, context)
        self._cursor = self._connection.cursor()
        self._cursor.execute("IDENTIFY_SYSTEM")
        self._system, self._timeline, position, self._database = self._cursor.fetchone()
        self._position = lsn_of(position)
        if self._database is None:
            raise Unusable("the address names no database")

    def identity(self) -> str:
        """What tells this database from another: a standby that was promoted has another timeline."""
        return f"{self._system}/{self._database}/timeline {self._timeline}"

    def position(self) -> int:
        """Where its log ends."""
        return self._position

    def create(self, name: str, *, temporary: bool) -> tuple[str, str]:
        """A slot; gives its LSN and the name of the snapshot that sees what was committed before, and nothing after. It can be imported
        until the next command. It waits until transactions that write just now have ended."""
        kind = "TEMPORARY " if temporary else ""
        self._cursor.execute(f"CREATE_REPLICATION_SLOT {name} {kind}LOGICAL pgoutput EXPORT_SNAPSHOT")
        _, at, snapshot, _ = self._cursor.fetchone()
        return at, snapshot

    def close(self) -> None:
        self._connection.close()
