"""Rows that commit late: writers fill a table while a node polls it, and a checker compares what it has kept with what the table holds.

    python -m engine.bench.late_rows postgresql://postgres@127.0.0.1:5432/test --rows 1000000

Every row gets its watermark at the beginning of its transaction, which then holds for a while and commits after later ones have, or
rolls back; rows are changed afterwards. The checker is no part of what it checks: it reads the table and the store by itself. A row is
right when its last version was kept once, no version twice, and nothing that was never committed.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.bench.site import BenchSite

_DRIVERS: Final = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_TABLE: Final = {
    "postgresql": "CREATE TABLE late_row (id bigserial PRIMARY KEY, version integer NOT NULL, changed timestamp NOT NULL, note text)",
    "mysql": "CREATE TABLE late_row (id bigint AUTO_INCREMENT PRIMARY KEY, version int NOT NULL, changed datetime(6) NOT NULL, note text)",
}
_NOW: Final = {"postgresql": "now() AT TIME ZONE 'UTC'", "mysql": "utc_timestamp(6)"}
_PAUSE: Final = 0.5


@dataclass(frozen=True)
class Work:
    """What the writers do: `hold` is the longest transaction in seconds, `batch` rows in one of them at most."""

    rows: int
    writers: int = 4
    batch: int = 20
    hold: float = 0.5
    seed: int = 1


@dataclass
class Outcome:
    """What the checker found; `missing`, `twice` and `never_committed` name a few rows as id/version."""

    rows: int = 0
    kept: int = 0
    missing: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    never_committed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        return not (self.missing or self.twice or self.never_committed)


class Writer(threading.Thread):
    """One of the hospital's programs."""

    def __init__(self, engine: Engine, work: Work, number: int) -> None:
        super().__init__(name=f"late writer {number}", daemon=True)
        self._engine, self._work, self._random = engine, work, random.Random(work.seed * 1000 + number)  # noqa: S311 - a load
        self._left = work.rows // work.writers + (number < work.rows % work.writers)
        self._own: list[int] = []
        self.written = 0

    def run(self) -> None:
        while self._left > 0:
            try:
                self._transaction()
            except SQLAlchemyError:  # the server was killed: whether that was committed, the table will tell
                time.sleep(_PAUSE)

    def _transaction(self) -> None:
        chance, count = self._random, min(self._left, self._random.randint(1, self._work.batch))
        now = _NOW[self._engine.dialect.name]
        with self._engine.connect() as connection:
            first = connection.execute(sa.text(f"SELECT {now}")).scalar_one()  # the watermark is as old as the transaction
            insert = sa.text("INSERT INTO late_row (version, changed, note) VALUES (1, :at, :note)")
            connection.execute(insert, [{"at": first, "note": f"note {chance.random()}"} for _ in range(count)])
            if self._own and chance.random() < 0.2:
                ids = chance.sample(self._own, min(len(self._own), 3))
                change = sa.text("UPDATE late_row SET version = version + 1, changed = :at WHERE id = :id")
                connection.execute(change, [{"at": first, "id": one} for one in ids])
            ids = list(connection.execute(sa.text("SELECT id FROM late_row WHERE changed = :at LIMIT 5"), {"at": first}).scalars())
            time.sleep(chance.random() ** 4 * self._work.hold)  # most are short
            if chance.random() < 0.05:
                connection.rollback()
                return
            connection.commit()
        self._left -= count
        self.written += count
        self._own = [*self._own[-200:], *ids]


class LateRows:
    """A table, its writers, and a node that polls it. `url` is the address of an empty database."""

    def __init__(self, folder: Path, url: URL | str, **source: Any) -> None:
        parsed = make_url(url)
        self._url = parsed.set(drivername=_DRIVERS[parsed.get_backend_name()])
        self.site = BenchSite(folder, free_port(), free_port())
        self.engine = sa.create_engine(self._url, pool_pre_ping=True, pool_size=16, hide_parameters=True)
        options = {
            "connection": {"url": self._url.set(drivername=parsed.get_backend_name()).render_as_string(), "connect_timeout": "3s"},
            "table": "late_row",
            "watermark": {"column": "changed", "overlap": "5s"},
            "zone": "UTC",
            "poll": "200ms",
            "retry_most": "2s",
            **source,
        }
        (folder / "channels").mkdir(parents=True)
        node = {"name": "bench", "party": "bench", "workers": 1, "http": {"listen": f"{HOST}:{self.site.http}"}}
        (folder / "meridian.yaml").write_text(json.dumps(node))
        channel = {"name": "late", "source": {"database": options}, "destinations": []}
        (folder / "channels" / "late.yaml").write_text(json.dumps(channel))

    def create(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(_TABLE[self.engine.dialect.name]))
            connection.execute(sa.text("CREATE INDEX late_row_changed ON late_row (changed, id)"))

    def run(self, work: Work, disturb: Sequence[Callable[[Node], Node | None]] = (), patience: float = 120.0) -> Outcome:
        """Write, poll, disturb on the way (each gets the node and may give another that runs in its place), and compare."""
        began = time.monotonic()
        writers = [Writer(self.engine, work, number) for number in range(work.writers)]
        node = Node(self.site).__enter__()
        try:
            for writer in writers:
                writer.start()
            for number, one in enumerate(disturb, 1):
                share = number * work.rows // (len(disturb) + 1)
                while sum(writer.written for writer in writers) < share and any(writer.is_alive() for writer in writers):
                    time.sleep(0.02)
                node = one(node) or node
            for writer in writers:
                writer.join()
            outcome = self._settled(patience)
        finally:
            node.__exit__(None, None, None)
            self.engine.dispose()
        outcome.seconds = time.monotonic() - began
        return outcome

    def _settled(self, patience: float) -> Outcome:
        """Once nothing is missing and a few polls more have found nothing, or patience is at its end."""
        until, calm = time.monotonic() + patience, 0
        outcome = self.compare()
        while time.monotonic() < until and calm < 3:
            time.sleep(_PAUSE * (1 + outcome.rows / 200_000))
            before, outcome = outcome, self.compare()
            calm = calm + 1 if not outcome.missing and before.kept == outcome.kept else 0
        return outcome

    def compare(self) -> Outcome:
        with self.engine.connect() as connection:
            found = connection.execute(sa.text("SELECT id, version FROM late_row"))
            table: dict[int, int] = {row[0]: row[1] for row in found}
        kept = self._kept()
        versions = Counter(kept)
        return Outcome(
            len(table),
            len(kept),
            [f"{one}/{version}" for one, version in table.items() if (one, version) not in versions][:20],
            [f"{one}/{version}" for (one, version), count in versions.items() if count > 1][:20],
            [f"{one}/{version}" for one, version in versions if version > table.get(one, 0)][:20],
        )

    def _kept(self) -> list[tuple[int, int]]:
        file = self.site.folder / "data" / "meridian.db"
        if not file.exists():
            return []
        store = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            rows = store.execute("SELECT body FROM message JOIN body ON body.message = message.id")
            return [(row["id"], row["version"]) for row in (orjson.loads(body)["row"] for (body,) in rows)]
        finally:
            store.close()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="late_rows", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="an empty database: postgresql://… or mysql://…")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--patience", type=float, default=3600.0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        late = LateRows(Path(folder), given.url, limit=2000)
        late.create()
        outcome = late.run(Work(given.rows, given.writers, given.batch), patience=given.patience)
    sys.stdout.write(orjson.dumps(asdict(outcome), option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0 if outcome.right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
