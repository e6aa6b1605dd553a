"""Real nodes that watch a folder and write each message as a file: what they have kept and written, together."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.bench.processes import tree
from engine.bench.site import BenchSite


class WatchingNode:
    """One site whose channel `rows` watches a folder for CSV files and writes each row to ``out``. `options` are further ones of the source,
    `written` of the destination."""

    def __init__(self, folder: Path, watched: Path, **options: Any) -> None:
        self.folder, self.watched, self.out = folder, watched, folder / "out"
        self.ports = BenchSite(folder, free_port(), free_port())
        (folder / "channels").mkdir(parents=True)
        self.out.mkdir()
        watched.mkdir(exist_ok=True)
        source = {"folder": str(watched), "format": "csv", "poll": "100ms", "settled_for": "0s", "rows": {"table": "rows", "key": ["id"]}}
        destination = {"name": "out", "order": "none", "file": {"folder": "out", "name": "${row.id}.json"}}
        self._write("meridian.yaml", {"name": "node", "party": "node", "http": {"listen": f"{HOST}:{self.ports.http}"}})
        self._write("channels/rows.yaml", {"name": "rows", "source": {"file": {**source, **options}}, "destinations": [destination]})

    def _write(self, name: str, content: Any) -> None:
        """As JSON, which is YAML."""
        (self.folder / name).write_text(json.dumps(content))

    def running(self) -> Node:
        return Node(self.ports)

    def kept(self) -> Counter[str]:
        """How often each control id is in the store."""
        return Counter(row[0] for row in self._rows("SELECT control_id FROM message"))

    def reasons(self) -> list[str]:
        """Why messages are invalid."""
        return [row[0] for row in self._rows("SELECT reason FROM message WHERE reason IS NOT NULL AND reason != ''")]

    def _rows(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.folder / 'data' / 'meridian.db'}?mode=ro", uri=True)) as database:
            return database.execute(sql).fetchall()

    def written(self) -> set[str]:
        return {file.stem for file in self.out.glob("*.json")}

    def moved(self, name: str) -> Callable[[], bool]:
        """Whether a file was taken in."""
        return lambda: any((self.watched / folder / name).exists() for folder in ("done", "faulty"))


def put(watched: Path, name: str, content: bytes) -> None:
    """As a careful sender does it."""
    beside = watched / f".{name}"
    beside.write_bytes(content)
    beside.rename(watched / name)


def kill(node: Node) -> None:
    """All of its processes at once, as a power cut does."""
    for process in tree(node.pid):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    node._process.wait()
