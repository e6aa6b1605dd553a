"""The pipeline of one channel: judge, commit, answer, plan, hand to the deliveries (steps 3 to 9 of a message's way).

Two ways lead through it. A *light* program (no mapping) plans before the commit, and the message with its queue rows is one
transaction. Any other message is committed to the inbox and answered; a planner then feeds worker processes with batches,
keeps their results in the order of arrival, and queues them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from engine import registry
from engine.channel import Channel, ReusedKey
from engine.errors import StoreCorrupt, StoreError
from engine.message import ACCEPTED, ORDER_KEY, WHOLE, Ack, BodyRef, Envelope, Judgement, Parcel, Receipt, Status, Verdict
from engine.store.contract import Accepted, Arrival, Plan, Store, Waiting
from engine.turns import Turns
from engine.workers import WorkerDied, Workers

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Reply
    from engine.delivery import Delivery, End
    from engine.observe import Metrics
    from engine.parties import Gate

UNAVAILABLE: Final = Judgement(Verdict.UNAVAILABLE, "the message store cannot take messages now; send again later", "207")
REUSED_KEY: Final = Judgement(Verdict.INVALID, "this control id was used before for another message", "205", "MSH-10")
FLAGGED: Final = Judgement(Verdict.ACCEPTED, "this identifier was used before for other content; taken as new")
_REMEMBERED: Final = 256
_REMEMBERED_SIZE: Final = 16 << 10
"""Answers of destinations that a repetition hears at once: how many, and how long they may be."""

Publish = Callable[[int, Envelope, Plan, Sequence[int]], None]


class Pipeline:
    """One channel at run time; `intake` is what its source calls. All methods belong to the reactor thread."""

    def __init__(
        self,
        channel: Channel,
        store: Store,
        workers: Workers,
        *,
        reactor: Any,
        clock: Callable[[], int],
        metrics: Metrics,
        log: logging.Logger,
        gate: Gate | None = None,
        audit: Callable[..., None] = lambda event, **facts: None,
    ) -> None:
        self._audit = audit
        self._channel, self._store, self._workers, self._gate = channel, store, workers, gate
        self._reactor, self._clock, self._log = reactor, clock, log
        self._deliveries: Mapping[str, Delivery] = {}
        self._unpublished: list[tuple[Accepted, Arrival]] = []
        self._window = int(channel.duplicate_window * 1e6)
        self._turns = Turns()
        self._answers: dict[int, tuple[Deferred[Ack], Reply, DelayedCall]] = {}
        self._given: dict[int, tuple[Judgement, bytes]] = {}  # the last answers, oldest first, for who did not hear them
        self.planner = Planner(channel.name, store, workers, self._publish, reactor=reactor, log=log)
        label = {"channel": channel.name}
        self._received = metrics.counter("meridian_received_total", "messages committed", **label)
        self._refused = metrics.counter("meridian_refused_total", "messages refused or invalid, and kept", **label)
        self._duplicates = metrics.counter("meridian_duplicates_total", "repetitions answered from the stored answer", **label)
        self._reused = metrics.counter("meridian_reused_keys_total", "identifiers that came again with other content", **label)
        self._unavailable = metrics.counter("meridian_unavailable_total", "messages that the store could not take", **label)
        self._invalid = metrics.counter("meridian_invalid_total", "accepted messages that could not be read or mapped", **label)
        self._unmapped = metrics.counter("meridian_unmapped_codes_total", "codes of instruments that no table of the site knew", **label)
        self._commit_seconds = metrics.histogram("meridian_commit_seconds", "from the intake to the commit", **label)
        self._ack_seconds = metrics.histogram("meridian_ack_seconds", "from the intake to the answer that the sender hears", **label)

    def connect(self, deliveries: Mapping[str, Delivery]) -> None:
        """Say where the channel's destinations are, by name. Called once, before the source starts."""
        self._deliveries = deliveries

    # --- intake ----------------------------------------------------------------------------------

    def intake(self, envelope: Envelope, reply: Reply, invalid: Judgement | None = None) -> Deferred[Ack]:
        """engine.contracts.Intake"""
        begun = self._clock()
        refusal = self._gate.refusal(envelope, invalid) if self._gate is not None else None
        if refusal is not None:  # without its key: an impostor must not use up the control ids of the right sender
            return self._commit(refusal, replace(envelope, idempotency_key=""), reply, begun)
        if invalid is not None:
            return self._commit(invalid, envelope, reply, begun)
        if self._channel.program.checks_content:
            judged: Deferred[Any] = self._judge(envelope)
            over = self._turns.enter(envelope.facts.get(ORDER_KEY, ""), judged)  # workers may be done with a later message sooner

            def commit(results: list[Any]) -> Deferred[Ack]:
                ack = self._commit(_judgement(results[0]), envelope, reply, begun)
                over()
                return ack

            def not_read(failure: Failure) -> Ack:
                over()
                return self._not_read(failure, envelope, reply)

            return judged.addCallbacks(commit, not_read)
        return self._commit(self._channel.program.judge(envelope), envelope, reply, begun)

    def _judge(self, envelope: Envelope) -> Deferred[list[Any]]:
        """By a worker, which has the content in memory, or its beginning where a codec reads no more."""
        if not isinstance(envelope.body, BodyRef) or not _can_be_read(envelope):
            return self._workers.submit("judge", self._channel.name, [envelope])
        body: Deferred[Any] = self._store.read_body(envelope.body, WHOLE)
        return body.addCallback(lambda body: self._workers.submit("judge", self._channel.name, [replace(envelope, body=body)]))

    def _not_read(self, failure: Failure, envelope: Envelope, reply: Reply) -> Ack:
        if isinstance(envelope.body, BodyRef):
            self._store.unspool(envelope.body)
        return self._not_kept(failure, reply)

    def _commit(self, judgement: Judgement, envelope: Envelope, reply: Reply, begun: int) -> Deferred[Ack]:
        accepted, program = judgement.verdict is Verdict.ACCEPTED, self._channel.program
        light = program.light and not (program.reads_content and isinstance(envelope.body, BodyRef))
        plan = program.plan(envelope) if accepted and light else None
        answer = b"" if accepted and self._channel.answer_from else reply(ACCEPTED if accepted else judgement)
        arrival = Arrival(self._channel.name, envelope, judgement, answer, plan, self._window if envelope.idempotency_key else 0)
        kept = self._store.accept(arrival)
        ack: Deferred[Ack] = kept.addCallbacks(self._committed, self._not_kept, callbackArgs=(arrival, reply, begun), errbackArgs=(reply,))
        return ack

    def _not_kept(self, failure: Failure, reply: Reply) -> Ack:
        failure.trap(StoreError)
        self._unavailable.inc()
        self._log.error("cannot keep a message", extra={"channel": self._channel.name, "reason": str(failure.value)})
        return Ack(UNAVAILABLE, reply(UNAVAILABLE))

    def _committed(self, kept: Accepted, arrival: Arrival, reply: Reply, begun: int) -> Ack | Deferred[Ack]:
        took = (self._clock() - begun) / 1e6
        self._commit_seconds.observe(took)
        if kept.duplicate:
            return self._repeated(kept, arrival, reply, begun)
        self._received.inc()
        if arrival.judgement.verdict is not Verdict.ACCEPTED:
            self._refused.inc()
            self._ack_seconds.observe(took)
            return Ack(arrival.judgement, arrival.answer, kept.message_id)
        if not self._unpublished:
            self._reactor.callLater(0, self._publish_committed)
        self._unpublished.append((kept, arrival))
        if self._channel.answer_from:
            return self._await_answer(kept.message_id, reply, begun)
        self._ack_seconds.observe(took)
        return Ack(ACCEPTED, arrival.answer, kept.message_id)

    def _publish_committed(self) -> None:
        """After the answers of a whole group: senders go on sooner, and fewer of them are woken one by one."""
        committed, self._unpublished = self._unpublished, []
        for kept, arrival in committed:
            if arrival.plan is not None:
                self._publish(kept.message_id, arrival.envelope, arrival.plan, kept.seqs)
            else:
                self.planner.add(kept.message_id, arrival.envelope)

    def _repeated(self, kept: Accepted, arrival: Arrival, reply: Reply, begun: int) -> Ack | Deferred[Ack]:
        if not kept.same_content:
            return self._reuse(arrival, reply, begun)
        self._duplicates.inc()
        judgement = kept.judgement or ACCEPTED
        if (given := self._given.get(kept.message_id)) is not None:
            return Ack(given[0], given[1] or reply(given[0]), kept.message_id, duplicate=True)
        if not kept.answer and self._channel.answer_from and judgement.verdict is Verdict.ACCEPTED:
            return self._await_answer(kept.message_id, reply, begun, duplicate=True)
        self._ack_seconds.observe((self._clock() - begun) / 1e6)
        return Ack(judgement, kept.answer, kept.message_id, duplicate=True)

    def _reuse(self, arrival: Arrival, reply: Reply, begun: int) -> Deferred[Ack]:
        """The key was used before for other content."""
        envelope, reused_key = arrival.envelope, self._channel.reused_key
        self._reused.inc()
        if reused_key is ReusedKey.FLAG and arrival.judgement.verdict is Verdict.ACCEPTED:
            self._audit(
                "message.key_reused",
                channel=self._channel.name,
                remote=envelope.remote,
                party=envelope.peer,
                sender=envelope.sender,
                control_id=envelope.control_id,
            )
            own_key = f"{envelope.idempotency_key}#{envelope.content_digest.hex()}"  # so that its own repetitions are settled quietly
            return self._commit(FLAGGED, replace(envelope, idempotency_key=own_key), reply, begun)
        judgement = REUSED_KEY if reused_key is ReusedKey.REFUSE else arrival.judgement
        return self._commit(judgement, replace(envelope, idempotency_key=""), reply, begun)

    # --- answering with a destination's result ----------------------------------------------------

    def _await_answer(self, message_id: int, reply: Reply, begun: int, *, duplicate: bool = False) -> Deferred[Ack]:
        ack: Deferred[Ack] = Deferred()
        earlier = self._answers.pop(message_id, None)
        if earlier is not None:  # the sender gave up on its first connection: that one hears the same
            earlier[2].cancel()
            ack.addCallback(_both, earlier[0])
        timeout = self._reactor.callLater(self._channel.answer_within, self._answer_late, message_id)
        self._answers[message_id] = (ack, reply, timeout)
        ack.addCallback(self._timed, begun)
        if duplicate:
            ack.addCallback(lambda result: replace(result, duplicate=True))
        return ack

    def _timed(self, ack: Ack, begun: int) -> Ack:
        self._ack_seconds.observe((self._clock() - begun) / 1e6)
        return ack

    def _answer_late(self, message_id: int) -> None:
        ack, reply, _ = self._answers.pop(message_id)
        ack.callback(Ack(ACCEPTED, reply(ACCEPTED), message_id))

    def _answer(self, message_id: int, judgement: Judgement, answer: bytes) -> None:
        if len(answer) <= _REMEMBERED_SIZE:
            self._given[message_id] = (judgement, answer)
            if len(self._given) > _REMEMBERED:
                del self._given[next(iter(self._given))]
        waiting = self._answers.pop(message_id, None)
        if waiting is not None:
            ack, reply, timeout = waiting
            timeout.cancel()
            ack.callback(Ack(judgement, answer or reply(judgement), message_id))

    def ended(self, destination: str, message_id: int, end: End) -> None:
        """A delivery has ended; where the sender waits for it, it hears the result now."""
        if destination != self._channel.answer_from:
            return
        if isinstance(end, Receipt):
            self._answer(message_id, ACCEPTED, end.answer)
        else:
            self._answer(message_id, Judgement(Verdict.INVALID, end.text, "207", end.location), end.answer)

    # --- publishing ------------------------------------------------------------------------------

    def _publish(self, message_id: int, envelope: Envelope, plan: Plan, seqs: Sequence[int]) -> None:
        """A plan is on disk: offer its parcels to their deliveries, answer who waits in vain."""
        if plan.status is Status.ERROR:
            self._invalid.inc()
            self._log.warning(
                "invalid message",
                extra={"channel": self._channel.name, "control_id": envelope.control_id, "code": plan.error_code, "reason": plan.reason},
            )
        if plan.unmapped:
            self._unmapped.inc(plan.unmapped)
        if self._channel.answer_from and not any(routed.destination == self._channel.answer_from for routed in plan.routed):
            verdict = Verdict.INVALID if plan.status is Status.ERROR else Verdict.ACCEPTED
            self._answer(message_id, Judgement(verdict, plan.reason, "207" if verdict is Verdict.INVALID else ""), b"")
        for routed, seq in zip(plan.routed, seqs, strict=False):
            if not seq:
                continue
            self._deliveries[routed.destination].offer(
                Parcel(
                    seq=seq,
                    message_id=message_id,
                    body=envelope.body if routed.body is None else routed.body,
                    content_type=routed.content_type or envelope.content_type,
                    message_type=routed.message_type or envelope.message_type,
                    control_id=envelope.control_id,
                    idempotency_key=self._store.parcel_key(self._channel.name, routed.destination, seq),
                    order_key=routed.order_key,
                    received_at=envelope.received_at,
                    peer=envelope.peer,
                )
            )


