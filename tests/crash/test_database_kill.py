"""Meridian, or the database, is killed (SIGKILL) in mid-poll while writers commit late: every row is kept, each version once.

`make test` runs a bounded version; MERIDIAN_CRASH=full (`make crash`) kills more often.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.bench.late_rows import LateRows, Work
from engine.bench.node import Node
from engine.bench.processes import tree
from tests.support.databases import OWN_SERVERS, SERVERS, OwnServer, own_database

FULL = os.environ.get("MERIDIAN_CRASH") == "full"
KILLS, ROWS = (20, 20_000) if FULL else (3, 3_000)


def killed(chance: random.Random) -> Callable[[Node], Node]:
    """All of the node's processes, or first one of them, and started again."""

    def kill(node: Node) -> Node:
        time.sleep(chance.random() * 0.05)
        for pid in [chance.choice(tree(node._process.pid)), *tree(node._process.pid)]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        node._process.wait()
        return Node(node.site).__enter__()

    return kill


@pytest.mark.parametrize("server", SERVERS)
def test_meridian_is_killed_in_mid_poll(server: str, tmp_path: Path) -> None:
    """Between any commit of a message and the next page; the checkpoint came with the message or not at all."""
    chance = random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))
    with own_database(server) as url:
        late = LateRows(tmp_path / "site", url, limit=50)
        late.create()
        outcome = late.run(Work(ROWS, hold=0.3), [killed(chance)] * KILLS)
    assert outcome.right, outcome
    assert outcome.rows >= ROWS


@pytest.mark.parametrize("server", SERVERS)
def test_the_database_is_killed_in_mid_poll(server: str, tmp_path: Path) -> None:
    """And started again, with writers and poll under way."""
    with OWN_SERVERS[server]() as own:
        late = LateRows(tmp_path / "site", own.url, limit=50)
        late.create()
        outcome = late.run(Work(ROWS, hold=0.3), [restarted(own)] * (KILLS - 1))
    assert outcome.right, outcome
    assert outcome.rows >= ROWS


def restarted(own: OwnServer) -> Callable[[Node], None]:
    def restart(_: Node) -> None:
        own.kill()
        own.start()

    return restart
