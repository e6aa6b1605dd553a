"""What a poll reads, worked out against the database as it is: columns, key, character sets, statements, details."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import Connection, Engine

from adapters.database.polling.statements import KEY, MARK, DetailPages
from adapters.database.tables import Shape, shape_of
from adapters.database.values import Columns, Reading, Row, hints_of, instants
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.options import Settings

ALL: Final = "all"


@contextmanager
def reading(engine: Engine, isolation: str) -> Iterator[Connection]:
    """A connection in a transaction that cannot write and sees one state of the database; it is always rolled back."""
    backend = engine.dialect.name
    chosen: dict[str, Any] = {"postgresql_readonly": True} if backend == "postgresql" else {}
    if backend in ("postgresql", "mysql"):
        chosen["isolation_level"] = isolation.upper()
    elif backend == "mssql":
        chosen["isolation_level"] = "SNAPSHOT" if isolation == "repeatable read" else "READ COMMITTED"
    with engine.connect() as plain:
        connection = plain.execution_options(**chosen)
        if begin := _READ_ONLY.get(backend):
            connection.exec_driver_sql(begin)
        try:
            yield connection
        finally:
            connection.rollback()
            if backend == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = OFF")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A connection in a short transaction that is committed at the end. SQLite takes its lock at the beginning, so that what is read in
    it is still so when it is written."""
    chosen = {} if engine.dialect.name == "sqlite" else {"isolation_level": "READ COMMITTED"}
    with engine.connect() as plain:
        connection = plain.execution_options(**chosen)
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        connection.commit()


