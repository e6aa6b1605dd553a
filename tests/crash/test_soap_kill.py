"""A node is killed (SIGKILL) while clients call it, and started again: every request that was answered "accepted" is there, whole, once; who
did not hear an answer sends again, and hears one however often.

`make test` runs a bounded version; MERIDIAN_CRASH=full (`make crash`) kills thirty times.
"""

from __future__ import annotations

import http.client
import os
import random
import threading
import time
from pathlib import Path

import pytest
from lxml import etree

from engine.bench.processes import tree
from engine.formats import hip as hip_format
from engine.formats.soap import read
from tests.support import hip
from tests.support.soap import SoapSite, addressed, envelope, in_parts, include, part, post, related

KILLS = 30 if os.environ.get("MERIDIAN_CRASH") == "full" else 3
CLIENTS = 4
PATIENCE = 60.0


def attached(number: int) -> bytes:
    """Some in memory, some in the spool."""
    return (b"%08d" % number) * (10 if number % 2 else 20_000)


class Calls:
    """What the clients share: numbers that were answered, and those of which nobody knows."""

    protocol = "soap"

    def __init__(self, port: int) -> None:
        self.port, self.accepted, self.lost = port, set[int](), set[int]()
        self._next = 0
        self._changed = threading.Condition()

    def client(self) -> None:
        """Until the node is gone."""
        while True:
            with self._changed:
                self._next += 1
                number = self._next
            try:
                self.send(number)
            except (OSError, http.client.HTTPException):
                self.lost.add(number)
                return
            with self._changed:
                self.accepted.add(number)
                self._changed.notify_all()

    def send(self, number: int) -> bytes:
        """The answer, which says that it was accepted."""
        root = envelope(f"<Order><id>{number}</id><f>{include('cid:a')}</f></Order>", header=addressed(message_id=self.control_id(number)))
        said = post(self.port, in_parts(root, part(attached(number), "a")), related())
        assert said.message.payload.findtext("{*}code") == "accepted", said
        return said.body

    def send_lost(self) -> None:
        """What was not answered, twice."""
        for number in sorted(self.lost):
            assert self.send(number) == self.send(number)
        self.accepted |= self.lost
        self.lost.clear()

    def control_id(self, number: int) -> str:
        return f"urn:n:{number}"

    def check(self, body: bytes) -> None:
        message = read(body)
        number = int(message.payload.findtext("id"))
        assert bytes(message.content_of(message.payload[1]).content) == attached(number)

    def reached(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.accepted) >= count, PATIENCE)


class PlatformCalls(Calls):
    """Of the hospital platform: AA, and documents inside."""

    protocol = "hip"

    def send(self, number: int) -> bytes:
        said = post(self.port, envelope(hip.call("DocumentRegister", self.text(number)), "1.2"), "application/soap+xml", "/hip")
        assert b'typeCode="AA"' in said.body, said
        return said.body

    def text(self, number: int) -> str:
        return hip.register(
            hip.document().replace(b"<structuredBody/>", b"<text>%s</text>" % attached(number)), message_id=self.control_id(number)
        )

    def control_id(self, number: int) -> str:
        return f"{number:08d}-7f1e-4a39-9c55-0d4a7c8f1e01"

    def check(self, body: bytes) -> None:
        found = hip_format.read(read(body))
        assert etree.tostring(found.element) == etree.tostring(etree.fromstring(self.text(int(found.header.id[:8])).encode()))


@pytest.mark.parametrize("called", [Calls, PlatformCalls])
def test_nothing_that_was_answered_is_lost(tmp_path: Path, called: type[Calls]) -> None:
    """Whatever was under way in the reactor, a thread, the store's process or the file system; and nothing is left in the spool."""
    chance = random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))
    site = SoapSite(tmp_path / "site", protocol=called.protocol)
    calls = called(site.soap)
    for _ in range(KILLS):
        with site.running() as node:
            calls.send_lost()
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
        calls.send_lost()
        assert not list((site.folder / "data" / "bodies" / "spool").iterdir())
    ids = [one.control_id for one in site.kept()]
    assert len(set(ids)) == len(ids)
    assert {calls.control_id(number) for number in calls.accepted} == set(ids)
    for body in site.bodies():
        calls.check(body)
