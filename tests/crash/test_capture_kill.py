"""Meridian, the database, and both at once are killed (SIGKILL) in mid-capture, in the first state and in the log, while writers change
rows: every change is kept once.

`make test` runs a bounded version; MERIDIAN_CRASH=full (`make crash`) kills more often.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from pathlib import Path

import pytest

from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.bench.site import BenchSite
from engine.formats.rows import Record, read
from tests.support.capture import LOGGING, Writers, own_server, wrong
from tests.support.databases import written
from tests.support.killing import kill_tree
from tests.support.waiting import until

KILLS = 20 if os.environ.get("MERIDIAN_CRASH") == "full" else 3


def site(folder: Path, url: object) -> BenchSite:
    made = BenchSite(folder, free_port(), free_port())
    (folder / "channels").mkdir(parents=True)
    node = {"name": "bench", "party": "bench", "workers": 1, "http": {"listen": f"{HOST}:{made.http}"}}
    (folder / "meridian.yaml").write_text(json.dumps(node))
    source = {"connection": {"url": written(url)}, "tables": ["item"], "limit": 20, "heartbeat": "500ms", "retry_most": "1s"}  # type: ignore[arg-type]
    channel = {"name": "lis", "source": {"database_capture": source}, "destinations": []}
    (folder / "channels" / "lis.yaml").write_text(json.dumps(channel))
    return made


def kept(made: BenchSite) -> list[Record]:
    file = made.folder / "data" / "meridian.db"
    if not file.exists():
        return []
    store = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        rows = store.execute("SELECT body FROM message JOIN body ON body.message = message.id ORDER BY message.id")
        return [read(body) for (body,) in rows]
    finally:
        store.close()


@pytest.mark.parametrize("server", LOGGING)
def test_meridian_is_killed_in_mid_capture(server: str, tmp_path: Path) -> None:
    """Between any commit and the next page; the slot never let go of what was not kept."""
    chance = random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))
    with own_server(server) as own:
        writers = Writers(own.url)
        writers.create()
        writers.start()
        until(lambda: writers.changes > 40, "some rows")
        made = site(tmp_path / "site", own.url)
        node = Node(made).__enter__()
        for kill in range(KILLS):
            reached = len(kept(made)) + chance.randint(1, 150)
            until(lambda reached=reached: len(kept(made)) >= reached, "some changes")  # type: ignore[misc]
            if kill % 3 != 1:
                kill_tree(node.pid)
                node._process.wait()
            if kill % 3:  # the server alone, and both at once
                own.kill()
                own.start()
            if kill % 3 != 1:
                node = Node(made).__enter__()
        writers.stop()
        trail = writers.trail()
        try:
            until(lambda: not wrong(trail, kept(made), resumed=True), "the last changes")
        finally:
            node.__exit__(None, None, None)
            writers.dispose()
        assert not wrong(trail, kept(made), resumed=True)
