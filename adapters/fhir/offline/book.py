"""Which numbers of which terminal are settled, on disk: SQLite, one file for each channel.

Invariants
1. What `record` has returned for is on disk (WAL, synchronous=FULL).
2. A number that was taken stays with its first content, whatever comes later; one that was refused may come again, corrected.
3. `complete` is the highest number up to which every number is settled: it never goes back.
4. A line is forgotten `remember` after it came, and only below `complete`: its number stays settled, and can be compared with nothing.

One thread at a time writes; `find` and `reach` have a connection of their own, for the reactor thread, and see the last commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from adapters.fhir.offline.asked import Journal
from adapters.fhir.offline.outcomes import Standing
from engine.errors import StoreCorrupt, StoreError, StoreFull
from engine.transaction import transaction

MOST_MISSING: Final = 100
_FORGET_STEP: Final = 200
_VERSION: Final = 1
_SCHEMA: Final = """
-- Whose numbers: `party` is proven by the connection ('' = nothing was), `device` the name that the terminal gives itself.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    party TEXT NOT NULL,
    device TEXT NOT NULL,
    complete INTEGER NOT NULL DEFAULT 0,
    highest INTEGER NOT NULL DEFAULT 0,
    UNIQUE (party, device)
);
-- One settled line: the beginning of the SHA-256 of its bytes, whether it was taken or refused, when (microseconds UTC).
CREATE TABLE line (
    journal INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    digest BLOB NOT NULL,
    taken INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (journal, sequence)
) WITHOUT ROWID;
"""
_RECORD: Final = (
    "INSERT INTO line VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest, taken = excluded.taken, at = excluded.at"
    " WHERE NOT line.taken"
)
_RECOVER: Final = "INSERT INTO line VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_GAPS: Final = (
    "SELECT previous + 1, sequence - 1 FROM (SELECT sequence, lag(sequence, 1, ?2) OVER (ORDER BY sequence) AS previous"
    " FROM line WHERE journal = ?1 AND sequence > ?2) WHERE sequence > previous + 1 LIMIT ?3"
)
_FORGET: Final = (
    "DELETE FROM line WHERE journal = ?1 AND sequence IN (SELECT sequence FROM"
    " (SELECT sequence, at FROM line WHERE journal = ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3) WHERE at < ?4)"
)


class Settled(NamedTuple):
    """A line in the book. An empty `digest`: it came too long ago to be compared."""

    journal: Journal
    sequence: int
    digest: bytes
    taken: bool
    at: int


class Book:
    """`remember` in seconds."""

    def __init__(self, path: Path, remember: float) -> None:
        self._path, self._remember = path, int(remember * 1e6)
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def open(self) -> None:
        """Make the file, or open it. May be called again. Raises StoreError."""
        if self._writer is not None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._writer = self._connect()
            self._path.chmod(0o600)
            self._prepare(self._writer)
            self._reader = self._connect()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise _store_error(error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {setting}")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise StoreCorrupt(f"the book of uploads has schema {version}, this program knows up to {_VERSION}")
        if not version:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")

    def close(self) -> None:
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()
        self._writer = self._reader = None

    # --- writing ---------------------------------------------------------------------------------

    def record(self, lines: Sequence[Settled], *, recovered: bool = False) -> None:
        """Settle numbers, in one commit. `recovered`: what the book may have missed, which changes nothing that it has. Raises StoreError:
        nothing is recorded."""
        if self._writer is None:
            raise StoreError("the book of uploads is closed")
        try:
            with transaction(self._writer) as rows:
                ids = {journal: _identity(rows, journal) for journal in {line.journal for line in lines}}
                values = [(ids[line.journal], line.sequence, line.digest, line.taken, line.at) for line in lines]
                rows.executemany(_RECOVER if recovered else _RECORD, values)
                for journal, number in ids.items():
                    own = [line for line in lines if line.journal == journal]
                    self._advance(rows, number, max(line.sequence for line in own), max(line.at for line in own))
        except sqlite3.Error as error:
            raise _store_error(error) from error

    def _advance(self, rows: sqlite3.Cursor, number: int, highest: int, now: int) -> None:
        (complete,) = rows.execute("SELECT complete FROM journal WHERE id = ?", (number,)).fetchone()
        following = rows.execute("SELECT sequence FROM line WHERE journal = ? AND sequence > ? ORDER BY sequence", (number, complete))
        complete = _as_far_as(complete, (sequence for (sequence,) in following))
        rows.execute("UPDATE journal SET complete = ?, highest = max(highest, ?) WHERE id = ?", (complete, highest, number))
        rows.execute(_FORGET, (number, complete, _FORGET_STEP, now - self._remember))

    # --- reading ---------------------------------------------------------------------------------

    def find(self, journal: Journal, sequence: int) -> Settled | None:
        """What a number was settled with. Raises StoreError."""
        try:
            number, complete, _ = self._journal(self._read_by(), journal)
            sql = "SELECT digest, taken, at FROM line WHERE journal = ? AND sequence = ?"
            row = self._read_by().execute(sql, (number, sequence)).fetchone() if number else None
        except sqlite3.Error as error:
            raise _store_error(error) from error
        if row is None:
            return Settled(journal, sequence, b"", True, 0) if sequence <= complete else None
        return Settled(journal, sequence, row[0], bool(row[1]), row[2])

    def reach(self, journal: Journal) -> Standing:
        """Without what is missing, which takes no time. Raises StoreError."""
        try:
            _, complete, highest = self._journal(self._read_by(), journal)
        except sqlite3.Error as error:
            raise _store_error(error) from error
        return Standing(complete, highest)

    def standing(self, journal: Journal) -> Standing:
        """In a thread: looks through the lines above `complete`. Raises StoreError."""
        try:
            with closing(self._connect()) as connection:
                number, complete, highest = self._journal(connection, journal)
                gaps = connection.execute(_GAPS, (number, complete, MOST_MISSING)).fetchall()
        except sqlite3.Error as error:
            raise _store_error(error) from error
        return Standing(complete, highest, [(low, high) for low, high in gaps])

    def _read_by(self) -> sqlite3.Connection:
        if self._reader is None:
            raise StoreError("the book of uploads is closed")
        return self._reader

    def _journal(self, connection: sqlite3.Connection, journal: Journal) -> tuple[int, int, int]:
        """Its id (0 = there is none yet), how far it is complete, and the highest number."""
        sql = "SELECT id, complete, highest FROM journal WHERE party = ? AND device = ?"
        return connection.execute(sql, journal_values(journal)).fetchone() or (0, 0, 0)


def journal_values(journal: Journal) -> tuple[str, str]:
    return journal.party, journal.device


def _identity(rows: sqlite3.Cursor, journal: Journal) -> int:
    rows.execute("INSERT INTO journal (party, device) VALUES (?, ?) ON CONFLICT DO NOTHING", journal_values(journal))
    (number,) = rows.execute("SELECT id FROM journal WHERE party = ? AND device = ?", journal_values(journal)).fetchone()
    return int(number)


def _as_far_as(complete: int, following: Iterable[int]) -> int:
    for sequence in following:
        if sequence != complete + 1:
            break
        complete = sequence
    return complete


def _store_error(error: sqlite3.Error | OSError) -> StoreError:
    code = getattr(error, "sqlite_errorname", "")
    if code == "SQLITE_FULL":
        return StoreFull("there is no room for the book of uploads")
    if code in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
        return StoreCorrupt("the book of uploads is damaged")
    return StoreError(f"the book of uploads cannot be used now ({code or type(error).__name__})")
