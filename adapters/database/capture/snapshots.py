"""The rows that are there when a capture begins: page by page in the order of their keys, in one transaction that sees one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from adapters.database.capture.changes import Change
from adapters.database.capture.state import Snapshot, State
from adapters.database.capture.subject import Subject, Subjects
from adapters.database.polling.statements import KEY, value
from adapters.database.tables import raw_text, table_of
from adapters.database.values import hints_of
from engine.formats.rows import native, worded


class Rows:
    """Reads on from where a state says, in a transaction that may be another than the one before: what changed in between was in the log
    that was read up to this transaction's moment."""

    def __init__(self, connection: Connection, subjects: Subjects) -> None:
        self._connection = connection
        self._subjects = {subject.name: subject for subject in subjects.values()}
        self._last: tuple[Any, ...] = ()
        self._table = ""

    def page(self, state: State, most: int) -> tuple[list[Change], State]:
        """Rows of one table, and the state when they are kept: without a snapshot where these were the last. Raises DBAPIError."""
        assert state.snapshot is not None
        snapshot: Snapshot = state.snapshot
        left = [name for name in self._subjects if name not in snapshot.done]
        if not left:
            return [], replace(state, snapshot=None)
        name = snapshot.table if snapshot.table in left else left[0]
        subject = self._subjects[name]
        last = self._from(snapshot) if name == snapshot.table else ()
        found, keys = self._read(subject, last, most)
        changes = [Change(subject, "snapshot", snapshot.generation, row) for row in found]
        if len(found) < most:
            now = Snapshot(snapshot.generation, (*snapshot.done, name))
            return changes, replace(state, snapshot=now if len(left) > 1 else None)
        self._table, self._last = name, keys
        words = [worded(one) for one in keys]
        now = Snapshot(snapshot.generation, snapshot.done, name, tuple(one for one, _ in words), tuple(kind for _, kind in words))
        return changes, replace(state, snapshot=now)

    def _from(self, snapshot: Snapshot) -> tuple[Any, ...]:
        """As the driver gave them, or out of a checkpoint."""
        if self._table == snapshot.table:
            return self._last
        return tuple(native(one, kind) for one, kind in zip(snapshot.key, snapshot.kinds, strict=True))

    def _read(self, subject: Subject, last: Sequence[Any], most: int) -> tuple[list[Any], tuple[Any, ...]]:
        dialect, names = self._connection.dialect.name, subject.shown
        table = table_of(f"{subject.schema}.{subject.table}" if subject.schema else subject.table, [*dict.fromkeys([*names, *subject.key])])
        shown = [raw_text(table.c[name], dialect).label(name) if name in subject.reading.charsets else table.c[name] for name in names]
        keys = [table.c[name] for name in subject.key]
        statement = sa.select(*shown, *(key.label(KEY.format(n)) for n, key in enumerate(keys))).order_by(*keys).limit(most)
        if last:
            statement = statement.where(_beyond(keys, last))
        result = self._connection.execute(statement)
        hints = hints_of(dialect, result.cursor.description or ())[: len(names)] if result.cursor is not None else ()
        columns = subject.reading.columns(names, hints)
        fetched = result.all()
        return [columns.row(row[: len(names)]) for row in fetched], tuple(fetched[-1][len(names) :]) if fetched else ()


def _beyond(keys: Sequence[ColumnElement[Any]], last: Sequence[Any]) -> ColumnElement[bool]:
    first = keys[0] > value(last[0])
    if len(keys) == 1:
        return first
    return sa.and_(keys[0] >= value(last[0]), sa.or_(first, _beyond(keys[1:], last[1:])))