def _judgement(result: Any) -> Judgement:
    return Judgement(Verdict.INVALID, "the content check ended abnormally", "207") if isinstance(result, WorkerDied) else result


def _both(ack: Ack, other: Deferred[Ack]) -> Ack:
    other.callback(ack)
    return ack


class Planner:
    """Takes a channel's inbox through the workers. Plans are queued in the order of arrival, however the workers finish.

    Like a delivery's window, what is in memory is bounded: beyond `BACKLOG` messages the rest waits in the store.
    """

    BACKLOG: Final = 2000
    BACKLOG_BYTES: Final = 32 << 20
    BATCH: Final = 32

    def __init__(self, channel: str, store: Store, workers: Workers, publish: Publish, *, reactor: Any, log: logging.Logger) -> None:
        self._channel, self._store, self._workers, self._publish = channel, store, workers, publish
        self._reactor, self._log = reactor, log
        self._backlog: deque[tuple[int, Envelope]] = deque()
        self._bytes = 0
        self._tail = 0
        self._spilled = True
        self._spilled_since = False
        self._reading = self._running = self._rescan = False
        self._under_way: deque[_Work] = deque()
        self._storing = False
        self._idle: Deferred[None] | None = None

    def start(self) -> None:
        """Begin with what the store's inbox still has."""
        self._running = True
        self._refill()
        self._pump()

    def stop(self) -> Deferred[None]:
        """Finish what the workers have; the rest of the inbox waits for the next start."""
        self._running = False
        self._idle = Deferred()
        idle = self._idle
        self._look_idle()
        return idle

    def look_again(self) -> None:
        """The inbox was changed from outside (reprocess): read it again from its beginning, once nothing is under way."""
        self._rescan = self._spilled = self._spilled_since = True
        self._refill()

    def add(self, message_id: int, envelope: Envelope) -> None:
        """A message that has just been committed to the inbox; ids come in rising order."""
        if message_id <= self._tail:
            return
        if self._spilled or len(self._backlog) >= self.BACKLOG or self._bytes >= self.BACKLOG_BYTES:
            self._spilled = self._spilled_since = True
            self._refill()
            return
        self._take(message_id, envelope)
        self._pump()

    def _take(self, message_id: int, envelope: Envelope) -> None:
        self._tail = message_id
        self._backlog.append((message_id, envelope))
        self._bytes += _size(envelope)

    def _refill(self) -> None:
        if not self._running or not self._spilled or self._reading or len(self._backlog) >= self.BACKLOG // 2:
            return
        if self._rescan:
            if self._backlog or self._under_way:
                return
            self._rescan, self._tail = False, 0
        self._reading, self._spilled_since = True, False
        found = self._store.waiting(self._channel, self._tail, self.BATCH * 4)
        found.addCallbacks(self._refilled, self._read_failed)

    def _refilled(self, rows: list[Waiting]) -> None:
        self._reading = False
        self._spilled = bool(rows) or self._spilled_since
        for row in rows:
            self._take(row.message_id, row.envelope)
        self._pump()
        self._refill()

    def _read_failed(self, failure: Failure) -> None:
        failure.trap(StoreError)
        self._reading = False
        self._log.error("cannot read the inbox", extra={"channel": self._channel, "reason": str(failure.value)})
        self._reactor.callLater(1.0, self._refill)

    def _pump(self) -> None:
        """Keep every worker busy with one batch and one to follow; a batch is whatever waits, so load makes them larger."""
        while self._running and self._backlog and len(self._under_way) < self._workers.slots + 1:
            batch = [self._backlog.popleft() for _ in range(min(self.BATCH, len(self._backlog)))]
            self._bytes -= sum(_size(envelope) for _, envelope in batch)
            work = _Work(batch)
            self._under_way.append(work)
            bodies = self._bodies([envelope for _, envelope in batch])
            bodies.addCallback(self._submit).addErrback(self._bug, work).addCallback(self._planned, work)
        self._look_idle()

    def _bodies(self, envelopes: list[Envelope]) -> Deferred[list[Envelope | Plan]]:
        """The envelopes with their bodies in memory, up to WHOLE, or their beginnings where a codec reads no more; in the place of one
        that cannot be read, its plan."""
        read: Deferred[list[Envelope | Plan]] = succeed([])
        if not any(isinstance(envelope.body, BodyRef) for envelope in envelopes):
            read.addCallback(lambda _: [*envelopes])
            return read
        for envelope in envelopes:
            read.addCallback(self._with_body, envelope)
        return read

    def _with_body(self, so_far: list[Envelope | Plan], envelope: Envelope) -> list[Envelope | Plan] | Deferred[list[Envelope | Plan]]:
        if not isinstance(envelope.body, BodyRef) or not _can_be_read(envelope):
            return [*so_far, envelope]
        body = self._store.read_body(envelope.body, WHOLE)
        body.addCallbacks(lambda body: [*so_far, replace(envelope, body=body)], self._unreadable, errbackArgs=(so_far, envelope))
        return body  # type: ignore[return-value]

    def _unreadable(self, failure: Failure, so_far: list[Envelope | Plan], envelope: Envelope) -> Any:
        """A damaged body ends its own message in error rather than block the channel; what may be read later is."""
        failure.trap(StoreError)
        if failure.check(StoreCorrupt):
            reason = f"the content cannot be read back: {failure.value}"
            return [*so_far, Plan(Status.ERROR, reason=reason, error_code=StoreCorrupt.code)]
        self._log.error("cannot read a body", extra={"channel": self._channel, "reason": str(failure.value)})
        if not self._running:  # as for a full store: it stays in the inbox until the next start
            self._under_way.clear()
            self._look_idle()
            return Deferred()
        return deferLater(self._reactor, 1.0, self._with_body, so_far, envelope)

    def _submit(self, envelopes: list[Envelope | Plan]) -> Deferred[list[Any]]:
        """Plans for all; what has one already is not given to the workers."""
        readable = [envelope for envelope in envelopes if isinstance(envelope, Envelope)]

        def merged(plans: list[Any]) -> list[Any]:
            made = iter(plans)
            return [next(made) if isinstance(envelope, Envelope) else envelope for envelope in envelopes]

        planned: Deferred[list[Any]] = self._workers.submit("plan", self._channel, readable) if readable else succeed([])
        return planned if len(readable) == len(envelopes) else planned.addCallback(merged)

    def _bug(self, failure: Failure, work: _Work) -> list[Any]:
        self._log.error("unexpected failure in planning", exc_info=failure.value, extra={"channel": self._channel})
        return [_died() for _ in work.batch]

    def _planned(self, plans: list[Any], work: _Work) -> None:
        work.plans = [_died() if isinstance(plan, WorkerDied) else plan for plan in plans]
        self._store_next()
        self._pump()

    def _store_next(self) -> None:
        """Queue finished batches, oldest first, one transaction after the other."""
        if self._storing or not self._under_way or self._under_way[0].plans is None:
            return
        work = self._under_way[0]
        self._storing = True
        plans = [(message_id, plan) for (message_id, _), plan in zip(work.batch, work.plans or (), strict=True)]
        stored = self._store.plan(self._channel, plans)
        stored.addCallbacks(self._stored, self._store_failed, callbackArgs=(work,))

    def _stored(self, seqs: list[tuple[int, ...]], work: _Work) -> None:
        self._storing = False
        self._under_way.popleft()
        for (message_id, envelope), plan, numbers in zip(work.batch, work.plans or (), seqs, strict=True):
            self._publish(message_id, envelope, plan, numbers)
        self._store_next()
        self._pump()
        self._refill()

    def _store_failed(self, failure: Failure) -> None:
        """A full store: the plans are kept and stored later, order is kept."""
        failure.trap(StoreError)
        self._storing = False
        self._log.error("cannot queue", extra={"channel": self._channel, "reason": str(failure.value)})
        if self._running:
            self._reactor.callLater(1.0, self._store_next)
        else:
            self._under_way.clear()
            self._look_idle()

    def _look_idle(self) -> None:
        if self._idle is not None and not self._under_way:
            idle, self._idle = self._idle, None
            idle.callback(None)


class _Work:
    """One batch under way: its messages, and their plans once a worker has made them."""

    __slots__ = ("batch", "plans")

    def __init__(self, batch: list[tuple[int, Envelope]]) -> None:
        self.batch = batch
        self.plans: list[Plan] | None = None


def _died() -> Plan:
    return Plan(Status.ERROR, reason="the mapping process ended abnormally on this message", error_code="message.mapping")


def _can_be_read(envelope: Envelope) -> bool:
    """Whether a body that is a file fits into memory, or its beginning is enough to read the message, map it and route it."""
    small = not isinstance(envelope.body, BodyRef) or envelope.body.size <= WHOLE
    return small or bool(getattr(registry.codec(envelope.content_type), "headers", False))


def _size(envelope: Envelope) -> int:
    return len(envelope.body) if isinstance(envelope.body, bytes) else envelope.body.size
