"""The events of a binary log put together: which changes, in which transaction, and where the log stands after each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from adapters.database.capture.binlog import EventStream
from adapters.database.capture.binlogrows import Rows, described, parted, truncated
from adapters.database.capture.binlogserver import order
from adapters.database.capture.changes import Change
from adapters.database.capture.state import State, Unreadable
from adapters.database.capture.subject import Subjects
from adapters.database.polling.rounds import Notice
from adapters.database.tables import drift

if TYPE_CHECKING:
    from engine.options import Settings

_CHANGING: Final = re.compile(r"\s*(?:/\*.*?\*/\s*)*(INSERT|UPDATE|DELETE|REPLACE|LOAD)\b", re.IGNORECASE | re.DOTALL)


class BinaryTransactions:
    """Which changes, in which transaction. `at` is where the transaction under way begins, or the next one."""

    def __init__(self, subjects: Subjects, state: State, options: Settings) -> None:
        self._subjects, self._options = subjects, options
        self.at, self._proof, self._types = state.at, state.proof, dict(state.types)
        self._skip = state.index if state.within else 0
        self._index = 0
        self._rows: dict[int, Rows | None] = {}
        self.changes: list[Change] = []
        self._notices: list[Notice] = []

    def take(self, event: Any, stream: EventStream) -> None:
        match stream.kind(event):
            case "table":
                self._rows[event.table_id] = self._described(event)
            case "rows":
                self._of(event, stream.prepared)
            case "statement":
                self._statement(event.schema.decode("utf-8", "replace"), event.query, stream)
            case "end":
                self._ended(stream)
        if not stream.within:
            self._ended(stream)

    def _of(self, event: Any, prepared: bool) -> None:
        rows = self._rows.get(event.table_id)
        if rows is None:
            return
        if prepared:
            raise Unreadable(f"rows of {rows.subject.name} were changed in two phases (XA PREPARE), and may be rolled back yet")
        for kind, row, before in rows.of(event):
            self._add(rows, kind, row, before)

    def _add(self, rows: Rows, kind: str, row: Any, before: Any) -> None:
        self._index += 1
        if self._index > self._skip:
            self.changes.append(rows.change(kind, f"{self.at}/{self._index}", row, before))

    def _statement(self, schema: str, query: str, stream: EventStream) -> None:
        """TRUNCATE is a statement in the log; a change of rows as a statement cannot be read."""
        for named in truncated(schema, query):
            if (subject := self._subjects.get(named)) is not None:
                self._index += 1
                if self._index > self._skip:
                    self.changes.append(Change(subject, "truncate", f"{self.at}/{self._index}"))
        for named in parted(schema, query):
            if (subject := self._subjects.get(named)) is not None:
                raise Unreadable(
                    f"a partition of {subject.name} was emptied, dropped or exchanged: the log does not say which rows are gone"
                )
        if _CHANGING.match(query):
            touched = [
                one.name for (_, table), one in self._subjects.items() if re.search(rf"\b{re.escape(table)}\b", query, re.IGNORECASE)
            ]
            if touched:
                raise Unreadable(f"a change of {', '.join(touched)} was logged as a statement (binlog_format of that session), not as rows")

    def _ended(self, stream: EventStream) -> None:
        """A description of the log, which comes first wherever it is read from, stands at its beginning."""
        if order(stream.at) <= order(self.at):
            return
        self.at, self._index, self._skip = stream.at, 0, 0
        self._proof = stream.gtids(self._proof)

    def _described(self, event: Any) -> Rows | None:
        subject = self._subjects.get((event.schema, event.table))
        if subject is None:
            return None
        types = described(event.columns)
        if None in types or any(name is None for name in types):
            raise Unreadable(f"the log does not name the columns of {subject.name} (binlog_row_metadata = FULL)")
        known = self._types.get(subject.name)
        subject.require(known, types)
        if known is not None and (found := drift(known, types)):
            facts = {"table": subject.name, "drift": str(found)}
            self._notices.append(Notice("database.schema_changed", f"the columns of {subject.name} have changed: {found}", facts=facts))
        self._types = {**self._types, subject.name: types}
        return Rows(event.columns, subject)

    def given(self, state: State) -> tuple[list[Change], State]:
        changes, self.changes = self.changes, []
        within, index = (self.at, max(self._index, self._skip)) if self._index else ("", 0)
        return changes, state.moved(self.at, within, index, proof=self._proof, types=self._types)

    def notices(self) -> list[Notice]:
        found, self._notices = self._notices, []
        return found
