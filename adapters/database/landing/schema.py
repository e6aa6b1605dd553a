"""The landing schema as SQLAlchemy tables: those of the layout, and the books that versions, messages and migrations are kept in."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Context, Decimal
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Date, Index, MetaData, String, Table, Text
from sqlalchemy import types as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from adapters.database.landing.kinds import Form
from adapters.database.landing.layout import Layout
from adapters.database.landing.layout import Table as LayoutTable

MOST: Final = 600
CLOCK: Final = "sequence"
"""The row of landing_state that counts; whoever holds its lock writes."""


_LEAST: Final = Decimal("1e-30")
_WIDE: Final = Context(prec=66)


class Instant(sa.TypeDecorator[datetime]):
    """A moment in UTC to the microsecond, aware in Python; text of equal length in SQLite, so that it compares."""

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        forms = {"postgresql": postgresql.TIMESTAMP(timezone=True), "mysql": mysql.DATETIME(fsp=6)}
        return dialect.type_descriptor(forms.get(dialect.name, sa.String(27)))

    def process_bind_param(self, value: datetime | None, dialect: Any) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "mysql" else value.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")

    def process_result_value(self, value: Any, dialect: Any) -> datetime | None:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        moment: datetime | None = value
        return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class Number(sa.TypeDecorator[Decimal]):
    """A decimal: exact on PostgreSQL; 65 digits, 30 of them behind the point, on MariaDB (what is larger is NULL there); as near as a
    float comes in SQLite. The text beside it is exact everywhere."""

    impl = sa.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        forms = {"postgresql": sa.Numeric(), "mysql": mysql.DECIMAL(65, 30)}
        return dialect.type_descriptor(forms.get(dialect.name, sa.REAL()))

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        if dialect.name == "mysql":
            return value.quantize(_LEAST, context=_WIDE) if value.adjusted() < 35 else None
        return float(value)


class Short(sa.TypeDecorator[str]):
    """Text that is indexed: its first MOST characters, since PostgreSQL's index takes no row above 2,704 bytes. The JSON has all of it."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(mysql.LONGTEXT() if dialect.name == "mysql" else sa.Text())

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value if value is None else value[:MOST]


class Json(sa.TypeDecorator[str]):
    """JSON as text in Python; JSONB on PostgreSQL."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        forms: dict[str, Any] = {"postgresql": _Jsonb(), "mysql": mysql.LONGTEXT()}
        return dialect.type_descriptor(forms.get(dialect.name, sa.Text()))


class _Jsonb(sa.UserDefinedType[str]):
    """JSONB that takes the text of JSON, which PostgreSQL parses itself."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSONB"


_LONG: Final = Text().with_variant(mysql.LONGTEXT(), "mysql")
_WHOLE: Final = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
_FORMS: Final[dict[Form, Any]] = {
    Form.TEXT: _LONG,
    Form.ID: String(64),
    Form.BOOLEAN: Boolean(),
    Form.INTEGER: _WHOLE,
    Form.NUMERIC: Number(),
    Form.DAY: Date(),
    Form.INSTANT: Instant(),
    Form.JSON: Json(),
}
OWN: Final = (
    ("id", Form.ID, "Resource id"),
    ("version", Form.INTEGER, "Version: 1, 2, 3 …"),
    ("seq", Form.INTEGER, "Rises with every change of any resource, in the order of the commits: what an export goes by"),
    ("last_updated", Form.INSTANT, "When this version was landed"),
    ("deleted", Form.BOOLEAN, "Whether the resource was deleted; the columns stay as they were before"),
    ("landing", Form.INTEGER, "The message that made this version: landed_message.landing"),
    ("message_id", Form.INTEGER, "Its number in Meridian's store"),
    ("control_id", Form.TEXT, "Its control id"),
    ("sender", Form.TEXT, "The sending system, as the message says it"),
    ("received_at", Form.INSTANT, "When Meridian received the message"),
)
"""The columns that each row of a resource begins with."""


class Schema:
    """The tables of a layout, in a named schema of the database or in its default one."""

    def __init__(self, layout: Layout, name: str | None = None) -> None:
        self.layout, self.name = layout, name
        self.metadata = MetaData(schema=name)
        self.tables = {table.name: self._table(table) for table in layout.tables}
        self.state = self._book("landing_state", _STATE, "Counters of the landing schema; whoever writes holds the lock of `sequence`.")
        self.migrations = self._book("landing_migration", _MIGRATION, "Which versions of the schema this database has had.")
        self.messages = self._book("landed_message", _MESSAGE, "Every message landed, once: what a repetition is known by.")
        self.resources = self._book("resource", _RESOURCE, "Every resource of every type: its version now.")
        self.versions = self._book("resource_version", _VERSION, "Every version of every resource, as it was received.")

    def _table(self, table: LayoutTable) -> Table:
        columns = list(own_columns(table))
        for column in table.columns:
            for name, form, doc in column.sql():
                columns.append(_column(name, form, doc, indexed=column.indexed and name == column.index))
        if table.of_resources:
            columns.append(_column("content", Form.JSON, "The whole resource, with its id and its references resolved"))
        made = Table(table.name, self.metadata, *columns, comment=table.doc, **_OPTIONS)
        self._index(made, "seq")
        for column in table.columns:
            if column.indexed:
                self._index(made, column.index)
        return made

    def _book(self, name: str, columns: tuple[tuple[str, Form, str, str], ...], doc: str) -> Table:
        made = Table(
            name,
            self.metadata,
            *(_column(c, form, text, "p" in marks, indexed="i" in marks) for c, form, marks, text in columns),
            comment=doc,
            **_OPTIONS,
        )
        for column, _, marks, _ in columns:
            if "i" in marks or "u" in marks:
                self._index(made, column, unique="u" in marks)
        return made

    @staticmethod
    def _index(table: Table, column: str, unique: bool = False) -> None:
        long = isinstance(table.c[column].type, Short)
        Index(f"{table.name}_{column}_i"[:63], table.c[column], unique=unique, mysql_length={column: 190} if long else None)

    def index_of(self, table: str, column: str) -> Index:
        return next(index for index in self.tables[table].indexes if list(index.columns) == [self.tables[table].c[column]])


