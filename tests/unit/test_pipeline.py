"""One channel's way of a message: verdicts, commits, answers, duplicates, planning."""

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from engine.channel import ReusedKey
from engine.errors import PermanentDelivery, StoreError, StoreFull
from engine.message import ACCEPTED, DICOM, ORDER_KEY, WHOLE, BodyRef, Judgement, Status, Verdict
from engine.store.contract import Query
from tests.support.pipeline import Flow, sample


class IntakeTests(SynchronousTestCase):
    def test_accepted_is_kept_answered_and_delivered(self) -> None:
        """The plain way, straight through: one commit, one answer, one parcel with the raw bytes."""
        flow = Flow()
        (ack,) = flow.send(sample())
        self.assertEqual((ack.answer, ack.message_id), (b"accepted", 1))
        self.assertEqual(flow.destination.waiting[0][0].body, b"hello")

    def test_mapped_on_the_heavy_way(self) -> None:
        """A program that is not light plans after the answer; the parcel carries its result."""
        flow = Flow(light=False)
        flow.send(sample())
        self.assertEqual(flow.destination.waiting[0][0].body, b"HELLO")
        self.assertFalse(flow.store.messages[1].in_inbox)

    def test_refused_is_kept_and_goes_nowhere(self) -> None:
        """What the channel does not accept is answered negatively, kept, and counted as filtered."""
        flow = Flow()
        (ack,) = flow.send(sample(b"refuse"))
        self.assertEqual(ack.answer, b"refused")
        self.assertEqual(flow.store.status(flow.store.messages[1]), Status.FILTERED)
        self.assertEqual(flow.destination.waiting, [])

    def test_unreadable_is_quarantined(self) -> None:
        """A message that the source could not read is kept under its judgement, whatever the channel accepts."""
        flow = Flow()
        (ack,) = flow.send(sample(b"?"), Judgement(Verdict.INVALID, "no MSH", "100"))
        self.assertEqual(ack.answer, b"invalid")
        self.assertEqual(flow.store.status(flow.store.messages[1]), Status.ERROR)

    def test_no_positive_answer_from_a_full_store(self) -> None:
        """StoreFull becomes UNAVAILABLE, and nothing is kept or delivered."""
        flow = Flow()
        flow.store.fail_with = StoreFull("disk full")
        (ack,) = flow.send(sample())
        self.assertEqual((ack.judgement.verdict, ack.answer), (Verdict.UNAVAILABLE, b"unavailable"))
        self.assertEqual((flow.store.messages, flow.destination.waiting), ({}, []))

    def test_filtered_and_broken_plans_settle(self) -> None:
        """A rule's drop is FILTERED; what cannot be decoded is ERROR; both were answered positively."""
        flow = Flow()
        flow.send(sample(b"drop", "1"))
        flow.send(sample(b"broken", "2"))
        statuses = [flow.store.status(message) for message in flow.store.messages.values()]
        self.assertEqual(statuses, [Status.FILTERED, Status.ERROR])
        self.assertEqual((flow.sample("meridian_invalid_total"), flow.sample("meridian_ack_seconds_count")), (1, 2))

    def test_the_ledger_closes_over_all_of_it(self) -> None:
        """One of each: received = delivered + filtered + dead-lettered + in flight."""
        flow = Flow()
        for number, body in enumerate((b"hello", b"drop", b"broken", b"refuse", b"later")):
            flow.send(sample(body, str(number)))
        flow.destination.take("0")
        flow.clock.advance(0.01)
        (line,) = flow.store.ledger().result
        self.assertTrue(line.closes)
        self.assertEqual((line.received, line.delivered, line.filtered, line.dead_lettered, line.in_flight), (5, 1, 2, 1, 1))


