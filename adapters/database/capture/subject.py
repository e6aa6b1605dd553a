"""Which tables are captured, as the database has them now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from adapters.database.polling.subject import Unusable
from adapters.database.tables import Shape, shape_of, split
from adapters.database.values import Reading

if TYPE_CHECKING:
    from engine.options import Settings


@dataclass(frozen=True)
class Subject:
    """One table. `columns` are those of its messages, () for all that there ever are."""

    name: str
    schema: str
    table: str
    shape: Shape
    columns: tuple[str, ...]
    key: tuple[str, ...]
    reading: Reading
    patient_ids: tuple[str, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        return self.columns or tuple(self.shape.types)


Subjects = Mapping[tuple[str, str], Subject]
"""By schema and table, as the log calls them."""


def subjects_of(connection: Connection, options: Settings) -> Subjects:
    """Raises Unusable with the reason, DBAPIError where the database does not answer."""
    default = str(connection.dialect.default_schema_name or "")
    found = {}
    for table in options.tables:
        schema, name = split(table.name)
        found[schema or default, name] = _subject(connection, options, table, schema or default)
    if len(found) != len(options.tables):
        raise Unusable("two of the tables are the same one")
    return found


def _subject(connection: Connection, options: Settings, table: Settings, schema: str) -> Subject:
    shape = shape_of(connection, table.name)
    if shape is None:
        raise Unusable(f"there is no table {table.name}, or this user may not see it")
    key = tuple(table.key) or shape.key
    if not key:
        text = "has no primary key and no unique index without nulls: a change could not be told from that of another row"
        raise Unusable(f"{table.name} {text}; say which columns tell rows apart (key: [...])")
    wanted = dict.fromkeys([*key, *table.columns, *table.charset, *table.patient_ids])
    if missing := [name for name in wanted if name not in shape.types]:
        raise Unusable(f"{table.name} has no column {', '.join(missing)}; it has {', '.join(shape.types)}")
    padded = shape.padded() if options.padding == "strip" else frozenset()
    reading = Reading(options.zone, dict(table.charset), _declared(connection, shape), padded)
    return Subject(table.name, schema, split(table.name)[1], shape, tuple(table.columns), key, reading, tuple(table.patient_ids))


def _declared(connection: Connection, shape: Shape) -> dict[str, str]:
    """What neither the log's types nor the driver's tell: JSON of MariaDB, which is text to both."""
    return dict.fromkeys(shape.json, "json") if connection.dialect.name == "mysql" else {}
