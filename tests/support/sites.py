"""A site with one channel `lines` from an MLLP port, its node in a process of its own, and what it has kept, delivered and audited."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certs import Authority
from engine import audit
from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.bench.site import BenchSite


@dataclass(frozen=True)
class Kept:
    """One message in the store."""

    control_id: str
    verdict: str
    peer: str
    body: bytes
    answer: bytes


class Site:
    """Written at once. `mllp` are further options of the MLLP source, `channel` what the channel file says beside or instead of it."""

    def __init__(self, folder: Path, mllp: dict[str, Any] | None = None, **channel: Any) -> None:
        self.folder = folder
        self.ports = BenchSite(folder, free_port(), free_port())
        (folder / "channels").mkdir(parents=True)
        self._write("meridian.yaml", {"name": "site", "party": "site", "http": {"listen": f"{HOST}:{self.ports.http}"}})
        self._write(
            "channels/lines.yaml",
            {"name": "lines", "source": {"mllp": {"listen": f"{HOST}:{self.port}", **(mllp or {})}}, "destinations": [], **channel},
        )

    def _write(self, name: str, content: Any) -> None:
        """As JSON, which is YAML."""
        (self.folder / name).write_text(json.dumps(content))

    @property
    def port(self) -> int:
        """Where its MLLP source listens."""
        return self.ports.port

    @property
    def certs(self) -> Path:
        return self.folder / "certs"

    def certify(self, authority: Authority) -> None:
        authority.issue("site", out=self.certs, dns=("localhost",), ips=(HOST,))

    def running(self) -> Node:
        """``with site.running():`` the node is up; afterwards it has finished what was under way."""
        return Node(self.ports)

    def kept(self) -> list[Kept]:
        """In the order of arrival."""
        sql = "SELECT control_id, verdict, peer, body, answer FROM message LEFT JOIN body ON body.message = message.id ORDER BY message.id"
        return [Kept(*row) for row in self._rows(sql)]

    def delivered(self) -> list[str]:
        """Control ids, by the order in which their destinations took them."""
        sql = "SELECT control_id FROM delivery JOIN message ON message.id = delivery.message ORDER BY settled_at, message.id"
        return [row[0] for row in self._rows(sql)]

    def receipts(self) -> list[bytes]:
        """The destinations' answers that were kept, in the order of the messages."""
        return [row[0] for row in self._rows("SELECT answer FROM answer ORDER BY message")]

    def dead(self) -> dict[str, str]:
        """Control ids of the dead letters, and why."""
        return dict(self._rows("SELECT control_id, queue.reason FROM queue JOIN message ON message.id = queue.message WHERE dead"))

    def waiting(self) -> int:
        return int(self._rows("SELECT count(*) FROM queue WHERE NOT dead")[0][0])

    def audited(self, event: str) -> list[dict[str, Any]]:
        """The facts of each such event; complete once the node has stopped."""
        return [record.facts for record in audit.records(self.folder / "data" / "audit") if record.event == event]

    def _rows(self, sql: str) -> list[Any]:
        database = sqlite3.connect(f"file:{self.folder}/data/meridian.db?mode=ro", uri=True)
        try:
            return database.execute(sql).fetchall()
        finally:
            database.close()
