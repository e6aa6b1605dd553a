"""SQLite as a store (engine.store.contract.Store): the embedded default.

On disk, in the folder: ``meridian.db`` with its WAL (schema in migrations/), ``bodies/`` (engine.store.bodies), ``node.lock``.

Recovery: a commit is fsynced before anyone hears of it (WAL, synchronous=FULL), so after kill -9 or a power cut SQLite's own
recovery gives back exactly the committed transactions. What was in flight is still in the queue and goes out again with the same
key. Half-written bodies lie in the spool and are removed. Nothing else is to be done at a start, which therefore does not get slower
with the size of the queue: complete bodies whose row was never committed are left to the sweep.

Threads: the reactor thread calls; one writer thread (engine.store.group_commit), one reader thread with a connection of its own. With
`process` a child process writes (engine.store.commit_process), and the writer thread only removes files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from engine.errors import StoreError, StoreFull
from engine.message import BodyRef, Parcel
from engine.store.bodies import Bodies, FileSpool
from engine.store.commit_process import CommitProcess
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
from engine.store.rows import SEQ_BITS, unreferred
from engine.store.schema import NodeLock, connect, migrate, translate
from engine.store.transactions import Place
from engine.store.writes import PlanCall, SettleCall, Writes

ResultT = TypeVar("ResultT")

FREE_CHECK_SECONDS: Final = 0.1


class SqliteStore:
    """The store in `folder`, made if there is none.

    `exclusive`: this is the node, which no second one may join. `inline_limit`: bodies longer than this many bytes are files.
    `min_free`: with less than this many bytes free on the disk, messages are refused so that settling can go on.
    `process`: write in a process of its own, as a node under load should; it takes a reactor that can spawn, and the time of the system.
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
        process: bool = False,
    ) -> None:
        self._folder, self._reactor, self._clock = folder, reactor, clock
        self._exclusive, self._inline_limit, self._min_free, self._process = exclusive, inline_limit, min_free, process
        self._bodies = Bodies(folder / "bodies")
        self._readers = ThreadPool(1, 1, "meridian-store-reader")
        self._held = ExitStack()
        self._open_now = False
        self._identity = ""
        self._free_checked = 0.0
        self._room = True

    # --- life ------------------------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        with ExitStack() as held:
            try:
                self._open(held)
            except Exception as error:  # noqa: BLE001  # whatever SQLite and the file system may raise, in our own words
                return fail(translate(error))
            self._held = held.pop_all()
        self._open_now = True
        return succeed(None)

    def _open(self, held: ExitStack) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = None
        if self._exclusive:
            lock = NodeLock(self._folder)
            held.callback(lock.release)
            self._bodies.open()
        writer = connect(self._folder)
        held.callback(writer.close)
        migrate(writer)
        reader = connect(self._folder, read_only=True)
        held.callback(reader.close)
        self._writes = Writes(writer, self._bodies, self._clock, self._inline_limit)
        self._reads = Reads(reader)
        self._writes.committed_ids.update(self._reads.destination_ids())
        self._identity = self._reads.identity()
        self._connections = (writer, reader)
        self._thread = GroupCommit(self._writes, self._reactor)
        self._commits: GroupCommit | CommitProcess = self._thread
        if self._process and lock is not None:
            learned = self._writes.committed_ids.update
            self._commits = CommitProcess(self._folder, self._inline_limit, lock.file, self._reactor, learned)
            self._commits.start()
        self._thread.start()
        self._readers.start()

    def close(self) -> Deferred[None]:
        if not self._open_now:
            return succeed(None)
        self._open_now = False
        stopped = self._commits.stop()
        if self._commits is not self._thread:
            stopped.addCallback(lambda _: self._thread.stop())
        return stopped.addCallback(self._close)

    def _close(self, _: None) -> None:
        self._readers.stop()
        self._held.close()

    # --- writing ---------------------------------------------------------------------------------

    def accept(self, arrival: Arrival) -> Deferred[Accepted]:
        if self._has_room():
            accepted = self._write("accept", arrival)
        else:
            accepted = fail(StoreFull(f"less than {self._min_free >> 20} MB free on the disk"))
        body = arrival.envelope.body
        return accepted if isinstance(body, bytes) else accepted.addBoth(self._unpin, body.digest)

    def _unpin(self, outcome: Any, digest: str) -> Any:
        self._bodies.unpin(digest)
        return outcome

    def _has_room(self) -> bool:
        now = time.monotonic()
        if now - self._free_checked >= FREE_CHECK_SECONDS:
            self._free_checked = now
            try:
                usage = os.statvfs(self._folder)
            except OSError:  # a disk that cannot be asked cannot be written either
                self._room = False
            else:
                self._room = usage.f_bavail * usage.f_frsize >= self._min_free
        return self._room

    def _write(self, work: str, argument: Any, *, urgent: bool = True, place: Place = Place.WITH_ITS_KIND) -> Deferred[Any]:
        if not self._open_now:
            return fail(StoreError("the store is closed"))
        return self._commits.submit(work, argument, urgent=urgent, place=place)

    def plan(self, channel: str, plans: Sequence[tuple[int, Plan]]) -> Deferred[list[tuple[int, ...]]]:
        call: PlanCall = (channel, plans)
        return self._write("plan", call)

    def settle(self, channel: str, destination: str, settlements: Sequence[Settlement]) -> Deferred[None]:
        call: SettleCall = (channel, destination, settlements)
        answered = any(end.answer for end in settlements)  # a repetition that is accepted later must hear it
        return self._write("end", call, urgent=False, place=Place.IN_ORDER if answered else Place.WITH_ITS_KIND)

    def set_back(self, channel: str, destination: str, setbacks: Sequence[Setback]) -> Deferred[None]:
        return self._write("end", (channel, destination, setbacks), urgent=False)

    def _single(self, name: str, *arguments: Any) -> Deferred[Any]:
        """An operator's call, by itself in its kind and in its place among the others."""
        return self._write("single", (name, arguments), place=Place.IN_ORDER)

    def hold(self, channel: str, destination: str, hold: bool) -> Deferred[None]:
        return self._single("hold", channel, destination, hold)

    def resend(self, message_ids: Sequence[int], destination: str = "") -> Deferred[int]:
        return self._single("resend", message_ids, destination)

    def reprocess(self, message_ids: Sequence[int]) -> Deferred[int]:
        return self._single("reprocess", message_ids)

    def purge(self, before: int, limit: int) -> Deferred[int]:
        return self._single("purge", before, limit).addCallback(self._purged)

    def _purged(self, gone: tuple[int, list[str]]) -> int | Deferred[int]:
        """The rows are gone: now the files that nothing refers to any more."""
        count, digests = gone
        return self._remove(digests).addCallback(lambda _: count) if digests else count

    def sweep(self, limit: int) -> Deferred[int]:
        return self._read(self._orphans, limit).addCallback(lambda digests: self._remove(digests) if digests else 0)

    def _orphans(self, limit: int) -> list[str]:
        """Of the next files those that no row refers to now; one may be on its way."""
        return unreferred(self._connections[1], self._bodies.next_files(limit))

    def _remove(self, digests: Sequence[str]) -> Deferred[int]:
        """Remove those of the files that no row refers to: in the writer thread, in a transaction of its own, and so while no other
        process has one. Gives how many went."""

        def remove(_: Sequence[Any]) -> list[int]:
            return [sum(self._bodies.remove(digest) for digest in unreferred(self._connections[0], digests))]

        if not self._open_now:
            return fail(StoreError("the store is closed"))
        return self._thread.submit(remove, None, place=Place.ALONE)

    def changed_elsewhere(self) -> Deferred[bool]:
        return self._single("changed_elsewhere")

    # --- reading ---------------------------------------------------------------------------------

    def _read(self, function: Callable[..., ResultT], *arguments: Any) -> Deferred[ResultT]:
        def failed(failure: Failure) -> Any:
            raise translate(failure.value or RuntimeError()) from failure.value

        if not self._open_now:
            return fail(StoreError("the store is closed"))
        read: Deferred[ResultT] = deferToThreadPool(self._reactor, self._readers, function, *arguments)
        return read.addErrback(failed)

    def claim(
        self, channel: str, destination: str, after: int, limit: int, order_key: str | None = None, until: int | None = None
    ) -> Deferred[list[tuple[Parcel, int]]]:
        return self._read(self._reads.claim, channel, destination, after, limit, order_key, until)

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

    def checkpoints(self, channel: str) -> Deferred[dict[str, str]]:
        return self._read(self._reads.checkpoints, channel)

    def read_body(self, ref: BodyRef, most: int = 0) -> Deferred[bytes]:
        return self._read(self._bodies.read, ref, most)

    def spool(self) -> FileSpool:
        if not self._open_now:
            raise StoreError("the store is closed")
        return self._bodies.spool()

    def unspool(self, ref: BodyRef) -> None:
        self._bodies.unpin(ref.digest)

    def body_file(self, ref: BodyRef) -> Path:
        return self._bodies.path(ref.digest)

    def parcel_key(self, channel: str, destination: str, seq: int) -> str:
        return f"{self._identity}-{self._writes.committed_ids[channel, destination] << SEQ_BITS | seq:x}"
