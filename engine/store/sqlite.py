"""SQLite as a store (engine.store.contract.Store): the embedded default.

On disk, in the folder: ``meridian.db`` with its WAL (schema in migrations/), ``bodies/`` (engine.store.bodies), ``node.lock``.

Recovery: a commit is fsynced before anyone hears of it (WAL, synchronous=FULL), so after kill -9 or a power cut SQLite's own
recovery gives back exactly the committed transactions. What was in flight is still in the queue and goes out again with the same
key. Half-written bodies lie in the spool and are removed. Nothing else is to be done at a start, which therefore does not get slower
with the size of the queue.

Threads: the reactor thread calls; one writer thread (engine.store.group_commit), one reader thread with a connection of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from engine.errors import StoreFull
from engine.message import BodyRef, Parcel
from engine.store.bodies import Bodies, FileSpool
from engine.store.contract import (
    Accepted,
    Arrival,
    Found,
    Kept,
    LedgerLine,
    Plan,
    Query,
    QueueLine,
    Setback,
    Settlement,
    Waiting,
)
from engine.store.group_commit import GroupCommit
from engine.store.reads import Reads
from engine.store.rows import SEQ_BITS
from engine.store.schema import NodeLock, connect, migrate, translate
from engine.store.writes import PlanCall, SettleCall, Writes

ResultT = TypeVar("ResultT")

FREE_CHECK_SECONDS: Final = 0.1
VACUUM_PAGES: Final = 2000


class SqliteStore:
    """The store in `folder`, made if there is none.

    `exclusive`: this is the node, which no second one may join. `inline_limit`: bodies longer than this many bytes are files.
    `min_free`: with less than this many bytes free on the disk, messages are refused so that settling can go on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        reactor: Any,
        clock: Callable[[], int],
        exclusive: bool = True,
        inline_limit: int = 64 << 10,
        min_free: int = 200 << 20,
    ) -> None:
        self._folder, self._reactor, self._clock = folder, reactor, clock
        self._exclusive, self._inline_limit, self._min_free = exclusive, inline_limit, min_free
        self._bodies = Bodies(folder / "bodies")
        self._readers = ThreadPool(1, 1, "meridian-store-reader")
        self._lock: NodeLock | None = None
        self._identity = ""
        self._free_checked = 0.0
        self._room = True

    # --- life ------------------------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        try:
            self._open()
        except Exception as error:  # noqa: BLE001  # whatever SQLite and the file system may raise, in our own words
            if self._lock is not None:
                self._lock.release()
            return fail(translate(error))
        return succeed(None)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._exclusive:
            self._lock = NodeLock(self._folder)
            self._bodies.open()
        writer = connect(self._folder)
        migrate(writer)
        self._writes = Writes(writer, self._bodies, self._clock, self._inline_limit)
        self._reads = Reads(connect(self._folder, read_only=True))
        self._writes.committed_ids.update(self._reads.destination_ids())
        self._identity = self._reads.identity()
        self._connections = (writer, self._reads._db)
        self._commits = GroupCommit(self._writes, self._reactor)
        self._commits.start()
        self._readers.start()

    def close(self) -> Deferred[None]:
        if not self._identity:
            return succeed(None)
        return self._commits.stop().addCallback(self._close)

    def _close(self, _: None) -> None:
        self._readers.stop()
        for connection in self._connections:
            connection.close()
        if self._lock is not None:
            self._lock.release()

    # --- writing ---------------------------------------------------------------------------------

    def accept(self, arrival: Arrival) -> Deferred[Accepted]:
        if not self._has_room():
            return fail(StoreFull(f"less than {self._min_free >> 20} MB free on the disk"))
        return self._commits.submit(self._writes.accept, arrival)

    def _has_room(self) -> bool:
        now = time.monotonic()
        if now - self._free_checked >= FREE_CHECK_SECONDS:
            self._free_checked = now
            usage = os.statvfs(self._folder)
            self._room = usage.f_bavail * usage.f_frsize >= self._min_free
        return self._room

    def plan(self, channel: str, plans: Sequence[tuple[int, Plan]]) -> Deferred[list[tuple[int, ...]]]:
        call: PlanCall = (channel, plans)
        return self._commits.submit(self._writes.plan, call)

    def settle(self, channel: str, destination: str, settlements: Sequence[Settlement]) -> Deferred[None]:
        call: SettleCall = (channel, destination, settlements)
        return self._commits.submit(self._writes.settle, call, urgent=False)

    def set_back(self, channel: str, destination: str, setbacks: Sequence[Setback]) -> Deferred[None]:
        return self._commits.submit(self._writes.set_back, (channel, destination, setbacks), urgent=False)

    def _single(self, function: Callable[..., ResultT], *arguments: Any) -> Deferred[ResultT]:
        """An operator's call, by itself in its kind."""
        return self._commits.submit(lambda calls: [function(*call) for call in calls], arguments)

    def hold(self, channel: str, destination: str, hold: bool) -> Deferred[None]:
        return self._single(self._writes.hold, channel, destination, hold)

    def resend(self, message_ids: Sequence[int], destination: str = "") -> Deferred[int]:
        return self._single(self._writes.resend, message_ids, destination)

    def reprocess(self, message_ids: Sequence[int]) -> Deferred[int]:
        return self._single(self._writes.reprocess, message_ids)

    def purge(self, before: int, limit: int) -> Deferred[int]:
        return self._single(self._writes.purge, before, limit).addCallback(self._purged)

    def _purged(self, gone: tuple[int, list[str]]) -> int | Deferred[int]:
        """The rows are gone: give the space back, then remove files that nothing refers to any more."""
        count, digests = gone
        if not count:
            return 0

        def tidy() -> int:
            for digest in self._writes.unreferred(digests):
                self._bodies.remove(digest)
            self._connections[0].execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            return count

        return self._single(tidy)

    def changed_elsewhere(self) -> Deferred[bool]:
        def look() -> bool:
            changed, self._writes.foreign_change = self._writes.foreign_change, False
            return changed

        return self._single(look)

    # --- reading ---------------------------------------------------------------------------------

    def _read(self, function: Callable[..., ResultT], *arguments: Any) -> Deferred[ResultT]:
        def failed(failure: Failure) -> Any:
            raise translate(failure.value or RuntimeError()) from failure.value

        read: Deferred[ResultT] = deferToThreadPool(self._reactor, self._readers, function, *arguments)
        return read.addErrback(failed)

    def claim(
        self, channel: str, destination: str, after: int, limit: int, order_key: str | None = None, until: int | None = None
    ) -> Deferred[list[tuple[Parcel, int]]]:
        return self._read(self._claim, channel, destination, after, limit, order_key, until)

    def _claim(self, *arguments: Any) -> list[tuple[Parcel, int]]:
        return [(self._with_body(parcel), at) for parcel, at in self._reads.claim(*arguments)]

    def _with_body(self, parcel: Parcel) -> Parcel:
        if isinstance(parcel.body, BodyRef) and parcel.body.size <= 16 << 20:
            return replace(parcel, body=self._bodies.read(parcel.body))
        return parcel

    def waiting(self, channel: str, after: int, limit: int) -> Deferred[list[Waiting]]:
        return self._read(self._reads.waiting, channel, after, limit)

    def search(self, query: Query) -> Deferred[list[Found]]:
        return self._read(self._reads.search, query)

    def show(self, message_id: int) -> Deferred[Kept | None]:
        return self._read(self._reads.show, message_id)

    def ledger(self) -> Deferred[list[LedgerLine]]:
        return self._read(self._reads.ledger)

    def queues(self) -> Deferred[list[QueueLine]]:
        return self._read(self._reads.queues)

    def read_body(self, ref: BodyRef) -> Deferred[bytes]:
        return self._read(self._bodies.read, ref)

    def spool(self) -> FileSpool:
        return self._bodies.spool()

    def parcel_key(self, channel: str, destination: str, seq: int) -> str:
        return f"{self._identity}-{self._writes.committed_ids[channel, destination] << SEQ_BITS | seq:x}"
