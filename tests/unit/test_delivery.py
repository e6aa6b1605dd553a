"""One destination's queue: order, retries, pauses, dead letters, holding, memory, stopping."""

from twisted.trial.unittest import SynchronousTestCase

from engine.channel import Order, Retry
from engine.errors import PermanentDelivery, StoreError, StoreFull, TransientDelivery, UncertainDelivery
from engine.message import WHOLE, BodyRef, Status
from engine.window import WINDOW
from tests.support.delivery import Line


class DeliveryTests(SynchronousTestCase):
    def start(self, **how: object) -> Line:
        line = Line(**how)  # type: ignore[arg-type]
        line.delivery.start()
        return line

    def test_same_key_goes_one_after_the_other(self) -> None:
        """Two messages of one patient are never under way together."""
        line = self.start()
        line.offer("A1", "A2", key="a")
        line.offer("B1", key="b")
        self.assertEqual(line.destination.under_way(), ["A1", "B1"])
        line.destination.take("A1")
        self.assertEqual(line.destination.under_way(), ["B1", "A2"])

    def test_strict_order_sends_one_at_a_time(self) -> None:
        """`order: strict` lets nothing overtake anything."""
        line = self.start(order=Order.STRICT)
        line.offer("A1", key="a")
        line.offer("B1", key="b")
        self.assertEqual(line.destination.under_way(), ["A1"])
        line.destination.take("A1")
        self.assertEqual(line.destination.under_way(), ["B1"])

    def test_no_order_fills_what_may_be_in_flight(self) -> None:
        """`order: none` ignores the key, and max_in_flight bounds it."""
        line = self.start(order=Order.NONE)
        line.offer(*"12345", key="a")
        self.assertEqual(line.destination.under_way(), ["1", "2", "3", "4"])

    def test_a_failed_message_blocks_only_its_own_lane(self) -> None:
        """Patient b goes on while patient a waits for the retry, with the same idempotency key."""
        line = self.start()
        line.offer("A1", "A2", key="a")
        first = line.destination.waiting[0][0]
        line.destination.refuse("A1", TransientDelivery("busy"))
        line.offer("B1", key="b")
        self.assertEqual(line.destination.under_way(), ["B1"])
        line.clock.advance(1.1)
        self.assertEqual(line.destination.under_way(), ["B1", "A1"])
        again = line.destination.waiting[1][0]
        self.assertEqual((again.idempotency_key, again.attempt), (first.idempotency_key, 2))

    def test_back_off_doubles_and_is_kept_in_the_store(self) -> None:
        """The second wait is twice the first; the row knows its attempts and its next time."""
        line = self.start()
        line.offer("A1", key="a")
        line.destination.refuse("A1", UncertainDelivery("no answer"))
        line.clock.advance(1.1)
        line.destination.refuse("A1", UncertainDelivery("no answer"))
        row = line.store.queue["c", "d"][1]
        self.assertEqual(row.attempts, 2)
        line.clock.advance(1.1)
        self.assertEqual(line.destination.under_way(), [])
        line.clock.advance(1.0)
        self.assertEqual(line.destination.under_way(), ["A1"])

    def test_the_peer_decides_when_to_come_back(self) -> None:
        """A Retry-After longer than our own wait is honoured."""
        line = self.start()
        line.offer("A1")
        line.destination.refuse("A1", TransientDelivery("429", retry_after=30))
        line.clock.advance(29)
        self.assertEqual(line.destination.under_way(), [])
        line.clock.advance(1.1)
        self.assertEqual(line.destination.under_way(), ["A1"])

    def test_a_dead_destination_pauses_as_a_whole_and_is_probed(self) -> None:
        """Several failures at once count as one; after the pause one message probes, then all go on, in order."""
        line = self.start()
        for number in "123456":
            line.offer(number, key=number)
        for number in "4321":
            line.destination.refuse(number, TransientDelivery("refused", whole_destination=True))
        self.assertEqual(line.destination.under_way(), [])
        line.clock.advance(1.1)
        self.assertEqual(line.destination.under_way(), ["1"])
        line.destination.take("1")
        self.assertEqual(line.destination.under_way(), ["2", "3", "4", "5"])

    def test_permanent_refusal_is_a_dead_letter_with_its_reason(self) -> None:
        """The row stays, dead, and the lane goes on."""
        line = self.start()
        line.offer("A1", "A2", key="a")
        line.destination.refuse("A1", PermanentDelivery("422 unknown code", answer=b"{}"))
        line.clock.advance(0.01)
        row = line.store.queue["c", "d"][1]
        self.assertEqual((row.state, row.reason), ("dead", "422 unknown code"))
        self.assertEqual(line.destination.under_way(), ["A2"])

    def test_gives_up_after_the_limit(self) -> None:
        """A message older than give_up_after goes to the dead letters at its next failure."""
        line = self.start(retry=Retry(1, 60, 5))
        line.offer("A1")
        for _ in range(4):
            line.destination.refuse("A1", TransientDelivery("busy"))
            line.clock.advance(10)
            if not line.destination.waiting:
                break
        self.assertEqual(line.store.queue["c", "d"][1].state, "dead")

    def test_hold_stops_and_release_goes_on(self) -> None:
        """What is under way ends; nothing new begins until release; retries are held too."""
        line = self.start()
        line.offer("A1", key="a")
        line.delivery.hold(True)
        line.offer("B1", key="b")
        line.destination.refuse("A1", TransientDelivery("busy"))
        line.clock.advance(100)
        self.assertEqual(line.destination.under_way(), [])
        line.delivery.hold(False)
        self.assertEqual(sorted(line.destination.under_way()), ["A1", "B1"])

    def test_memory_is_bounded_and_nothing_is_forgotten(self) -> None:
        """Three windows' worth are queued while the destination is held: only one window is in memory, all arrive in order."""
        line = self.start(at_once=True)
        line.delivery.hold(True)
        total = 3 * WINDOW + 7
        for number in range(total):
            line.offer(str(number), key=str(number % 2))
        self.assertLessEqual(len(line.delivery._window), WINDOW + 256)
        line.delivery.hold(False)
        line.clock.advance(0.01)
        for key in (0, 1):
            numbers = [int(parcel.control_id) for parcel in line.destination.taken if int(parcel.control_id) % 2 == key]
            self.assertEqual(numbers, [n for n in range(total) if n % 2 == key])
        self.assertEqual(line.store.queue["c", "d"], {})

    def test_starts_with_what_the_store_has(self) -> None:
        """After a restart the queue goes on; a message whose next attempt lies ahead waits for it."""
        line = Line()
        line.commit("A1", "a")
        line.commit("B1", "b")
        line.store.queue["c", "d"][1].next_at = 5_000_000
        line.delivery.start()
        self.assertEqual(line.destination.under_way(), ["B1"])
        line.clock.advance(5.1)
        self.assertEqual(line.destination.under_way(), ["B1", "A1"])

    def test_an_offer_that_a_claim_has_seen_is_not_sent_twice(self) -> None:
        """The store shows a row before its commit is reported: it counts once."""
        line = Line()
        seen = line.commit("A1")
        line.delivery.start()
        line.delivery.offer(seen)
        self.assertEqual(line.destination.under_way(), ["A1"])

    def test_a_gap_in_the_numbers_is_claimed(self) -> None:
        """A row that another process put in between is delivered too."""
        line = self.start()
        line.commit("RESENT")
        line.offer("NEXT")
        self.assertEqual(line.destination.under_way(), ["RESENT", "NEXT"])

    def test_stop_waits_for_what_is_under_way_and_settles_it(self) -> None:
        """stop() fires only after the answer has come and is in the store; the rest stays queued."""
        line = self.start(order=Order.STRICT)
        line.offer("A1", "A2")
        stopped = line.delivery.stop()
        self.assertNoResult(stopped)
        line.destination.take("A1")
        self.successResultOf(stopped)
        self.assertTrue(line.destination.closed)
        self.assertEqual(list(line.store.queue["c", "d"]), [2])
        self.assertEqual(line.store.status(line.store.messages[1]), Status.SENT)

    def test_a_destination_that_winds_up_does_not_hold_up_the_stop(self) -> None:
        """What it fails then stays queued, for the next start."""
        line = self.start()
        line.offer("A1")
        line.destination.wind_up = lambda: line.destination.refuse("A1", TransientDelivery("stopping"))  # type: ignore[attr-defined]
        self.successResultOf(line.delivery.stop())
        self.assertTrue(line.destination.closed)
        self.assertEqual(list(line.store.queue["c", "d"]), [1])

    def test_a_destination_that_breaks_its_contract_counts_as_uncertain(self) -> None:
        """An unforeseen exception repeats the message rather than losing it."""
        line = self.start()
        line.offer("A1")
        line.destination._pop("A1")[1].errback(ZeroDivisionError())
        line.clock.advance(1.1)
        self.assertEqual(line.destination.under_way(), ["A1"])

    def test_a_store_that_cannot_settle_is_survived(self) -> None:
        """The delivery goes on; after a restart the message would come again with the same key."""
        line = self.start()
        line.offer("A1", "A2")
        line.store.fail_with = StoreFull("full")
        line.destination.take("A1")
        line.clock.advance(0.01)
        self.assertEqual(line.destination.under_way(), ["A2"])

    def test_a_body_that_is_a_file_is_read_when_it_is_sent(self) -> None:
        """The window holds the reference only; a body too long for memory is left to the destination."""
        line = self.start()
        line.offer("A1", body=line.store.keep_body(b"big"))
        line.store.bodies["d" * 64] = b"not read"
        line.offer("B1", body=BodyRef("d" * 64, WHOLE + 1))
        self.assertEqual([parcel.body for parcel, _ in line.destination.waiting], [b"big", BodyRef("d" * 64, WHOLE + 1)])

    def test_a_destination_that_reads_files_gets_the_reference(self) -> None:
        """Whatever its size: what is streamed from the disk need not be in memory first."""
        line = Line()
        line.destination.reads_files = True
        line.delivery = line.new_delivery(Order.NONE, Retry())
        self.successResultOf(line.delivery.start())
        ref = line.store.keep_body(b"image")
        line.offer("A1", body=ref)
        self.assertEqual(line.destination.waiting[0][0].body, ref)

    def test_a_damaged_body_is_a_dead_letter_and_the_others_go_on(self) -> None:
        """Strict order: the one behind it is sent, and the reason can be read."""
        line = self.start(order=Order.STRICT)
        ref = line.store.keep_body(b"big")
        line.offer("A1", body=ref)
        line.offer("A2")
        line.offer("A3", body=ref)
        del line.store.bodies[ref.digest]
        line.destination.take("A1")
        line.destination.take("A2")
        line.clock.advance(0.01)
        dead = line.store.queue["c", "d"][3]
        self.assertEqual((dead.state, dead.reason), ("dead", "the content cannot be read back: the body is gone"))
        self.assertEqual(line.store.status(line.store.messages[3]), Status.ERROR)

    def test_a_body_that_cannot_be_read_now_is_tried_again(self) -> None:
        """Too many open files are no reason for a dead letter."""
        line = self.start()
        line.store.unreadable = StoreError("too many open files")
        line.offer("A1", body=line.store.keep_body(b"big"))
        self.assertEqual(line.destination.waiting, [])
        line.store.unreadable = None
        line.clock.advance(1.1)
        self.assertEqual(line.destination.under_way(), ["A1"])
