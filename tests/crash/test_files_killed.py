"""A node is killed (SIGKILL, all its processes) in the middle of a file: each row is kept once and written once, and the file is moved when
the last of them is. Nodes that share a folder take each file once, also when one of them dies with a claim.

`make test` runs a bounded version; MERIDIAN_CRASH=full (`make crash`) kills more often.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.file_nodes import WatchingNode, kill, put
from tests.support.waiting import until

FULL = os.environ.get("MERIDIAN_CRASH") == "full"
KILLS, ROWS = (25, 40_000) if FULL else (3, 2_000)
FILES = 60 if FULL else 20
PATIENCE = 1200.0 if FULL else 180.0
"""Seconds: every row is fsynced twice."""


def csv(first: int, count: int) -> bytes:
    return b"id,note\n" + b"".join(b"%d,note of %d\n" % (number, number) for number in range(first, first + count))


def test_each_row_once_whenever_it_is_killed(tmp_path: Path) -> None:
    """After a random number of rows is written, so that commits, checkpoints, deliveries and the move are all hit."""
    chance = random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))
    site = WatchingNode(tmp_path / "site", tmp_path / "in")
    body = csv(0, ROWS // 2) + b"bad row\n" + csv(ROWS // 2, ROWS // 2).partition(b"\n")[2]
    put(site.watched, "rows.csv", body)
    for at in sorted(chance.randrange(ROWS) for _ in range(KILLS)):
        node = site.running().__enter__()
        until(lambda at=at: len(site.written()) >= at, "rows that are written", PATIENCE)  # type: ignore[misc]
        kill(node)
    with site.running():
        until(site.moved("rows.csv"), "the move", PATIENCE)
        until(lambda: len(site.written()) >= ROWS, "the last row", PATIENCE)
    kept = site.kept()
    assert site.written() == {str(number) for number in range(ROWS)}
    assert {name: count for name, count in kept.items() if count != 1} == {}
    assert len(kept) == ROWS + 1
    assert site.reasons() == [f"rows.csv:{ROWS // 2 + 2}: has 1 cells; the heading names 2"]
    assert sorted(one.name for one in (site.watched / "faulty").iterdir()) == ["rows.csv", "rows.csv.errors.csv"]
    assert len([one for one in site.out.iterdir() if not one.name.startswith(".")]) == ROWS


def test_two_nodes_take_each_file_once(tmp_path: Path) -> None:
    """Both have the same name, as a copied site has: claims are told apart all the same."""
    watched = tmp_path / "in"
    nodes = [WatchingNode(tmp_path / name, watched) for name in ("one", "two")]
    with ExitStack() as running:
        for node in nodes:
            running.enter_context(node.running())
        for number in range(FILES):
            put(watched, f"{number}.csv", csv(number * 100, 100))
        for number in range(FILES):
            until(nodes[0].moved(f"{number}.csv"), "the move of each file", PATIENCE)
        until(lambda: sum(len(node.written()) for node in nodes) >= FILES * 100, "the last row", PATIENCE)
    counts = nodes[0].kept() + nodes[1].kept()
    assert set(counts.values()) == {1}
    assert len(counts) == FILES * 100
    assert len(list((watched / "done").iterdir())) == FILES
    assert nodes[0].written() | nodes[1].written() == set(counts)


def test_a_dead_nodes_claim_is_taken_over(tmp_path: Path) -> None:
    """By the node that is left, once the other has been silent for the stated time; all rows are there, and the file is moved."""
    watched = tmp_path / "in"
    one, two = (WatchingNode(tmp_path / name, watched, take_over="2s") for name in ("one", "two"))
    put(watched, "rows.csv", csv(0, 5 * ROWS))
    node = one.running().__enter__()
    until(lambda: list(watched.glob(".claimed/*/rows.csv")), "the claim", PATIENCE)
    kill(node)
    assert not one.moved("rows.csv")()
    with two.running():
        until(two.moved("rows.csv"), "the move", PATIENCE)
    assert set(two.kept()) == {str(number) for number in range(5 * ROWS)}
    assert (watched / "done" / "rows.csv").exists()
