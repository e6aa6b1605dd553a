"""Transactions of storage commitment on disk: those that we asked for, and those that others asked of us. SQLite, one connection, one
thread. What a method has returned from is on disk.

An instance that we wait for is known by its destination, the number of its parcel in that destination's queue, and its UID: a parcel that
comes again after a restart finds its transaction, one that an operator resends does not, nor one of a store that was begun anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from adapters.dicom.forward.commitment import Notice, Reference
from engine.errors import StoreError
from engine.transaction import transaction

PENDING: Final = -1
COMMITTED: Final = 0

_SCHEMA: Final = """
create table if not exists asked (         -- transactions of ours; kept a while after their end, since a report may be late
    transaction_uid text primary key,
    destination     text not null,
    at              integer not null       -- microseconds since 1970 UTC
) without rowid;
create index if not exists asked_by_time on asked (at);
create table if not exists awaited (       -- their instances
    transaction_uid text not null,
    sop_instance    text not null,
    seq             integer not null,      -- of the parcel
    state           integer not null,      -- -1 pending, 0 committed, else the failure reason
    primary key (transaction_uid, sop_instance)
) without rowid;
create table if not exists requested (     -- asked of us, not reported yet, oldest first
    id              integer primary key autoincrement,
    transaction_uid text not null,
    calling         text not null,
    called          text not null,
    content         blob not null,         -- [[SOP class UID, SOP instance UID], ...] as JSON
    at              integer not null
);
"""
_OF_DESTINATION: Final = """
select w.seq, w.sop_instance, w.state, w.transaction_uid, a.at from asked a join awaited w using (transaction_uid)
where a.destination = ? order by a.at"""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Where an instance of ours stands."""

    seq: int
    sop_instance: str
    state: int
    transaction_uid: str
    at: int


@dataclass(frozen=True, slots=True)
class Requested:
    """A request that is to be answered with a report."""

    number: int
    transaction_uid: str
    calling: str
    called: str
    instances: Sequence[Reference]
    at: int


class CommitmentBook:
    """All methods belong to one thread and raise StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
            self._path.chmod(0o600)
            self._database.executescript(f"pragma journal_mode = wal; pragma synchronous = full; {_SCHEMA}")
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the file of storage commitments cannot be used: {error}") from None

    def close(self) -> None:
        self._database.close()

    # --- ours ------------------------------------------------------------------------------------

    def ask(self, transaction_uid: str, destination: str, instances: Sequence[tuple[str, int]], now: int, forget_before: int) -> None:
        """A transaction that is about to be asked for: (SOP instance UID, seq) of each; forgets old ones."""
        with self._transaction() as cursor:
            cursor.execute("insert into asked values (?, ?, ?)", (transaction_uid, destination, now))
            cursor.executemany(
                "insert or replace into awaited values (?, ?, ?, ?)", [(transaction_uid, uid, seq, PENDING) for uid, seq in instances]
            )
            old = cursor.execute("select transaction_uid from asked where at < ? limit 100", (forget_before,)).fetchall()
            cursor.executemany("delete from awaited where transaction_uid = ?", old)
            cursor.executemany("delete from asked where transaction_uid = ?", old)

    def drop(self, transaction_uid: str) -> None:
        """It was not asked for after all, or is asked for anew."""
        with self._transaction() as cursor:
            cursor.execute("delete from awaited where transaction_uid = ?", (transaction_uid,))

    def awaited(self, destination: str) -> list[Awaited]:
        """All that is known of a destination's instances, oldest first."""
        with self._transaction() as cursor:
            return [Awaited(*row) for row in cursor.execute(_OF_DESTINATION, (destination,))]

    def report(self, notice: Notice) -> tuple[str, list[Awaited]]:
        """Note what a report says. Gives the destination and what it says of that one's instances; "" for a transaction that is not
        ours (any more)."""
        with self._transaction() as cursor:
            row = cursor.execute("select destination, at from asked where transaction_uid = ?", (notice.transaction_uid,)).fetchone()
            if row is None:
                return "", []
            said = {uid: COMMITTED for _, uid in notice.instances} | {uid: reason for (_, uid), reason in notice.failed}
            states = [(state, notice.transaction_uid, uid) for uid, state in said.items()]
            cursor.executemany("update awaited set state = ? where transaction_uid = ? and sop_instance = ? and state <> 0", states)
            sql = "select seq, sop_instance, state from awaited where transaction_uid = ? and state <> -1"
            found = cursor.execute(sql, (notice.transaction_uid,))
            return row[0], [Awaited(seq, uid, state, notice.transaction_uid, row[1]) for seq, uid, state in found]

    # --- others' ---------------------------------------------------------------------------------

    def request(self, notice: Notice, calling: str, called: str, now: int) -> Requested:
        """Keep a request."""
        with self._transaction() as cursor:
            cursor.execute(
                "insert into requested (transaction_uid, calling, called, content, at) values (?, ?, ?, ?, ?)",
                (notice.transaction_uid, calling, called, orjson.dumps(list(notice.instances)), now),
            )
            return Requested(int(cursor.lastrowid or 0), notice.transaction_uid, calling, called, notice.instances, now)

    def requested(self) -> list[Requested]:
        with self._transaction() as cursor:
            rows = cursor.execute("select id, transaction_uid, calling, called, content, at from requested order by id").fetchall()
        return [
            Requested(number, transaction, calling, called, [(one, uid) for one, uid in orjson.loads(content)], at)
            for number, transaction, calling, called, content, at in rows
        ]

    def reported(self, number: int) -> None:
        """A request is done with."""
        with self._transaction() as cursor:
            cursor.execute("delete from requested where id = ?", (number,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        """engine.transaction, with the errors of a store."""
        try:
            with transaction(self._database) as cursor:
                yield cursor
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the file of storage commitments cannot be used: {error}") from None
