"""Rows of a SQLite file on their way into another database, by a node of its own: what is read there is compared with what was to come."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from engine.bench.loopback import free_port
from engine.bench.site import BenchSite
from tests.support.databases import engine_of, written


class RowsOut:
    """A site whose statements would count twice what is written twice; a row with a bad amount is refused by the database."""

    def __init__(self, folder: Path, target: URL, rows: int, bad_every: int = 0, **options: Any) -> None:
        self.folder, self.rows, self._target = folder, rows, target
        self.bad = set(range(bad_every, rows + 1, bad_every)) if bad_every else set()
        (folder / "channels").mkdir(parents=True)
        self.site = BenchSite(folder, 0, free_port())
        (folder / "meridian.yaml").write_text(
            json.dumps({"name": "out", "party": "out", "workers": 1, "http": {"listen": f"127.0.0.1:{self.site.http}"}})
        )
        source = {"connection": "sqlite:///rows.db", "table": "t", "watermark": "id", "poll": "200ms", "limit": 200}
        values = {"id": {"value": "${row.id}", "type": "integer"}, "amount": {"value": "${row.amount}", "type": "decimal"}}
        destination = {
            "connection": {"url": written(target), "connect_timeout": "20s"},
            "outbox": {"create": True},
            "statements": [
                {"run": "INSERT INTO landed (id, amount) VALUES (:id, :amount)", "with": values},
                {"run": "UPDATE total SET n = n + 1 WHERE id = 1", "touches": "one"},
            ],
            **options,
        }
        channel = {
            "name": "out",
            "source": {"database": source},
            "destinations": [{"name": "target", "database": destination, "retry": {"first": "100ms", "most": "500ms"}, "order": "none"}],
        }
        (folder / "channels" / "out.yaml").write_text(json.dumps(channel))
        self._write()

    def _write(self) -> None:
        with closing(sqlite3.connect(self.folder / "rows.db")) as database, database:
            database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, amount TEXT)")
            rows = [(number, "-1" if number in self.bad else f"{number}.50") for number in range(1, self.rows + 1)]
            database.executemany("INSERT INTO t VALUES (?, ?)", rows)

    def create(self) -> None:
        """The tables at the target; `landed` has no key that would hide a row that came twice."""
        with self.engine() as engine, engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE landed (id INTEGER, amount DECIMAL(12,2) CHECK (amount > 0))")
            connection.exec_driver_sql("CREATE TABLE total (id INTEGER PRIMARY KEY, n INTEGER)")
            connection.exec_driver_sql("INSERT INTO total VALUES (1, 0)")

    @contextmanager
    def engine(self) -> Iterator[Any]:
        engine = engine_of(self._target)
        try:
            yield engine
        finally:
            engine.dispose()

    def landed(self) -> list[int]:
        with self.engine() as engine, engine.connect() as connection:
            return [row[0] for row in connection.exec_driver_sql("SELECT id FROM landed ORDER BY id")]

    def total(self) -> int:
        with self.engine() as engine, engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT n FROM total").scalar_one())

    def noted(self) -> int:
        with self.engine() as engine, engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM meridian_outbox").scalar_one())

    def wanted(self) -> list[int]:
        return [number for number in range(1, self.rows + 1) if number not in self.bad]

    def arrived(self, count: int) -> bool:
        """Whether so many are there; False while the target is out of reach."""
        try:
            return len(self.landed()) >= count
        except Exception:  # noqa: BLE001 - the server was killed, and is coming back
            return False
