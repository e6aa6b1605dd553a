"""The events of a binary log, one after the other, and where each stands; over one connection that is never silently made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pymysql
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import (
    GtidEvent,
    HeartbeatLogEvent,
    MariadbGtidEvent,
    NotImplementedEvent,
    QueryEvent,
    RotateEvent,
    XAPrepareEvent,
    XidEvent,
)
from pymysqlreplication.row_event import DeleteRowsEvent, PartialUpdateRowsEvent, TableMapEvent, UpdateRowsEvent, WriteRowsEvent

from adapters.database.capture.state import Unreadable
from adapters.database.connection import driver_arguments

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

_HEARTBEAT: Final = 0.5
_ROWS: Final = (WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent)
_EVENTS: Final = (*_ROWS, TableMapEvent, QueryEvent, XidEvent, RotateEvent, GtidEvent, MariadbGtidEvent, HeartbeatLogEvent,
                  NotImplementedEvent, PartialUpdateRowsEvent, XAPrepareEvent)  # fmt: skip
_HARMLESS: Final = range(0, 0x10)  # of versions long ago: start, stop, user variables; never rows
_CARRYING: Final = (40, 165, 166, 167, 168, 169, 170, 171)
"""Events with rows in them that cannot be read: MySQL's compressed transaction, MariaDB's compressed query and rows."""
_STANDALONE: Final = 1  # FL_STANDALONE of MariaDB's GTID event: one statement, without an end of its own
_PREPARED: Final = 64  # FL_PREPARED_XA


class EventStream:
    """`at` is where the next transaction begins, unless one is `within`; `idle`: the server had nothing more when last asked;
    `prepared`: of the transaction under way the log says elsewhere whether it was committed (XA PREPARE)."""

    def __init__(self, options: Settings, context: Context, server_id: int, file: str, position: int) -> None:
        self.within = self.idle = self.prepared = False
        self._standalone = False
        self._gtids: dict[str, str] = {}
        self._connections = 0
        self._arguments = driver_arguments(options.connection, context)
        self._arguments.pop("charset", None)
        self._reader = BinLogStreamReader(
            connection_settings=dict(self._arguments),
            server_id=server_id,
            resume_stream=True,
            blocking=True,
            log_file=file,
            log_pos=position,
            only_events=_EVENTS,
            filter_non_implemented_events=False,
            slave_heartbeat=_HEARTBEAT,
            enable_logging=False,
            pymysql_wrapper=self._connect,
        )

    def _connect(self, **settings: Any) -> Any:
        """The reader makes a lost connection anew and goes on in the middle of a transaction; here it is opened again by its beginning."""
        self._connections += 1
        if self._connections > 2:
            raise pymysql.OperationalError(2013, "the connection broke")
        return pymysql.connect(**settings)

    @property
    def at(self) -> str:
        return f"{self._reader.log_file}:{self._reader.log_pos}"

    def next(self) -> Any:
        """Waits for it, half a second at most when there is none."""
        event = self._reader.fetchone()
        if event is None:
            raise pymysql.OperationalError(2013, "the log ended")
        self.idle = isinstance(event, HeartbeatLogEvent)
        return event

    def kind(self, event: Any) -> str:
        """table, rows, statement, end, or "" for what holds nothing. Raises Unreadable."""
        if isinstance(event, _ROWS):
            self._begin()
            return "rows"
        if isinstance(event, TableMapEvent):
            self._begin()
            return "table"
        if isinstance(event, MariadbGtidEvent):
            self._gtids[str(event.domain_id)] = event.gtid
            self._standalone, self.within = bool(event.flags & _STANDALONE), True
            self.prepared = bool(event.flags & _PREPARED)
        elif isinstance(event, GtidEvent):
            self.within = True
        elif isinstance(event, XidEvent | XAPrepareEvent):
            self.within = False
            return "end"
        elif isinstance(event, QueryEvent):
            return self._query(event)
        elif isinstance(event, PartialUpdateRowsEvent) or (isinstance(event, NotImplementedEvent) and event.event_type in _CARRYING):
            raise Unreadable("the log has compressed or partial rows, which cannot be read")
        return ""

    def _begin(self) -> None:
        self.within = True

    def _query(self, event: QueryEvent) -> str:
        word = event.query.strip().upper()
        if word == "BEGIN":
            self.within = True
            return ""
        if word in ("COMMIT", "ROLLBACK"):
            self.within = False
            return "end"
        if self._standalone or not self._gtids:  # a statement of its own (DDL): nothing ends it
            self.within = False
        return "statement"

    def gtids(self, before: str) -> str:
        """The GTID position after what was read, from that before it."""
        known = {one.partition("-")[0]: one for one in before.split(",") if one}
        return ",".join(sorted({**known, **self._gtids}.values()))

    def close(self) -> None:
        self._reader.close()
