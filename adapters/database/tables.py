"""What a table is: its columns as the database declares them, its key; and how that differs from what it was (schema drift)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy
from sqlalchemy.dialects.mysql import base as mysql
from sqlalchemy.dialects.postgresql import base as postgresql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.types import NullType

from adapters.database.savepoints import spared

_UNKNOWN: Final = {
    postgresql: ("xml", "point", "line", "lseg", "box", "path", "polygon", "circle"),
    mysql: ("inet4", "inet6", "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"),
}
"""Types that SQLAlchemy would warn of each time that it sees one."""
for _dialect, _names in _UNKNOWN.items():
    for _name in _names:
        _dialect.ischema_names.setdefault(_name, NullType)

_DECLARED: Final = (
    (r"DECIMAL|NUMERIC|NUMBER|MONEY", "decimal"),
    (r"TIMESTAMP|DATETIME", "datetime"),
    (r"DATE", "date"),
    (r"TIME", "time"),
    (r"BOOL", "boolean"),
    (r"JSON", "json"),
)
_TEXT: Final = re.compile(r"CHAR|TEXT|CLOB|ENUM|SET\b|STRING|CLOB", re.IGNORECASE)
_PADDED: Final = re.compile(r"(?:N?CHAR|CHARACTER|BPCHAR)\b(?! *VARYING)", re.IGNORECASE)


@dataclass(frozen=True)
class Shape:
    """A table or view. `types` are the columns, in their order, with the database's own words; `key` the columns of its primary key or
    of a unique index without nulls, () where there is none. `indexes` are the columns of each index, in order, `unique` those of the
    indexes that no two rows may agree in. `needed` are columns that an INSERT must give a value, `generated` those made of
    others."""

    name: str
    types: Mapping[str, str]
    key: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    json: frozenset[str] = field(default=frozenset())
    unique: tuple[tuple[str, ...], ...] = ()
    needed: tuple[str, ...] = ()
    generated: frozenset[str] = field(default=frozenset())

    @property
    def declared(self) -> dict[str, str]:
        """Column -> kind for engine columns that hold something else than they are declared as (SQLite, JSON of MariaDB)."""
        found = {}
        for name, kind in self.types.items():
            if name in self.json:
                found[name] = "json"
                continue
            found[name] = next((word for pattern, word in _DECLARED if re.match(pattern, kind, re.IGNORECASE)), "")
        return {name: word for name, word in found.items() if word}

    def texts(self) -> list[str]:
        return [name for name, kind in self.types.items() if _TEXT.search(kind)]

    def padded(self) -> frozenset[str]:
        return frozenset(name for name, kind in self.types.items() if _PADDED.match(kind))

    def is_instant(self, column: str, dialect: str) -> bool:
        """Whether it holds moments, not the local times of some zone."""
        kind = self.types.get(column, "").upper()
        return "WITH TIME ZONE" in kind or "OFFSET" in kind or (dialect == "mysql" and kind.startswith("TIMESTAMP"))

    def noted(self) -> str:
        """For a checkpoint."""
        return json.dumps(dict(self.types), ensure_ascii=False, separators=(",", ":"))


def split(name: str) -> tuple[str | None, str]:
    """``lab.result`` as schema and table."""
    schema, _, table = name.rpartition(".")
    return schema or None, table


def table_of(name: str, columns: Sequence[str] = ()) -> sqlalchemy.TableClause:
    """For statements: the name is quoted where it must be; columns without a type, so that nothing converts them."""
    schema, table = split(name)
    return sqlalchemy.table(table, *(sqlalchemy.column(column) for column in columns), schema=schema)


def shape_of(connection: Connection, name: str) -> Shape | None:
    """What the database says of it now; None where there is no such table or view."""
    schema, table = split(name)
    inspector = sqlalchemy.inspect(connection)
    try:
        columns = inspector.get_columns(table, schema=schema)
    except NoSuchTableError:
        return None
    if not columns:
        return None
    types = {str(column["name"]): _worded(column["type"], connection.dialect) for column in columns}
    nullable = {str(column["name"]) for column in columns if column["nullable"]}
    primary = tuple(inspector.get_pk_constraint(table, schema=schema).get("constrained_columns") or ())
    indexes = [
        (tuple(str(one) for one in index["column_names"] if one is not None), bool(index.get("unique")) and _of_all(index))
        for index in inspector.get_indexes(table, schema=schema)
    ]
    unique = [tuple(str(c) for c in one["column_names"]) for one in inspector.get_unique_constraints(table, schema=schema)]
    unique += [names for names, is_unique in indexes if is_unique]
    usable = [names for names in unique if names and not set(names) & nullable]
    key = primary or (min(usable, key=len) if usable else ())
    together = (*([primary] if primary else []), *unique, *(names for names, _ in indexes))
    alone = tuple(dict.fromkeys([*([primary] if primary else []), *unique]))
    needed = tuple(str(column["name"]) for column in columns if _is_needed(column, primary))
    generated = frozenset(str(column["name"]) for column in columns if column.get("computed"))
    return Shape(name, types, key, tuple(dict.fromkeys(together)), _json_columns(connection, schema, table), alone, needed, generated)


def _of_all(index: Any) -> bool:
    """Not of an expression (its column has no name), and not of some of the rows only."""
    return None not in index["column_names"] and not any(option.endswith("_where") for option in index.get("dialect_options", {}))


def _is_needed(column: Any, primary: Sequence[str]) -> bool:
    given = column.get("default") is not None or column.get("identity") or column.get("computed") or column.get("autoincrement") is True
    return not (column["nullable"] or given or [column["name"]] == list(primary))


def _worded(kind: Any, dialect: Any) -> str:
    try:
        return str(kind.compile(dialect))
    except Exception:  # noqa: BLE001 - a type that SQLAlchemy does not know (NullType) has no words, and no common error either
        return str(kind)


def _json_columns(connection: Connection, schema: str | None, table: str) -> frozenset[str]:
    """MariaDB's JSON is text with a check: json_valid(`column`)."""
    if connection.dialect.name != "mysql":
        return frozenset()
    statement = sqlalchemy.text(
        "SELECT check_clause FROM information_schema.check_constraints "
        "WHERE constraint_schema = coalesce(:schema, database()) AND table_name = :table"
    )
    try:
        with spared(connection):
            found = connection.execute(statement, {"schema": schema, "table": table}).scalars().all()
    except sqlalchemy.exc.DBAPIError:  # MySQL's view has no table names, and its JSON a type of its own
        return frozenset()
    return frozenset(name for clause in found for name in re.findall(r"json_valid\(`([^`]+)`\)", str(clause), re.IGNORECASE))


