"""The performed procedure steps of a study, as the modality worklist of this node has them (adapters.dicom.worklist): read only."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Final

from adapters.dicom.archive.completion import NO_STEPS, Steps

_STATES: Final = (
    "select count(*) filter (where status = 'IN PROGRESS'), count(*) filter (where status <> 'IN PROGRESS') from mpps where study = ?"
)
_NAMED: Final = "select distinct sop from performed where study = ? and sop <> '' and status <> 'IN PROGRESS'"


class PerformedSteps:
    """One connection, one thread. A worklist that is not there yet has no steps."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def of(self, study_uid: str, held: Collection[str]) -> Steps:
        """`held` are the SOP Instance UIDs that are here. Raises sqlite3.Error."""
        if self._connection is None:
            if not self._path.exists():
                return NO_STEPS
            self._connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            self._connection.execute("PRAGMA busy_timeout=5000")
        in_progress, ended = self._connection.execute(_STATES, (study_uid,)).fetchone()
        if not in_progress and not ended:
            return NO_STEPS
        named = {uid for (uid,) in self._connection.execute(_NAMED, (study_uid,))}
        return Steps(in_progress, ended, len(named.difference(held)))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
