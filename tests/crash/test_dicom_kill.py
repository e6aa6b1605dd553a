"""A node is killed (SIGKILL) while associations send to it, and started again: every instance that was answered 0000H is there, whole.

`make test` runs a bounded version; MERIDIAN_CRASH=full (`make crash`) kills thirty times.
"""

from __future__ import annotations

import os
import random
import threading
import time
from hashlib import sha256
from pathlib import Path

from engine.bench import modalities
from engine.bench.modalities import ImageLoad, Instances, _Sender
from engine.bench.processes import tree
from tests.support.dicom_site import DicomSite
from tests.support.waiting import PATIENCE

KILLS = 30 if os.environ.get("MERIDIAN_CRASH") == "full" else 3
ASSOCIATIONS = 4
OUT_OF_RESOURCES = 0xA700


class Acknowledged:
    """What modalities share: numbers that were answered 0000H. `reached(n)` waits until there are n of them."""

    def __init__(self) -> None:
        self.instances = Instances("ct", 131072)
        self.numbers: set[int] = set()
        self._next = 0
        self._own = threading.local()
        self._changed = threading.Condition()

    def take(self) -> int:
        with self._changed:
            self._next += 1
            self._own.number = self._next
            return self._next

    def done(self, took: float, status: int) -> None:
        with self._changed:
            assert status in (0, OUT_OF_RESOURCES)  # where the store's process goes before the node does
            if status == 0:
                self.numbers.add(self._own.number)
            self._changed.notify_all()

    def reached(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.numbers) >= count, PATIENCE)


def test_nothing_that_was_answered_0000h_is_lost(tmp_path: Path) -> None:
    """Whatever was under way in the reactor, a thread, the store's process or the file system."""
    chance = random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))
    site, acknowledged = DicomSite(tmp_path), Acknowledged()
    for _ in range(KILLS):
        node = site.running()
        with node:
            senders = [_Sender(ImageLoad(site.dicom), acknowledged) for _ in range(ASSOCIATIONS)]  # type: ignore[arg-type]
            for sender in senders:
                sender.start()
            assert acknowledged.reached(len(acknowledged.numbers) + chance.randint(1, 30))
            time.sleep(chance.random() * 0.02)
            victim = node._process.pid if chance.random() < 0.7 else chance.choice(tree(node._process.pid))
            os.kill(victim, 9)
            if victim != node._process.pid:
                os.kill(node._process.pid, 9)
            for sender in senders:
                sender.join(PATIENCE)
                assert not sender.is_alive()
    with site.running():
        pass
    kept = {one.control_id: one for one in site.instances()}
    assert len(kept) == len(site.instances())
    for number in acknowledged.numbers:
        uid = modalities._UID.format(number)
        assert kept[uid].verdict == "accepted"
        assert sha256(kept[uid].data_set).digest() == sha256(modalities.data_set("ct", uid)).digest()
