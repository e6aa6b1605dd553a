"""Which server answers, and what its clock says: how a failover is noticed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from adapters.database.savepoints import spared

_NOW: Final = {
    "postgresql": "SELECT clock_timestamp()",
    "mysql": "SELECT UTC_TIMESTAMP(6)",
    "mssql": "SELECT SYSUTCDATETIME()",
    "oracle": "SELECT SYS_EXTRACT_UTC(SYSTIMESTAMP) FROM dual",
}
_WHO: Final = {
    "postgresql": (
        "SELECT s.system_identifier::text || '/' || current_database() || '/timeline ' || CASE WHEN pg_is_in_recovery() "
        "THEN c.timeline_id ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END "
        "FROM pg_control_system() AS s, pg_control_checkpoint() AS c"
    ),
    "mysql": "SELECT CONCAT(@@hostname, ':', @@port, @@datadir, '#', @@server_id, '/', DATABASE())",
    "mssql": "SELECT CONCAT(@@SERVERNAME, '/', DB_NAME())",
    "oracle": "SELECT SYS_CONTEXT('USERENV', 'DB_UNIQUE_NAME') FROM dual",
}


def clock_of(connection: Connection) -> datetime:
    """The database's own clock, aware. SQLite's is this machine's."""
    statement = _NOW.get(connection.dialect.name)
    if statement is None:
        return datetime.now(UTC)
    found: Any = connection.execute(sa.text(statement)).scalar_one()
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found  # type: ignore[no-any-return]


def server_of(connection: Connection) -> str:
    """What tells this server from another that has taken its place: without values of patients, short enough to be copied by hand.
    "" where the database does not say it to this user."""
    backend = connection.dialect.name
    if backend == "sqlite":
        return _file(connection)
    try:
        with spared(connection):
            return str(connection.execute(sa.text(_WHO[backend])).scalar_one())
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return ""


def _file(connection: Connection) -> str:
    from pathlib import Path

    name = connection.engine.url.database or ""
    try:
        return f"file {Path(name).stat().st_ino}"
    except OSError:
        return ""
