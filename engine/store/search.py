"""Finds messages. A message's status is not stored: it follows from the rows that other tables have of it, by one rule (STATUS) that
`Reads` applies to one message and the searches here apply to all.

How a search stays fast with a million messages: it walks along one index from the newest number down and stops at the limit. The
index is that of the control id, of the patient, of the status (the table whose rows make that status), of the channel, of the time, or
the numbers themselves. Times need not rise with the numbers, since a clock may be set back: the index of the times says exactly which
numbers lie within a period, and where they lie scattered the search walks along that index instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any, Final

from engine.message import Status
from engine.store.contract import Query
from engine.store.rows import SEQ_BITS

_SCATTERED: Final = 4
"""A period is scattered when its numbers span more than this many times their count."""

_HELD: Final = "(SELECT id FROM destination WHERE hold)"
LATE: Final = f"({{q}}.attempts > 0 OR {{q}}.id >> {SEQ_BITS} IN {_HELD})"
"""What holds for a row {q} of the queue that waits for longer than it should."""
_INBOX: Final = "EXISTS (SELECT 1 FROM inbox i WHERE i.message = {n})"
_ROWS: Final = "EXISTS (SELECT 1 FROM queue x WHERE x.message = {n})"
_ALIVE: Final = "EXISTS (SELECT 1 FROM queue x WHERE x.message = {n} AND NOT x.dead)"
_BEHIND: Final = f"EXISTS (SELECT 1 FROM queue x WHERE x.message = {{n}} AND NOT x.dead AND {LATE.format(q='x')})"
_ENDED: Final = "(SELECT o.status FROM outcome o WHERE o.message = {n})"

STATUS: Final = {
    Status.RECEIVED: _INBOX,
    Status.PENDING: f"NOT {_INBOX} AND {_BEHIND}",
    Status.QUEUED: f"NOT {_INBOX} AND {_ALIVE} AND NOT {_BEHIND}",
    Status.ERROR: f"NOT {_INBOX} AND NOT {_ALIVE} AND ({_ROWS} OR coalesce({_ENDED}, '') = 'ERROR')",
    Status.FILTERED: f"NOT {_INBOX} AND NOT {_ROWS} AND coalesce({_ENDED}, '') = 'FILTERED'",
    Status.SENT: f"NOT {_INBOX} AND NOT {_ROWS} AND {_ENDED} IS NULL AND EXISTS (SELECT 1 FROM delivery y WHERE y.message = {{n}})",
}
"""What holds for a message, whose number stands for {n}, of that status; for each message exactly one of them does."""

_TABLES: Final = {
    Status.RECEIVED: [("inbox s", "1")],
    Status.PENDING: [("queue q INDEXED BY queue_message", f"NOT q.dead AND {LATE.format(q='q')}")],
    Status.QUEUED: [("queue q INDEXED BY queue_message", f"NOT q.dead AND NOT {LATE.format(q='q')}")],
    Status.ERROR: [("queue q INDEXED BY queue_message", "q.dead"), ("outcome s", "s.status = 'ERROR'")],
    Status.FILTERED: [("outcome s", "s.status = 'FILTERED'")],
    Status.SENT: [("delivery s", "1")],
}
"""The tables of which every message of that status has a row, and which rows: its candidates."""


@dataclass(frozen=True, slots=True)
class _Period:
    """The numbers received within a search's times: how many, the lowest, the highest."""

    count: int
    lowest: int
    highest: int

    @property
    def scattered(self) -> bool:
        return self.highest - self.lowest >= self.count * _SCATTERED

    @property
    def exact(self) -> bool:
        return self.highest - self.lowest + 1 == self.count


def find(db: Connection, query: Query) -> list[int]:
    """The numbers of the messages that `query` asks for, newest first. For a consistent answer call it within a transaction."""
    period = _period(db, query)
    if period is not None and not period.count:
        return []
    if query.status is not None and query.status not in STATUS:
        return []
    walks = [None] if query.status is None or query.control_id or query.patient_id else _TABLES[query.status]
    numbers = {number for walk in walks for number in _Walk(query, walk, period).numbers(db)}
    return sorted(numbers, reverse=True)[: query.limit]