class SequenceTests(SynchronousTestCase):
    """Messages of one sequence, judged by workers that are done in any order."""

    def setUp(self) -> None:
        self.flow = Flow()
        self.flow.pipeline._channel.program.checks_content = True  # type: ignore[misc]
        self.judging: list[Deferred[list[object]]] = []
        self.patch(self.flow.pipeline, "_judge", lambda envelope: self.judging.append(Deferred()) or self.judging[-1])

    def send(self, control_id: str, key: str) -> None:
        self.flow.send(replace(sample(control_id=control_id), facts={ORDER_KEY: key} if key else {}))

    def kept(self) -> list[str]:
        return [message.arrival.envelope.control_id for message in self.flow.store.messages.values()]

    def test_they_are_committed_in_their_order(self) -> None:
        """The third is judged first: it waits for the two before it, and nobody else does."""
        for control_id, key in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("x", "")):
            self.send(control_id, key)
        for number in (2, 1, 3, 4):
            self.judging[number].callback([ACCEPTED])
        self.assertEqual(self.kept(), ["b1", "x"])
        self.judging[0].callback([ACCEPTED])
        self.assertEqual(self.kept(), ["b1", "x", "a1", "a2", "a3"])
        self.assertEqual(len(self.flow.pipeline._turns), 0)

    def test_one_that_cannot_be_read_holds_up_nobody(self) -> None:
        """Its turn is over too."""
        self.send("1", "a")
        self.send("2", "a")
        self.judging[1].callback([ACCEPTED])
        self.judging[0].errback(StoreError("gone"))
        self.assertEqual(self.kept(), ["2"])


class DuplicateTests(SynchronousTestCase):
    def test_a_repetition_hears_the_stored_answer(self) -> None:
        """Same key, same content: nothing is kept or delivered twice."""
        flow = Flow()
        flow.send(sample())
        (ack,) = flow.send(sample())
        self.assertTrue(ack.duplicate)
        self.assertEqual(ack.answer, b"accepted")
        self.assertEqual((len(flow.store.messages), len(flow.destination.waiting)), (1, 1))

    def test_a_refused_message_sent_again_is_refused_again(self) -> None:
        """The stored answer is what counts, also a negative one."""
        flow = Flow()
        flow.send(sample(b"refuse"))
        (ack,) = flow.send(sample(b"refuse"))
        self.assertEqual((ack.answer, ack.judgement.verdict), (b"refused", Verdict.REFUSED))

    def test_a_reused_key_with_other_content_is_refused_and_kept(self) -> None:
        """A restarted counter must not make a result vanish: it is refused loudly and kept."""
        flow = Flow()
        flow.send(sample())
        (ack,) = flow.send(sample(b"other", digest=b"y"))
        self.assertEqual((ack.judgement.hl7_code, ack.answer), ("205", b"invalid"))
        self.assertEqual(flow.store.messages[2].arrival.envelope.body, b"other")

    def test_a_channel_may_take_a_reused_key_as_new(self) -> None:
        """`reused_key: accept`."""
        flow = Flow(reused_key=ReusedKey.ACCEPT)
        flow.send(sample())
        (ack,) = flow.send(sample(b"other", digest=b"y"))
        self.assertEqual((ack.answer, ack.message_id), (b"accepted", 2))
        self.assertEqual(flow.audited, [])

    def test_a_channel_may_flag_a_reused_key(self) -> None:
        """`reused_key: flag`: taken as new under its own key, audited, counted, and shown with a reason."""
        flow = Flow(reused_key=ReusedKey.FLAG)
        flow.send(sample())
        (ack,) = flow.send(sample(b"other", digest=b"y"))
        self.assertEqual((ack.answer, ack.message_id), (b"accepted", 2))
        self.assertEqual([(event, facts["control_id"]) for event, facts in flow.audited], [("message.key_reused", "1")])
        self.assertEqual(flow.sample("meridian_reused_keys_total"), 1)
        self.assertIn("used before", flow.store.messages[2].arrival.judgement.reason)
        flow.destination.take("1")
        flow.destination.take("1")
        self.assertEqual([parcel.body for parcel in flow.destination.taken], [b"hello", b"other"])

    def test_a_flagged_message_sent_again_is_settled_quietly(self) -> None:
        """Each content is kept once, whichever comes again."""
        flow = Flow(reused_key=ReusedKey.FLAG)
        for body, digest in ((b"hello", b"x"), (b"other", b"y"), (b"hello", b"x"), (b"other", b"y")):
            (ack,) = flow.send(sample(body, digest=digest))
        self.assertTrue(ack.duplicate)
        self.assertEqual((ack.answer, ack.message_id, len(flow.store.messages)), (b"accepted", 2, 2))

    def test_a_message_at_fault_is_not_flagged(self) -> None:
        """Its own fault is what is said of it."""
        flow = Flow(reused_key=ReusedKey.FLAG)
        flow.send(sample())
        (ack,) = flow.send(sample(b"refuse", digest=b"y"))
        self.assertEqual((ack.judgement.verdict, flow.audited), (Verdict.REFUSED, []))


