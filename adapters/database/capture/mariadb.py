"""MariaDB's and MySQL's log: the binary log in row format, read through mysql-replication as a replica would.

A place in the log is ``file:position`` where a transaction begins; it names that transaction, too. `proof` is the GTID position that
MariaDB gives for it (BINLOG_GTID_POS): another server that has taken the place, or a log that was reset, has another there.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Final

import pymysql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.capture.binlog import EventStream
from adapters.database.capture.binlogserver import (
    behind,
    end_of,
    is_mariadb,
    lost,
    order,
    place,
    proof_of,
    require,
    require_settled,
    require_tables,
)
from adapters.database.capture.binlogtransactions import BinaryTransactions
from adapters.database.capture.log import Batch, Behind, First, ended
from adapters.database.capture.state import State, Unreadable
from adapters.database.capture.subject import Subjects, subjects_of
from adapters.database.polling.rounds import Notice
from adapters.database.polling.server import server_of
from adapters.database.polling.subject import Unusable

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

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
        self._reading: BinaryTransactions | None = None

    def open(self, state: State | None, *, again: bool) -> State:
        self._sql = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with self._engine.connect() as looking:
            identity = server_of(looking)
            if state is not None and not again:
                lost(self._sql, state, identity)
            self.subjects = subjects_of(looking, self._options)
        require(self._sql, self._options)
        require_tables(self._sql, self.subjects)
        names = tuple(subject.name for subject in self.subjects.values())
        initial = self._options.snapshot == "initial"
        known = None if again else state
        if known is None:
            require_settled(self._sql)
        if initial and not (known is not None and known.snapshot is None and set(names) <= set(known.tables)):
            self._first = self._see(self._sql)
        at = known.at if known is not None else self._first.at if self._first is not None else end_of(self._sql)
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
            self._reading = BinaryTransactions(self.subjects, state, self._options)
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
        except pymysql.Error as error:
            if error.args and error.args[0] in _ABROAD:
                raise Unreadable(f"the binary log does not have {state.at} any more: it was purged or reset") from None
            raise
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, NotImplementedError, struct.error) as error:
            # mysql-replication has no error of its own for what it does not know
            raise Unreadable(f"the binary log has an event behind {reading.at} that cannot be read ({type(error).__name__})") from None
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
        return order(one) > order(other)