def raw_text(column: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """The bytes of a column of text as they lie in the database, without any conversion by it or by its driver."""
    match dialect:
        case "postgresql":
            return sqlalchemy.func.convert_to(sqlalchemy.cast(column, sqlalchemy.Text), sqlalchemy.func.pg_catalog.getdatabaseencoding())
        case "oracle":
            return sqlalchemy.func.utl_raw.cast_to_raw(column)
        case "mssql":
            return sqlalchemy.cast(column, sqlalchemy.VARBINARY(None))
        case _:
            return sqlalchemy.cast(column, sqlalchemy.LargeBinary)


@dataclass(frozen=True)
class Drift:
    """How a table differs from what it was."""

    gone: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.gone or self.added or self.retyped)

    def __str__(self) -> str:
        parts = [f"gone: {', '.join(self.gone)}" if self.gone else "", f"added: {', '.join(self.added)}" if self.added else ""]
        parts += [f"{name} was {before} and is {now}" for name, before, now in self.retyped]
        return "; ".join(part for part in parts if part)

    def ruins(self, needed: Sequence[str], same_type: Sequence[str]) -> str:
        """Why the table can no longer be read, "" where it can: `needed` columns must be there, those of `same_type` as they were."""
        gone = [name for name in self.gone if name in needed]
        retyped = [name for name, _, _ in self.retyped if name in same_type]
        if gone:
            return f"{', '.join(gone)} is gone" if len(gone) == 1 else f"{', '.join(gone)} are gone"
        return f"{', '.join(retyped)} has another type" if retyped else ""


def drift(before: Mapping[str, str], now: Mapping[str, str]) -> Drift:
    """A renamed column is one that is gone and one that was added."""
    return Drift(
        tuple(name for name in before if name not in now),
        tuple(name for name in now if name not in before),
        tuple((name, before[name], now[name]) for name in before if name in now and before[name] != now[name]),
    )
