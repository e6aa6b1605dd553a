"""The landing schema as its two tables say it (tables.csv, columns.csv). DDL, extraction, comments and documentation come from here.

`since` numbers the version of the schema in which a table or column came; a change of the schema is new rows with the next number, and
never a change of old ones. A table with a path has a row for each item there; without one (and without a condition) it has a row for each
resource: the table of a type. `*` stands for every type; for a table of resources, every type that has none of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Final

from adapters.database.landing.kinds import KINDS, Form, Kind, named
from adapters.database.landing.paths import Condition, Path, compiled, condition

ANY: Final = "*"


@dataclass(frozen=True)
class Column:
    """One element of a resource, which becomes one to six SQL columns."""

    name: str
    kind: Kind
    kind_name: str
    path: Path
    source: str
    indexed: bool
    since: int
    doc: str

    @cached_property
    def begins(self) -> frozenset[str] | None:
        """The elements of an item that its path can begin with; None where it may begin elsewhere."""
        names = [steps[0].name if steps else "^" for steps in self.path]
        return None if "^" in names else frozenset(names)

    def sql(self) -> Iterator[tuple[str, Form, str]]:
        """Names, forms and comments of its SQL columns."""
        for part in self.kind.parts:
            yield named(self.name, part), part.form, f"{self.doc} ({part.doc})" if part.doc else self.doc

    @property
    def index(self) -> str:
        """The SQL column to index."""
        return named(self.name, self.kind.parts[self.kind.main])


@dataclass(frozen=True)
class Table:
    """A table of the landing schema."""

    name: str
    resource: str
    path: Path
    source: str
    where: Condition | None
    since: int
    doc: str
    columns: tuple[Column, ...]

    @property
    def of_resources(self) -> bool:
        """Whether it has a row for each resource, which stays when the resource is deleted."""
        return not self.source and self.where is None

    @property
    def of_any(self) -> bool:
        """Whether its rows are of many types, so that the type is part of their key."""
        return self.resource == ANY


@dataclass(frozen=True)
class Layout:
    """All tables, in the order of the file, and the version of the schema that they make."""

    tables: tuple[Table, ...]

    @property
    def version(self) -> int:
        return max(max(table.since, *(column.since for column in table.columns), 1) for table in self.tables)

    def of(self, resource_type: str) -> tuple[Table, tuple[Table, ...]]:
        """The table with the resource's own row, and those with rows for parts of it."""
        return self._by_type[0].get(resource_type, self._other), self._by_type[1].get(resource_type, self._parts_of_any)

    @cached_property
    def _by_type(self) -> tuple[Mapping[str, Table], Mapping[str, tuple[Table, ...]]]:
        own = {table.resource: table for table in self.tables if table.of_resources and not table.of_any}
        parts = {kind: tuple(t for t in self.tables if not t.of_resources and t.resource in (kind, ANY)) for kind in own}
        return own, parts

    @cached_property
    def _other(self) -> Table:
        return next(table for table in self.tables if table.of_resources and table.of_any)

    @cached_property
    def _parts_of_any(self) -> tuple[Table, ...]:
        return tuple(table for table in self.tables if not table.of_resources and table.of_any)

    def up_to(self, version: int) -> Layout:
        """As the schema was in an earlier version."""
        kept = [table for table in self.tables if table.since <= version]
        return Layout(tuple(_with(table, [column for column in table.columns if column.since <= version]) for table in kept))


def _with(table: Table, columns: Iterable[Column]) -> Table:
    return Table(table.name, table.resource, table.path, table.source, table.where, table.since, table.doc, tuple(columns))


def read(tables: str, columns: str) -> Layout:
    """Out of the text of the two files. Raises ValueError naming the row at fault."""
    by_table: dict[str, list[Column]] = {}
    for row in csv.DictReader(columns.splitlines()):
        by_table.setdefault(row["table"], []).append(_column(row))
    made = tuple(_table(row, by_table.pop(row["table"], [])) for row in csv.DictReader(tables.splitlines()))
    if by_table:
        raise ValueError(f"columns of tables that are not there: {', '.join(by_table)}")
    return Layout(made)


def _column(row: Mapping[str, str]) -> Column:
    if row["type"] not in KINDS:
        raise ValueError(f"{row['table']}.{row['column']}: there is no kind {row['type']!r}")
    indexed, since = row["index"] == "i", int(row["since"])
    return Column(row["column"], KINDS[row["type"]], row["type"], compiled(row["path"]), row["path"], indexed, since, row["doc"])


def _table(row: Mapping[str, str], columns: list[Column]) -> Table:
    names = [name for column in columns for name, _, _ in column.sql()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{row['table']}: columns named twice: {', '.join(sorted(twice))}")
    where = condition(row["where"]) if row["where"] else None
    path = compiled(row["path"])
    return Table(row["table"], row["resource"], path, row["path"], where, int(row["since"]), row["doc"], tuple(columns))


@cache
def shipped() -> Layout:
    """The landing schema of this version of Meridian."""
    folder = files("adapters.database.landing")
    return read((folder / "tables.csv").read_text("utf-8"), (folder / "columns.csv").read_text("utf-8"))
