"""A node is killed (SIGKILL) while clients call it, and started again: every request that was answered "accepted" is there, whole, once.

`make test` runs a bounded version; MERIDIAN_CRASH=full (`make crash`) kills thirty times.
"""

from __future__ import annotations

import http.client
import os
import random
import threading
import time
from pathlib import Path

from engine.bench.processes import tree
from engine.formats.soap import read
from tests.support.soap import SoapSite, addressed, envelope, in_parts, include, part, post, related

KILLS = 30 if os.environ.get("MERIDIAN_CRASH") == "full" else 3
CLIENTS = 4
PATIENCE = 60.0


def attached(number: int) -> bytes:
    """Some in memory, some in the spool."""
    return (b"%08d" % number) * (10 if number % 2 else 20_000)


class Calls:
    """What the clients share: numbers that were answered; each calls again with its number until it is."""

    def __init__(self, port: int) -> None:
        self.port, self.accepted = port, set[int]()
        self._next = 0
        self._changed = threading.Condition()

    def client(self) -> None:
        """Until the node is gone."""
        while True:
            with self._changed:
                self._next += 1
                number = self._next
            try:
                if not self._call(number):
                    return
            except (OSError, http.client.HTTPException):
                return
            with self._changed:
                self.accepted.add(number)
                self._changed.notify_all()

    def _call(self, number: int) -> bool:
        root = envelope(f"<Order><id>{number}</id><f>{include('cid:a')}</f></Order>", header=addressed(message_id=f"urn:n:{number}"))
        said = post(self.port, in_parts(root, part(attached(number), "a")), related())
        return said.status == 200 and said.message.payload.findtext("{*}code") == "accepted"

    def reached(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.accepted) >= count, PATIENCE)


def test_nothing_that_was_answered_is_lost(tmp_path: Path) -> None:
    """Whatever was under way in the reactor, a thread, the store's process or the file system; and nothing is left in the spool."""
    chance = random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))
    site = SoapSite(tmp_path / "site")
    calls = Calls(site.soap)
    for _ in range(KILLS):
        with site.running() as node:
            clients = [threading.Thread(target=calls.client) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            assert calls.reached(len(calls.accepted) + chance.randint(1, 40))
            time.sleep(chance.random() * 0.02)
            victim = node._process.pid if chance.random() < 0.7 else chance.choice(tree(node._process.pid))
            os.kill(victim, 9)
            if victim != node._process.pid:
                os.kill(node._process.pid, 9)
            for client in clients:
                client.join(PATIENCE)
                assert not client.is_alive()
    with site.running():
        assert not list((site.folder / "data" / "bodies" / "spool").iterdir())
    ids = [one.control_id for one in site.kept()]
    assert len(set(ids)) == len(ids)
    assert {f"urn:n:{number}" for number in calls.accepted} <= set(ids)
    for body in site.bodies():
        message = read(body)
        number = int(message.payload.findtext("id"))
        assert bytes(message.content_of(message.payload[1]).content) == attached(number)
