"""What is to be said of studies, and what was: one source's list in ``archive.db``. One connection, one thread.

Invariants
1. A version is planned on disk before it is handed over, with the revision that it tells of; after a crash the same version comes again
   with the same content.
2. It is taken off the list after the channel has committed it; a study that has changed meanwhile stays on the list.
3. Versions of a study count 1, 2, 3 … without gaps, for each source.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from adapters.dicom.archive import statements
from adapters.dicom.archive.completion import COMPLETE, Standing
from adapters.dicom.archive.database import Transaction, connect, store_error
from engine.errors import StoreError


class Listed(NamedTuple):
    """One study on the list. `plan` is what is being handed over, as `Notices.plan` was told, "" for nothing; then `version` and
    `standing.told` are those of that."""

    study: int
    uid: str
    patient_id: str
    version: int
    plan: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Notice:
    """One message about a study: `kind` (STUDY^CHANGED, STUDY^COMPLETE) and `by` which rule."""

    study: int
    uid: str
    patient_id: str
    version: int
    revision: int
    kind: str
    by: str


class Notices:
    """Methods raise StoreError."""

    def __init__(self, folder: Path, source: str) -> None:
        self._folder, self._source = folder, source
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """From now on changes are put on the list; studies that are there already are put on it once."""
        self._connection = connect(self._folder)
        with self._transaction() as rows:
            rows.execute(statements.ENROLL, (self._source,))
            rows.execute(statements.CATCH_UP, {"source": self._source})

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def due(self, now: int, most: int) -> list[Listed]:
        """Those to be looked at, the longest due first."""
        try:
            return [_listed(row) for row in self._opened().execute(statements.OPEN, (self._source, now, most))]
        except sqlite3.Error as error:
            raise store_error(error) from error

    def look_again(self, listed: Listed, when: int) -> None:
        """Nothing is to be said before that, unless the study changes."""
        with self._transaction() as rows:
            rows.execute(statements.LOOK_AT, (when, self._source, listed.study, listed.standing.revision))

    def plan(self, listed: Listed, kind: str, by: str) -> Notice:
        """The next version, which tells of the study as it was listed."""
        with self._transaction() as rows:
            rows.execute(statements.PLAN, (listed.standing.revision, f"{kind} {by}", self._source, listed.study))
        return Notice(listed.study, listed.uid, listed.patient_id, listed.version + 1, listed.standing.revision, kind, by)

    def said(self, notice: Notice) -> None:
        """The channel has committed it."""
        with self._transaction() as rows:
            values = {"complete": notice.kind == COMPLETE, "source": self._source, "study": notice.study, "version": notice.version}
            rows.execute(statements.SAID, values)

    def content(self, notice: Notice) -> Iterator[bytes]:
        """The instances of the study as they were at that revision, each as a JSON object."""
        try:
            for (header,) in self._opened().execute(statements.CONTENT, {"study": notice.study, "revision": notice.revision}):
                yield zlib.decompress(header)
        except sqlite3.Error as error:
            raise store_error(error) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError("the archive is closed")
        return self._connection

    def _transaction(self) -> Transaction:
        return Transaction(self._opened())


def planned(listed: Listed) -> Notice:
    """What was planned before, and may or may not have been committed."""
    kind, _, by = listed.plan.partition(" ")
    return Notice(listed.study, listed.uid, listed.patient_id, listed.version, listed.standing.told, kind, by)


def _listed(row: tuple[int, str, int, int, int, str, int, int, int, int | None, str]) -> Listed:
    study, uid, version, told, complete, plan, revision, changed, instances, awaited, patient_id = row
    return Listed(study, uid, patient_id, version, plan, Standing(revision, changed, instances, awaited, told, bool(complete)))