class AnswerFromTests(SynchronousTestCase):
    def test_waits_for_the_destination(self) -> None:
        """The sender hears the destination's answer, not before it is there."""
        flow = Flow(answer_from="d")
        heard = flow.send(sample())
        self.assertEqual(heard, [])
        flow.destination.take("1")
        self.assertEqual(heard[0].judgement.verdict, Verdict.ACCEPTED)

    def test_latencies_are_measured_from_the_intake_and_from_the_sending(self) -> None:
        """The commit is at once here; the destination and so the sender's answer take two seconds."""
        flow = Flow(answer_from="d")
        flow.send(sample())
        flow.clock.advance(2)
        flow.destination.take("1")
        found = [flow.sample(f"meridian_{what}_seconds_{part}") for what in ("commit", "ack", "delivery") for part in ("count", "sum")]
        self.assertEqual(found, [1, 0, 1, 2, 1, 2])

    def test_hears_a_permanent_refusal(self) -> None:
        """The destination's own words reach the sender as a negative answer."""
        flow = Flow(answer_from="d")
        heard = flow.send(sample())
        flow.destination.refuse("1", PermanentDelivery("422", answer=b"outcome"))
        self.assertEqual((heard[0].judgement.verdict, heard[0].answer), (Verdict.INVALID, b"outcome"))

    def test_after_the_limit_hears_that_it_is_kept(self) -> None:
        """No answer in time: the message is kept and will be delivered, and that is what the sender hears."""
        flow = Flow(answer_from="d")
        heard = flow.send(sample())
        flow.clock.advance(31)
        self.assertEqual((heard[0].judgement.verdict, heard[0].answer), (Verdict.ACCEPTED, b"accepted"))
        flow.destination.take("1")
        self.assertEqual(len(heard), 1)

    def test_a_repetition_while_waiting_hears_the_same(self) -> None:
        """A sender that reconnects and asks again: both connections get the one result."""
        flow = Flow(answer_from="d")
        first, second = flow.send(sample()), flow.send(sample())
        flow.destination.take("1")
        self.assertEqual([len(first), len(second)], [1, 1])
        self.assertTrue(second[0].duplicate)

    def test_a_repetition_after_the_answer_hears_it_at_once(self) -> None:
        """Also one that the destination had nothing to say to: an instrument that missed its last ACK is not kept waiting."""
        flow = Flow(answer_from="d")
        flow.send(sample())
        flow.destination.refuse("1", PermanentDelivery("422", answer=b"outcome"))
        flow.send(sample(b"drop", "2"))
        (refused,), (dropped,) = flow.send(sample()), flow.send(sample(b"drop", "2"))
        self.assertEqual((refused.judgement.verdict, refused.answer, refused.duplicate), (Verdict.INVALID, b"outcome", True))
        self.assertEqual((dropped.judgement.verdict, dropped.answer, dropped.duplicate), (Verdict.ACCEPTED, b"accepted", True))

    def test_a_filtered_message_is_answered_at_once(self) -> None:
        """Nothing goes to the destination, so nobody waits for it."""
        flow = Flow(answer_from="d")
        (ack,) = flow.send(sample(b"drop"))
        self.assertEqual(ack.judgement.verdict, Verdict.ACCEPTED)


