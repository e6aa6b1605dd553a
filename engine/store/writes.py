"""The writing half of the store: each method is part of a transaction that the caller has begun, and takes many calls at once.

Ids and queue numbers are counted in memory. When another process (the command line) has written in between, `begin` notices by
PRAGMA data_version and reads the counters again; after a rollback `forget` does the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from sqlite3 import Connection, Row
from typing import Any, Final

import orjson

from engine.errors import StoreError
from engine.message import BodyRef, Judgement, Status, Verdict
from engine.store.bodies import Bodies
from engine.store.contract import Accepted, Arrival, Plan, Routed, Setback, Settlement
from engine.store.rows import MESSAGE_COLUMNS, SEQ_BITS, chunks, insert, judgement_of, key_digest, marks, message_row

_NOWHERE: Final = Plan(Status.FILTERED, reason="no destination takes it")
_QUEUE: Final = "queue (id, message, order_key, body, digest, size, content_type, message_type, changed_at)"
_SETTLED_VERDICTS: Final = {Verdict.REFUSED: Status.FILTERED, Verdict.INVALID: Status.ERROR}

VACUUM_PAGES: Final = 2000
"""Pages given back at most with each step of a purge."""

PlanCall = tuple[str, Sequence[tuple[int, Plan]]]
SettleCall = tuple[str, str, Sequence[Settlement]]
SetBackCall = tuple[str, str, Sequence[Setback]]


class Writes:
    """`clock` gives microseconds UTC; bodies longer than `inline_limit` bytes become files."""

    def __init__(self, connection: Connection, bodies: Bodies, clock: Callable[[], int], inline_limit: int) -> None:
        self._db, self._bodies, self._clock, self._inline_limit = connection, bodies, clock, inline_limit
        connection.row_factory = Row
        self._version = -1
        self.forget()
        self.foreign_change = False
        self.committed_ids: dict[tuple[str, str], int] = {}  # read by the reactor thread too, so only ever added to

    def forget(self) -> None:
        """Nothing that is counted in memory holds any more."""
        self._channels: dict[str, int] = {}
        self._destinations: dict[tuple[str, str], int] = {}
        self._last_seq: dict[int, int] = {}
        self._enqueued: dict[int, int] = defaultdict(int)
        self._resent: dict[int, int] = defaultdict(int)
        self._received: dict[int, int] = defaultdict(int)
        self._last_message = -1

    def begin(self) -> None:
        """Begin a transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self.foreign_change = self.foreign_change or self._version >= 0
            self.forget()
            self._version = version
        if self._last_message < 0:
            sql = "SELECT max(last_message, coalesce((SELECT max(id) FROM message), 0)) FROM node"
            self._last_message = self._db.execute(sql).fetchone()[0]

    def commit(self) -> None:
        """Write the counters and commit."""
        for destination, count in self._enqueued.items():
            self._db.execute(
                "UPDATE destination SET last_seq = ?, enqueued = enqueued + ?, resent = resent + ? WHERE id = ?",
                (self._last_seq[destination], count, self._resent[destination], destination),
            )
        for channel, count in self._received.items():
            self._db.execute("UPDATE channel SET received = received + ? WHERE id = ?", (count, channel))
        self._db.execute("COMMIT")
        self._enqueued.clear()
        self._resent.clear()
        self._received.clear()
        self.committed_ids.update(self._destinations)

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self.forget()

    # --- names -----------------------------------------------------------------------------------

    def channel_id(self, name: str) -> int:
        number = self._channels.get(name)
        if number is None:
            self._db.execute("INSERT INTO channel (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            number = self._channels[name] = self._db.execute("SELECT id FROM channel WHERE name = ?", (name,)).fetchone()[0]
        return number

    def destination_id(self, channel: str, name: str) -> int:
        number = self._destinations.get((channel, name))
        if number is None:
            where = (self.channel_id(channel), name)
            self._db.execute("INSERT INTO destination (channel, name) VALUES (?, ?) ON CONFLICT DO NOTHING", where)
            row = self._db.execute("SELECT id, last_seq FROM destination WHERE channel = ? AND name = ?", where).fetchone()
            number = self._destinations[channel, name] = row["id"]
            self._last_seq[number] = row["last_seq"]
        return number

    # --- accept ----------------------------------------------------------------------------------

    def accept(self, arrivals: Sequence[Arrival]) -> list[Accepted | StoreError]:
        """Keep messages; find repetitions among them and among what is kept. One whose body file is not there fails alone."""
        keys = [_key(arrival) for arrival in arrivals]
        known = self._known([key for key in keys if key])
        results: list[Accepted | StoreError] = []
        batch = _Batch()
        for arrival, key in zip(arrivals, keys, strict=True):
            repeated = known.get(key) if key else None
            if repeated is not None and repeated.received_at > arrival.envelope.received_at - arrival.duplicate_window:
                results.append(answer := repeated.answer(arrival))
                if answer.same_content:
                    self._note_checkpoint(arrival, batch)
                continue
            if isinstance(arrival.envelope.body, BodyRef) and not self._bodies.has(arrival.envelope.body):
                results.append(StoreError(f"the body {arrival.envelope.body.digest[:12]} of a message is not in the store"))
                continue
            number = self._last_message = self._last_message + 1
            seqs = self._keep(number, arrival, key, batch)
            self._note_checkpoint(arrival, batch)
            if key:
                known[key] = _Known(
                    number, arrival.envelope.received_at, arrival.envelope.content_digest, arrival.answer, arrival.judgement
                )
            results.append(Accepted(number, seqs))
        batch.write(self._db)
        return results

    def _note_checkpoint(self, arrival: Arrival, batch: _Batch) -> None:
        if arrival.envelope.checkpoint is not None:
            name, value = arrival.envelope.checkpoint
            batch.checkpoints[self.channel_id(arrival.channel), name] = value

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, _Known]:
        """The newest kept message for each key."""
        known: dict[bytes, _Known] = {}
        for part in chunks(keys):
            sql = (
                "SELECT m.id, m.key, received_at, content_digest, verdict, reason, hl7_code, location,"
                " iif(m.answer = x'', coalesce((SELECT a.answer FROM answer a WHERE a.message = m.id), x''), m.answer) AS answer"
                f" FROM message m WHERE m.key IN ({marks(part)}) ORDER BY m.id"
            )
            for row in self._db.execute(sql, part):
                known[row["key"]] = _Known(row["id"], row["received_at"], row["content_digest"] or b"", row["answer"], judgement_of(row))
        return known

    def _keep(self, number: int, arrival: Arrival, key: bytes, batch: _Batch) -> tuple[int, ...]:
        envelope, channel = arrival.envelope, self.channel_id(arrival.channel)
        body = envelope.body
        if isinstance(body, bytes) and len(body) > self._inline_limit:
            body = self._bodies.keep(body)
        if isinstance(body, BodyRef):
            batch.messages.append(message_row(number, channel, arrival, key, body.digest, body.size))
        else:
            batch.messages.append(message_row(number, channel, arrival, key, None, len(body)))
            batch.bodies.append((number, body))
        batch.patients.extend((patient, number) for patient in dict.fromkeys(envelope.patient_ids))
        self._received[channel] += 1
        settled = _SETTLED_VERDICTS.get(arrival.judgement.verdict)
        if settled is not None:
            batch.outcomes.append((number, settled.value, arrival.judgement.reason, None, self._clock()))
        elif arrival.plan is None:
            batch.inbox.append((channel, number))
        else:
            return self._carry_out(number, arrival.channel, arrival.plan, batch)
        return ()

    def _carry_out(self, number: int, channel: str, plan: Plan, batch: _Batch) -> tuple[int, ...]:
        if plan.status is Status.QUEUED and not plan.routed:
            plan = _NOWHERE
        if plan.status is not Status.QUEUED:
            batch.outcomes.append((number, plan.status.value, plan.reason or None, plan.error_code or None, self._clock()))
            return ()
        return tuple([self._enqueue(number, channel, routed, batch) for routed in plan.routed])

    def _carry_out_again(self, number: int, channel: str, plan: Plan, batch: _Batch, only: str | None) -> tuple[int, ...]:
        """What an operator has put back: for the destinations of the resend only, and counted as resent where it was sent before."""
        if plan.status is not Status.QUEUED or not plan.routed:
            return self._carry_out(number, channel, plan, batch)
        wanted = None if only is None else set(_json_list(only))
        rows = self._db.execute(f"SELECT queue >> {SEQ_BITS} FROM delivery WHERE message = ?", (number,))
        had = {row[0] for row in rows}
        return tuple(
            self._enqueue(number, channel, routed, batch, again=self.destination_id(channel, routed.destination) in had)
            if wanted is None or routed.destination in wanted
            else 0
            for routed in plan.routed
        )

    def _enqueue(self, number: int, channel: str, routed: Routed, batch: _Batch, *, again: bool = False) -> int:
        destination = self.destination_id(channel, routed.destination)
        seq = self._next_seq(destination, not again, again)
        body, digest = routed.body, None
        size = 0 if body is None else len(body)
        if body is not None and size > self._inline_limit:
            digest, body = self._bodies.keep(body).digest, None
        batch.queue.append(
            (
                destination << SEQ_BITS | seq,
                number,
                routed.order_key,
                body,
                digest,
                size,
                routed.content_type or None,
                routed.message_type or None,
                self._clock(),
            )
        )
        return seq

    def _next_seq(self, destination: int, enqueued: int, resent: int = 0) -> int:
        self._enqueued[destination] += enqueued
        if resent:
            self._resent[destination] += resent
        seq = self._last_seq[destination] = self._last_seq[destination] + 1
        return seq

    # --- plan, settle ----------------------------------------------------------------------------

    def plan(self, calls: Sequence[PlanCall]) -> list[list[tuple[int, ...]]]:
        """Take messages out of the inbox, into queues or to their end. What is no longer in the inbox gives ()."""
        numbers = [number for _, plans in calls for number, _ in plans]
        waiting: dict[int, tuple[bool, str | None]] = {}
        for part in chunks(numbers):
            found = self._db.execute(
                f"SELECT message, again, only_destinations FROM inbox INDEXED BY inbox_message WHERE message IN ({marks(part)})",
                part,
            )
            waiting.update((row[0], (row[1], row[2])) for row in found)
            self._db.execute(f"DELETE FROM inbox WHERE message IN ({marks(part)})", part)
        batch = _Batch()
        results = [
            [self._take_out(number, channel, plan, batch, waiting.pop(number, None)) for number, plan in plans] for channel, plans in calls
        ]
        batch.write(self._db)
        return results

    def _take_out(self, number: int, channel: str, plan: Plan, batch: _Batch, entry: tuple[bool, str | None] | None) -> tuple[int, ...]:
        if entry is None:
            return ()
        again, only = entry
        return self._carry_out_again(number, channel, plan, batch, only) if again else self._carry_out(number, channel, plan, batch)

    def end(self, calls: Sequence[Any]) -> list[None]:
        """`settle` and `set_back` in the order of the calls: an attempt that failed earlier must not follow the parcel's end."""
        for failed, run in groupby(calls, key=lambda call: bool(call[2]) and isinstance(call[2][0], Setback)):
            (self.set_back if failed else self.settle)(list(run))
        return [None] * len(calls)

    def settle(self, calls: Sequence[SettleCall]) -> list[None]:
        """End parcels: SENT leaves the queue, ERROR stays in it, dead."""
        now = self._clock()
        sent: dict[int, Settlement] = {}
        for channel, destination, settlements in calls:
            number = self.destination_id(channel, destination)
            for end in settlements:
                if end.status is Status.SENT:
                    sent[number << SEQ_BITS | end.seq] = end
                else:
                    self._bury(number << SEQ_BITS | end.seq, end, now)
            if answers := {end.message_id: (end.message_id, number, end.answer) for end in settlements if end.answer}:
                self._replace_answers(number, list(answers.values()))
        for part in chunks(sorted(sent), 128):
            values = [value for i in part for value in (i, sent[i].attempts, sent[i].reference or None)]
            self._db.execute(_delivered(len(part)), [*values, now])
            self._db.execute(f"DELETE FROM queue WHERE id IN ({marks(part)})", part)
        return [None] * len(calls)

    def _replace_answers(self, destination: int, rows: list[tuple[int, int, bytes]]) -> None:
        for part in chunks([row[0] for row in rows]):
            self._db.execute(f"DELETE FROM answer WHERE message IN ({marks(part)}) AND destination = {destination}", part)
        insert(self._db, "answer (message, destination, answer)", rows)

    def _bury(self, queue: int, end: Settlement, now: int) -> None:
        self._db.execute(
            "UPDATE queue SET dead = 1, attempts = ?, reason = ?, error_code = ?, changed_at = ? WHERE id = ?",
            (end.attempts, end.reason, end.error_code, now, queue),
        )

    def set_back(self, calls: Sequence[SetBackCall]) -> list[None]:
        """Note failed attempts that will be repeated."""
        now = self._clock()
        for channel, destination, setbacks in calls:
            number = self.destination_id(channel, destination)
            for back in setbacks:
                self._db.execute(
                    "UPDATE queue SET attempts = ?, next_at = ?, reason = ?, error_code = ?, changed_at = ? WHERE id = ?",
                    (back.attempts, back.next_attempt_at, back.reason, back.error_code, now, number << SEQ_BITS | back.seq),
                )
        return [None] * len(calls)

    # --- an operator's words ---------------------------------------------------------------------

    def single(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Methods by name with their arguments, each by itself."""
        return [getattr(self, name)(*arguments) for name, arguments in calls]

    def changed_elsewhere(self) -> bool:
        """Whether another process has written since this was asked last."""
        changed, self.foreign_change = self.foreign_change, False
        return changed

    def hold(self, channel: str, destination: str, hold: bool) -> None:
        self._db.execute("UPDATE destination SET hold = ? WHERE id = ?", (hold, self.destination_id(channel, destination)))

    def resend(self, numbers: Sequence[int], destination: str) -> int:
        """Dead letters go to the end of their queue with the key they had; what was sent as received is queued again under a new key;
        what was sent mapped goes back to the inbox, to be mapped again."""
        return sum(self._revive(number, destination) + self._repeat(number, destination) for number in numbers)

    def _destinations_named(self, name: str) -> tuple[str, list[Any]]:
        return ("AND d.name = ?", [name]) if name else ("", [])

    def _revive(self, number: int, destination: str) -> int:
        named, arguments = self._destinations_named(destination)
        dead = self._db.execute(
            f"SELECT q.*, d.id AS destination, d.name, c.name AS channel FROM queue q JOIN destination d ON d.id = q.id >> {SEQ_BITS}"
            f" JOIN channel c ON c.id = d.channel WHERE q.message = ? AND q.dead {named} ORDER BY q.id",
            [number, *arguments],
        ).fetchall()
        for row in dead:
            target = self.destination_id(row["channel"], row["name"])
            seq = self._next_seq(target, enqueued=0)
            self._db.execute(
                "UPDATE queue SET id = ?, key = coalesce(key, ?), dead = 0, attempts = 0, next_at = 0, reason = NULL,"
                " error_code = NULL, changed_at = ? WHERE id = ?",
                (target << SEQ_BITS | seq, self.default_key(row["id"]), self._clock(), row["id"]),
            )
        return len(dead)

    def _repeat(self, number: int, destination: str) -> int:
        named, arguments = self._destinations_named(destination)
        sent = self._db.execute(
            "SELECT d.name, c.name AS channel, s.raw, s.order_key, max(s.queue) FROM delivery s"  # the row of the last time
            f" JOIN destination d ON d.id = s.queue >> {SEQ_BITS} JOIN channel c ON c.id = d.channel"
            f" WHERE s.message = ? {named} AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.message = s.message"
            f" AND q.id >> {SEQ_BITS} = d.id) GROUP BY d.id",
            [number, *arguments],
        ).fetchall()
        batch = _Batch()
        for row in sent:
            if row["raw"]:
                self._enqueue(number, row["channel"], Routed(row["name"], order_key=row["order_key"] or ""), batch, again=True)
        batch.write(self._db)
        mapped = {row["name"] for row in sent if not row["raw"]}
        return len(sent) - len(mapped) + self._map_again(number, mapped)

    def _map_again(self, number: int, destinations: set[str]) -> int:
        """Into the inbox for these destinations, beside those for which it is there already; gives for how many it was not."""
        there = self._db.execute("SELECT only_destinations FROM inbox WHERE message = ?", (number,)).fetchone()
        if not destinations or (there is not None and there[0] is None):
            return 0
        known = set(_json_list(there[0])) if there is not None else set()
        if destinations <= known:
            return 0
        only = orjson.dumps(sorted(destinations | known)).decode()
        self._put_back(number, only)
        return len(destinations - known)

    def _put_back(self, number: int, only: str | None) -> None:
        self._db.execute("DELETE FROM outcome WHERE message = ?", (number,))
        self._db.execute("INSERT OR REPLACE INTO inbox SELECT channel, id, ?, 1 FROM message WHERE id = ?", (only, number))

    def reprocess(self, numbers: Sequence[int]) -> int:
        """Back into the inbox, with the dead letters of an earlier try and its outcome gone; never what still waits in a queue."""
        return sum(self._start_again(number) for number in numbers)

    def _start_again(self, number: int) -> int:
        waits = self._db.execute("SELECT 1 FROM queue WHERE message = ? AND NOT dead", (number,)).fetchone()
        if waits or self._db.execute("SELECT 1 FROM message WHERE id = ?", (number,)).fetchone() is None:
            return 0
        had = f"EXISTS (SELECT 1 FROM delivery s WHERE s.message = q.message AND s.queue >> {SEQ_BITS} = q.id >> {SEQ_BITS})"
        rows = self._db.execute(f"SELECT id >> {SEQ_BITS} AS destination, {had} AS had FROM queue q WHERE message = ?", (number,))
        for gone in rows.fetchall():
            book = "resent" if gone["had"] else "enqueued"
            self._db.execute(f"UPDATE destination SET {book} = {book} - 1 WHERE id = ?", (gone["destination"],))
        self._db.execute("DELETE FROM queue WHERE message = ?", (number,))
        self._put_back(number, None)
        return 1

    def default_key(self, queue: int) -> str:
        """The idempotency key of a queue row that has none of its own."""
        return f"{self.identity}-{queue:x}"

    @property
    def identity(self) -> str:
        if not hasattr(self, "_identity"):
            self._identity: str = self._db.execute("SELECT identity FROM node").fetchone()[0]
        return self._identity

    # --- retention -------------------------------------------------------------------------------

    def purge(self, before: int, limit: int) -> tuple[int, list[str]]:
        """Remove settled messages and give their space back; gives how many, and the digests that may have lost their last row."""
        found = self._db.execute(
            "SELECT m.id, m.channel, m.patients, m.digest, o.status FROM message m LEFT JOIN outcome o ON o.message = m.id"
            " WHERE m.received_at < ? AND (o.status IS NULL OR o.status = 'FILTERED')"
            " AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.message = m.id) AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.message = m.id)"
            " ORDER BY m.received_at LIMIT ?",
            (before, limit),
        ).fetchall()
        for part in chunks(found, 200):
            self._remove(part)
        self._db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return len(found), [row["digest"] for row in found if row["digest"]]

    def _remove(self, rows: Sequence[Row]) -> None:
        numbers = [row["id"] for row in rows]
        here = f"IN ({marks(numbers)})"
        for row in rows:
            column = "purged_filtered" if row["status"] else "purged_delivered"
            self._db.execute(f"UPDATE channel SET {column} = {column} + 1 WHERE id = ?", (row["channel"],))
            for patient in _json_list(row["patients"]):
                self._db.execute("DELETE FROM message_patient WHERE patient = ? AND message = ?", (patient, row["id"]))
        sent = self._db.execute(
            f"SELECT queue >> {SEQ_BITS} AS destination, count(*) AS n FROM delivery WHERE message {here} GROUP BY 1",
            numbers,
        ).fetchall()
        for row in sent:
            self._db.execute("UPDATE destination SET purged = purged + ? WHERE id = ?", (row["n"], row["destination"]))
        for table in ("delivery", "answer", "outcome", "body"):
            self._db.execute(f"DELETE FROM {table} WHERE message {here}", numbers)
        self._db.execute(f"DELETE FROM message WHERE id {here}", numbers)
        self._db.execute("UPDATE node SET last_message = max(last_message, ?)", (max(numbers),))


@cache
def _delivered(count: int) -> str:
    """Makes deliveries of queue rows, in one step: id, attempts and reference of each, then the time."""
    return (
        f"WITH ends (id, attempts, reference) AS (VALUES {','.join(['(?,?,?)'] * count)})"
        " INSERT INTO delivery (message, queue, settled_at, attempts, raw, order_key, reference)"
        " SELECT q.message, q.id, ?, e.attempts, q.body IS NULL AND q.digest IS NULL, nullif(q.order_key, ''), e.reference"
        " FROM ends e CROSS JOIN queue q ON q.id = e.id"
    )


class _Known:
    """A kept message that a later one may repeat."""

    __slots__ = ("_answer", "content_digest", "judgement", "number", "received_at")

    def __init__(self, number: int, received_at: int, content_digest: bytes, answer: bytes, judgement: Judgement) -> None:
        self.number, self.received_at, self.content_digest = number, received_at, content_digest
        self._answer, self.judgement = answer, judgement

    def answer(self, arrival: Arrival) -> Accepted:
        same = self.content_digest == arrival.envelope.content_digest
        return Accepted(self.number, (), True, same, self._answer, self.judgement)


class _Batch:
    """Rows of one transaction, gathered to be inserted together."""

    __slots__ = ("bodies", "checkpoints", "inbox", "messages", "outcomes", "patients", "queue")

    def __init__(self) -> None:
        self.checkpoints: dict[tuple[int, str], str] = {}
        self.messages: list[tuple[Any, ...]] = []
        self.bodies: list[tuple[int, bytes]] = []
        self.patients: list[tuple[str, int]] = []
        self.inbox: list[tuple[int, int]] = []
        self.queue: list[tuple[Any, ...]] = []
        self.outcomes: list[tuple[Any, ...]] = []

    def write(self, db: Connection) -> None:
        insert(db, f"message ({MESSAGE_COLUMNS})", self.messages)
        insert(db, "body (message, body)", self.bodies)
        insert(db, "message_patient (patient, message)", sorted(self.patients))
        insert(db, "inbox (channel, message)", self.inbox)
        insert(db, _QUEUE, self.queue)
        insert(db, "outcome (message, status, reason, error_code, at)", self.outcomes)
        for (channel, name), value in self.checkpoints.items():
            db.execute("INSERT INTO checkpoint VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (channel, name, value))


def _key(arrival: Arrival) -> bytes:
    """The digest under which repetitions are found, b"" where the check is off."""
    key = arrival.envelope.idempotency_key
    return key_digest(arrival.channel, key) if key and arrival.duplicate_window else b""


def _json_list(text: str | None) -> list[str]:
    return list(orjson.loads(text)) if text else []
