"""Keeps an eye on what is read: the table's columns, the server that answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import Connection

from adapters.database.polling.rounds import Halted, Notice
from adapters.database.polling.subject import Subject, Unusable, subject_of
from adapters.database.tables import drift

if TYPE_CHECKING:
    from engine.options import Settings

SCHEMA: Final = "schema"
_LOOK_EVERY: Final = 300.0


class Keeping:
    """The subject of a poll, looked at again every few minutes and after every failure. `monotonic` gives seconds."""

    def __init__(self, options: Settings, site: Path, name: str, monotonic: Callable[[], float]) -> None:
        self._options, self._site, self._name, self._monotonic = options, site, name, monotonic
        self._noted: dict[str, str] = {}
        self._subject: Subject | None = None
        self._looked = 0.0
        self.said: list[Notice] = []

    def resume(self, checkpoint: str) -> None:
        """With what `noted` gave."""
        found = json.loads(checkpoint) if checkpoint else {}
        self._noted = found.get("types", {}) if found.get("table") == self._options.table else {}

    def noted(self) -> dict[str, Any]:
        """The columns as they are now, for a checkpoint."""
        return {"table": self._options.table, "types": self._noted}

    def look_again(self) -> None:
        """Something failed: the table may be another than it was."""
        self._looked = 0.0

    @property
    def subject(self) -> Subject:
        assert self._subject is not None
        return self._subject

    def look(self, connection: Connection) -> Subject:
        """The subject, worked out again where that is due. Raises Unusable before the first time it could be read, Halted after."""
        if self._subject is not None and self._looked and self._monotonic() - self._looked < _LOOK_EVERY:
            return self._subject
        try:
            subject = subject_of(connection, self._options, self._site, self._name)
        except Unusable as error:
            if not self._noted:
                raise
            raise Halted(f"{self._options.table or self._name}: {error.text}") from None
        if subject.shape is not None:
            self._compare(subject)
        self._subject, self._looked = subject, self._monotonic()
        return subject

    def _compare(self, subject: Subject) -> None:
        assert subject.shape is not None
        now = dict(subject.shape.types)
        found = drift(self._noted, now) if self._noted else None
        if found and (ruin := found.ruins(subject.needed, subject.fixed)):
            raise Halted(f"{subject.table} cannot be read any more: {ruin} ({found})")
        if found:
            facts = {"table": subject.table, "drift": str(found)}
            self.said.append(Notice("database.schema_changed", f"the columns of {subject.table} have changed: {found}", facts=facts))
        self._noted = now
