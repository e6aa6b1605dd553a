"""kill -9 of a process that accepts: whatever it had acknowledged is there afterwards, and the ledger closes."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

from engine.message import BodyRef
from engine.store.contract import Query
from engine.store.sqlite import SqliteStore
from tests.support.store import QueueReactor

KILLS = 6
ROOT = Path(__file__).parents[2]

# Accepts in groups, settles what it queued, and says so only after it has heard: one line for each message that is on the disk.
CHILD = """
import sys
from pathlib import Path
from engine.message import Status
from engine.store.contract import Settlement
from engine.store.sqlite import SqliteStore
from tests.support.store import QueueReactor, message, queued

reactor, tag = QueueReactor(), sys.argv[2]
store = SqliteStore(Path(sys.argv[1]), reactor=reactor, clock=lambda: 1, inline_limit=500, min_free=0)
reactor.wait(store.open())
number = 0
while True:
    group = []
    for _ in range(20):
        number += 1
        body = f"{tag}.{number}".encode() * (1 if number % 7 else 200)
        group.append((number, store.accept(message(f"{tag}.{number}", body, queued("a") if number % 3 else None))))
    for number, deferred in group:
        accepted = reactor.wait(deferred)
        print(accepted.message_id, f"{tag}.{number}", flush=True)
        if accepted.seqs and number % 2:
            store.settle("c", "a", [Settlement(accepted.seqs[0], accepted.message_id, Status.SENT, 1)])
"""


def run_and_kill(folder: Path, tag: str, lines: int) -> dict[int, str]:
    """What the child had acknowledged when it was killed, after `lines` of it were read."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), tag], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    try:
        heard = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        heard += child.stdout.read().splitlines(keepends=True)
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
    whole = [line.split() for line in heard if line.endswith("\n")]
    return {int(number): control_id for number, control_id in whole}


def test_nothing_acknowledged_is_lost() -> None:
    """Killed at random points, and started again on the same folder each time."""
    chance = random.Random(20)
    acknowledged: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        for kill in range(KILLS):
            fresh = run_and_kill(folder, str(kill), chance.randrange(1, 400))
            assert fresh
            assert not fresh.keys() & acknowledged.keys(), "a message number was given twice"
            acknowledged |= fresh
        look_for(folder, acknowledged)


def look_for(folder: Path, acknowledged: dict[int, str]) -> None:
    reactor = QueueReactor()
    store = SqliteStore(folder, reactor=reactor, clock=lambda: 1, inline_limit=500, min_free=0)
    reactor.wait(store.open())
    try:
        found = {line.message_id: line.control_id for line in reactor.wait(store.search(Query(limit=1_000_000)))}
        assert {number: found.get(number) for number in acknowledged} == acknowledged
        for number, control_id in acknowledged.items():
            body = reactor.wait(store.show(number)).envelope.body
            if isinstance(body, BodyRef):
                body = reactor.wait(store.read_body(body))
            assert body == control_id.encode() * (1 if int(control_id.partition(".")[2]) % 7 else 200)
        claimed = [parcel.seq for parcel, _ in reactor.wait(store.claim("c", "a", 0, 1_000_000))]
        assert len(claimed) == len(set(claimed))
        assert all(line.closes for line in reactor.wait(store.ledger()))
    finally:
        reactor.wait(store.close())
