"""The process that writes the store: what happens when it dies, and who may begin after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.trial.unittest import TestCase

from engine.errors import StoreError
from engine.message import Status
from engine.store.contract import Settlement
from engine.store.sqlite import SqliteStore
from tests.support.store import message, queued

Steps = Generator[Deferred[Any], Any, None]


class ProcessTests(TestCase):
    timeout = 60

    def setUp(self) -> Deferred[None]:
        self.folder = Path(self.mktemp())
        self.store = self.make()
        return self.store.open()

    def tearDown(self) -> Deferred[None]:
        return self.store.close()

    def make(self) -> SqliteStore:
        return SqliteStore(self.folder, reactor=reactor, clock=lambda: 5_000_000, min_free=0, process=True)

    def kill(self) -> None:
        self.store._commits.transport.signalProcess("KILL")

    def stop_for_now(self, going_on: bool = False) -> None:
        os.kill(self.store._commits.transport.pid, signal.SIGCONT if going_on else signal.SIGSTOP)

    @inlineCallbacks
    def test_when_it_dies_who_waits_hears_it_and_what_was_delivered_is_settled_by_the_next(self) -> Steps:
        first = yield self.store.accept(message("1", plan=queued("a")))
        self.stop_for_now()
        settled = self.store.settle("c", "a", [Settlement(first.seqs[0], first.message_id, Status.SENT, 1, "ref")])
        lost = self.store.accept(message("2", plan=queued("a")))
        reactor.callLater(0, self.kill)  # after the turn in which they are sent
        yield self.assertFailure(lost, StoreError)
        yield settled
        again = yield self.store.accept(message("2", plan=queued("a")))
        shown = yield self.store.show(first.message_id)
        self.assertEqual(shown.found.status, Status.SENT)
        self.assertEqual([at.control_id for at, _ in (yield self.store.claim("c", "a", 0, 10))], ["2"])
        self.assertFalse(again.duplicate)

    @inlineCallbacks
    def test_the_node_is_told_to_look_again_after_a_death(self) -> Steps:
        """A message may have been committed of which nobody has heard."""
        yield self.store.accept(message("1", plan=queued("a")))
        self.assertFalse((yield self.store.changed_elsewhere()))
        self.kill()
        waits = self.store.accept(message("2", plan=queued("a"))).addErrback(lambda failure: failure.trap(StoreError))
        yield waits
        self.assertTrue((yield self.store.changed_elsewhere()))

    @inlineCallbacks
    def test_closing_commits_what_was_asked_for(self) -> Steps:
        pending = [self.store.accept(message(str(number), plan=queued("a"))) for number in range(50)]
        yield DeferredList([self.store.close(), *pending], fireOnOneErrback=True)
        self.store = self.make()
        yield self.store.open()
        self.assertEqual(len((yield self.store.claim("c", "a", 0, 100))), 50)

    @inlineCallbacks
    def test_closing_after_a_death_ends_and_tells_who_waits(self) -> Steps:
        yield self.store.accept(message("1"))
        self.stop_for_now()
        waits = self.store.accept(message("2"))
        reactor.callLater(0, self.kill)
        closed: Deferred[Any] = Deferred()
        reactor.callLater(0, lambda: self.store.close().chainDeferred(closed))
        yield self.assertFailure(waits, StoreError)
        yield closed

    @inlineCallbacks
    def test_no_other_node_begins_while_the_process_of_a_killed_one_still_writes(self) -> Steps:
        """The lock goes with the last of them."""
        code = (
            "import sys; from pathlib import Path; from twisted.internet import reactor; from engine.store.sqlite import SqliteStore\n"
            "store = SqliteStore(Path(sys.argv[1]), reactor=reactor, clock=lambda: 1, min_free=0, process=True)\n"
            "def ready(_): print(store._commits.transport.pid, flush=True)\n"
            "store.open().addCallback(lambda _: store.ledger()).addCallback(ready); reactor.run()\n"
        )
        yield self.store.close()
        node = subprocess.Popen([sys.executable, "-c", code, str(self.folder)], stdout=subprocess.PIPE, text=True)
        assert node.stdout is not None
        child = int(node.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        node.kill()
        node.wait()
        node.stdout.close()
        self.store = self.make()
        yield self.assertFailure(self.store.open(), StoreError)
        threading.Thread(target=os.kill, args=(child, signal.SIGCONT)).start()
        yield self.store.open()
