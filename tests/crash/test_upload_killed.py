"""A node is killed (SIGKILL) in the middle of uploads, and started again: terminals that ask where to go on, and terminals that send all
again, have each of their lines kept exactly once, and no standing ever says more than is kept.

`make test` runs a bounded version; MERIDIAN_CRASH=full (`make crash`) kills thirty times.
"""

from __future__ import annotations

import http.client
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from engine.bench.processes import tree
from tests.support.uploads import FhirSite, Terminal, observations
from tests.support.waiting import until

KILLS = 30 if os.environ.get("MERIDIAN_CRASH") == "full" else 4
LINES = 400 * KILLS
PATIENCE = 60.0


class Cart:
    """One terminal with a journal of LINES; `asks` before it sends, or sends all again, packed."""

    def __init__(self, port: int, number: int, *, asks: bool) -> None:
        self.terminal, self._asks = Terminal(port, f"cart-{number}"), asks
        self.said = 0
        self.done = False

    def run(self) -> None:
        """Until everything is kept, or the node is gone."""
        try:
            first = 1
            if self._asks:
                first = self.terminal.standing()["next"]
                assert first > self.said, "a number that was said to be settled is not"
                self.said = first - 1
            heard = self.terminal.upload(observations(first, LINES), first=first, packed=not self._asks, Prefer="return=minimal")
        except (OSError, http.client.HTTPException):
            return
        if heard.status == 200:
            assert heard.lines == []
            assert heard.summary.fact("complete") == LINES
            self.done = True


def kept(site: FhirSite) -> int:
    """How many lines there are, while the node runs."""
    with closing(sqlite3.connect(f"file:{site.folder}/data/meridian.db?mode=ro", uri=True, timeout=30)) as database:
        return int(database.execute("SELECT coalesce(max(id), 0) FROM message").fetchone()[0])


def test_every_line_is_kept_once(tmp_path: Path) -> None:
    """Whatever was under way in the reactor, a thread, the store's process or the book."""
    chance = random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))
    site = FhirSite(tmp_path / "site")
    carts = [Cart(site.fhir, number, asks=bool(number % 2)) for number in range(4)]
    for _ in range(KILLS):
        with site.running() as node:
            threads = [threading.Thread(target=cart.run) for cart in carts]
            before = kept(site)
            for thread in threads:
                thread.start()
            until(lambda before=before: kept(site) > before + chance.randint(0, 300) or all(cart.done for cart in carts), "some lines")
            victim = node._process.pid if chance.random() < 0.7 else chance.choice(tree(node._process.pid))
            os.kill(victim, 9)
            if victim != node._process.pid:
                os.kill(node._process.pid, 9)
            for thread in threads:
                thread.join(PATIENCE)
                assert not thread.is_alive()
    with site.running():
        for cart in carts:
            cart.run()
            assert cart.done
            assert cart.terminal.standing() == {
                "device": cart.terminal.device,
                "complete": LINES,
                "highest": LINES,
                "next": LINES + 1,
                "missing": [],
            }
    counted = Counter(one.control_id for one in site.kept())
    assert counted == {f"cart-{cart}/{number}": 1 for cart in range(4) for number in range(1, LINES + 1)}
    orders = [one["device.sequence"] for one in site.facts() if one["device.id"] == "cart-1"]
    assert orders == [str(number) for number in range(1, LINES + 1)]
