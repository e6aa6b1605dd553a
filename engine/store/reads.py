"""The reading half of the store: searches, traces, the ledger, claims. Runs beside the writer and sees whole transactions only."""

from __future__ import annotations

from dataclasses import replace
from sqlite3 import Connection, Row
from typing import Final

from engine.message import BodyRef, Parcel, Status
from engine.store import search
from engine.store.contract import CLAIM_BYTES, Found, Kept, LedgerLine, Query, QueueLine, Step, Waiting
from engine.store.rows import SEQ_BITS, envelope_of, judgement_of

_FOUND: Final = "m.id, m.received_at, m.message_type, m.control_id, m.sender, m.peer, m.size, m.reason AS refusal, c.name AS channel"
_CASES: Final = " ".join(f"WHEN {rule.format(n=':n')} THEN '{status}'" for status, rule in search.STATUS.items())
_STATUS: Final = f"""
    SELECT CASE {_CASES} END AS status,
        (SELECT q.reason FROM queue q
            WHERE q.message = :n AND NOT q.dead AND {search.LATE.format(q="q")} ORDER BY q.reason IS NULL LIMIT 1) AS late,
        (SELECT q.reason FROM queue q WHERE q.message = :n AND q.dead ORDER BY q.id LIMIT 1) AS dead,
        (SELECT reason FROM outcome WHERE message = :n) AS ended
"""


