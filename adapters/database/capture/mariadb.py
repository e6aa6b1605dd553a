"""MariaDB's and MySQL's log: the binary log in row format, read through mysql-replication as a replica would.

A place in the log is ``file:position`` where a transaction begins; it names that transaction, too. `proof` is the GTID position that
MariaDB gives for it (BINLOG_GTID_POS): another server that has taken the place, or a log that was reset, has another there.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import pymysql
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.capture.binlog import EventStream, Unreadable
from adapters.database.capture.binlogrows import Rows, described, truncated
from adapters.database.capture.changes import Change
from adapters.database.capture.log import Batch, Behind, First, ended
from adapters.database.capture.state import State
from adapters.database.capture.subject import Subjects, subjects_of
from adapters.database.findings import Finding
from adapters.database.polling.rounds import Halted, Notice
from adapters.database.polling.server import server_of
from adapters.database.polling.subject import Unusable
from adapters.database.tables import drift

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.contracts import Context
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
_ABROAD: Final = (1236,)  # ER_MASTER_FATAL_ERROR_READING_BINLOG: the position is not there


class BinaryLog:
    """adapters.database.capture.log.Log"""

    errors: tuple[type[Exception], ...] = (SQLAlchemyError, pymysql.Error, OSError)
    asked = False  # the server knows nothing of us

    def __init__(self, options: Settings, context: Context, engine: Engine, server_id: int) -> None:
        self._options, self._context, self._engine, self._server_id = options, context, engine, server_id
        self.subjects: Subjects = {}
        self.said: list[Notice] = []
        self._sql: Connection | None = None
        self._first: First | None = None
        self._stream: EventStream | None = None
        self._reading: _Transactions | None = None

    def open(self, state: State | None, *, again: bool) -> State:
        self._sql = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with self._engine.connect() as looking:
            identity = server_of(looking)
            if state is not None and not again:
                lost(self._sql, state, identity)
            self.subjects = subjects_of(looking, self._options)
        require(self._sql, self._options)
        names = tuple(subject.name for subject in self.subjects.values())
        initial = self._options.snapshot == "initial"
        known = None if again else state
        if initial and not (known is not None and known.snapshot is None and set(names) <= set(known.tables)):
            self._first = self._see(self._sql)
        at = known.at if known is not None else self._first.at if self._first is not None else _end(self._sql)
        began = (known or State(identity, at, proof=proof_of(self._sql, at))).covering(names, initial, at)
        if began.snapshot is None:
            self.seen()
        return began

    def _see(self, sql: Connection) -> First:
        """MariaDB knows where in its log a consistent snapshot is (binlog_snapshot_file), without any lock."""
        if not is_mariadb(sql):
            text = "MySQL does not say where in its log a transaction's snapshot is unless all writers are locked out"
            raise Unusable(f"{text}: say snapshot: never, and read the rows that are there with the source database")
        plain = self._engine.connect()
        connection = plain.execution_options(isolation_level="REPEATABLE READ")
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        found = {row[0]: row[1] for row in connection.exec_driver_sql("SHOW STATUS LIKE 'binlog_snapshot_%%'")}
        return First(f"{found['Binlog_snapshot_file']}:{found['Binlog_snapshot_position']}", connection)

    def first(self) -> First:
        if self._first is None:
            self._first = self._see(self._connection)
        return self._first

    def seen(self) -> None:
        if self._first is not None:
            ended(self._first.connection)
        self._first = None

    @property
    def _connection(self) -> Connection:
        assert self._sql is not None
        return self._sql

    def read(self, state: State, most: int, wait: float, until: str = "") -> Batch:
        if until and not self.later(until, state.at):
            return Batch([], state, reached=True)
        if self._stream is None:
            file, position = place(state.at)
            self._stream = EventStream(self._options, self._context, self._server_id, file, position)
            self._reading = _Transactions(self.subjects, state, self._options)
        reading, stream = self._reading, self._stream
        assert reading is not None
        deadline = time.monotonic() + wait
        try:
            while len(reading.changes) < most:
                event = stream.next()
                reading.take(event, stream)
                if until and not self.later(until, reading.at):
                    break
                if (stream.idle and reading.changes) or time.monotonic() >= deadline:
                    break
        except Unreadable as error:
            raise Halted(_way_back(state, str(error))) from None
        except sa.exc.DBAPIError:
            raise
        except Exception as error:
            if getattr(error, "args", None) and error.args[0] in _ABROAD:
                raise Halted(_way_back(state, f"the binary log does not have {state.at} any more: it was purged or reset")) from None
            raise
        changes, now = reading.given(state)
        self.said.extend(reading.notices())
        reached = bool(until) and not self.later(until, now.at)
        return Batch(changes, now, reached, len(changes) >= most)

    def rest(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = self._reading = None

    def confirm(self, state: State) -> None:
        """The server knows nothing of us: it purges by age or size alone."""

    def behind(self, state: State) -> Behind:
        return Behind(behind(self._connection, state))

    def close(self) -> None:
        try:
            self.rest()
        finally:
            self.seen()
            if self._sql is not None:
                ended(self._sql)
            self._sql = None

    def later(self, one: str, other: str) -> bool:
        return place(one) > place(other)


class _Transactions:
    """Which changes, in which transaction. `at` is where the transaction under way begins, or the next one."""

    def __init__(self, subjects: Subjects, state: State, options: Settings) -> None:
        self._subjects, self._options = subjects, options
        self.at, self._proof, self._types = state.at, state.proof, dict(state.types)
        self._skip = state.index if state.within else 0
        self._index = 0
        self._rows: dict[int, Rows | None] = {}
        self.changes: list[Change] = []
        self._notices: list[Notice] = []

    def take(self, event: Any, stream: EventStream) -> None:
        match stream.kind(event):
            case "table":
                self._rows[event.table_id] = self._described(event)
            case "rows":
                self._of(event)
            case "statement":
                self._statement(event.schema.decode("utf-8", "replace"), event.query, stream)
            case "end":
                self._ended(stream)
        if not stream.within:
            self._ended(stream)

    def _of(self, event: Any) -> None:
        rows = self._rows.get(event.table_id)
        if rows is None:
            return
        for kind, row, before in rows.of(event):
            self._add(rows, kind, row, before)

    def _add(self, rows: Rows, kind: str, row: Any, before: Any) -> None:
        self._index += 1
        if self._index > self._skip:
            self.changes.append(rows.change(kind, f"{self.at}/{self._index}", row, before))

    def _statement(self, schema: str, query: str, stream: EventStream) -> None:
        """TRUNCATE is a statement in the log; a change of rows as a statement cannot be read."""
        for named in truncated(schema, query):
            if (subject := self._subjects.get(named)) is not None:
                self._index += 1
                if self._index > self._skip:
                    self.changes.append(Change(subject, "truncate", f"{self.at}/{self._index}"))
        if _CHANGING.match(query):
            touched = [
                one.name for (_, table), one in self._subjects.items() if re.search(rf"\b{re.escape(table)}\b", query, re.IGNORECASE)
            ]
            if touched:
                raise Unreadable(f"a change of {', '.join(touched)} was logged as a statement (binlog_format of that session), not as rows")

    def _ended(self, stream: EventStream) -> None:
        """A description of the log, which comes first wherever it is read from, stands at its beginning."""
        if place(stream.at) <= place(self.at):
            return
        self.at, self._index, self._skip = stream.at, 0, 0
        self._proof = stream.gtids(self._proof)

    def _described(self, event: Any) -> Rows | None:
        subject = self._subjects.get((event.schema, event.table))
        if subject is None:
            return None
        types = described(event.columns)
        if None in types or any(name is None for name in types):
            raise Unreadable(f"the log does not name the columns of {subject.name} (binlog_row_metadata = FULL)")
        known = self._types.get(subject.name)
        if known is not None and (found := drift(known, types)):
            facts = {"table": subject.name, "drift": str(found)}
            self._notices.append(Notice("database.schema_changed", f"the columns of {subject.name} have changed: {found}", facts=facts))
        self._types = {**self._types, subject.name: types}
        return Rows(event.columns, subject)

    def given(self, state: State) -> tuple[list[Change], State]:
        changes, self.changes = self.changes, []
        within, index = (self.at, max(self._index, self._skip)) if self._index else ("", 0)
        return changes, state.moved(self.at, within, index, proof=self._proof, types=self._types)

    def notices(self) -> list[Notice]:
        found, self._notices = self._notices, []
        return found


_CHANGING: Final = re.compile(r"\s*(?:/\*.*?\*/\s*)*(INSERT|UPDATE|DELETE|REPLACE|LOAD)\b", re.IGNORECASE | re.DOTALL)


# --- what the server says ------------------------------------------------------------------------


def is_mariadb(connection: Connection) -> bool:
    return "MariaDB" in connection.connection.driver_connection.get_server_info()  # type: ignore[union-attr]


def place(at: str) -> tuple[str, int]:
    """File and position. Files are numbered with leading zeros; a longer number is a later file."""
    file, _, position = at.rpartition(":")
    return file, int(position)


def _way_back(state: State, reason: str) -> str:
    return f"{reason}. Changes may be lost. Way back: begin_again: {state.at} begins with a new snapshot; rows come again"


def require(connection: Connection, options: Settings) -> None:
    """Raises Unusable."""
    found = {row[0]: row[1] for row in connection.exec_driver_sql("SHOW GLOBAL VARIABLES WHERE variable_name LIKE '%%bin%%'")}
    for name, (wanted, reason) in _WANTED.items():
        value = found.get(name, wanted if name in _OPTIONAL else "")
        if str(value).upper() != wanted:
            raise Unusable(reason)
    if int(connection.exec_driver_sql("SELECT @@server_id").scalar_one()) == options.server_id:
        raise Unusable("server_id is that of the server itself")


def lost(connection: Connection, state: State, identity: str) -> None:
    """Raises Halted where the log does not go on from `state`."""
    if state.server != identity:
        raise Halted(_way_back(state, f"another server answers than before: {identity} instead of {state.server}"))
    files = _files(connection)
    file, position = place(state.at)
    if file not in files:
        raise Halted(_way_back(state, f"the binary log {file} is gone: it was purged before it was read, or the log was reset"))
    if position > files[file]:
        raise Halted(_way_back(state, f"the binary log {file} ends at {files[file]}, before what was already read: it was reset"))
    if state.proof and (now := proof_of(connection, state.at)) != state.proof:
        raise Halted(_way_back(state, f"the binary log has another history at {state.at}: {now or 'nothing'} instead of {state.proof}"))


def _files(connection: Connection) -> dict[str, int]:
    """Name -> bytes, oldest first."""
    return {row[0]: int(row[1]) for row in connection.exec_driver_sql("SHOW BINARY LOGS")}


def _end(connection: Connection) -> str:
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
        raise Halted(_way_back(state, f"the binary log {file} is gone: it was purged before it was read"))
    return sum(size for name, size in files.items() if place(f"{name}:0") >= (file, 0)) - position


_CASCADES: Final = sa.text(
    "SELECT table_name FROM information_schema.referential_constraints WHERE constraint_schema = :schema AND table_name = :table "
    "AND (delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL'))"
)
_KEEPS: Final = sa.text("SHOW GLOBAL VARIABLES WHERE variable_name IN ('expire_logs_days', 'binlog_expire_logs_seconds')")


def checked(connection: Connection, options: Settings, subjects: Subjects, state: State | None) -> Iterator[Finding]:
    """For `meridian db check`. Raises Unusable, Halted."""
    require(connection, options)
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
