"""Captures without a node: pages by hand into a store in memory; writers, and a checker that knows what they did from a trail of theirs."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import sqlalchemy as sa
from sqlalchemy.engine import URL

from adapters.database.capture.building import capture_of
from adapters.database.capture.changes import Page
from adapters.database.capture.options import SOURCE
from adapters.database.errors import DatabaseError
from adapters.database.polling.rounds import Notice
from engine.formats.rows import Record
from tests.support.databases import OwnMariaDB, OwnPostgres, OwnServer, engine_of, written
from tests.support.fhir import context
from tests.support.polling import Kept
from tests.support.waiting import PATIENCE

LOGGING: dict[str, tuple[type[OwnServer], dict[str, Any]]] = {
    "postgresql": (OwnPostgres, {"wal_level": "logical", "wal_sender_timeout": "5s"}),
    "mysql": (OwnMariaDB, {"log_bin": "log", "binlog_format": "ROW", "binlog_row_metadata": "FULL", "server_id": 1}),
}


def own_server(name: str, port: int = 0, **more: Any) -> OwnServer:
    """A server of the test's own whose log can be captured."""
    made, settings = LOGGING[name]
    return made(port, **{**settings, **more})  # type: ignore[call-arg]


SLOT_IN_USE = "55006"  # object_in_use, appendix A of PostgreSQL's manual


class RealTime:
    seconds = staticmethod(monotonic)


class Captured:
    """One life of a capture, as a context; `kept` outlives it. `connection` are further options of the connection, `certs` the folder
    of its TLS."""

    def __init__(
        self,
        folder: Path,
        url: URL | str,
        kept: Kept | None = None,
        *,
        connection: dict[str, Any] | None = None,
        certs: Path | None = None,
        **options: Any,
    ) -> None:
        self.kept = kept or Kept()
        settings = {"tables": ["item"], "heartbeat": "100ms", **options}
        self.context = context(folder, RealTime(), name="lis", tls=SimpleNamespace(folder=certs))
        made = SOURCE.defaults(connection={"url": written(url), **(connection or {})}, **settings)
        self.capture = capture_of(made, self.context)
        self.capture.resume(self.kept.checkpoints)
        self.notices: list[Notice] = []

    def __enter__(self) -> Captured:
        return self

    def __exit__(self, *_: object) -> None:
        self.capture.dispose()

    def page(self, most: int | None = None) -> Page:
        """One page, kept; or only its first `most` messages, as a crash leaves it."""
        page = self._next()
        self.notices.extend(self.capture.notices())
        text = page.state.written()
        for index, item in enumerate(page.items[:most]):
            last = index == len(page.items) - 1
            self.kept.take(item.envelope, item.invalid, ("capture", text) if last else None)
        if most is None:
            self.capture.kept(page, text if page.items else "")
        return page

    def _next(self) -> Page:
        """As the source does, it asks again while the server still takes the slot for that of an earlier life."""
        deadline = monotonic() + PATIENCE
        while True:
            try:
                return self.capture.page()
            except DatabaseError as error:
                if error.sorted.code != SLOT_IN_USE or monotonic() > deadline:
                    raise

    def until(self, number: int, within: float = PATIENCE) -> list[Record]:
        """Pages until so many records are kept."""
        deadline = monotonic() + within
        while len(self.kept.records) < number:
            assert monotonic() < deadline, f"{len(self.kept.records)} of {number} records"
            self.page()
        return self.kept.records

    def until_idle(self) -> list[Record]:
        """Pages until one is empty."""
        while self.page().more:
            pass
        return self.kept.records