class Reads:
    """All read methods, on one connection and one thread."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        connection.row_factory = Row
        self._ids: dict[tuple[str, str], int] = {}

    def identity(self) -> str:
        return str(self._db.execute("SELECT identity FROM node").fetchone()[0])

    def destination_ids(self) -> dict[tuple[str, str], int]:
        sql = "SELECT c.name AS channel, d.name, d.id FROM destination d JOIN channel c ON c.id = d.channel"
        return {(row["channel"], row["name"]): row["id"] for row in self._db.execute(sql)}

    def checkpoints(self, channel: str) -> dict[str, str]:
        sql = "SELECT p.name, p.value FROM checkpoint p JOIN channel c ON c.id = p.channel WHERE c.name = ?"
        return {row["name"]: row["value"] for row in self._db.execute(sql, (channel,))}

    def _destination(self, channel: str, name: str) -> int | None:
        if (channel, name) not in self._ids:
            self._ids = self.destination_ids()
        return self._ids.get((channel, name))

    # --- claims ----------------------------------------------------------------------------------

    def claim(
        self, channel: str, destination: str, after: int, limit: int, order_key: str | None, until: int | None
    ) -> list[tuple[Parcel, int]]:
        number = self._destination(channel, destination)
        if number is None:
            return []
        first, last = number << SEQ_BITS | after, number << SEQ_BITS | (until if until is not None else (1 << SEQ_BITS) - 1)
        keyed = "AND q.order_key = ?" if order_key is not None else ""
        rows = self._db.execute(
            "SELECT q.*, m.content_type AS own_type, m.message_type AS own_message_type, m.control_id, m.received_at, m.peer,"
            " m.digest AS own_digest, m.size AS own_size, b.body AS own_body"
            " FROM queue q JOIN message m ON m.id = q.message"
            " LEFT JOIN body b ON b.message = q.message AND q.body IS NULL AND q.digest IS NULL"
            f" WHERE q.id > ? AND q.id <= ? AND q.dead = 0 {keyed} ORDER BY q.id LIMIT ?",
            [first, last, *([order_key] if order_key is not None else []), limit],
        )
        claimed, size = [], 0
        for row in rows:
            parcel = self._parcel(row)
            claimed.append((parcel, row["next_at"]))
            size += len(parcel.body) if isinstance(parcel.body, bytes) else 0
            if size >= CLAIM_BYTES:
                break
        return claimed

    def _parcel(self, row: Row) -> Parcel:
        if row["digest"]:
            body: bytes | BodyRef = BodyRef(row["digest"], row["size"])
        elif row["body"] is not None:
            body = row["body"]
        elif row["own_body"] is not None:
            body = row["own_body"]
        else:
            body = BodyRef(row["own_digest"], row["own_size"])
        return Parcel(
            seq=row["id"] & ((1 << SEQ_BITS) - 1),
            message_id=row["message"],
            body=body,
            content_type=row["content_type"] or row["own_type"],
            message_type=row["message_type"] or row["own_message_type"],
            control_id=row["control_id"],
            idempotency_key=row["key"] or f"{self._identity}-{row['id']:x}",
            order_key=row["order_key"],
            attempt=row["attempts"] + 1,
            received_at=row["received_at"],
            peer=row["peer"],
        )

    @property
    def _identity(self) -> str:
        if not hasattr(self, "_known_identity"):
            self._known_identity = self.identity()
        return self._known_identity

    def waiting(self, channel: str, after: int, limit: int) -> list[Waiting]:
        rows = self._db.execute(
            "SELECT m.*, b.body FROM inbox i JOIN channel c ON c.id = i.channel JOIN message m ON m.id = i.message"
            " LEFT JOIN body b ON b.message = m.id WHERE c.name = ? AND i.message > ? ORDER BY i.message LIMIT ?",
            (channel, after, limit),
        )
        return [Waiting(row["id"], envelope_of(row)) for row in rows]

    # --- search ----------------------------------------------------------------------------------

    def search(self, query: Query) -> list[Found]:
        self._db.execute("BEGIN")  # what is found and the status that is shown are of one moment
        try:
            return [line for number in search.find(self._db, query) if (line := self._found(number)) is not None]
        finally:
            self._db.execute("COMMIT")

    def _found(self, number: int) -> Found | None:
        row = self._db.execute(f"SELECT {_FOUND} FROM message m JOIN channel c ON c.id = m.channel WHERE m.id = ?", (number,)).fetchone()
        if row is None:
            return None
        status, reason = self._status(number)
        return Found(
            number,
            row["channel"],
            row["received_at"],
            row["message_type"],
            row["control_id"],
            row["sender"],
            row["peer"],
            status,
            row["size"],
            reason or row["refusal"] or "",
        )

    def _status(self, number: int) -> tuple[Status, str]:
        """The one that engine.store.search.STATUS says, with its reason."""
        row = self._db.execute(_STATUS, {"n": number}).fetchone()
        if row["status"] is None:
            return Status.ERROR, "unaccounted for; see the ledger"
        status = Status(row["status"])
        if status is Status.PENDING:
            return status, row["late"] or "held"
        if status is Status.ERROR:
            return status, row["dead"] or row["ended"] or ""
        return status, row["ended"] or "" if status is Status.FILTERED else ""

    # --- show ------------------------------------------------------------------------------------

    def show(self, number: int) -> Kept | None:
        found = self._found(number)
        if found is None:
            return None
        row = self._db.execute(
            "SELECT m.*, b.body FROM message m LEFT JOIN body b ON b.message = m.id WHERE m.id = ?", (number,)
        ).fetchone()
        answers = {r["destination"]: r["answer"] for r in self._db.execute("SELECT * FROM answer WHERE message = ?", (number,))}
        answer = row["answer"] or next(iter(answers.values()), b"")
        return Kept(found, envelope_of(row), judgement_of(row), answer, tuple(self._steps(number, row["received_at"], answers)))

    def _steps(self, number: int, received_at: int, answers: dict[int, bytes]) -> list[Step]:
        names = {ident: name for (_, name), ident in self.destination_ids().items()}
        steps = []
        for row in self._db.execute("SELECT * FROM outcome WHERE message = ?", (number,)):
            steps.append(Step(row["at"], Status(row["status"]), reason=row["reason"] or ""))
        for row in self._db.execute("SELECT * FROM queue WHERE message = ?", (number,)):
            status = Status.ERROR if row["dead"] else Status.PENDING if row["attempts"] else Status.QUEUED
            destination = row["id"] >> SEQ_BITS
            step = Step(row["changed_at"], status, names[destination], row["attempts"], "", row["reason"] or "")
            steps.append(replace(step, answer=answers.get(destination, b"")))
        for row in self._db.execute("SELECT * FROM delivery WHERE message = ?", (number,)):
            destination = row["queue"] >> SEQ_BITS
            step = Step(row["settled_at"], Status.SENT, names[destination], row["attempts"], row["reference"] or "")
            steps.append(replace(step, answer=answers.get(destination, b"")))
        return [Step(received_at, Status.RECEIVED), *sorted(steps, key=lambda step: step.at)]

    # --- ledger and queues -----------------------------------------------------------------------

    def ledger(self) -> list[LedgerLine]:
        """Counted from the rows, then compared with the counters that were incremented in the same transactions."""
        self._db.execute("BEGIN")
        try:
            channels = self._db.execute("SELECT * FROM channel ORDER BY name").fetchall()
            return [line for channel in channels for line in (self._channel_line(channel), *self._destination_lines(channel))]
        finally:
            self._db.execute("COMMIT")

    def _channel_line(self, channel: Row) -> LedgerLine:
        states = dict(self._db.execute(_CLASSIFY, {"channel": channel["id"]}).fetchall())
        counted = sum(states.values()) + channel["purged_delivered"] + channel["purged_filtered"]
        lost: tuple[str, ...] = ()
        if states.get("lost"):
            rows = self._db.execute(_LOST, {"channel": channel["id"]})
            lost = tuple(row["control_id"] or f"#{row['id']}" for row in rows)
        if counted != channel["received"]:
            lost = (*lost, f"{channel['received'] - counted} more received than kept")
        return LedgerLine(
            channel["name"],
            "",
            counted,
            states.get("delivered", 0) + channel["purged_delivered"],
            states.get("filtered", 0) + channel["purged_filtered"],
            states.get("dead", 0),
            states.get("in flight", 0),
            lost,
            self._db.execute("SELECT coalesce(sum(resent), 0) FROM destination WHERE channel = ?", (channel["id"],)).fetchone()[0],
        )

    def _destination_lines(self, channel: Row) -> list[LedgerLine]:
        lines = []
        for row in self._db.execute("SELECT * FROM destination WHERE channel = ? ORDER BY name", (channel["id"],)).fetchall():
            first, last = row["id"] << SEQ_BITS, (row["id"] + 1) << SEQ_BITS
            ready, pending, dead = self._counts(row["id"])
            waiting = ready + pending
            sent = self._db.execute(_SENT, {"channel": channel["id"], "first": first, "last": last}).fetchone()[0] + row["purged"]
            gap = row["enqueued"] + row["resent"] - sent - dead - waiting
            lost = (f"{gap} queued parcels have no end",) if gap else ()
            lines.append(LedgerLine(channel["name"], row["name"], row["enqueued"], sent, 0, dead, waiting, lost, row["resent"]))
        return lines

    def _counts(self, destination: int) -> tuple[int, int, int]:
        """How many parcels of a queue wait for their first attempt, for a later one, and are dead."""
        span = (destination << SEQ_BITS, (destination + 1) << SEQ_BITS)
        everything = self._db.execute("SELECT count(*) FROM queue WHERE id >= ? AND id < ?", span).fetchone()[0]
        dead, pending = self._db.execute(_TROUBLED, span).fetchone()
        return everything - dead - pending, pending, dead

    def queues(self) -> list[QueueLine]:
        self._db.execute("BEGIN")  # counted by several statements
        try:
            return self._queue_lines()
        finally:
            self._db.execute("COMMIT")

    def _queue_lines(self) -> list[QueueLine]:
        rows = self._db.execute(
            "SELECT d.id, c.name AS channel, d.name, d.hold FROM destination d JOIN channel c ON c.id = d.channel ORDER BY c.name, d.name"
        ).fetchall()
        return [self._queue_line(row) for row in rows]

    def _queue_line(self, row: Row) -> QueueLine:
        span = (row["id"] << SEQ_BITS, (row["id"] + 1) << SEQ_BITS)
        oldest = self._db.execute(
            "SELECT m.received_at, q.reason FROM queue q JOIN message m ON m.id = q.message"
            " WHERE q.id >= ? AND q.id < ? AND NOT q.dead ORDER BY q.id LIMIT 1",
            span,
        ).fetchone()
        ready, pending, dead = self._counts(row["id"])
        hold, held = bool(row["hold"]), 0
        if hold:
            ready, pending, held = 0, 0, ready + pending
        at, error = (oldest["received_at"], oldest["reason"] or "") if oldest else (0, "")
        return QueueLine(row["channel"], row["name"], ready, pending, held, dead, at, hold, error)


_STATE: Final = """
    CASE
        WHEN EXISTS (SELECT 1 FROM queue q WHERE q.message = m.id AND NOT q.dead) THEN 'in flight'
        WHEN EXISTS (SELECT 1 FROM inbox i WHERE i.message = m.id) THEN 'in flight'
        WHEN EXISTS (SELECT 1 FROM queue q WHERE q.message = m.id) THEN 'dead'
        WHEN o.status = 'ERROR' THEN 'dead'
        WHEN o.status = 'FILTERED' THEN 'filtered'
        WHEN EXISTS (SELECT 1 FROM delivery d WHERE d.message = m.id) THEN 'delivered'
        ELSE 'lost'
    END
"""
_CLASSIFY: Final = f"""
    SELECT {_STATE} AS state, count(*) FROM message m LEFT JOIN outcome o ON o.message = m.id
    WHERE m.channel = :channel GROUP BY state
"""
_LOST: Final = f"""
    SELECT m.id, m.control_id FROM message m LEFT JOIN outcome o ON o.message = m.id
    WHERE m.channel = :channel AND {_STATE} = 'lost' LIMIT 100
"""
_TROUBLED: Final = """
    SELECT coalesce(sum(dead), 0), coalesce(sum(NOT dead), 0) FROM queue INDEXED BY queue_troubled
    WHERE (dead OR attempts > 0) AND id >= ? AND id < ?
"""
_SENT: Final = """
    SELECT count(*) FROM delivery WHERE queue >= :first AND queue < :last
"""
