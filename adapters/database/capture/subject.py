"""Which tables are captured, as the database has them now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from adapters.database.capture.state import Unreadable
from adapters.database.polling.subject import Unusable
from adapters.database.tables import Shape, shape_of, split
from adapters.database.values import Reading

if TYPE_CHECKING:
    from engine.options import Settings


@dataclass(frozen=True)
class Subject:
    """One table. `columns` are those of its messages, () for all that there ever are; `choices` the words of MariaDB's ENUM and SET."""

    name: str
    schema: str
    table: str
    shape: Shape
    columns: tuple[str, ...]
    key: tuple[str, ...]
    reading: Reading
    patient_ids: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]

    def require(self, known: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
        """`now` are the columns that the log has from here on, `known` those that it had. Raises Unreadable where a row could not be told
        from another any more, or would silently lose what the channel names."""
        named = [*self.columns, *self.patient_ids, *self.reading.charsets]
        needed = dict.fromkeys([*self.key, *(name for name in named if name in (known or ()))])
        if gone := [name for name in needed if name not in now]:
            raise Unreadable(f"{self.name} has no column {', '.join(gone)} any more, which its messages need")

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
    if connection.dialect.name == "postgresql":
        shape = _logged(shape, table)
    key = tuple(table.key) or shape.key
    if not key:
        text = "has no primary key and no unique index without nulls: a change could not be told from that of another row"
        raise Unusable(f"{table.name} {text}; say which columns tell rows apart (key: [...])")
    wanted = dict.fromkeys([*key, *table.columns, *table.charset, *table.patient_ids])
    if missing := [name for name in wanted if name not in shape.types]:
        raise Unusable(f"{table.name} has no column {', '.join(missing)}; it has {', '.join(shape.types)}")
    padded = shape.padded() if options.padding == "strip" else frozenset()
    name = split(table.name)[1]
    kinds = _kinds(connection, schema, name) if connection.dialect.name == "mysql" else {}
    declared = {column: kind for column, (kind, _) in kinds.items() if kind in ("uuid", "inet4", "inet6")}
    declared |= dict.fromkeys(shape.json, "json") if kinds else {}  # text to the log and to the driver
    reading = Reading(options.zone, dict(table.charset), declared, padded)
    choices = {column: _words(text) for column, (kind, text) in kinds.items() if kind in ("enum", "set")}
    return Subject(table.name, schema, name, shape, tuple(table.columns), key, reading, tuple(table.patient_ids), choices)


def _logged(shape: Shape, table: Settings) -> Shape:
    """Without generated columns, which pgoutput does not give: what a row has must not depend on where it was read."""
    wanted = dict.fromkeys([*(table.key or shape.key), *table.columns, *table.charset, *table.patient_ids])
    if made := [name for name in wanted if name in shape.generated]:
        raise Unusable(f"{table.name}: {', '.join(made)} is generated, and the log does not have it")
    return replace(shape, types={name: kind for name, kind in shape.types.items() if name not in shape.generated})


_COLUMNS: Final = sa.text(
    "SELECT column_name, lower(data_type), column_type FROM information_schema.columns WHERE table_schema = :schema AND table_name = :table"
)
_CHOICE: Final = re.compile(r"'((?:[^']|'')*)'")


def _kinds(connection: Connection, schema: str, table: str) -> dict[str, tuple[str, str]]:
    """Column -> its type in one word, and in full."""
    found = connection.execute(_COLUMNS, {"schema": schema, "table": table})
    return {str(name): (str(kind), str(text)) for name, kind, text in found}


def _words(text: str) -> tuple[str, ...]:
    """Of ``enum('a','b')``."""
    return tuple(one.replace("''", "'") for one in _CHOICE.findall(text))
