"""What every store must do (engine.store.contract): inherit StoreContract and give it a store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks

from engine.errors import StoreCorrupt, StoreError
from engine.message import ACCEPTED, BodyRef, Envelope, Judgement, Status, Verdict
from engine.store.contract import CLAIM_BYTES, Arrival, Plan, Query, Routed, Setback, Settlement


def arrival(control_id: str = "1", body: bytes | BodyRef = b"body", **more: Any) -> Arrival:
    """A message of channel c that is to be checked for repetitions."""
    envelope = Envelope(
        body,
        "text/plain",
        "ADT^A01",
        control_id,
        "APP|FAC",
        received_at=1_000_000,
        patient_ids=("P1", "P2"),
        idempotency_key=f"APP|{control_id}",
        content_digest=b"d",
        facts={"charset": "gbk"},
    )
    envelope = replace(envelope, **{name: more.pop(name) for name in list(more) if hasattr(envelope, name)})
    return Arrival("c", envelope, more.pop("judgement", ACCEPTED), b"AA", more.pop("plan", None), more.pop("window", 10_000_000))


def queued(*destinations: str, body: bytes | None = None, key: str = "") -> Plan:
    return Plan(Status.QUEUED, tuple(Routed(name, body, order_key=key) for name in destinations))


class StoreContract:
    """Mix into a trial TestCase that has `make()` giving an unopened store, the same data each time."""

    def make(self) -> Any:
        raise NotImplementedError

    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        self.store = self.make()
        yield self.store.open()

    def tearDown(self) -> Deferred[None]:
        return self.store.close()

    @inlineCallbacks
    def status(self, number: int):  # type: ignore[no-untyped-def]
        kept = yield self.store.show(number)
        return kept.found.status

    @inlineCallbacks
    def settle(self, seq: int, number: int, status: Status = Status.SENT, destination: str = "d"):  # type: ignore[no-untyped-def]
        yield self.store.settle("c", destination, [Settlement(seq, number, status, 1, "ref", b"said", "why", "code")])

    @inlineCallbacks
    def test_keeps_what_arrived(self):  # type: ignore[no-untyped-def]
        """The raw bytes and every fact come back unchanged."""
        sent = arrival(body=b"\x0b\x00raw\xff")
        accepted = yield self.store.accept(sent)
        kept = yield self.store.show(accepted.message_id)
        self.assertEqual(replace(kept.envelope, idempotency_key=""), replace(sent.envelope, idempotency_key=""))
        self.assertEqual((kept.answer, kept.judgement, kept.found.status), (b"AA", ACCEPTED, Status.RECEIVED))

    @inlineCallbacks
    def test_numbers_rise(self):  # type: ignore[no-untyped-def]
        """Calls fire in their order, with rising numbers."""
        first, second = self.store.accept(arrival("1")), self.store.accept(arrival("2"))
        a = yield first
        b = yield second
        self.assertLess(a.message_id, b.message_id)

    @inlineCallbacks
    def test_a_repetition_is_found(self):  # type: ignore[no-untyped-def]
        """Same key and content: the first one's number and answer; also within one group; other content is told apart."""
        first, again = self.store.accept(arrival()), self.store.accept(arrival())
        a = yield first
        b = yield again
        c = yield self.store.accept(arrival(content_digest=b"other"))
        self.assertEqual((b.duplicate, b.same_content, b.message_id, b.answer), (True, True, a.message_id, b"AA"))
        self.assertEqual((c.duplicate, c.same_content), (True, False))

    @inlineCallbacks
    def test_a_repetition_after_the_window_is_new(self):  # type: ignore[no-untyped-def]
        """Older than the window does not count."""
        a = yield self.store.accept(arrival())
        b = yield self.store.accept(arrival(received_at=12_000_000))
        self.assertFalse(b.duplicate)
        self.assertNotEqual(a.message_id, b.message_id)

    @inlineCallbacks
    def test_plan_with_the_accept_queues_at_once(self):  # type: ignore[no-untyped-def]
        """Straight through: never in the inbox, one number per destination, from 1 without a gap."""
        a = yield self.store.accept(arrival("1", plan=queued("d", "e")))
        b = yield self.store.accept(arrival("2", plan=queued("d")))
        self.assertEqual((a.seqs, b.seqs), ((1, 1), (2,)))
        self.assertEqual((yield self.store.waiting("c", 0, 10)), [])
        self.assertEqual((yield self.status(a.message_id)), Status.QUEUED)

    @inlineCallbacks
    def test_the_inbox_gives_back_in_order_and_once(self):  # type: ignore[no-untyped-def]
        """What is not planned waits; a planned one is gone from the inbox, and planning it again gives nothing."""
        numbers = []
        for control_id in "123":
            accepted = yield self.store.accept(arrival(control_id))
            numbers.append(accepted.message_id)
        waiting = yield self.store.waiting("c", numbers[0], 10)
        self.assertEqual([w.message_id for w in waiting], numbers[1:])
        self.assertEqual(waiting[0].envelope.facts, {"charset": "gbk"})
        seqs = yield self.store.plan("c", [(numbers[0], queued("d", body=b"mapped"))])
        again = yield self.store.plan("c", [(numbers[0], queued("d", body=b"mapped"))])
        self.assertEqual((seqs, again), ([(1,)], [()]))

    @inlineCallbacks
    def test_claims_in_order_with_stable_keys(self):  # type: ignore[no-untyped-def]
        """Lowest number first, after and until respected, restricted by key; the key is the one parcel_key told."""
        for control_id, key in (("1", "a"), ("2", "b"), ("3", "a")):
            yield self.store.accept(arrival(control_id, plan=queued("d", key=key)))
        claimed = yield self.store.claim("c", "d", 0, 10)
        self.assertEqual([parcel.control_id for parcel, _ in claimed], ["1", "2", "3"])
        parcel = claimed[1][0]
        self.assertEqual((parcel.body, parcel.attempt, parcel.idempotency_key), (b"body", 1, self.store.parcel_key("c", "d", 2)))
        only_a = yield self.store.claim("c", "d", 1, 10, "a")
        until = yield self.store.claim("c", "d", 0, 10, None, 2)
        self.assertEqual(([p.seq for p, _ in only_a], [p.seq for p, _ in until]), ([3], [1, 2]))
        self.assertEqual((yield self.store.claim("c", "nobody", 0, 10)), [])

    @inlineCallbacks
    def test_a_parcel_knows_who_sent_its_message(self):  # type: ignore[no-untyped-def]
        """The party that the connection proved, whatever the message claims."""
        yield self.store.accept(arrival("1", plan=queued("d"), peer="urn:meridian:party:a"))
        yield self.store.accept(arrival("2", plan=queued("d")))
        claimed = yield self.store.claim("c", "d", 0, 10)
        self.assertEqual([parcel.peer for parcel, _ in claimed], ["urn:meridian:party:a", ""])

    @inlineCallbacks
    def test_a_claim_holds_little_in_memory(self):  # type: ignore[no-untyped-def]
        """About 16 MB of bodies at once, in order and without a gap; a body that comes as BodyRef is read back whole."""
        sent = [b"%d" % number * (5 << 20) for number in range(5)]
        for number, body in enumerate(sent):
            yield self.store.accept(arrival(str(number), body, plan=queued("d")))
        seen: list[bytes] = []
        while claimed := (yield self.store.claim("c", "d", len(seen), 10)):
            self.assertLessEqual(sum(len(p.body) for p, _ in claimed if isinstance(p.body, bytes)), CLAIM_BYTES + (5 << 20))
            for parcel, _ in claimed:
                body = parcel.body
                seen.append(body if isinstance(body, bytes) else (yield self.store.read_body(body)))
        self.assertTrue(seen == sent)

    @inlineCallbacks
    def test_a_body_that_is_not_there_is_refused(self):  # type: ignore[no-untyped-def]
        """A StoreError, and nothing is kept."""
        yield self.assertFailure(self.store.accept(arrival(body=BodyRef("ab" * 32, 5))), StoreError)
        self.assertEqual((yield self.store.search(Query())), [])
        yield self.assertFailure(self.store.read_body(BodyRef("ab" * 32, 5)), StoreCorrupt)

    @inlineCallbacks
    def test_sent_leaves_the_queue_and_is_traced(self):  # type: ignore[no-untyped-def]
        """A settled parcel is not claimed again; the trace knows when, where and the reference."""
        a = yield self.store.accept(arrival(plan=queued("d")))
        yield self.settle(1, a.message_id)
        self.assertEqual((yield self.store.claim("c", "d", 0, 10)), [])
        kept = yield self.store.show(a.message_id)
        self.assertEqual((kept.found.status, kept.steps[-1].destination, kept.steps[-1].reference), (Status.SENT, "d", "ref"))

    @inlineCallbacks
    def test_one_of_two_destinations_is_not_the_end(self):  # type: ignore[no-untyped-def]
        """SENT only when every destination has it."""
        a = yield self.store.accept(arrival(plan=queued("d", "e")))
        yield self.settle(1, a.message_id)
        self.assertEqual((yield self.status(a.message_id)), Status.QUEUED)
        yield self.settle(1, a.message_id, destination="e")
        self.assertEqual((yield self.status(a.message_id)), Status.SENT)

    @inlineCallbacks
    def test_dead_letters_stay_and_come_back_with_their_key(self):  # type: ignore[no-untyped-def]
        """A dead letter is not claimed; resent, it is at the end of the queue under the key it had."""
        a = yield self.store.accept(arrival("1", plan=queued("d")))
        yield self.store.accept(arrival("2", plan=queued("d")))
        key = self.store.parcel_key("c", "d", 1)
        yield self.settle(1, a.message_id, Status.ERROR)
        self.assertEqual((yield self.status(a.message_id)), Status.ERROR)
        self.assertEqual((yield self.store.resend([a.message_id])), 1)
        claimed = yield self.store.claim("c", "d", 0, 10)
        self.assertEqual([(p.seq, p.control_id) for p, _ in claimed], [(2, "2"), (3, "1")])
        self.assertEqual(claimed[1][0].idempotency_key, key)

    @inlineCallbacks
    def test_what_was_sent_can_be_sent_again_under_a_new_key(self):  # type: ignore[no-untyped-def]
        """An operator's repeat is meant: the receiver must not drop it as a repetition."""
        a = yield self.store.accept(arrival(plan=queued("d")))
        yield self.settle(1, a.message_id)
        yield self.store.resend([a.message_id])
        ((parcel, _),) = yield self.store.claim("c", "d", 0, 10)
        self.assertNotEqual(parcel.idempotency_key, self.store.parcel_key("c", "d", 1))
        self.assertEqual(parcel.body, b"body")

    @inlineCallbacks
    def test_a_resend_keeps_the_order_key(self):  # type: ignore[no-untyped-def]
        """What was sent, and a dead letter: both keep their place among the messages of their key."""
        for control_id in "12":
            yield self.store.accept(arrival(control_id, plan=queued("d", key="ward")))
        yield self.settle(1, 1)
        yield self.settle(2, 2, Status.ERROR)
        self.assertEqual((yield self.store.resend([1, 2])), 2)
        claimed = yield self.store.claim("c", "d", 0, 10, "ward")
        self.assertEqual([p.control_id for p, _ in claimed], ["1", "2"])

    @inlineCallbacks
    def test_a_resend_counts_what_it_queues(self):  # type: ignore[no-untyped-def]
        """Nothing for what still waits; the ledger counts a repeat as resent, a dead letter's second try not."""
        yield self.store.accept(arrival("1", plan=queued("d", "e")))
        yield self.settle(1, 1)
        self.assertEqual((yield self.store.resend([1], "e")), 0)
        self.assertEqual((yield self.store.resend([1])), 1)
        self.assertEqual((yield self.store.resend([1])), 0)
        yield self.settle(1, 1, Status.ERROR, "e")
        self.assertEqual((yield self.store.resend([1])), 1)
        lines = yield self.store.ledger()
        self.assertEqual([(line.received, line.resent) for line in lines if not line.destination], [(1, 1)])
        self.assertTrue(all(line.closes for line in lines), lines)

    @inlineCallbacks
    def test_held_messages_are_pending(self):  # type: ignore[no-untyped-def]
        """They are shown and found as such, until the release."""
        yield self.store.accept(arrival("1", plan=queued("d")))
        yield self.store.accept(arrival("2", plan=queued("d", "e")))
        yield self.store.accept(arrival("3", plan=queued("e")))
        yield self.store.hold("c", "d", True)
        for status, numbers in ((Status.PENDING, [2, 1]), (Status.QUEUED, [3])):
            found = yield self.store.search(Query(status=status))
            self.assertEqual([line.message_id for line in found], numbers)
            self.assertEqual([line.status for line in found], [status] * len(numbers))
        yield self.store.hold("c", "d", False)
        self.assertEqual(len((yield self.store.search(Query(status=Status.QUEUED)))), 3)

    @inlineCallbacks
    def test_a_plan_without_destinations_is_the_end(self):  # type: ignore[no-untyped-def]
        """Such a message is settled as FILTERED with a reason, with its accept as after the inbox, and the ledger closes."""
        yield self.store.accept(arrival("1", plan=queued()))
        yield self.store.accept(arrival("2"))
        yield self.store.plan("c", [(2, queued())])
        found = yield self.store.search(Query(status=Status.FILTERED))
        self.assertEqual(
            [(line.message_id, line.reason) for line in found], [(2, "no destination takes it"), (1, "no destination takes it")]
        )
        (line,) = yield self.store.ledger()
        self.assertEqual((line.filtered, line.closes), (2, True))

    @inlineCallbacks
    def test_a_search_by_time_is_exact_when_the_clock_steps_back(self):  # type: ignore[no-untyped-def]
        """`since` <= received_at < `until`; highest number first all the same."""
        for number, at in enumerate((50, 60, 70, 10, 20, 60), 1):
            yield self.store.accept(arrival(str(number), received_at=at))
        for since, until, numbers in ((60, 0, [6, 3, 2]), (0, 60, [5, 4, 1]), (20, 61, [6, 5, 2, 1]), (80, 90, [])):
            found = yield self.store.search(Query(since=since, until=until))
            self.assertEqual([line.message_id for line in found], numbers)

    @inlineCallbacks
    def test_setbacks_survive(self):  # type: ignore[no-untyped-def]
        """Attempts and the next time are in the row, and the message is PENDING."""
        a = yield self.store.accept(arrival(plan=queued("d")))
        yield self.store.set_back("c", "d", [Setback(1, 2, 77, "busy", "delivery.transient")])
        ((parcel, next_at),) = yield self.store.claim("c", "d", 0, 10)
        self.assertEqual((parcel.attempt, next_at, (yield self.status(a.message_id))), (3, 77, Status.PENDING))

    @inlineCallbacks
    def test_refused_and_invalid_are_kept_and_settled(self):  # type: ignore[no-untyped-def]
        """A refusal is FILTERED, an unreadable message ERROR; both can be found with their reason."""
        refused = yield self.store.accept(arrival("1", judgement=Judgement(Verdict.REFUSED, "not here", "200")))
        invalid = yield self.store.accept(arrival("2", judgement=Judgement(Verdict.INVALID, "no MSH", "100")))
        self.assertEqual((yield self.status(refused.message_id)), Status.FILTERED)
        self.assertEqual((yield self.status(invalid.message_id)), Status.ERROR)
        found = yield self.store.search(Query(status=Status.ERROR))
        self.assertEqual([(line.control_id, line.reason) for line in found], [("2", "no MSH")])

    @inlineCallbacks
    def test_the_answer_of_a_destination_is_what_a_repetition_hears(self):  # type: ignore[no-untyped-def]
        """Where the sender is answered with a result, that result is stored for the next time."""
        a = yield self.store.accept(replace(arrival(plan=queued("d")), answer=b""))
        yield self.settle(1, a.message_id)
        again = yield self.store.accept(arrival())
        self.assertEqual(again.answer, b"said")

    @inlineCallbacks
    def test_reprocess_brings_back_to_the_inbox(self):  # type: ignore[no-untyped-def]
        """An error of a mapping that has been corrected since can be run again from the raw bytes."""
        a = yield self.store.accept(arrival(plan=Plan(Status.ERROR, reason="unmappable", error_code="message.mapping")))
        self.assertEqual((yield self.status(a.message_id)), Status.ERROR)
        self.assertEqual((yield self.store.reprocess([a.message_id])), 1)
        self.assertEqual((yield self.status(a.message_id)), Status.RECEIVED)
        self.assertEqual(len((yield self.store.waiting("c", 0, 10))), 1)

    @inlineCallbacks
    def test_a_checkpoint_comes_with_its_message(self):  # type: ignore[no-untyped-def]
        """The last value of each name; also where the message is refused, or a repetition whose first answer never came."""
        assert (yield self.store.checkpoints("c")) == {}
        refused = Judgement(Verdict.REFUSED, "no")
        accepts = [
            self.store.accept(arrival("1", checkpoint=("rows", "1"))),
            self.store.accept(arrival("2", checkpoint=("rows", "2"))),
            self.store.accept(arrival("3", checkpoint=("log", "a"), judgement=refused)),
            self.store.accept(arrival("4")),
        ]
        yield gatherResults(accepts)
        assert (yield self.store.checkpoints("c")) == {"rows": "2", "log": "a"}
        repeated = yield self.store.accept(arrival("1", checkpoint=("rows", "3")))
        assert repeated.duplicate
        assert (yield self.store.checkpoints("c")) == {"rows": "3", "log": "a"}
        assert (yield self.store.checkpoints("other")) == {}

    @inlineCallbacks
    def test_a_checkpoint_waits_for_content_under_a_used_key(self):  # type: ignore[no-untyped-def]
        """Nothing was kept of it, so it must come again."""
        yield self.store.accept(arrival("1", checkpoint=("rows", "1")))
        other = yield self.store.accept(arrival("1", body=b"other", content_digest=b"o", checkpoint=("rows", "2")))
        assert not other.same_content
        assert (yield self.store.checkpoints("c")) == {"rows": "1"}

    @inlineCallbacks
    def test_hold_is_kept(self):  # type: ignore[no-untyped-def]
        """A hold shows in the queue's line until it is released."""
        yield self.store.accept(arrival(plan=queued("d")))
        yield self.store.hold("c", "d", True)
        ((line,), held) = ((yield self.store.queues()), True)
        self.assertEqual(line.hold, held)
        yield self.store.hold("c", "d", False)
        (line,) = yield self.store.queues()
        self.assertFalse(line.hold)

    @inlineCallbacks
    def test_the_ledger_closes_whatever_happened(self):  # type: ignore[no-untyped-def]
        """One message in each state; every line closes, and the channel's sums are right."""
        for control_id, plan in (("1", queued("d")), ("2", queued("d")), ("3", queued("d", "e")), ("4", None)):
            yield self.store.accept(arrival(control_id, plan=plan))
        yield self.store.accept(arrival("5", plan=Plan(Status.FILTERED, reason="rule")))
        yield self.settle(1, 1)
        yield self.settle(2, 2, Status.ERROR)
        lines = yield self.store.ledger()
        line = next(line for line in lines if line.channel == "c" and not line.destination)
        self.assertEqual((line.received, line.delivered, line.filtered, line.dead_lettered, line.in_flight), (5, 1, 1, 1, 2))
        self.assertTrue(all(line.closes for line in lines), lines)
