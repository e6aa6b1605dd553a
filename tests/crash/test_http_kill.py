"""A node is killed (SIGKILL) while clients post to it, and started again; who did not hear an answer sends again with the same key. Every
message that was answered 202 is there, whole, and each is delivered once for each key.

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
from tests.support.plain_http import HttpPeer, HttpSite, hub_signature, send
from tests.support.waiting import until

KILLS = 30 if os.environ.get("MERIDIAN_CRASH") == "full" else 3
CLIENTS = 4


def body_of(number: int) -> bytes:
    """Some in memory, some in the spool."""
    return b'{"id": "%d", "text": "%b"}' % (number, b"x" * (10 if number % 2 else 100_000))


class Clients:
    """Numbers that were answered, and those of which nobody knows."""

    def __init__(self, port: int) -> None:
        self.port, self.accepted, self.lost = port, set[int](), set[int]()
        self._next = 0
        self.changed = threading.Condition()

    def send(self, number: int) -> None:
        body = body_of(number)
        said = send(self.port, body, headers={"X-Hub-Signature-256": hub_signature("shared", body)})
        assert said.status == 202, said
        with self.changed:
            self.lost.discard(number)
            self.accepted.add(number)
            self.changed.notify_all()

    def run(self) -> None:
        """Until the node is gone."""
        while True:
            with self.changed:
                self._next += 1
                number = self._next
                self.lost.add(number)
            try:
                self.send(number)
            except (OSError, http.client.HTTPException):
                return

    def until_accepted(self, more: int) -> None:
        wanted = len(self.accepted) + more
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.accepted) >= wanted, 60)


def test_killed_between_commit_and_answer(tmp_path: Path) -> None:
    """Nothing that was answered is lost, nothing that is sent again becomes another message."""
    peer = HttpPeer()
    site = HttpSite(
        tmp_path / "site",
        {"control_id": "${id}", "credentials": {"signature": {"scheme": "github", "secrets": "file:secret"}}},
        destinations=[{"name": "there", "http": {"url": f"http://127.0.0.1:{peer.port}/"}, "order": "none", "retry": {"first": "50ms"}}],
    )
    (site.folder / "secret").write_text("shared")
    clients = Clients(site.http)
    for kill in range(KILLS):
        with site.running() as node:
            for number in sorted(clients.lost):
                clients.send(number)
            threads = [threading.Thread(target=clients.run) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            clients.until_accepted(20)
            time.sleep(random.Random(kill).random() / 20)  # not waiting for anything: the moment of death is anyone's guess
            for process in tree(node.pid):
                os.kill(process, 9)
            for thread in threads:
                thread.join()
    with site.running():
        for number in sorted(clients.lost):
            clients.send(number)
        until(lambda: site.waiting() == 0 and len(site.delivered()) == len(clients.accepted))
    peer.stop()
    kept = [one.control_id for one in site.kept()]
    assert sorted(map(int, kept)) == sorted(clients.accepted)
    keys: dict[str, set[bytes]] = {}
    for asked in peer.requests:
        keys.setdefault(asked.headers["idempotency-key"], set()).add(asked.body)
    assert len(keys) == len(kept)  # what came twice says so
    assert {bodies for one in keys.values() for bodies in one} == {body_of(number) for number in clients.accepted}
