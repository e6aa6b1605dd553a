"""The messages of pgoutput put together: which changes, in which transaction, and where the log stands after each."""

from __future__ import annotations

from collections.abc import Callable

from adapters.database.capture.changes import Change
from adapters.database.capture.pgoutput import (
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    MessageCut,
    Relation,
    Truncate,
    Update,
    lsn_of,
    lsn_text,
)
from adapters.database.capture.pgrows import Loading, RelationRows
from adapters.database.capture.state import State
from adapters.database.capture.subject import Subjects
from adapters.database.polling.rounds import Notice
from adapters.database.tables import drift


class Transactions:
    """Counts the changes of each transaction, so that one that was kept in part is gone on with where it stood. `limit` is an LSN: at the
    first transaction that commits there or later it has `reached` it, and takes nothing more."""

    def __init__(self, subjects: Subjects, state: State, loading: Loading, type_name: Callable[[int, int], str]) -> None:
        self._subjects, self._loading, self._type_name = subjects, loading, type_name
        self._at, self._types = lsn_of(state.at), dict(state.types)
        self._skip = (lsn_of(state.within), state.index) if state.within else (0, 0)
        self._open: Begin | None = None
        self._index = 0
        self._relations: dict[int, RelationRows | None] = {}
        self.changes: list[Change] = []
        self.limit: int | None = None
        self.reached = False
        self._notices: list[Notice] = []

    def take(self, message: Message) -> None:
        match message:
            case Begin():
                self.reached = self.limit is not None and message.lsn >= self.limit
                self._open, self._index = message, 0
            case Commit():
                self._at, self._open, self._index = message.end, None, 0
            case Relation():
                self._relations[message.id] = self._described(message)
            case Insert() | Update() | Delete():
                rows = self._of(message.relation)
                self._add(lambda position: [] if rows is None else [rows.change(message, position)])
            case Truncate():
                tables = [self._of(one) for one in message.relations]
                self._add(lambda position: [Change(one.subject, "truncate", position) for one in tables if one is not None])

    def _of(self, relation: int) -> RelationRows | None:
        if relation not in self._relations:
            raise MessageCut("the log has a row of a table that it has not described")
        return self._relations[relation]

    def _add(self, made: Callable[[str], list[Change]]) -> None:
        """Count one message; a transaction before `at`, or the first ones of that which was kept in part, were handed in before."""
        if self._open is None:
            raise MessageCut("the log has a row outside of a transaction")
        self._index += 1
        lsn, (within, kept) = self._open.lsn, self._skip
        if lsn >= self._at and not (lsn == within and self._index <= kept):
            self.changes.extend(made(f"{lsn_text(lsn)}/{self._index}"))

    def idle(self, wal_end: int) -> None:
        """The server has sent all that was committed before `wal_end`; a transaction that it is sending was committed later."""
        self._at = max(self._at, wal_end or 0) if self._open is None else max(self._at, min(wal_end or 0, self._open.lsn))
        if self._open is None:
            self.reached = self.limit is not None and self._at >= self.limit

    def given(self, state: State) -> tuple[list[Change], State]:
        """The changes since it was last asked, and the state after them."""
        changes, self.changes = self.changes, []
        within, index = (lsn_text(self._open.lsn), self._index) if self._open and self._index and not self.reached else ("", 0)
        if within and (self._open and self._open.lsn == self._skip[0]):
            index = max(index, self._skip[1])
        return changes, state.moved(lsn_text(self._at), within, index, types=self._types)

    def _described(self, relation: Relation) -> RelationRows | None:
        subject = self._subjects.get((relation.schema, relation.table))
        if subject is None:
            return None
        types = {column.name: self._type_name(column.type, column.modifier) for column in relation.columns}
        known = self._types.get(subject.name)
        subject.require(known, types)
        if known is not None and (found := drift(known, types)):
            facts = {"table": subject.name, "drift": str(found)}
            self._notices.append(Notice("database.schema_changed", f"the columns of {subject.name} have changed: {found}", facts=facts))
        self._types = {**self._types, subject.name: types}
        return RelationRows(relation, subject, self._loading)

    def notices(self) -> list[Notice]:
        found, self._notices = self._notices, []
        return found
