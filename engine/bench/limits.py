"""The machine's own limits, measured in the same run: no node can beat them, so its figures are given in ratio to them.

echo               a bare server that keeps nothing, at each number of connections: Twisted with MLLP, or
                   the node's own HTTP server                                                        messages/s
sqlite             one table in WAL mode with synchronous=FULL, committed one by one, by 10, by 100  messages/s
append             write and fdatasync to one file, one by one and by 100                            messages/s
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from engine.bench.corpus import Frames
from engine.bench.generator import Load
from engine.bench.processes import Peer, generate

SQLITE_GROUPS: Final = (1, 10, 100)
APPEND_GROUPS: Final = (1, 100)


def measure(
    folder: Path, connections: Sequence[int], seconds: float, echo: str = "engine.bench.echo", generator: str = "engine.bench.generator"
) -> dict[str, Any]:
    """All limits, `seconds` each; the disk's are those of the file system that `folder` is on. `generator` is who sends to `echo`."""
    with Peer(echo) as peer:
        generate(Load(peer.port, seconds=seconds / 2), generator)
        echoes = {str(count): generate(Load(peer.port, count, seconds=seconds), generator)["per_second"] for count in connections}
    with TemporaryDirectory(dir=folder) as scratch:
        databases = {str(group): sqlite_rate(Path(scratch) / f"{group}.db", group, seconds) for group in SQLITE_GROUPS}
        files = {str(group): append_rate(Path(scratch) / f"{group}.log", group, seconds) for group in APPEND_GROUPS}
    return {"echo": echoes, "sqlite": databases, "append": files}


def sqlite_rate(file: Path, group: int, seconds: float) -> float:
    """Rows of one message each per second, `group` to a transaction, each transaction on disk before the next."""
    body = Frames().frame(0)
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE message (id INTEGER PRIMARY KEY, body BLOB)")

        def commit() -> None:
            database.execute("BEGIN")
            database.executemany("INSERT INTO message (body) VALUES (?)", [(body,)] * group)
            database.execute("COMMIT")

        return _rate(commit, group, seconds)


def append_rate(file: Path, group: int, seconds: float) -> float:
    """Messages per second appended to one file, `group` to an fdatasync."""
    bodies = Frames().frame(0) * group
    with file.open("ab", buffering=0) as log:

        def append() -> None:
            log.write(bodies)
            os.fdatasync(log.fileno())

        return _rate(append, group, seconds)


def _rate(work: Callable[[], None], group: int, seconds: float) -> float:
    began, rounds = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        work()
        rounds += 1
    return round(rounds * group / max(now - began, 1e-9), 1)


def ratios(delivered: float, connections: int, limits: dict[str, Any]) -> dict[str, float]:
    """`delivered` per second against the echo at as many connections, and against SQLite at the group that these allow at most."""
    group = max((size for size in SQLITE_GROUPS if size <= connections), default=1)
    echo, sqlite = limits["echo"].get(str(connections), 0.0), limits["sqlite"].get(str(group), 0.0)
    return {"echo": round(delivered / echo, 3) if echo else 0.0, "sqlite": round(delivered / sqlite, 3) if sqlite else 0.0}


def file_system(folder: Path) -> str:
    """The type of the file system that `folder` is on (ext4, tmpfs …): on tmpfs nothing is durable and the figures say little."""
    best, found = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        if folder.resolve().is_relative_to(where) and len(where) >= len(best):
            best, found = where, kind
    return found