def _period(db: Connection, query: Query) -> _Period | None:
    if not query.since and not query.until:
        return None
    sql = "SELECT count(*), min(id), max(id) FROM message INDEXED BY message_received_at WHERE received_at >= ? AND received_at < ?"
    count, lowest, highest = db.execute(sql, (query.since, query.until or 1 << 62)).fetchone()
    return _Period(count, lowest or 0, highest or 0)


class _Walk:
    """One statement of a search: along the rows of one table, or without a `table` along the messages themselves."""

    def __init__(self, query: Query, table: tuple[str, str] | None, period: _Period | None) -> None:
        self._query, self._period = query, period
        self._where: list[str] = []
        self._values: list[Any] = []
        self._of_message = False  # whether there are conditions on columns of message
        by_time = period is not None and period.scattered and not (table or query.control_id or query.patient_id or query.channel)
        if table is not None:
            self._tables, self._number = [table[0]], table[0].split()[1] + ".message"
            self._where.append(table[1])
        elif query.patient_id:
            self._tables, self._number = ["message_patient p"], "p.message"
            self._add("p.patient = ?", query.patient_id)
        else:
            self._tables, self._number = ["message m" + (" INDEXED BY message_received_at" if by_time else "")], "m.id"
        self._add_columns(other=bool(table or query.control_id or query.patient_id or by_time))
        self._add_numbers("" if by_time else "+")

    def _add(self, condition: str, *values: Any) -> None:
        self._where.append(condition)
        self._values += values
        self._of_message = self._of_message or condition.lstrip("+").startswith("m.")

    def _add_columns(self, *, other: bool) -> None:
        """`other`: an index other than the channel's leads. A plus sign keeps SQLite from choosing a column's index."""
        query = self._query
        for column in ("control_id", "message_type", "sender"):
            if getattr(query, column):
                self._add(f"{'' if column == 'control_id' else '+'}m.{column} = ?", getattr(query, column))
        if query.channel:
            self._add(f"{'+' if other else ''}m.channel = (SELECT id FROM channel WHERE name = ?)", query.channel)
        if query.destination:
            ids = f"IN (SELECT id FROM destination WHERE name = ?{len(self._values) + 1})"
            self._add(
                f"(EXISTS (SELECT 1 FROM queue x WHERE x.message = {self._number} AND x.id >> {SEQ_BITS} {ids})"
                f" OR EXISTS (SELECT 1 FROM delivery y WHERE y.message = {self._number} AND y.queue >> {SEQ_BITS} {ids}))",
                query.destination,
            )

    def _add_numbers(self, plus: str) -> None:
        period = self._period
        if period is not None:
            self._add(f"{self._number} BETWEEN ? AND ?", period.lowest, period.highest)
            if not period.exact:
                self._add(f"{plus}m.received_at >= ?", self._query.since)
                self._add(f"{plus}m.received_at < ?", self._query.until or 1 << 62)
        if self._query.before_id:
            self._add(f"{self._number} < ?", self._query.before_id)

    def numbers(self, db: Connection) -> list[int]:
        tables, where, number = self._tables, self._where, self._number
        if self._of_message and number != "m.id":
            tables, number = [*tables, f"message m ON m.id = {number}"], "m.id"
        if self._query.status is not None:  # the dearest condition is the last, and waits for the message's own where there are some
            where = [*where, STATUS[self._query.status].format(n=number)]
        sql = f"SELECT DISTINCT {self._number} FROM {' CROSS JOIN '.join(tables)} WHERE {' AND '.join(where) or '1'}"
        rows = db.execute(f"{sql} ORDER BY {self._number} DESC LIMIT ?", [*self._values, self._query.limit])
        return [row[0] for row in rows]
