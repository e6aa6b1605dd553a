"""Replication connections to PostgreSQL, and the commands that only they understand (documentation, section 55.4).

psycopg has no words for them, but its libpq does (`Connection.pgconn`). What is confirmed to the server is said here alone: a driver that
moves the position on by itself lets go of log that a store knows nothing of.
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import _encodings
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from sqlalchemy.engine import Connection

from adapters.database.capture.pgoutput import MessageCut, lsn_of
from adapters.database.connection import driver_arguments
from adapters.database.polling.subject import Unusable

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

_FORMS: Final = "-c datestyle=ISO,YMD -c intervalstyle=iso_8601 -c timezone=UTC -c extra_float_digits=1 -c bytea_output=hex"
"""How values are written in the log: as polls get them."""
_DATA: Final = struct.Struct(">QQq")  # XLogData: start, end, when
_KEEPALIVE: Final = struct.Struct(">QqB")  # end, when, whether an answer is wanted
_FEEDBACK: Final = struct.Struct(">cQQQqB")  # written, flushed, applied, when, whether an answer is wanted
_EPOCH: Final = 946_684_800_000_000  # 2000-01-01 UTC
_ANSWER_SECONDS: Final = 10.0
Rows = list[list[str]]


def connect(options: Settings, context: Context, **given: Any) -> psycopg.Connection[Any]:
    """Raises psycopg.Error."""
    arguments = {**driver_arguments(options.connection, context), **given}
    return psycopg.connect(**arguments, options=_FORMS, replication="database", autocommit=True)


def replication(options: Settings, context: Context, sql: Connection) -> tuple[psycopg.Connection[Any], str]:
    """A connection for the log, and the Python codec of its text. Where the site says a column's character set, nothing is converted."""
    info = sql.connection.driver_connection.info  # type: ignore[union-attr]
    server = info.parameter_status("server_encoding")
    if any(table.charset for table in options.tables) or server == "SQL_ASCII":
        codec = "utf-8" if server == "SQL_ASCII" else _encodings.pg2pyenc(server.encode())
        return connect(options, context, client_encoding="SQL_ASCII"), codec
    return connect(options, context), info.encoding


def _command(connection: psycopg.Connection[Any], text: str, seconds: float) -> Rows:
    """Run one command; after `seconds` it is cancelled. Raises psycopg.Error."""
    pgconn = connection.pgconn
    pgconn.send_query(text.encode())
    if not _answered(pgconn, seconds):
        connection.cancel_safe(timeout=_ANSWER_SECONDS)
        if not _answered(pgconn, _ANSWER_SECONDS):
            raise psycopg.OperationalError("the server does not answer")
    rows: Rows = []
    while (result := pgconn.get_result()) is not None:
        if result.status == ExecStatus.COPY_BOTH:
            return []
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise error_from_result(result)
        rows.extend([(result.get_value(row, n) or b"").decode() for n in range(result.nfields)] for row in range(result.ntuples))
    return rows


def _answered(pgconn: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while pgconn.is_busy():
        if (left := deadline - time.monotonic()) <= 0:
            return False
        select.select([pgconn.socket], [], [], left)
        pgconn.consume_input()
    return True


class Server:
    """One connection for commands."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._seconds = options.connection.statement_timeout
        self._connection = connect(options, context)
        try:
            ((self._system, self._timeline, position, self._database),) = _command(self._connection, "IDENTIFY_SYSTEM", self._seconds)
            if not self._database:
                raise Unusable("the address names no database")
        except (psycopg.Error, Unusable):
            self.close()
            raise
        self._position = lsn_of(position)

    def identity(self) -> str:
        """What tells this database from another: a standby that was promoted has another timeline."""
        return f"{self._system}/{self._database}/timeline {self._timeline}"

    def position(self) -> int:
        """Where its log ends."""
        return self._position

    def create(self, name: str, *, temporary: bool) -> tuple[str, str]:
        """A slot; gives its LSN and the name of the snapshot that sees what was committed before, and nothing after. It can be imported
        until the next command. It waits until transactions that write just now have ended, for as long as a statement may run."""
        kind = "TEMPORARY " if temporary else ""
        text = f"CREATE_REPLICATION_SLOT {name} {kind}LOGICAL pgoutput EXPORT_SNAPSHOT"
        ((_, at, snapshot, _),) = _command(self._connection, text, self._seconds)
        return at, snapshot

    def close(self) -> None:
        self._connection.close()


class Stream:
    """One slot's log, begun with a `command`; `clock` gives microseconds UTC. `wal_end` is how far the server had read when it last said
    so. `asked`: it wants to hear what is kept, as one that is shut down does, and was told only what had been confirmed before."""

    def __init__(self, connection: psycopg.Connection[Any], clock: Callable[[], int], command: str, seconds: float) -> None:
        self._connection, self._clock = connection, clock
        self._confirmed = self.wal_end = 0
        self.asked = False
        _command(connection, command, seconds)

    def read(self) -> bytes | None:
        """The next message of the plugin, None where none has come yet. Raises psycopg.Error where the server has gone, MessageCut."""
        while (content := self._received()) is not None:
            match content[:1]:
                case b"w" if len(content) > _DATA.size:
                    return content[1 + _DATA.size :]
                case b"k" if len(content) == 1 + _KEEPALIVE.size:
                    self.wal_end, _, wanted = _KEEPALIVE.unpack_from(content, 1)
                    if wanted:
                        self.asked = True
                        self._tell()
                case _:
                    raise MessageCut("the replication protocol has a message that it should not have")
        return None

    def _received(self) -> bytes | None:
        pgconn = self._connection.pgconn
        size, content = pgconn.get_copy_data(1)
        if size == 0:
            pgconn.consume_input()
            size, content = pgconn.get_copy_data(1)
        if size > 0:
            return bytes(content)
        if size < 0:
            result = pgconn.get_result()
            if result is not None and result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
            raise psycopg.OperationalError("the server has ended the log")
        return None

    def wait(self, seconds: float) -> None:
        """Until something has come, `seconds` at most."""
        select.select([self._connection.pgconn.socket], [], [], seconds)

    def confirm(self, lsn: int) -> None:
        """Everything before `lsn` is on disk here; the server is to say how far it has read on."""
        self._confirmed, self.asked = max(self._confirmed, lsn), False
        self._tell(answer=True)

    def _tell(self, *, answer: bool = False) -> None:
        pgconn, lsn = self._connection.pgconn, self._confirmed
        pgconn.put_copy_data(_FEEDBACK.pack(b"r", lsn, lsn, lsn, self._clock() - _EPOCH, answer))
        deadline = time.monotonic() + _ANSWER_SECONDS
        while pgconn.flush():
            if time.monotonic() >= deadline:
                raise psycopg.OperationalError("the server takes nothing")
            select.select([pgconn.socket], [pgconn.socket], [], _ANSWER_SECONDS)
            pgconn.consume_input()

    def close(self) -> None:
        self._connection.close()
