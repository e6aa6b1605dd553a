"""What a server of MariaDB or MySQL says of its binary log: where it ends, whether it goes on from a place, what is against reading it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from adapters.database.capture.state import State, way_back
from adapters.database.capture.subject import Subjects
from adapters.database.findings import Finding
from adapters.database.polling.rounds import Halted
from adapters.database.polling.server import server_of
from adapters.database.polling.subject import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.options import Settings

_WANTED: Final = {
    "log_bin": ("ON", "the binary log is off (log_bin)"),
    "binlog_format": ("ROW", "the binary log has statements instead of rows (binlog_format = ROW)"),
    "binlog_row_metadata": ("FULL", "the binary log does not name columns (binlog_row_metadata = FULL)"),
    "binlog_row_image": ("FULL", "the binary log has only parts of rows (binlog_row_image = FULL)"),
    "log_bin_compress": ("OFF", "the binary log is compressed, which cannot be read (log_bin_compress = OFF)"),
    "binlog_transaction_compression": ("OFF", "the binary log is compressed, which cannot be read (binlog_transaction_compression = OFF)"),
}
_OPTIONAL: Final = ("log_bin_compress", "binlog_transaction_compression")
_CASCADES: Final = sa.text(
    "SELECT table_name FROM information_schema.referential_constraints WHERE constraint_schema = :schema AND table_name = :table "
    "AND (delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL'))"
)
_TYPE: Final = sa.text("SELECT table_type FROM information_schema.tables WHERE table_schema = :schema AND table_name = :table")
_COMPRESSED: Final = sa.text(
    "SELECT column_name FROM information_schema.columns WHERE table_schema = :schema AND table_name = :table "
    "AND data_type NOT IN ('enum', 'set') AND column_type LIKE '%COMPRESSED%'"
)
_KEEPS: Final = sa.text("SHOW GLOBAL VARIABLES WHERE variable_name IN ('expire_logs_days', 'binlog_expire_logs_seconds')")


def is_mariadb(connection: Connection) -> bool:
    return "MariaDB" in connection.connection.driver_connection.get_server_info()  # type: ignore[union-attr]


def place(at: str) -> tuple[str, int]:
    """File and position."""
    file, _, position = at.rpartition(":")
    return file, int(position)


def order(at: str) -> tuple[int, str, int]:
    """By what places are compared. Files are numbered with leading zeros; a longer number is a later file."""
    file, position = place(at)
    return len(file), file, position


def require(connection: Connection, options: Settings) -> None:
    """Raises Unusable."""
    found = {row[0]: row[1] for row in connection.exec_driver_sql("SHOW GLOBAL VARIABLES WHERE variable_name LIKE '%%bin%%'")}
    for name, (wanted, reason) in _WANTED.items():
        value = found.get(name, wanted if name in _OPTIONAL else "")
        if str(value).upper() != wanted:
            raise Unusable(reason)
    if int(connection.exec_driver_sql("SELECT @@server_id").scalar_one()) == options.server_id:
        raise Unusable("server_id is that of the server itself")


def require_tables(connection: Connection, subjects: Subjects) -> None:
    """Raises Unusable for a table whose rows the log has in a form that would be read wrongly."""
    for subject in subjects.values():
        place = {"schema": subject.schema, "table": subject.table}
        if "VERSIONED" in str(connection.execute(_TYPE, place).scalar()):
            text = (
                "keeps its history by itself (SYSTEM VERSIONING): in the log a delete looks like an update, and an old row like a new one"
            )
            raise Unusable(f"{subject.name} {text}")
        if pressed := connection.execute(_COMPRESSED, place).scalars().all():
            raise Unusable(f"{subject.name} has compressed columns, which cannot be read in the log: {', '.join(pressed)}")


def require_settled(connection: Connection) -> None:
    """Before the first state, which does not have what is prepared: its commit has no rows in the log. Raises Halted."""
    if is_mariadb(connection) and (count := len(connection.exec_driver_sql("XA RECOVER").all())):
        raise Halted(
            f"{count} transactions are prepared and not ended (XA RECOVER); the capture begins when they are committed or rolled back"
        )


def lost(connection: Connection, state: State, identity: str) -> None:
    """Raises Halted where the log does not go on from `state`."""
    if state.server != identity:
        raise Halted(way_back(state, f"another server answers than before: {identity} instead of {state.server}"))
    files = _files(connection)
    file, position = place(state.at)
    if file not in files:
        raise Halted(way_back(state, f"the binary log {file} is gone: it was purged before it was read, or the log was reset"))
    if position > files[file]:
        raise Halted(way_back(state, f"the binary log {file} ends at {files[file]}, before what was already read: it was reset"))
    if state.proof and (now := proof_of(connection, state.at)) != state.proof:
        raise Halted(way_back(state, f"the binary log has another history at {state.at}: {now or 'nothing'} instead of {state.proof}"))


def _files(connection: Connection) -> dict[str, int]:
    """Name -> bytes, oldest first."""
    return {row[0]: int(row[1]) for row in connection.exec_driver_sql("SHOW BINARY LOGS")}


def end_of(connection: Connection) -> str:
    try:
        row = connection.exec_driver_sql("SHOW MASTER STATUS").one()
    except sa.exc.ProgrammingError:
        row = connection.exec_driver_sql("SHOW BINARY LOG STATUS").one()
    return f"{row[0]}:{row[1]}"


def proof_of(connection: Connection, at: str) -> str:
    """The GTIDs at a place, "" where the server does not say."""
    if not is_mariadb(connection):
        return ""
    file, position = place(at)
    found = connection.execute(sa.text("SELECT BINLOG_GTID_POS(:file, :position)"), {"file": file, "position": position}).scalar()
    return _ordered(str(found or ""))


def _ordered(gtids: str) -> str:
    return ",".join(sorted(one.strip() for one in gtids.split(",") if one.strip()))


def behind(connection: Connection, state: State) -> int:
    file, position = place(state.at)
    files = _files(connection)
    if file not in files:
        raise Halted(way_back(state, f"the binary log {file} is gone: it was purged before it was read"))
    return sum(size for name, size in files.items() if order(f"{name}:0") >= order(f"{file}:0")) - position


def checked(connection: Connection, options: Settings, subjects: Subjects, state: State | None) -> Iterator[Finding]:
    """For `meridian db check`. Raises Unusable, Halted."""
    require(connection, options)
    require_tables(connection, subjects)
    yield Finding("log", "fine", "the binary log has whole rows with the names of their columns")
    grants = " ".join(str(row[0]) for row in connection.exec_driver_sql("SHOW GRANTS"))
    if not re.search(r"ALL PRIVILEGES ON \*\.\*|REPLICATION (SLAVE|REPLICA)\b", grants):
        yield Finding(
            "rights", "fault", "the user may not read the binary log: GRANT REPLICATION SLAVE, BINLOG MONITOR (REPLICATION CLIENT)"
        )
    else:
        yield Finding("rights", "fine", "the user may read the binary log")
    for subject in subjects.values():
        if connection.execute(_CASCADES, {"schema": subject.schema, "table": subject.table}).first():
            text = f"{subject.name} has foreign keys that cascade: rows changed by them are not in the binary log"
            yield Finding("cascades", "warning", text)
    keeps = ", ".join(f"{name} = {value}" for name, value in connection.execute(_KEEPS))
    yield Finding(
        "keeping", "fine", f"the server purges its binary log by age: {keeps}; what is purged before it is read stops the capture"
    )
    if state is not None:
        with connection.engine.connect() as looking:
            lost(connection, state, server_of(looking))
        late = behind(connection, state)
        yield Finding("behind", "warning" if late > options.most_behind else "fine", f"{late} bytes of the binary log are not read yet")