def own_columns(table: LayoutTable) -> list[Column[Any]]:
    """What each row of a table has beside what comes out of the content."""
    if table.of_resources:
        kind = [_column("resource_type", Form.ID, "Resource type", True)] if table.of_any else []
        return kind + [_column(name, form, doc, name == "id", name not in _MAY_MISS) for name, form, doc in OWN]
    kind = [_column("resource_type", Form.ID, "Type of the resource it is part of", True)] if table.of_any else []
    parts = (("resource_id", "Resource that it is part of"), ("number", "Its place there, from 1"))
    forms = (Form.ID, Form.INTEGER)
    keys = [_column(name, form, doc, True) for (name, doc), form in zip(parts, forms, strict=True)]
    return kind + keys + [_column(*column, False, True) for column in OWN[1:3]]


_MAY_MISS: Final = ("sender", "control_id", "received_at", "message_id")


def _column(name: str, form: Form, doc: str, key: bool = False, needed: bool = False, indexed: bool = False) -> Column[Any]:
    kind = Short() if indexed and form is Form.TEXT else _FORMS[form]
    return Column(name, kind, primary_key=key, nullable=not (key or needed), autoincrement=False, comment=doc, info={"form": form})


_OPTIONS: Final[dict[str, Any]] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

_STATE: Final = (("name", Form.ID, "p", "What is counted"), ("value", Form.INTEGER, "", "How far it has come"))
_MIGRATION: Final = (
    ("number", Form.INTEGER, "p", "Version of the schema"),
    ("applied_at", Form.INSTANT, "", "Since when"),
    ("program", Form.TEXT, "", "Which version of Meridian did it"),
)
_MESSAGE: Final = (
    ("landing", Form.INTEGER, "p", "Number of the landing: the sequence number of the message"),
    ("key_digest", Form.ID, "u", "SHA-256 of the idempotency key, as hex"),
    ("idempotency_key", Form.TEXT, "", "What is the same at every attempt to deliver it"),
    ("body_digest", Form.ID, "", "SHA-256 of the Bundle, as hex"),
    ("channel", Form.TEXT, "", "channel/destination that landed it"),
    ("node", Form.TEXT, "", "Meridian node that landed it"),
    ("message_id", Form.INTEGER, "i", "Number of the message in Meridian's store"),
    ("control_id", Form.TEXT, "i", "Control id of the message"),
    ("message_type", Form.TEXT, "", "Type of the message"),
    ("sender", Form.TEXT, "", "The sending system, as the message says it"),
    ("message_at", Form.TEXT, "", "The message's own time, as it says it"),
    ("received_at", Form.INSTANT, "", "When Meridian received it"),
    ("received_day", Form.DAY, "i", "The day of that, in the destination's zone"),
    ("landed_at", Form.INSTANT, "", "When it was landed"),
    ("created", Form.INTEGER, "", "Resources that it made"),
    ("updated", Form.INTEGER, "", "Resources that it changed"),
    ("deleted", Form.INTEGER, "", "Resources that it deleted"),
    ("unchanged", Form.INTEGER, "", "Entries that changed nothing"),
)
_RESOURCE: Final = (
    ("resource_type", Form.ID, "p", "Resource type"),
    ("id", Form.ID, "p", "Resource id"),
    ("version", Form.INTEGER, "", "Version now"),
    ("seq", Form.INTEGER, "i", "Sequence number of that version"),
    ("last_updated", Form.INSTANT, "", "When it was landed"),
    ("deleted", Form.BOOLEAN, "", "Whether it is deleted"),
    ("landing", Form.INTEGER, "i", "The message that made this version"),
    ("content_digest", Form.ID, "", "SHA-256 of the content without version and time, as hex"),
)
_VERSION: Final = (
    ("resource_type", Form.ID, "p", "Resource type"),
    ("id", Form.ID, "p", "Resource id"),
    ("version", Form.INTEGER, "p", "Version: 1, 2, 3 …"),
    ("seq", Form.INTEGER, "u", "Sequence number"),
    ("method", Form.ID, "", "POST | PUT | DELETE"),
    ("last_updated", Form.INSTANT, "", "When it was landed"),
    ("deleted", Form.BOOLEAN, "", "Whether this version is the deletion"),
    ("landing", Form.INTEGER, "i", "The message that made it"),
    ("received", Form.TEXT, "", "The resource's JSON as it was received"),
    ("digest", Form.ID, "", "SHA-256 of that, as hex"),
    ("resolved", Form.TEXT, "", "JSON: which references of it became which Type/id"),
)


def sequence_of(table: Table) -> Any:
    """The column with the sequence number of a table's rows."""
    return table.c.landing if "seq" not in table.c else table.c.seq


@cache
def schema_of(layout: Layout, name: str | None) -> Schema:
    """Made once for each layout and name."""
    return Schema(layout, name)


__all__ = ["CLOCK", "OWN", "Instant", "Json", "Number", "Schema", "own_columns", "schema_of", "sequence_of"]