class PlannerTests(SynchronousTestCase):
    def test_restart_resumes_the_inbox(self) -> None:
        """What was committed and answered, but not planned, is planned at the next start."""
        flow = Flow(light=False)
        flow.pipeline.planner.stop()
        flow.send(sample())
        self.assertTrue(flow.store.messages[1].in_inbox)
        flow.pipeline.planner.start()
        self.assertEqual(len(flow.destination.waiting), 1)

    def test_a_full_store_delays_planning_but_loses_nothing(self) -> None:
        """The plan is stored once there is room."""
        flow = Flow(light=False)
        accept = flow.store.accept

        def accept_then_fill(arrival):  # type: ignore[no-untyped-def]
            done = accept(arrival)
            flow.store.fail_with = StoreFull("full")
            return done

        flow.store.accept = accept_then_fill  # type: ignore[method-assign]
        flow.send(sample())
        self.assertEqual(flow.destination.waiting, [])
        flow.store.fail_with = None
        flow.clock.advance(1.1)
        self.assertEqual(len(flow.destination.waiting), 1)

    def test_reprocess_plans_again(self) -> None:
        """A message put back into the inbox from outside is decoded and routed again."""
        flow = Flow(light=False)
        flow.send(sample())
        flow.destination.take("1")
        flow.store.reprocess([1])
        flow.pipeline.planner.look_again()
        self.assertEqual(flow.destination.under_way(), ["1"])

    def test_a_body_in_the_store_is_read_for_planning(self) -> None:
        """A big body is only referred to by the envelope that comes out of the inbox."""
        flow = Flow(light=False)
        flow.send(sample(flow.store.keep_body(b"big")))
        self.assertEqual(flow.destination.waiting[0][0].body, b"BIG")

    def test_a_body_too_big_for_memory_is_planned_by_its_reference(self) -> None:
        """Nothing reads it whole, and where it goes as it came it goes by reference."""
        flow = Flow(light=False)
        ref = BodyRef("d" * 64, WHOLE + 1)
        flow.store.bodies[ref.digest] = b"not read"
        flow.send(sample(ref))
        self.assertEqual(flow.destination.waiting[0][0].body, ref)

    def test_of_a_body_too_big_for_memory_a_header_is_enough(self) -> None:
        """Where the codec of its content type reads no more (DICOM), the program sees the beginning, and the digest of all of it."""
        flow = Flow(light=False)
        ref = BodyRef("d" * 64, WHOLE + 1)
        flow.store.bodies[ref.digest] = b"head"
        flow.send(replace(sample(ref), content_type=DICOM))
        self.assertEqual(flow.destination.waiting[0][0].body, b"HEAD")

    def test_a_damaged_body_ends_its_own_message_only(self) -> None:
        """ERROR with its reason; the others of its batch are mapped."""
        flow = Flow(light=False)
        flow.pipeline.planner.stop()
        gone = flow.store.keep_body(b"gone")
        for control_id, body in (("1", b"one"), ("2", gone), ("3", flow.store.keep_body(b"three"))):
            flow.send(sample(body, control_id))
        del flow.store.bodies[gone.digest]
        flow.pipeline.planner.start()
        self.assertEqual([parcel.body for parcel, _ in flow.destination.waiting], [b"ONE"])
        flow.destination.take("1")
        self.assertEqual([parcel.body for parcel, _ in flow.destination.waiting], [b"THREE"])
        (found,) = self.successResultOf(flow.store.search(Query(status=Status.ERROR)))
        self.assertEqual((found.control_id, found.reason), ("2", "the content cannot be read back: the body is gone"))

    def test_a_body_that_cannot_be_read_now_waits(self) -> None:
        """Too many open files end no message in error; a stop does not wait for better times."""
        flow = Flow(light=False)
        flow.store.unreadable = StoreError("too many open files")
        flow.send(sample(flow.store.keep_body(b"big")))
        flow.clock.advance(1.1)
        self.assertTrue(flow.store.messages[1].in_inbox)
        flow.store.unreadable = None
        flow.clock.advance(1.1)
        self.assertEqual(len(flow.destination.waiting), 1)
        flow.store.unreadable = StoreError("too many open files")
        flow.send(sample(flow.store.keep_body(b"bigger"), "2"))
        stopped = flow.pipeline.planner.stop()
        flow.clock.advance(1.1)
        self.successResultOf(stopped)
