"""Real worker processes: batches, order, death, hanging."""

import logging

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from engine.message import Envelope
from engine.workers import WorkerDied, Workers
from tests.support.programs import RECIPE


def bodies(*words: bytes) -> list[Envelope]:
    return [Envelope(word, "text/plain", "T") for word in words]


class WorkersTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        log = logging.getLogger("test.workers")
        self.workers = Workers({"c": RECIPE}, 1, reactor=reactor, log=log, most_seconds=3)
        self.workers.start()
        self.addCleanup(self.stop)

    def stop(self):  # type: ignore[no-untyped-def]
        return self.workers.stop()

    @inlineCallbacks
    def test_a_batch_comes_back_in_order(self):  # type: ignore[no-untyped-def]
        """One plan for each envelope, made in another process."""
        plans = yield self.workers.submit("plan", "c", bodies(b"a", b"b"))
        self.assertEqual([plan.routed[0].body for plan in plans], [b"A", b"B"])

    @inlineCallbacks
    def test_a_message_that_kills_the_worker_is_singled_out(self):  # type: ignore[no-untyped-def]
        """Its neighbours in the batch are planned; it alone is named as the fault."""
        plans = yield self.workers.submit("plan", "c", bodies(b"a", b"die", b"b"))
        self.assertEqual([plans[0].routed[0].body, plans[2].routed[0].body], [b"A", b"B"])
        self.assertIsInstance(plans[1], WorkerDied)

    @inlineCallbacks
    def test_a_message_is_not_at_fault_where_the_system_ends_its_worker(self):  # type: ignore[no-untyped-def]
        """Out of memory, or an operator: a message that was alone in its worker is planned by the next one, and the one after that."""
        planned = self.workers.submit("plan", "c", bodies(b"a"))
        for _ in range(2):
            (worker,) = self.workers._all
            worker.kill()
            while worker in self.workers._all or not self.workers._all:
                yield deferLater(reactor, 0.01)
        plans = yield planned
        self.assertEqual(plans[0].routed[0].body, b"A")

    @inlineCallbacks
    def test_a_message_that_hangs_is_cut_off(self):  # type: ignore[no-untyped-def]
        """The limit ends the worker, and the pool goes on with a new one."""
        plans = yield self.workers.submit("plan", "c", bodies(b"hang"))
        self.assertIsInstance(plans[0], WorkerDied)
        plans = yield self.workers.submit("plan", "c", bodies(b"a"))
        self.assertEqual(plans[0].routed[0].body, b"A")