class Writers:
    """Threads that insert, update and delete rows of `item`, each its own, and note every change in `trail` in the same transaction."""

    def __init__(self, url: URL | str, count: int = 3, seed: int = 1) -> None:
        self.engine = engine_of(url, pool_size=count + 2)
        self._stopped = threading.Event()
        self._seed, self._count = seed, count
        self.changes = 0

    def create(self) -> None:
        serial = "bigserial PRIMARY KEY" if self.engine.dialect.name == "postgresql" else "bigint AUTO_INCREMENT PRIMARY KEY"
        with self.engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE item (id integer PRIMARY KEY, version integer NOT NULL, note varchar(200))")
            connection.exec_driver_sql(f"CREATE TABLE trail (seq {serial}, id integer, kind varchar(10), version integer)")
            connection.exec_driver_sql("CREATE TABLE other (id integer)")

    def start(self) -> None:
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(self._count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def dispose(self) -> None:
        self.engine.dispose()

    def _run(self, number: int) -> None:
        chance = random.Random(self._seed * 100 + number)
        while not self._stopped.is_set():
            try:
                self.transaction(chance, number)
            except (
                sa.exc.SQLAlchemyError,
                pymysql.Error,
                psycopg.Error,
                OSError,
            ):  # the server was killed: what was committed, the trail tells
                self._stopped.wait(0.2)

    def transaction(self, chance: random.Random, number: int, most: int = 8) -> None:
        """A few changes of the rows of one writer; now and then rolled back."""
        with self.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            for _ in range(chance.randint(1, most)):
                one = number * 1000 + chance.randint(0, 60)
                there = connection.execute(sa.text("SELECT version FROM item WHERE id = :id"), {"id": one}).scalar()
                last = connection.execute(sa.text("SELECT coalesce(max(version), 0) FROM trail WHERE id = :id"), {"id": one}).scalar_one()
                kind = "insert" if there is None else chance.choice(("update", "update", "delete"))
                values = {"id": one, "version": last + 1, "note": "n" * chance.randint(0, 200)}
                connection.execute(_STATEMENTS[kind], {name: values[name] for name in _STATEMENTS[kind].compile().params})
                connection.execute(_TRAIL, {"id": one, "kind": kind, "version": last + 1})
            if chance.random() < 0.1:
                connection.rollback()
                return
            connection.commit()
            self.changes += 1

    def trail(self) -> dict[int, list[tuple[str, int]]]:
        found: dict[int, list[tuple[str, int]]] = defaultdict(list)
        with self.engine.connect() as connection:
            for one, kind, version in connection.execute(sa.text("SELECT id, kind, version FROM trail ORDER BY seq")):
                found[one].append((kind, version))
        return found


_STATEMENTS = {
    "insert": sa.text("INSERT INTO item VALUES (:id, :version, :note)"),
    "update": sa.text("UPDATE item SET version = :version, note = :note WHERE id = :id"),
    "delete": sa.text("DELETE FROM item WHERE id = :id"),
}
_TRAIL = sa.text("INSERT INTO trail (id, kind, version) VALUES (:id, :kind, :version)")


def wrong(trail: dict[int, list[tuple[str, int]]], records: list[Record], *, resumed: bool = False) -> list[str]:
    """What is missing, twice or out of order, by key. `resumed`: a first state was interrupted, so that a row may come as it is once
    more; never as it was before."""
    captured: dict[int, list[tuple[str, int | None]]] = defaultdict(list)
    for record in records:
        captured[record.key["id"]].append((record.change, record.row.get("version")))
    return [f"{one}: {captured[one]} of {trail[one]}" for one in {*trail, *captured} if not _right(trail[one], captured[one], resumed)]


def _right(trail: list[tuple[str, int]], found: list[tuple[str, int | None]], resumed: bool) -> bool:
    shown: list[tuple[str, int | None]] = [(kind, None if kind == "delete" else version) for kind, version in trail]
    again = {i for i, (kind, version) in enumerate(found) if resumed and i and kind == "snapshot" and found[i - 1][1] == version}
    found = [one for i, one in enumerate(found) if i not in again]
    if found and found[0][0] == "snapshot":
        versions = [None if kind == "delete" else version for kind, version in shown]
        return found[0][1] in versions and found[1:] == shown[versions.index(found[0][1]) + 1 :]
    begin = len(shown) - len(found)
    if begin < 0 or found != shown[begin:]:
        return False
    came_later = bool(again) or (resumed and ("delete", None) in found)  # its changes came before its first state, or it was gone by then
    return begin == 0 or shown[begin - 1][0] == "delete" or came_later
