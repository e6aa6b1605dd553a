"""The resource repository: versioned FHIR resources in one SQLite file.

Invariants
1. `apply` returns only after everything it says is on disk: one commit (WAL, synchronous=FULL) for the whole group.
2. A Bundle is applied whole or not at all; another Bundle's refusal does not touch it.
3. The answer to an idempotency key is written in the same commit as what it answers for: the same key again changes nothing and
   gives the same answer, whatever happened in between; with another Bundle it is refused rather than lost. Refusals are not
   remembered, since they have changed nothing.
4. Every version stays readable; a resource's versions are 1, 2, 3 … without gaps.

One writer at a time; readers have a connection each and see the last commit. Nothing here knows HTTP or a reactor.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

from adapters.fhir.interactions import Interactions
from adapters.fhir.outcome import Answer, FhirRefusal
from adapters.fhir.rows import Rows, connect
from engine.errors import MeridianError, ParseError, StoreCorrupt, StoreError, StoreFull

Result = TypeVar("Result")
Application = tuple[str, bytes] | tuple[str, bytes, str]
"""Idempotency key ("" = none), a transaction or batch Bundle, and the proven party that sent it (none: "")."""

_FORGET_STEP: Final = 200


class ResourceRepository:
    """`clock` gives microseconds UTC, `new_id` ids for new resources. `remember` in seconds: how long answers are kept.
    `reads_all`: the GET entries of a Bundle see what others sent, too."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        log: logging.Logger,
        remember: float,
        reads_all: bool = True,
    ) -> None:
        self.path, self._reads_all = path, reads_all
        self._clock, self._new_id, self._log, self._remember = clock, new_id, log, int(remember * 1e6)
        self._connection: sqlite3.Connection | None = None
        self._last = 0

    def open(self) -> None:
        """Create or migrate the file and begin to write. Raises StoreError."""
        try:
            self._connection = connect(self.path)
        except sqlite3.Error as error:
            raise _store_error(error) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def apply(self, group: Sequence[Application]) -> list[Answer | MeridianError]:
        """Apply Bundles in order, in one commit; in place of an answer stands the refusal. Raises StoreError: nothing was applied."""
        if self._connection is None:
            raise StoreError("the resource repository is closed")
        rows = Rows(self._connection)
        interactions = Interactions(rows, self._new_id, reads_all=self._reads_all)
        now = self._now()
        try:
            rows.begin()
            results = [self._one(rows, interactions, now, *application) for application in group]
            rows.forget(now - self._remember, _FORGET_STEP)
            rows.commit()
        except sqlite3.Error as error:
            rows.rollback()
            raise _store_error(error) from error
        return results

    def _now(self) -> int:
        """Time in milliseconds, as FHIR instants show it, and never backwards, so that lastUpdated orders versions."""
        self._last = max(self._last, self._clock() // 1000 * 1000)
        return self._last

    def _one(self, rows: Rows, interactions: Interactions, now: int, key: str, body: bytes, sender: str = "") -> Answer | MeridianError:
        digest = blake2b(body, digest_size=16).digest()
        if key and (answered := rows.answered(key)) is not None:
            if answered[0] != digest:
                return FhirRefusal(422, "this idempotency key came before with another Bundle", issue="conflict")
            return Answer.decode(answered[1])
        rows.savepoint()
        try:
            answer = interactions.apply(body, now, sender)
            if key:
                rows.remember(key, now, digest, answer.encode())
            rows.keep()
        except (FhirRefusal, ParseError) as refused:
            rows.undo()
            return refused
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  the boundary of one Bundle: a bug must not hold up the others
            rows.undo()
            self._log.error("unexpected failure in an interaction", exc_info=error)
            return FhirRefusal(500, "the Bundle could not be applied because of an error in the server")
        return answer


class Reading:
    """Reads of a repository file, from any number of threads; each has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []

    def read(self, view: Callable[..., Result], *arguments: object) -> Result:
        """`view(rows, *arguments)` over the last commit. Raises what the view raises, and StoreError."""
        try:
            rows = getattr(self._local, "rows", None)
            if rows is None:
                connection = connect(self._path, read_only=True)
                self._open.append(connection)
                rows = self._local.rows = Rows(connection)
            return view(rows, *arguments)
        except sqlite3.Error as error:
            raise _store_error(error) from error

    def close(self) -> None:
        """Call when no read is under way."""
        for connection in self._open:
            connection.close()
        self._open.clear()


def _store_error(error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorname", "")
    if code == "SQLITE_FULL":
        return StoreFull("the disk of the resource repository is full")
    if code in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
        return StoreCorrupt("the resource repository's file is damaged")
    return StoreError(f"the resource repository cannot be used now ({code or type(error).__name__})")
