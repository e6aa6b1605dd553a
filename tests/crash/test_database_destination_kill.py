"""Meridian, or the database that it writes into, is killed (SIGKILL) in mid-write: every row is there once, counted once, and the rows
that the database refuses are dead letters, each by itself.

`make test` runs a bounded version; MERIDIAN_CRASH=full (`make crash`) kills more often.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from engine.bench.node import Node
from engine.bench.processes import tree
from tests.support.database_rows_out import RowsOut
from tests.support.databases import OWN_SERVERS, SERVERS, own_database
from tests.support.waiting import until

FULL = os.environ.get("MERIDIAN_CRASH") == "full"
KILLS, ROWS = (20, 20_000) if FULL else (3, 2_000)


def chance() -> random.Random:
    return random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))


def check(out: RowsOut) -> None:
    """The checker: what landed, what a statement that is no upsert has counted, what the outbox has noted."""
    assert out.landed() == out.wanted()
    assert (out.total(), out.noted()) == (len(out.wanted()), len(out.wanted()))


@pytest.mark.parametrize("server", SERVERS)
def test_meridian_is_killed_in_mid_write(server: str, tmp_path: Path) -> None:
    """Between a COMMIT and its settlement in the store, among others."""
    random_number = chance()
    with own_database(server) as url:
        out = RowsOut(tmp_path / "site", url, ROWS, bad_every=97, batch=20)
        out.create()
        for kill in range(1, KILLS + 1):
            node = Node(out.site).__enter__()
            wanted = len(out.wanted()) * kill // (KILLS + 1)
            until(lambda wanted=wanted: out.arrived(wanted), "rows")
            time.sleep(random_number.random() * 0.05)
            for pid in tree(node._process.pid):
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            node._process.wait()
        with Node(out.site):
            until(lambda: out.arrived(len(out.wanted())), "all rows")
        check(out)


@pytest.mark.parametrize("server", SERVERS)
def test_the_database_is_killed_in_mid_write(server: str, tmp_path: Path) -> None:
    """And started again; what was under way comes again."""
    random_number = chance()
    with OWN_SERVERS[server]() as own:
        out = RowsOut(tmp_path / "site", own.url, ROWS, batch=20)
        out.create()
        with Node(out.site):
            for kill in range(1, KILLS):
                wanted = ROWS * kill // KILLS
                until(lambda wanted=wanted: out.arrived(wanted), "rows")
                time.sleep(random_number.random() * 0.05)
                own.kill()
                own.start()
            until(lambda: out.arrived(ROWS), "all rows")
        check(out)
