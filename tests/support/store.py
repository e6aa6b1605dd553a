"""An SQLite store without a reactor's loop: results are handed over by a queue, and faults can be put in front of any write."""

from __future__ import annotations

import errno
import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from engine.message import ACCEPTED, Envelope, Judgement, Status
from engine.store import group_commit, schema
from engine.store.contract import Arrival, Plan, Routed
from engine.store.sqlite import SqliteStore
from engine.store.transactions import Place

STUCK_SECONDS = 60
"""Not a bound on speed: a test that waits for what never comes must end."""


class QueueReactor:
    """What a store needs of a reactor. Calls from its threads are run by `wait`, in the test's own thread."""

    def __init__(self) -> None:
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = queue.Queue()

    def callFromThread(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        self._calls.put((function, arguments, named))

    def wait(self, deferred: Deferred[Any]) -> Any:
        """The deferred's result; raises its failure."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        while not results:
            function, arguments, named = self._calls.get(timeout=STUCK_SECONDS)
            function(*arguments, **named)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]


class Faults:
    """Stands between the writer and SQLite: the statement after `armed` more of them fails as `code` says, once."""

    def __init__(self) -> None:
        self.armed: int | None = None
        self.code = sqlite3.SQLITE_FULL
        self.hits = 0

    def arm(self, after: int, code: int = sqlite3.SQLITE_FULL) -> None:
        self.armed, self.code = after, code

    def pass_by(self) -> None:
        if self.armed is None:
            return
        if self.armed > 0:
            self.armed -= 1
            return
        self.armed, self.hits = None, self.hits + 1
        error = sqlite3.OperationalError("injected")
        error.sqlite_errorcode, error.sqlite_errorname = self.code, "INJECTED"
        raise error


class FaultyConnection(sqlite3.Connection):
    """A connection that asks its `faults` before each statement, but for a rollback."""

    faults = Faults()

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if sql != "ROLLBACK":
            self.faults.pass_by()
        return super().execute(sql, *arguments)


def open_faulty(store: SqliteStore, wait: Callable[[Deferred[Any]], Any], faults: Faults) -> SqliteStore:
    """Open `store` with `faults` in front of what its writer does from then on."""
    real = sqlite3.connect
    kind = type("Connection", (FaultyConnection,), {"faults": faults})

    def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        return real(*arguments, **named, factory=kind)

    faults.armed = None
    with mock.patch.object(schema.sqlite3, "connect", connect):
        wait(store.open())
    return store


class Site:
    """A store's folder, and the stores that are opened on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reactor, self.faults = folder, QueueReactor(), Faults()
        self.wait = self.reactor.wait
        self.opened: list[SqliteStore] = []

    def open(self, folder: Path | None = None, **options: Any) -> SqliteStore:
        options = {"inline_limit": 100, "min_free": 0, **options}
        store = SqliteStore(folder or self.folder, reactor=self.reactor, clock=lambda: 5_000_000, **options)
        open_faulty(store, self.wait, self.faults)
        self.opened.append(store)
        return store

    def close(self, store: SqliteStore) -> None:
        self.opened.remove(store)
        self.wait(store.close())

    def files(self) -> list[Path]:
        return [path for path in (self.folder / "bodies").rglob("*") if path.is_file()]

    @contextmanager
    def one_group(self, store: SqliteStore) -> Iterator[None]:
        """What is called inside is committed together, for the writer thread waits meanwhile."""
        inside, go = threading.Event(), threading.Event()
        waiting = store._thread.submit(lambda calls: [inside.set() or go.wait(STUCK_SECONDS)], None, place=Place.ALONE)
        inside.wait(STUCK_SECONDS)
        yield
        go.set()
        self.wait(waiting)


@contextmanager
def quick_retries() -> Iterator[None]:
    """What is put back after a full disk is tried again at once."""
    with mock.patch.object(group_commit, "PAUSE", 0.001):
        yield


@contextmanager
def failing_fsync() -> Iterator[None]:
    """No file reaches the disk."""

    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with mock.patch("os.fsync", fsync):
        yield


def power_cut(folder: Path, target: Path) -> Path:
    """What a disk would show if the node ended now: the files as they are, without a close."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("meridian.db-shm"))
    return target


def message(
    control_id: str = "1", body: bytes = b"body", plan: Plan | None = None, judgement: Judgement = ACCEPTED, **more: Any
) -> Arrival:
    """A message of channel c, received at 1 s, that is not checked for repetitions unless `idempotency_key` says so."""
    envelope = Envelope(body, "text/plain", "ADT^A01", control_id, "APP|FAC", received_at=1_000_000)
    window = 10_000_000 if "idempotency_key" in more else 0
    return Arrival("c", replace(envelope, **more), judgement, b"AA", plan, window)


def queued(*destinations: str, body: bytes | None = None, key: str = "") -> Plan:
    return Plan(Status.QUEUED, tuple(Routed(name, body, order_key=key) for name in destinations))
