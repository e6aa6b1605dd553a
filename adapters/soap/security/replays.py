"""What was proven lately, so that nobody can say it again. SQLite, one file for a node, for several threads.

A row is a mark (of a signature or a nonce), the channel and the digest of the message that it came with, and until when it could come
again and be fresh. What `remember` has returned from is on disk, so that a restart forgets nothing. Rows go when their time is over;
since only what was proven is remembered, no stranger can fill the file. One that is full takes no more: forgetting early would let a
replay in.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from enum import Enum
from pathlib import Path
from typing import Final

from engine.errors import StoreFull
from engine.transaction import transaction

MOST: Final = 1_000_000
_PRUNED_AT_ONCE: Final = 1000
_SCHEMA: Final = """
create table if not exists seen (
    mark    blob primary key,
    message blob not null,          -- SHA-256 of channel and message
    until   integer not null        -- microseconds since 1970 UTC
) without rowid;
create index if not exists seen_until on seen (until);
create table if not exists total (
    one     integer primary key check (one = 1),
    rows    integer not null        -- of seen: counting a million takes too long
);
insert or ignore into total values (1, 0);
"""


class Seen(Enum):
    """`REPEATED`: in the very same message, on the same channel. `REPLAYED`: in another, or on another channel."""

    NEVER = "never"
    REPEATED = "repeated"
    REPLAYED = "replayed"


class Replays:
    """`most` rows at once."""

    def __init__(self, path: Path, most: int = MOST) -> None:
        self._most, self._lock = most, threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self._database.executescript(f"pragma journal_mode = wal; pragma synchronous = full; {_SCHEMA}")

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def remember(self, mark: bytes, channel: str, digest: bytes, until: int, now: int) -> Seen:
        """Whether `mark` was seen before, and remember it. `digest` is that of the whole message, b"" where it is not known: any
        repetition is then a replay. Raises StoreFull, and sqlite3.Error where the file cannot be used."""
        message = hashlib.sha256(b"\0".join((channel.encode(), digest))).digest()
        with self._lock, transaction(self._database) as cursor:
            known = cursor.execute("select message from seen where mark = ?", (mark,)).fetchone()
            if known is not None:
                return Seen.REPEATED if digest and known[0] == message else Seen.REPLAYED
            pruned = cursor.execute(
                "delete from seen where mark in (select mark from seen where until < ? order by until limit ?)", (now, _PRUNED_AT_ONCE)
            ).rowcount
            cursor.execute("insert into seen values (?, ?, ?)", (mark, message, until))
            cursor.execute("update total set rows = rows + 1 - ? returning rows", (pruned,))
            if cursor.fetchone()[0] > self._most:
                raise StoreFull(f"{self._most} messages are remembered against replays, and none of them may be forgotten yet")
        return Seen.NEVER

    def forget(self, mark: bytes) -> None:
        """What came with it was not taken after all, and may come again."""
        with self._lock, transaction(self._database) as cursor:
            gone = cursor.execute("delete from seen where mark = ?", (mark,)).rowcount
            cursor.execute("update total set rows = rows - ?", (gone,))
