"""What a Document Consumer has handed in: submission sets, and for each patient the newest submission time. SQLite, one thread.

A set is forgotten when it is older than what a round still looks at. What `keep` has returned from is on disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from engine.transaction import transaction

_SCHEMA: Final = """
create table if not exists patients (
    patient text not null primary key,
    newest  text not null              -- submissionTime, as the registry says it: DTM in UTC
) without rowid;
create table if not exists sets (
    patient text not null,
    id      text not null,             -- entryUUID
    time    text not null,
    primary key (patient, id)
) without rowid;
"""


class Seen:
    """All methods raise sqlite3.Error."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._database: sqlite3.Connection

    def open(self) -> None:
        self._database = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = full")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        self._database.close()

    def newest(self, patients: Sequence[str]) -> list[str]:
        """The newest submission time of each, "" where nothing was seen."""
        found = dict(self._database.execute("select patient, newest from patients").fetchall())
        return [found.get(patient, "") for patient in patients]

    def unseen(self, patient: str, ids: Iterable[str]) -> set[str]:
        known = {row[0] for row in self._database.execute("select id from sets where patient = ?", (patient,))}
        return set(ids) - known

    def keep(self, patient: str, set_id: str, time: str) -> None:
        with transaction(self._database) as cursor:
            cursor.execute("insert or ignore into sets values (?, ?, ?)", (patient, set_id, time))

    def advance(self, patient: str, newest: str, forget_before: str) -> None:
        """Everything up to `newest` was handed in; what is older than `forget_before` will not be asked for again."""
        with transaction(self._database) as cursor:
            cursor.execute(
                "insert into patients values (?, ?) on conflict (patient) do update set newest = max(newest, excluded.newest)",
                (patient, newest),
            )
            cursor.execute("delete from sets where patient = ? and time < ?", (patient, forget_before))