_READ_ONLY: Final = {
    "mysql": "SET TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


class Unusable(ConfigError):
    """A table that cannot be read as the site's file says."""


@dataclass(frozen=True)
class Fetched:
    """One row of a page: `mark` and `key` as the driver gave them, for the next statement; instants are aware."""

    row: Row
    key: tuple[Any, ...]
    mark: Any = None


@dataclass(frozen=True)
class Detail:
    """`links` are the row's columns that the details refer to."""

    pages: DetailPages
    links: tuple[str, ...]
    reading: Reading
    hidden: int


@dataclass(frozen=True)
class Subject:
    """`shape` is None for a select or procedure: what it gives is seen only when it runs."""

    options: Settings
    dialect: str
    table: str
    shape: Shape | None
    columns: tuple[str, ...]
    key: tuple[str, ...]
    reading: Reading
    raw: frozenset[str]
    details: Mapping[str, Detail]

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns without which it cannot be read."""
        options = self.options
        mark = [options.watermark.column] if options.watermark else []
        status = [n for n in _status_columns(options.status) if n] if options.status else []
        links = [name for one in options.details.values() for name in one.by.values()]
        return tuple(dict.fromkeys([*self.key, *mark, *status, *links, *options.columns, *options.patient_ids]))

    @property
    def fixed(self) -> tuple[str, ...]:
        """Columns whose values are compared with those of earlier polls."""
        return (*self.key, self.options.watermark.column) if self.options.watermark else self.key

    def fetch(self, connection: Connection, statement: Any, bound: Mapping[str, Any] | None = None) -> list[Fetched]:
        """Run a page's statement."""
        result = connection.execute(statement, dict(bound or {}))
        names = list(result.keys())
        shown = [name for name in names if not name.startswith("meridian_")]
        hints = hints_of(self.dialect, result.cursor.description or ()) if result.cursor is not None else []
        columns = self.reading.columns(shown, hints[: len(shown)])
        mark, keys = self._places(names)
        return [
            Fetched(columns.row(raw[: len(shown)]), tuple(raw[at] for at in keys), None if mark is None else raw[mark])
            for raw in (instants(one, hints) for one in result)
        ]

    def _places(self, names: Sequence[str]) -> tuple[int | None, list[int]]:
        """Where the watermark and the key stand in a row."""
        wanted = self.options.watermark.column if self.options.watermark else ""
        missing = [name for name in (*self.key, wanted) if name and name not in names and KEY.format(0) not in names]
        if missing:
            raise Unusable(f"{self.table} gives no column {', '.join(missing)}; it gives {', '.join(names)}")
        if KEY.format(0) in names:
            return names.index(MARK) if MARK in names else None, [names.index(KEY.format(n)) for n in range(len(self.key))]
        return names.index(wanted) if wanted else None, [names.index(name) for name in self.key]

    def with_details(self, connection: Connection, fetched: Sequence[Fetched]) -> list[dict[str, list[Row]]]:
        """The details of each row."""
        found: list[dict[str, list[Row]]] = [{name: [] for name in self.details} for _ in fetched]
        if not fetched:
            return found
        for name, detail in self.details.items():
            of: dict[tuple[Any, ...], list[int]] = {}
            for index, one in enumerate(fetched):
                of.setdefault(tuple(one.row.values.get(link) for link in detail.links), []).append(index)
            keys = [key for key in of if None not in key]
            for words, row in self._detail_rows(connection, detail, keys):
                for index in of.get(words, ()):
                    found[index][name].append(row)
        return found

    def _detail_rows(self, connection: Connection, detail: Detail, keys: list[tuple[Any, ...]]) -> Iterator[tuple[Any, Row]]:
        for statement, bound in detail.pages.statements(keys):
            result = connection.execute(statement, bound)
            names = list(result.keys())
            hidden = sum(name.startswith("meridian_") for name in names)
            shown = len(names) - hidden
            hints = hints_of(self.dialect, result.cursor.description or ())
            columns: Columns = detail.reading.columns(names[:shown], hints[:shown])
            links: Columns = detail.reading.columns([*detail.pages.by], hints[shown:] if hidden else [])
            at = list(range(shown, len(names))) if hidden else [names.index(name) for name in detail.pages.by]
            for raw in result:
                row = columns.row(raw[:shown])
                yield tuple(links.row([raw[place] for place in at]).values.values()), row


def subject_of(connection: Connection, options: Settings, site: Path, name: str) -> Subject:
    """Raises Unusable with the reason, DBAPIError where the database does not answer."""
    dialect = connection.dialect.name
    shape = _shape(connection, options.table) if options.table else None
    columns = tuple(options.columns or shape.types) if shape else ()
    key = tuple(options.key) or (shape.key if shape else ())
    if shape is not None:
        _require(shape, options, key, columns)
    details = {name: _detail(connection, one, options, dialect) for name, one in options.details.items()}
    read, raw = _reading(options, shape, columns)
    table = options.table or options.as_table or (options.procedure.name if options.procedure else name)
    return Subject(options, dialect, table, shape, columns, key, read, raw, details)


def _shape(connection: Connection, name: str) -> Shape:
    shape = shape_of(connection, name)
    if shape is None:
        raise Unusable(f"there is no table or view {name}, or this user may not see it")
    return shape


def _require(shape: Shape, options: Settings, key: Sequence[str], columns: Sequence[str]) -> None:
    if not key:
        text = "has no primary key and no unique index without nulls: say which columns tell one row from another (key: [...])"
        raise Unusable(f"{shape.name} {text}")
    wanted = [*key, *columns, *options.patient_ids, *(link for one in options.details.values() for link in one.by.values())]
    wanted += [options.watermark.column] if options.watermark else [n for n in _status_columns(options.status) if n]
    missing = [name for name in dict.fromkeys(wanted) if name not in shape.types]
    if missing:
        raise Unusable(f"{shape.name} has no column {', '.join(missing)}; it has {', '.join(shape.types)}")


def _status_columns(status: Settings) -> list[str | None]:
    return [status.column, status.claimed_at, status.claimed_by, status.reason, *status.order]


def _reading(options: Settings, shape: Shape | None, columns: Sequence[str]) -> tuple[Reading, frozenset[str]]:
    charsets = {name: charset for name, charset in options.charset.items() if name != ALL}
    if ALL in options.charset and shape is not None:
        charsets = {**dict.fromkeys(shape.texts(), options.charset[ALL]), **charsets}
    declared = shape.declared if shape else {}
    padded = shape.padded() if shape and options.padding == "strip" else frozenset()
    zone = options.zone
    return Reading(zone, charsets, declared, padded), frozenset(name for name in columns if name in charsets)


def _detail(connection: Connection, detail: Settings, options: Settings, dialect: str) -> Detail:
    shape = _shape(connection, detail.table) if detail.table else None
    columns = tuple(detail.columns or (shape.types if shape else ()))
    if shape is not None:
        missing = [name for name in (*detail.by, *columns, *detail.order) if name not in shape.types]
        if missing:
            raise Unusable(f"{shape.name} has no column {', '.join(missing)}; it has {', '.join(shape.types)}")
    read, raw = _reading(options, shape, columns)
    pages = DetailPages(detail.table or "", detail.select or "", detail.by, detail.order, columns, raw, dialect)
    return Detail(pages, tuple(detail.by.values()), read, len(detail.by))
