"""A store in memory: the same contract without a disk, for tests that turn the clock. `fail_with` makes every write fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed

from engine.errors import StoreCorrupt, StoreError
from engine.message import BodyRef, Envelope, Excerpt, Judgement, Parcel, Status, Verdict
from engine.store.contract import (
    CLAIM_BYTES,
    Accepted,
    Arrival,
    Found,
    Kept,
    LedgerLine,
    Plan,
    Query,
    QueueLine,
    Routed,
    Setback,
    Settlement,
    Spool,
    Step,
    Waiting,
)


@dataclass
class Row:
    """One parcel's row in a queue."""

    seq: int
    message_id: int
    routed: Routed
    key: str
    attempts: int = 0
    next_at: int = 0
    state: str = "ready"
    reason: str = ""


@dataclass
class Message:
    """One message, with what became of it."""

    id: int
    arrival: Arrival
    answer: bytes
    outcome: Plan | None = None
    in_inbox: bool = False
    settled: dict[str, list[Settlement]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


class MemoryStore:
    """engine.store.contract.Store"""

    def __init__(self) -> None:
        self.messages: dict[int, Message] = {}
        self.queue: dict[tuple[str, str], dict[int, Row]] = {}
        self.last_seq: dict[tuple[str, str], int] = {}
        self.held: set[tuple[str, str]] = set()
        self.resent: dict[tuple[str, str], int] = {}
        self.bodies: dict[str, bytes] = {}
        self.now = 1
        self.fail_with: StoreError | None = None
        self.unreadable: StoreError | None = None
        self.touched = False
        self._checkpoints: dict[str, dict[str, str]] = {}

    def checkpoints(self, channel: str) -> Deferred[dict[str, str]]:
        return succeed(dict(self._checkpoints.get(channel, {})))

    def _note_checkpoint(self, arrival: Arrival) -> None:
        if arrival.envelope.checkpoint is not None:
            name, value = arrival.envelope.checkpoint
            self._checkpoints.setdefault(arrival.channel, {})[name] = value

    def parcel_key(self, channel: str, destination: str, seq: int) -> str:
        return f"memory-{channel}-{destination}-{seq}"

    def open(self) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)

    def _write(self, value: object) -> Deferred:
        return succeed(value)

    def accept(self, arrival: Arrival) -> Deferred[Accepted]:
        if self.fail_with:
            return fail(self.fail_with)
        envelope = arrival.envelope
        if isinstance(envelope.body, BodyRef) and envelope.body.digest not in self.bodies:
            return fail(StoreError("the body is not in the store"))
        if arrival.duplicate_window and envelope.idempotency_key:
            for known in reversed(self.messages.values()):
                if self._same(known, arrival):
                    same = known.arrival.envelope.content_digest == envelope.content_digest
                    if same:
                        self._note_checkpoint(arrival)
                    return succeed(Accepted(known.id, (), True, same, known.answer, known.arrival.judgement))
        message = Message(len(self.messages) + 1, arrival, arrival.answer)
        self.messages[message.id] = message
        self._note_checkpoint(arrival)
        message.steps.append(Step(envelope.received_at, Status.RECEIVED))
        plan = arrival.plan
        if arrival.judgement.verdict is Verdict.REFUSED:
            plan = Plan(Status.FILTERED, reason=arrival.judgement.reason)
        elif arrival.judgement.verdict is Verdict.INVALID:
            plan = Plan(Status.ERROR, reason=arrival.judgement.reason)
        if plan is None:
            message.in_inbox = True
            return succeed(Accepted(message.id))
        return succeed(Accepted(message.id, self._plan(message, plan)))

    @staticmethod
    def _same(known: Message, arrival: Arrival) -> bool:
        a, b = known.arrival, arrival
        recent = a.envelope.received_at > b.envelope.received_at - b.duplicate_window
        return recent and a.channel == b.channel and a.envelope.idempotency_key == b.envelope.idempotency_key

    def _plan(self, message: Message, plan: Plan) -> tuple[int, ...]:
        if plan.status is Status.QUEUED and not plan.routed:
            plan = Plan(Status.FILTERED, reason="no destination takes it")
        message.in_inbox, message.outcome = False, plan
        return tuple(self._enqueue(message, routed) for routed in plan.routed)

    def _enqueue(self, message: Message, routed: Routed, key: str = "") -> int:
        name = (message.arrival.channel, routed.destination)
        seq = self.last_seq[name] = self.last_seq.get(name, 0) + 1
        key = key or self.parcel_key(*name, seq)
        self.queue.setdefault(name, {})[seq] = Row(seq, message.id, routed, key)
        return seq

    def plan(self, channel: str, plans: Sequence[tuple[int, Plan]]) -> Deferred[list[tuple[int, ...]]]:
        if self.fail_with:
            return fail(self.fail_with)
        return succeed([self._plan(self.messages[i], plan) if self.messages[i].in_inbox else () for i, plan in plans])

    def settle(self, channel: str, destination: str, settlements: Sequence[Settlement]) -> Deferred[None]:
        if self.fail_with:
            return fail(self.fail_with)
        for end in settlements:
            message = self.messages[end.message_id]
            if end.status is Status.ERROR:
                row = self.queue[channel, destination][end.seq]
                row.state, row.reason = "dead", end.reason
            else:
                del self.queue[channel, destination][end.seq]
                message.settled.setdefault(destination, []).append(end)
            message.answer = end.answer or message.answer
            message.steps.append(Step(self.now, end.status, destination, end.attempts, end.reference, end.reason))
        return succeed(None)

    def set_back(self, channel: str, destination: str, setbacks: Sequence[Setback]) -> Deferred[None]:
        for back in setbacks:
            row = self.queue[channel, destination][back.seq]
            row.attempts, row.next_at, row.reason = back.attempts, back.next_attempt_at, back.reason
        return succeed(None)

    def claim(
        self, channel: str, destination: str, after: int, limit: int, order_key: str | None = None, until: int | None = None
    ) -> Deferred[list[tuple[Parcel, int]]]:
        rows = [
            (self._parcel(row), row.next_at)
            for seq, row in sorted(self.queue.get((channel, destination), {}).items())
            if after < seq <= (until or seq) and row.state == "ready" and order_key in (None, row.routed.order_key)
        ]
        weights = accumulate(len(parcel.body) if isinstance(parcel.body, bytes) else 0 for parcel, _ in rows)
        enough = next((count for count, weight in enumerate(weights, 1) if weight >= CLAIM_BYTES), limit)
        return succeed(rows[: min(limit, enough)])

    def _parcel(self, row: Row) -> Parcel:
        envelope, routed = self.messages[row.message_id].arrival.envelope, row.routed
        return Parcel(
            row.seq,
            row.message_id,
            envelope.body if routed.body is None else routed.body,
            routed.content_type or envelope.content_type,
            routed.message_type or envelope.message_type,
            envelope.control_id,
            row.key,
            routed.order_key,
            row.attempts + 1,
            envelope.received_at,
            envelope.peer,
        )

    def waiting(self, channel: str, after: int, limit: int) -> Deferred[list[Waiting]]:
        found = [m for m in self.messages.values() if m.in_inbox and m.id > after and m.arrival.channel == channel]
        return succeed([Waiting(m.id, m.arrival.envelope) for m in found[:limit]])

    def hold(self, channel: str, destination: str, hold: bool) -> Deferred[None]:
        (self.held.add if hold else self.held.discard)((channel, destination))
        self.touched = True
        return succeed(None)

    def resend(self, message_ids: Sequence[int], destination: str = "") -> Deferred[int]:
        count = 0
        for message in (self.messages[i] for i in message_ids):
            for routed in message.outcome.routed if message.outcome else ():
                if destination in ("", routed.destination):
                    count += self._send_again(message, routed)
        self.touched = True
        return succeed(count)

    def _send_again(self, message: Message, routed: Routed) -> int:
        name = (message.arrival.channel, routed.destination)
        there = [row for row in self.queue[name].values() if row.message_id == message.id]
        if any(row.state != "dead" for row in there):
            return 0
        self._enqueue(message, routed, self.queue[name].pop(there[0].seq).key if there else "")
        self.resent[name] = self.resent.get(name, 0) + (not there)
        return 1

    def reprocess(self, message_ids: Sequence[int]) -> Deferred[int]:
        for message in (self.messages[i] for i in message_ids):
            message.in_inbox = True
        self.touched = True
        return succeed(len(message_ids))

    def search(self, query: Query) -> Deferred[list[Found]]:
        found = [self._found(m) for m in reversed(self.messages.values()) if query.control_id in ("", m.arrival.envelope.control_id)]
        found = [line for line in found if query.since <= line.received_at < (query.until or line.received_at + 1)]
        return succeed([line for line in found if query.status in (None, line.status)][: query.limit])

    def _found(self, message: Message) -> Found:
        envelope: Envelope = message.arrival.envelope
        size = len(envelope.body) if isinstance(envelope.body, bytes) else envelope.body.size
        reason = message.outcome.reason if message.outcome else ""
        return Found(
            message.id,
            message.arrival.channel,
            envelope.received_at,
            envelope.message_type,
            envelope.control_id,
            envelope.sender,
            envelope.peer,
            self.status(message),
            size,
            reason,
        )

    def status(self, message: Message) -> Status:
        rows = [row for queue in self.queue.values() for row in queue.values() if row.message_id == message.id]
        if message.in_inbox:
            return Status.RECEIVED
        if any(row.state != "dead" for row in rows):
            held = any(self._holds(message, row) for row in rows)
            return Status.PENDING if held or any(row.attempts for row in rows) else Status.QUEUED
        if rows or (message.outcome and message.outcome.status is Status.ERROR):
            return Status.ERROR
        return Status.SENT if message.settled else Status.FILTERED

    def _holds(self, message: Message, row: Row) -> bool:
        return row.state != "dead" and (message.arrival.channel, row.routed.destination) in self.held

    def show(self, message_id: int) -> Deferred[Kept | None]:
        message = self.messages.get(message_id)
        if message is None:
            return succeed(None)
        judgement: Judgement = message.arrival.judgement
        return succeed(Kept(self._found(message), message.arrival.envelope, judgement, message.answer, tuple(message.steps)))

    def ledger(self) -> Deferred[list[LedgerLine]]:
        lines = []
        for channel in sorted({m.arrival.channel for m in self.messages.values()}):
            states = [self.status(m) for m in self.messages.values() if m.arrival.channel == channel]
            sums = [states.count(state) for state in (Status.SENT, Status.FILTERED, Status.ERROR)]
            resent = sum(count for (name, _), count in self.resent.items() if name == channel)
            lines.append(LedgerLine(channel, "", len(states), *sums, len(states) - sum(sums), resent=resent))
        return succeed(lines)

    def queues(self) -> Deferred[list[QueueLine]]:
        return succeed(
            [
                QueueLine(c, d, len(rows), 0, 0, sum(r.state == "dead" for r in rows.values()), 0, (c, d) in self.held)
                for (c, d), rows in self.queue.items()
            ]
        )

    def purge(self, before: int, limit: int) -> Deferred[int]:
        return succeed(0)

    def sweep(self, limit: int) -> Deferred[int]:
        return succeed(0)

    def spool(self) -> Spool:
        raise NotImplementedError

    def unspool(self, ref: BodyRef) -> None:
        raise NotImplementedError

    def body_file(self, ref: BodyRef) -> Path:
        raise NotImplementedError

    def read_body(self, ref: BodyRef, most: int = 0) -> Deferred[bytes]:
        if self.unreadable:
            return fail(self.unreadable)
        if ref.digest not in self.bodies:
            return fail(StoreCorrupt("the body is gone"))
        body = self.bodies[ref.digest]
        return succeed(Excerpt(body[:most], ref.digest, Path("bodies", ref.digest)) if 0 < most < ref.size else body)

    def keep_body(self, body: bytes) -> BodyRef:
        """For tests: a body that is only referred to."""
        digest = sha256(body).hexdigest()
        self.bodies[digest] = body
        return BodyRef(digest, len(body))

    def changed_elsewhere(self) -> Deferred[bool]:
        touched, self.touched = self.touched, False
        return succeed(touched)
