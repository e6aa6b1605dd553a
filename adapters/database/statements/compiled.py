"""A destination's statements, compiled once: over what they run, when, and with which rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from adapters.database.polling.statements import called
from adapters.database.statements.binding import REPEAT, Binding, Content, Item
from adapters.database.statements.conversions import for_driver
from adapters.database.statements.options import statements_of
from adapters.database.statements.upserts import Upsert
from engine.expressions import Predicate, all_hold

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from engine.options import Settings

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """`touches` and `answer` as in the options; what has neither may share an executemany with other messages'."""

    number: int
    bindings: tuple[Binding, ...]
    when: Sequence[Predicate]
    each: str | None
    touches: str
    answer: bool
    title: str
    returns: str | None = None
    sql: str = ""
    upsert: Upsert | None = None
    procedure: str = ""
    _clauses: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def shared(self) -> bool:
        return self.touches == "any" and not self.answer and not self.procedure

    def rows(self, content: Content, backend: str) -> list[Row]:
        """What is bound, once for each time that it runs. Raises PermanentDelivery."""
        return [
            {one.name: for_driver(one.bound(item), backend) for one in self.bindings}
            for item in self._items(content)
            if not self.when or all_hold(self.when, item)
        ]

    def _items(self, content: Content) -> Iterator[Item]:
        if self.each is None:
            return iter([Item(content)])
        return (Item(content, index) for index in content.indexes(self.each.removesuffix(REPEAT)))

    def run(self, connection: Connection, rows: Sequence[Row]) -> tuple[int, Any]:
        """How many rows it has touched, and its result where it has run once."""
        if self.upsert is not None:
            return self.upsert.run(connection, rows), None
        clause = self.clause(connection.dialect.name)
        if len(rows) > 1 and self.touches == "any" and not self.procedure:
            return max(connection.execute(clause, list(rows)).rowcount, 0), None
        touched, result = 0, None
        for row in rows:
            result = connection.execute(clause, row)
            touched += max(result.rowcount, 0)
            if not self.answer and result.returns_rows:
                result.close()
        return touched, result

    def clause(self, dialect: str) -> sa.TextClause:
        """The text for a dialect."""
        if dialect not in self._clauses:
            self._clauses[dialect] = sa.text(self._call(dialect) if self.procedure else self.sql)
        clause: sa.TextClause = self._clauses[dialect]
        return clause

    def _call(self, dialect: str) -> str:
        arguments = [f":{one.name}" for one in self.bindings]
        if self.returns == "table":
            return called(self.procedure, arguments, dialect, "table")
        call = called(self.procedure, arguments, dialect, "result")
        return f"BEGIN {call.removeprefix('CALL ')}; END;" if dialect == "oracle" else call


def compiled(settings: Settings) -> list[Statement]:
    """The statements of a destination's settings."""
    return [_compiled(number, one, settings) for number, one in statements_of(settings)]


def _compiled(number: int, one: Settings, settings: Settings) -> Statement:
    given = one["with"]
    bindings = tuple(Binding.of(name, given[name], settings.zone) for name in given)
    upsert = Upsert(one.upsert, list(given), one.key, one.keep) if one.upsert else None
    title = one.upsert or one.procedure or f"statement {number}"
    return Statement(
        number,
        bindings,
        one.when,
        one.each,
        one.touches,
        one.answer,
        title,
        one.returns,
        one.run or "",
        upsert,
        one.procedure or "",
    )
