"""Both nodes of the main job are killed (SIGKILL) at random points under load and started again; as often one of the processes that work
for a node is (the one that writes the store, maps, or writes the resources), which the node itself starts again.

Senders repeat only what was not acknowledged. At the end nothing acknowledged is missing, and nothing was applied twice. `make test` runs a
bounded version; MERIDIAN_CRASH=full (`make crash`) kills 50 times each over 20,000 messages.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from engine.bench.processes import tree
from engine.demo.morning import ACCEPTED, Item
from engine.demo.nodes import LedgerReader, NodeProcess
from engine.demo.simulator import Report, Sender, endpoint
from engine.demo.sites import Landscape

FULL = os.environ.get("MERIDIAN_CRASH") == "full"
MESSAGES, KILLS, LINES = (20_000, 50, 12) if FULL else (400, 3, 6)


def admission(number: int) -> Item:
    control_id = f"C{number:06d}"
    body = (
        f"MSH|^~\\&|HIS|COUNTY|MERIDIAN|COUNTY|20261123081500||ADT^A08^ADT_A01|{control_id}|P|2.5\r"
        f"EVN|A08|20261123081500\rPID|1||P{number % 97}^^^COUNTY^MR||Doe^Jo||19800115|M\rPV1|1|O\r"
    )
    return Item(0.0, body.encode(), "ADT^A08", "", ACCEPTED, "HIS", control_id)


class PatientSender(Sender):
    """Sends again also what was answered AE, which here says that the store could not take it."""

    @inlineCallbacks
    def _send(self, item):  # type: ignore[no-untyped-def]
        answer = yield super()._send(item)
        while answer.code == "AE":
            yield deferLater(reactor, self._pause)
            answer = yield super()._send(item)
        return answer


class KilledNodes(TestCase):
    timeout = 3600 if FULL else 300

    @inlineCallbacks
    def test_nothing_acknowledged_is_lost_or_doubled(self):  # type: ignore[no-untyped-def]
        """Kill, restart, go on: exactly once on the platform, and both ledgers close."""
        chance = random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))
        landscape = Landscape(Path(self.mktemp()).resolve(), reactor)
        landscape.write()
        folders = [landscape.platform, landscape.hospital]
        self.nodes = {folder.name: NodeProcess(folder, reactor) for folder in folders}
        self.addCleanup(self.end)
        for node in self.nodes.values():
            node.start()
            yield node.ready()
        items = [admission(number) for number in range(MESSAGES)]
        where = endpoint(reactor, "127.0.0.1", landscape.ports["mllp"])
        senders = [PatientSender(items[line::LINES], where, reactor=reactor, pause=0.2, most_attempts=1000) for line in range(LINES)]
        sending = DeferredList([sender.run() for sender in senders], fireOnOneErrback=True)
        victims = chance.sample([self.kill_and_restart, self.kill_worker] * KILLS, 2 * KILLS)
        for number, kill in enumerate(victims):
            due = MESSAGES * (number + chance.random()) / (len(victims) + 1)
            while sum(len(sender.answers) for sender in senders) < due and not sending.called:
                yield deferLater(reactor, 0.02)
            yield deferLater(reactor, chance.random() * 0.05)
            yield kill(chance.choice(folders))
        yield sending
        report = Report.of([answer for sender in senders for answer in sender.answers])
        self.assertEqual((report.codes, report.unanswered), ({"AA": MESSAGES}, ()))
        yield self.settled(folders)
        self.check_platform(landscape, {item.control_id for item in items})

    @inlineCallbacks
    def kill_worker(self, folder):  # type: ignore[no-untyped-def]
        """One of the processes that work for a node; it may just be without."""
        node = self.nodes[folder.name].transport.pid
        while not (workers := tree(node)[1:]):
            yield deferLater(reactor, 0.02)
        os.kill(random.choice(workers), signal.SIGKILL)

    @inlineCallbacks
    def kill_and_restart(self, folder):  # type: ignore[no-untyped-def]
        node = self.nodes[folder.name]
        node.transport.signalProcess("KILL")
        yield node.ended
        self.nodes[folder.name] = again = NodeProcess(folder, reactor)
        again.start()
        yield again.ready()

    @inlineCallbacks
    def settled(self, folders):  # type: ignore[no-untyped-def]
        """Wait until nothing is in flight on either node; every line closes."""
        for folder in folders[::-1]:
            reader = LedgerReader(folder, reactor, lambda: time.time_ns() // 1000)
            yield reader.open()
            lines = yield reader.read()
            while any(line.in_flight for line in lines):
                yield deferLater(reactor, 0.2)
                lines = yield reader.read()
            yield reader.close()
            self.assertTrue(all(line.closes for line in lines), lines)
            self.assertEqual([line.dead_lettered for line in lines], [0] * len(lines))

    def check_platform(self, landscape: Landscape, control_ids: set[str]) -> None:
        """Each message is kept once on the platform, and its MessageHeader was written once."""
        data = landscape.platform.site / "data"
        kept = self.rows(data / "meridian.db", "SELECT control_id, count(*) FROM message GROUP BY control_id")
        self.assertEqual(dict(kept), dict.fromkeys(control_ids, 1))
        headers = self.rows(data / "fhir-repository.db", "SELECT id, version FROM resource WHERE type = 'MessageHeader'")
        self.assertEqual((len(headers), {version for _, version in headers}), (len(control_ids), {1}))

    @staticmethod
    def rows(file: Path, sql: str) -> list[tuple[object, ...]]:
        database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            return database.execute(sql).fetchall()
        finally:
            database.close()

    def end(self):  # type: ignore[no-untyped-def]
        return DeferredList([node.stop() for node in self.nodes.values()])
