"""Random actions against a model, with a fault in front of any statement, and a power cut or a restart at any point.

What must hold after every step: whatever was acknowledged is there with its bytes, its status and its place in the queues;
nothing of what failed is; and the ledger closes with the model's own sums.
"""

from __future__ import annotations

import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.errors import StoreError
from engine.message import BodyRef, Judgement, Status, Verdict
from engine.store import search
from engine.store.contract import Plan, Query, Setback, Settlement
from engine.store.sqlite import SqliteStore
from tests.support.store import Faults, QueueReactor, failing_fsync, message, open_faulty, power_cut, queued, quick_retries

DESTINATIONS = ("a", "b")
CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
PLANS = st.sampled_from(
    [
        None,
        queued("a"),
        queued("b", "a"),
        queued("a", body=b"mapped"),
        queued("b", body=b"m" * 200),
        queued(),
        Plan(Status.FILTERED, reason="rule"),
    ]
)
INLINE = 100
TIMES = st.sampled_from([1_000_000, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])


@dataclass
class Kept:
    """A message as the model knows it. `waits` and `dead`: seq by destination; `late`: those of `waits` that were set back; `sent`:
    whether it was the body as received, by destination; `mapped`: destinations of `waits` or `dead` that get a rendition; `only`: what a
    resend has put into the inbox is for these."""

    body: bytes
    inbox: bool = False
    at: int = 1_000_000
    only: set[str] | None = None
    outcome: Status | None = None
    waits: dict[str, int] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    dead: dict[str, int] = field(default_factory=dict)
    sent: dict[str, bool] = field(default_factory=dict)
    mapped: set[str] = field(default_factory=set)

    def status(self, held: set[str]) -> Status:
        if self.inbox:
            return Status.RECEIVED
        if self.waits:
            return Status.PENDING if self.late or held & self.waits.keys() else Status.QUEUED
        if self.dead:
            return Status.ERROR
        return self.outcome or Status.SENT


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.reactor, self.faults = QueueReactor(), Faults()
        self.base = tempfile.TemporaryDirectory()
        self.retries = quick_retries()
        self.retries.__enter__()
        self.generation = 0
        self.kept: dict[int, Kept] = {}
        self.purged = {"delivered": 0, "filtered": 0}
        self.count = 0
        self.spooled: list[tuple[BodyRef, bytes]] = []
        self.held: set[str] = set()
        self.resent = 0
        self.open(Path(self.base.name) / "0")

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.reactor.wait(self.store.close())
            self.retries.__exit__(None, None, None)
            self.base.cleanup()

    def open(self, folder: Path) -> None:
        self.folder = folder
        self.spooled.clear()
        store = SqliteStore(folder, reactor=self.reactor, clock=lambda: 5_000_000, inline_limit=INLINE, min_free=0)
        self.store = open_faulty(store, self.reactor.wait, self.faults)

    def call(self, deferred: Any) -> Any:
        """The result, or the StoreError that an armed fault led to."""
        hits = self.faults.hits
        try:
            return self.reactor.wait(deferred)
        except StoreError as error:
            assert self.faults.hits > hits, f"failed without a fault: {error}"
            return error
        finally:
            self.faults.armed = None

    def queue(self, kept: Kept, plan: Plan, seqs: tuple[int, ...]) -> None:
        if plan.status is Status.QUEUED and plan.routed:
            fresh = {routed.destination: seq for routed, seq in zip(plan.routed, seqs, strict=True) if seq}
            assert kept.only is None or fresh.keys() <= kept.only
            kept.waits |= fresh
            kept.mapped -= fresh.keys()
            kept.mapped |= {routed.destination for routed in plan.routed if routed.body is not None and routed.destination in fresh}
            self.resent += len(fresh.keys() & kept.sent.keys())
        elif not plan.routed and plan.status is Status.QUEUED:
            kept.outcome = Status.FILTERED
        else:
            kept.outcome = plan.status

    # --- actions ---------------------------------------------------------------------------------

    @rule(after=st.integers(0, 15), code=st.sampled_from(CODES))
    def a_write_will_fail(self, after: int, code: int) -> None:
        self.faults.arm(after, code)

    @rule(plan=PLANS, size=st.sampled_from([1, 5, 150]), at=TIMES)
    def accept(self, plan: Plan | None, size: int, at: int) -> None:
        self.count += 1
        body = (b"%d" % (self.count % 3)) * size  # the same content comes again and again: one file, several rows
        accepted = self.call(self.store.accept(message(str(self.count), body, plan, received_at=at)))
        if not isinstance(accepted, StoreError):
            assert accepted.message_id not in self.kept
            kept = self.kept[accepted.message_id] = Kept(body, inbox=plan is None, at=at)
            if plan is not None:
                self.queue(kept, plan, accepted.seqs)

    @rule(size=st.sampled_from([1, 150]))
    def spool(self, size: int) -> None:
        spool = self.store.spool()
        spool.write(body := b"%d" % (self.count % 3) * size)
        self.spooled.append((spool.finish(), body))

    @precondition(lambda self: self.spooled)
    @rule(plan=PLANS)
    def accept_spooled(self, plan: Plan | None) -> None:
        """Whatever was purged and swept since: what is spooled can be accepted."""
        ref, body = self.spooled.pop()
        accepted = self.call(self.store.accept(message("s", ref, plan)))  # type: ignore[arg-type]
        if not isinstance(accepted, StoreError):
            kept = self.kept[accepted.message_id] = Kept(body, inbox=plan is None)
            if plan is not None:
                self.queue(kept, plan, accepted.seqs)

    @rule(limit=st.integers(1, 4))
    def sweep(self, limit: int) -> None:
        self.call(self.store.sweep(limit))

    @rule(verdict=st.sampled_from([Verdict.REFUSED, Verdict.INVALID]))
    def accept_refused(self, verdict: Verdict) -> None:
        self.count += 1
        accepted = self.call(self.store.accept(message(str(self.count), b"bad", judgement=Judgement(verdict, "why"))))
        if not isinstance(accepted, StoreError):
            outcome = Status.FILTERED if verdict is Verdict.REFUSED else Status.ERROR
            self.kept[accepted.message_id] = Kept(b"bad", outcome=outcome)

    @rule(count=st.integers(2, 5), size=st.sampled_from([1, 150]))
    def accept_several_at_once(self, count: int, size: int) -> None:
        """One group: each of them is kept or fails by itself, as it hears."""
        bodies = [(b"%d" % (self.count + i)) * size for i in range(1, count + 1)]
        self.count += count
        pending = [self.store.accept(message(f"g{i}", body, queued("a"))) for i, body in enumerate(bodies)]
        hits = self.faults.hits
        for body, deferred in zip(bodies, pending, strict=True):
            try:
                accepted = self.reactor.wait(deferred)
            except StoreError:
                assert self.faults.hits > hits
            else:
                self.kept[accepted.message_id] = Kept(body, waits={"a": accepted.seqs[0]})
        self.faults.armed = None

    @rule()
    def accept_big_without_room(self) -> None:
        with failing_fsync():
            accepted = self.call_full(self.store.accept(message("big", b"x" * 500, queued("a"))))
        assert accepted

    def call_full(self, deferred: Any) -> bool:
        self.faults.armed = None
        try:
            self.reactor.wait(deferred)
        except StoreError:
            return True
        return False

    def some(self, data: Any, test: Any) -> int:
        return data.draw(st.sampled_from(sorted(number for number, kept in self.kept.items() if test(kept))))

    @precondition(lambda self: any(kept.inbox for kept in self.kept.values()))
    @rule(data=st.data(), plan=PLANS.filter(bool))
    def plan(self, data: Any, plan: Plan) -> None:
        number = self.some(data, lambda kept: kept.inbox)
        seqs = self.call(self.store.plan("c", [(number, plan)]))
        if not isinstance(seqs, StoreError):
            self.kept[number].inbox = False
            self.queue(self.kept[number], plan, seqs[0])
            self.kept[number].only = None

    @precondition(lambda self: any(kept.waits for kept in self.kept.values()))
    @rule(data=st.data(), status=st.sampled_from([Status.SENT, Status.SENT, Status.ERROR]))
    def settle(self, data: Any, status: Status) -> None:
        """Never fails for a full disk: the store tries again by itself."""
        kept = self.kept[number := self.some(data, lambda kept: kept.waits)]
        name = data.draw(st.sampled_from(sorted(kept.waits)))
        end = Settlement(kept.waits[name], number, status, 1, "ref", b"", "why", "code")
        assert self.call(self.store.settle("c", name, [end])) is None
        seq = kept.waits.pop(name)
        kept.late.discard(name)
        if status is Status.SENT:
            kept.sent[name] = name not in kept.mapped
        else:
            kept.dead[name] = seq

    @precondition(lambda self: any(kept.waits for kept in self.kept.values()))
    @rule(data=st.data())
    def set_back(self, data: Any) -> None:
        kept = self.kept[self.some(data, lambda kept: kept.waits)]
        name = data.draw(st.sampled_from(sorted(kept.waits)))
        assert self.call(self.store.set_back("c", name, [Setback(kept.waits[name], 1, 9, "busy", "code")])) is None
        kept.late.add(name)

    @precondition(lambda self: any(kept.dead and not kept.inbox for kept in self.kept.values()))
    @rule(data=st.data())
    def resend_dead(self, data: Any) -> None:
        kept = self.kept[number := self.some(data, lambda kept: kept.dead and not kept.inbox)]
        name = data.draw(st.sampled_from(sorted(kept.dead)))
        count = self.call(self.store.resend([number], name))
        if not isinstance(count, StoreError):
            assert count == 1
            old = kept.dead.pop(name)
            ((seq, _),) = self.claimed(name, number)
            assert seq > old
            kept.waits[name] = seq

    @precondition(lambda self: any(kept.sent and not kept.inbox for kept in self.kept.values()))
    @rule(data=st.data())
    def resend_sent(self, data: Any) -> None:
        """To where it waits or lies dead already it is not sent another time; what was mapped is mapped again for those who had it."""
        kept = self.kept[number := self.some(data, lambda kept: kept.sent and not kept.inbox)]
        name = data.draw(st.sampled_from(sorted(kept.sent)))
        count = self.call(self.store.resend([number], name))
        if isinstance(count, StoreError):
            return
        assert count == (name not in kept.waits)
        if name in kept.dead:
            del kept.dead[name]
            ((kept.waits[name], _),) = self.claimed(name, number)
        elif count and kept.sent[name]:
            ((kept.waits[name], _),) = self.claimed(name, number)
            kept.mapped.discard(name)
            self.resent += 1
        elif count:
            kept.inbox, kept.only, kept.outcome = True, {name}, None

    @rule(name=st.sampled_from(DESTINATIONS), hold=st.booleans())
    def hold(self, name: str, hold: bool) -> None:
        if not isinstance(self.call(self.store.hold("c", name, hold)), StoreError):
            (self.held.add if hold else self.held.discard)(name)

    @precondition(lambda self: any(not kept.waits and not kept.inbox for kept in self.kept.values()))
    @rule(data=st.data())
    def reprocess(self, data: Any) -> None:
        kept = self.kept[number := self.some(data, lambda kept: not kept.waits and not kept.inbox)]
        count = self.call(self.store.reprocess([number]))
        if not isinstance(count, StoreError):
            assert count == 1
            self.resent -= len(kept.dead.keys() & kept.sent.keys())
            kept.inbox, kept.outcome, kept.dead = True, None, {}

    @rule()
    def purge(self) -> None:
        """Only what is settled well goes, and all of it."""
        gone = self.call(self.store.purge(2_000_000, 1000))
        if isinstance(gone, StoreError):
            self.forget_what_is_gone()
            return
        settled = [number for number, kept in self.kept.items() if kept.status(self.held) in (Status.SENT, Status.FILTERED)]
        assert gone == len(settled)
        self.count_purged(settled)

    def forget_what_is_gone(self) -> None:
        """A purge that fails half way has removed whole messages, and only such as it may."""
        gone = [number for number in self.kept if self.reactor.wait(self.store.show(number)) is None]
        assert all(self.kept[number].status(self.held) in (Status.SENT, Status.FILTERED) for number in gone)
        self.count_purged(gone)

    def count_purged(self, numbers: list[int]) -> None:
        for number in numbers:
            self.purged["filtered" if self.kept.pop(number).status(self.held) is Status.FILTERED else "delivered"] += 1

    @rule()
    def restart(self) -> None:
        self.faults.armed = None
        self.reactor.wait(self.store.close())
        self.open(self.folder)

    @rule()
    def power_is_cut(self) -> None:
        self.faults.armed = None
        self.generation += 1
        target = power_cut(self.folder, Path(self.base.name) / str(self.generation))
        self.reactor.wait(self.store.close())
        self.open(target)

    # --- what must hold --------------------------------------------------------------------------

    def claimed(self, name: str, number: int | None = None) -> list[tuple[int, int]]:
        parcels = self.reactor.wait(self.store.claim("c", name, 0, 1000))
        return [(parcel.seq, parcel.message_id) for parcel, _ in parcels if number in (None, parcel.message_id)]

    @invariant()
    def queues_are_what_was_acknowledged(self) -> None:
        armed, self.faults.armed = self.faults.armed, None  # a fault is for writes
        for name in DESTINATIONS:
            expected = sorted((kept.waits[name], number) for number, kept in self.kept.items() if name in kept.waits)
            assert self.claimed(name) == expected
        self.faults.armed = armed

    @invariant()
    def messages_are_what_was_acknowledged(self) -> None:
        armed, self.faults.armed = self.faults.armed, None
        found = self.reactor.wait(self.store.search(Query(limit=10_000)))
        assert [line.message_id for line in found] == sorted(self.kept, reverse=True)
        assert {line.message_id: line.status for line in found} == self.statuses()
        for number, kept in self.kept.items():
            body = self.reactor.wait(self.store.show(number)).envelope.body
            assert (body if isinstance(body, bytes) else self.reactor.wait(self.store.read_body(body))) == kept.body
        self.faults.armed = armed

    @invariant()
    def searches_find_what_they_are_asked_for(self) -> None:
        """By status exactly what is shown with it; by time exactly what is within it, whatever the clock did; and both together."""
        armed, self.faults.armed = self.faults.armed, None
        statuses = self.statuses()
        for status in search.STATUS:
            expected = [number for number in sorted(statuses, reverse=True) if statuses[number] is status]
            assert self.found(status=status) == expected
            assert self.found(status=status, channel="c", control_id="") == expected
            assert self.found(status=status, since=3, until=9) == [number for number in expected if 3 <= self.kept[number].at < 9]
        for since, until in ((0, 9), (2, 0), (3, 5), (5, 1_000_000)):
            within = [number for number, kept in self.kept.items() if since <= kept.at < (until or 1 << 60)]
            assert self.found(since=since, until=until) == sorted(within, reverse=True)
            assert self.found(since=since, until=until, limit=2) == sorted(within, reverse=True)[:2]
        for name in DESTINATIONS:
            there = [number for number, kept in self.kept.items() if name in {*kept.waits, *kept.dead, *kept.sent}]
            assert self.found(destination=name) == sorted(there, reverse=True)
        self.faults.armed = armed

    def found(self, **query: Any) -> list[int]:
        return [line.message_id for line in self.reactor.wait(self.store.search(Query(**{"limit": 10_000, **query})))]

    def statuses(self) -> dict[int, Status]:
        return {number: kept.status(self.held) for number, kept in self.kept.items()}

    @invariant()
    def the_ledger_closes(self) -> None:
        armed, self.faults.armed = self.faults.armed, None
        lines = self.reactor.wait(self.store.ledger())
        assert all(line.closes for line in lines), lines
        line = next((line for line in lines if not line.destination), None)
        statuses = [kept.status(self.held) for kept in self.kept.values()]
        if line is not None:
            delivered = statuses.count(Status.SENT) + self.purged["delivered"]
            filtered = statuses.count(Status.FILTERED) + self.purged["filtered"]
            assert (line.delivered, line.filtered, line.dead_lettered) == (delivered, filtered, statuses.count(Status.ERROR))
            assert line.received == len(statuses) + sum(self.purged.values())
            assert line.resent == self.resent
        self.faults.armed = armed


StoreMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
TestStoreUnderFaults = StoreMachine.TestCase
