"""The registry's file, ``data/parties.db``: the command line changes it while a node runs.

SQLite in WAL mode with synchronous=FULL, so a change that was told to be done is on the disk. Readers never wait for a writer.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import orjson

from engine.errors import StoreCorrupt
from engine.parties.model import Kind, Mark, Party
from engine.store.schema import connect, migrate, translated

FILE: Final = "parties.db"
_PARTIES: Final = (
    "SELECT id, kind, name, belongs_to, may_send, channels, disabled_at, disabled_why, keys, patients, requests_per_minute "
    "FROM party ORDER BY id"
)
_INSERT: Final = (
    "INSERT INTO party (id, kind, name, belongs_to, may_send, channels, disabled_at, disabled_why, keys, patients, requests_per_minute) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_KNOWN_BY: Final = "SELECT party, identifier, kind, value FROM known_by ORDER BY rowid"


class Registry:
    """One connection. Every method raises StoreError where the file cannot be used. A context manager, which closes it."""

    def __init__(self, folder: Path) -> None:
        with translated(FILE):
            self._connection = connect(folder, file=FILE)
            try:
                migrate(self._connection, "engine.parties")
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def version(self) -> int:
        """Another number whenever another connection has changed the file (PRAGMA data_version)."""
        with translated(FILE):
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def parties(self) -> dict[str, Party]:
        """All of them by id, as they are at one moment."""
        with translated(FILE), _transaction(self._connection, "BEGIN"):
            return self._read()

    @contextmanager
    def change(self) -> Iterator[dict[str, Party]]:
        """All parties, to be changed: what the dictionary holds at the end replaces what the file holds, in one transaction, while no other
        process changes it. After an exception nothing has changed."""
        with translated(FILE), _transaction(self._connection, "BEGIN IMMEDIATE"):
            before = self._read()
            after = dict(before)
            yield after
            self._remove(key for key, party in before.items() if after.get(key) != party)
            self._insert(party for key, party in after.items() if before.get(key) != party)

    def _read(self) -> dict[str, Party]:
        known: dict[str, tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
        try:
            for party, identifier, kind, value in self._connection.execute(_KNOWN_BY):
                known[party][identifier].append((kind if identifier else Mark(kind), value))
            return {row[0]: _party(row, *known[row[0]]) for row in self._connection.execute(_PARTIES)}
        except (ValueError, TypeError, IndexError):
            raise StoreCorrupt("it holds what this version of Meridian does not know") from None

    def _remove(self, ids: Iterable[str]) -> None:
        for one in ids:
            self._connection.execute("DELETE FROM known_by WHERE party = ?", (one,))
            self._connection.execute("DELETE FROM party WHERE id = ?", (one,))

    def _insert(self, parties: Iterable[Party]) -> None:
        for party in parties:
            may_send, channels, keys, patients = (
                orjson.dumps(one).decode() for one in (party.may_send, party.channels, party.keys, party.patients)
            )
            values = (party.id, party.kind, party.name, party.belongs_to, may_send, channels, party.disabled_at, party.disabled_why)
            self._connection.execute(_INSERT, (*values, keys, patients, party.requests_per_minute))
            known = [(party.id, 0, *mark) for mark in party.marks] + [(party.id, 1, *one) for one in party.identifiers]
            self._connection.executemany("INSERT INTO known_by VALUES (?, ?, ?, ?)", known)


def _party(row: Sequence[Any], marks: Sequence[tuple[Mark, str]], identifiers: Sequence[tuple[str, str]]) -> Party:
    """From a row of _PARTIES."""
    number, kind, name, belongs_to, may_send, channels, disabled_at, why, keys, patients, most = row
    sends, where, proofs, whose = (tuple(orjson.loads(one)) for one in (may_send, channels, keys, patients))
    return Party(
        number, Kind(kind), name, belongs_to, tuple(identifiers), tuple(marks), sends, where, disabled_at, why, proofs, whose, most
    )


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a commit that fails may have ended it
            connection.execute("ROLLBACK")
        raise
