"""What every destination must do (engine.contracts.Destination): mix into a trial TestCase, and give it a peer and a destination."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults, inlineCallbacks

from engine.errors import PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.message import BodyRef, Parcel


class DestinationContract:
    """`start_peer` listens and gives an object whose `mode` says what it does with a message: ``take``, ``refuse``, ``hang up`` (read it
    and close), ``hold`` (answer at `release()`); its `taken` are the control ids that it took, `received()` fires with the next message.
    `make` gives a destination to it, `make_nowhere` one to a port where nobody listens; `parcel(n)` a message with control id n."""

    def start_peer(self) -> Any:
        raise NotImplementedError

    def make(self) -> Any:
        raise NotImplementedError

    def make_nowhere(self) -> Any:
        raise NotImplementedError

    def parcel(self, number: int, body: bytes | BodyRef | None = None) -> Parcel:
        raise NotImplementedError

    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        self.peer = self.start_peer()
        self.destination = self.make()
        self.closed = False
        yield self.destination.open()

    @inlineCallbacks
    def tearDown(self):  # type: ignore[no-untyped-def]
        if not self.closed:
            yield self.destination.close()
        yield self.peer.stop()

    @inlineCallbacks
    def test_a_receipt_means_that_it_was_taken(self):  # type: ignore[no-untyped-def]
        """And it says under which reference."""
        receipt = yield self.destination.deliver(self.parcel(1))
        self.assertEqual(self.peer.taken, ["1"])
        self.assertTrue(receipt.reference)

    @inlineCallbacks
    def test_a_refusal_is_permanent_and_the_answer_is_kept(self):  # type: ignore[no-untyped-def]
        """For the store, so that an operator can read it."""
        self.peer.mode = "refuse"
        error = yield self.assertFailure(self.destination.deliver(self.parcel(1)), PermanentDelivery)
        self.assertTrue(error.answer)

    @inlineCallbacks
    def test_nobody_listens(self):  # type: ignore[no-untyped-def]
        """Nothing was taken, and the destination as such is out of reach."""
        nowhere = self.make_nowhere()
        yield nowhere.open()
        error = yield self.assertFailure(nowhere.deliver(self.parcel(1)), TransientDelivery)
        self.assertTrue(error.whole_destination)
        yield nowhere.close()

    @inlineCallbacks
    def test_lost_after_it_was_sent_is_uncertain_and_the_next_attempt_is_fine(self):  # type: ignore[no-untyped-def]
        """It may have been taken; the parcel comes again, over a new connection."""
        self.peer.mode = "hang up"
        yield self.assertFailure(self.destination.deliver(self.parcel(1)), UncertainDelivery)
        self.peer.mode = "take"
        yield self.destination.deliver(self.parcel(1))
        self.assertEqual(self.peer.taken, ["1"])

    @inlineCallbacks
    def test_as_many_at_once_as_it_says(self):  # type: ignore[no-untyped-def]
        """Each is answered for itself."""
        parcels = [self.parcel(number) for number in range(1, self.destination.max_in_flight + 1)]
        yield gatherResults([self.destination.deliver(parcel) for parcel in parcels])
        self.assertEqual(sorted(self.peer.taken, key=int), [parcel.control_id for parcel in parcels])
