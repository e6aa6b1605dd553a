"""Brings a database to this version of the landing schema, and fills new columns from what has been landed already.

Step N makes the tables and columns of the layout whose `since` is N. Each looks first at what is there, since MariaDB ends a transaction
at every change of a table: a step that was cut off goes on where it was. New tables and columns are filled from the JSON of the
resources, page by page; then landing_migration says that the step is done. Views are made anew after any step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, tzinfo
from importlib.resources import files
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Connection, Text, bindparam, cast, insert, select
from sqlalchemy.schema import CreateColumn, CreateSchema, SetColumnComment

from adapters.database.landing.extraction import part_rows, row
from adapters.database.landing.layout import Column, Table
from adapters.database.landing.schema import CLOCK, Schema
from engine import __version__
from engine.errors import StoreError
from engine.formats import fhir

_PAGE: Final = 500
_VIEW: Final = re.compile(r"-- view (?P<name>\w+): (?P<doc>.+)\n(?P<sql>(?:.|\n)+?);\n")


def version_of(connection: Connection, schema: Schema) -> int:
    """Which version the database has; 0 where there is none."""
    if not sqlalchemy.inspect(connection).has_table("landing_migration", schema=schema.name):
        return 0
    return int(connection.execute(select(sqlalchemy.func.coalesce(sqlalchemy.func.max(schema.migrations.c.number), 0))).scalar_one())


def migrate(connection: Connection, schema: Schema, zone: tzinfo, now: datetime) -> list[int]:
    """Do the steps that are missing; gives their numbers. The caller commits. Raises StoreError where the database is ahead."""
    has, wanted = version_of(connection, schema), schema.layout.version
    if has > wanted:
        raise StoreError(f"the landing schema in the database is version {has}, this program knows up to {wanted}")
    if has == wanted:
        return []
    if has == 0:
        _begin(connection, schema)
    drop_views(connection, schema)
    for number in range(has + 1, wanted + 1):
        _step(connection, schema, number, zone)
        connection.execute(insert(schema.migrations).values(number=number, applied_at=now, program=__version__))
    create_views(connection, schema)
    return list(range(has + 1, wanted + 1))


def _begin(connection: Connection, schema: Schema) -> None:
    if schema.name and not sqlalchemy.inspect(connection).has_schema(schema.name):  # who may not make one may use one that is there
        connection.execute(CreateSchema(schema.name))
    books = [schema.state, schema.migrations, schema.messages, schema.resources, schema.versions]
    schema.metadata.create_all(connection, books)
    if connection.execute(select(schema.state.c.value).where(schema.state.c.name == CLOCK)).first() is None:
        connection.execute(insert(schema.state).values(name=CLOCK, value=0))


# --- one step ------------------------------------------------------------------------------------


def _step(connection: Connection, schema: Schema, number: int, zone: tzinfo) -> None:
    for table in schema.layout.tables:
        if table.since == number:
            Schema(schema.layout.up_to(number), schema.name).tables[table.name].create(connection, checkfirst=True)
            if number > 1:
                _fill_table(connection, schema, table, zone)
        elif table.since < number and (added := [column for column in table.columns if column.since == number]):
            _add(connection, schema, table, added)
            _fill_columns(connection, schema, table, added, zone)


def _add(connection: Connection, schema: Schema, table: Table, added: list[Column]) -> None:
    made = schema.tables[table.name]
    there = {column["name"] for column in sqlalchemy.inspect(connection).get_columns(table.name, schema=schema.name)}
    preparer = connection.dialect.identifier_preparer
    for column in added:
        for name, _, _ in column.sql():
            if name not in there:
                specification = CreateColumn(made.c[name]).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {preparer.format_table(made)} ADD COLUMN {specification}".replace("%", "%%"))
                if connection.dialect.supports_comments and not connection.dialect.inline_comments:
                    connection.execute(SetColumnComment(made.c[name]))
        if column.indexed:
            schema.index_of(table.name, column.index).create(connection, checkfirst=True)


def _fill_columns(connection: Connection, schema: Schema, table: Table, added: list[Column], zone: tzinfo) -> None:
    """From the resources' JSON. Rows of parts are found again by their number."""
    made = schema.tables[table.name]
    only = Table(table.name, table.resource, table.path, table.source, table.where, table.since, table.doc, tuple(added))
    keys = [column for column in made.primary_key.columns if column.name != "number" or not table.of_resources]
    names = [name for column in added for name, _, _ in column.sql()]
    change = (
        made.update().values({name: bindparam(f"n_{name}") for name in names}).where(*(key == bindparam(f"k_{key.name}") for key in keys))
    )
    for page in _resources(connection, schema, table):
        rows = []
        for identity, resource in page:
            found = [row(only, resource, (), zone)] if table.of_resources else list(part_rows(only, resource, zone))
            for one in found:
                key = {**identity, "number": one.pop("number", None)}
                rows.append(
                    {
                        **{f"n_{name}": value for name, value in one.items()},
                        **{f"k_{c.name}": key[_SHORT.get(c.name, c.name)] for c in keys},
                    }
                )
        if rows:
            connection.execute(change, rows)


_SHORT: Final = {"resource_id": "id"}


def _fill_table(connection: Connection, schema: Schema, table: Table, zone: tzinfo) -> None:
    """A new table of parts has a row for each part of each resource there is. A new table of a type takes its rows from other_resource."""
    made = schema.tables[table.name]
    if table.of_resources:
        _move(connection, schema, table, zone)
        return
    connection.execute(made.delete())
    for page in _resources(connection, schema, table):
        kind = {"resource_type"} if table.of_any else set()
        rows = [
            {"resource_id": identity["id"], **{name: identity[name] for name in ("version", "seq", *kind)}, **one}
            for identity, resource in page
            for one in part_rows(table, resource, zone)
        ]
        if rows:
            connection.execute(insert(made), rows)


def _move(connection: Connection, schema: Schema, table: Table, zone: tzinfo) -> None:
    made, other = schema.tables[table.name], schema.tables["other_resource"]
    shared = [column.name for column in other.c if column.name in made.c]
    taken = select(*(other.c[name] for name in shared)).where(other.c.resource_type == table.resource)
    there = select(made.c.id)
    connection.execute(insert(made).from_select(shared, taken.where(other.c.id.not_in(there))))
    connection.execute(other.delete().where(other.c.resource_type == table.resource))
    _fill_columns(connection, schema, table, list(table.columns), zone)


def _resources(connection: Connection, schema: Schema, table: Table) -> Iterator[list[tuple[dict[str, Any], dict[str, Any]]]]:
    """The resources whose rows a table has, in pages: their identity, and their content."""
    kept = [one for one in schema.layout.tables if one.of_resources and (table.of_any or one.resource == table.resource)]
    version = version_of(connection, schema)
    for one in kept:
        if one.since > version + 1:
            continue
        made = schema.tables[one.name]
        kind = made.c.resource_type if one.of_any else sqlalchemy.literal(one.resource).label("resource_type")
        after: tuple[Any, Any] = ("", "")
        order = (kind, made.c.id) if one.of_any else (made.c.id,)
        while True:
            beyond = sqlalchemy.tuple_(*order) > after[-len(order) :] if one.of_any else made.c.id > after[-1]
            query = select(kind, made.c.id, made.c.version, made.c.seq, cast(made.c.content, Text).label("content")).where(beyond)
            if not table.of_resources:
                query = query.where(~made.c.deleted)
            page = connection.execute(query.order_by(*order).limit(_PAGE)).all()
            if not page:
                break
            after = (page[-1].resource_type, page[-1].id)
            yield [(dict(zip(_IDENTITY, found[:4], strict=True)), fhir.parse(found.content.encode())) for found in page]


_IDENTITY: Final = ("resource_type", "id", "version", "seq")


# --- views ---------------------------------------------------------------------------------------


def views() -> list[tuple[str, str, str]]:
    """Name, what it is for, and SQL with {s} for the schema, in the order in which they can be made."""
    text = (files("adapters.database.landing") / "views.sql").read_text("utf-8")
    return [(match["name"], match["doc"].strip(), match["sql"].strip()) for match in _VIEW.finditer(text)]


def create_views(connection: Connection, schema: Schema) -> None:
    prefix = _prefix(connection, schema)
    for name, doc, sql in views():
        connection.exec_driver_sql(f"CREATE VIEW {prefix}{name} AS\n{sql.replace('{s}', prefix)}".replace("%", "%%"))
        if connection.dialect.name == "postgresql":
            quoted = doc.replace("'", "''").replace("%", "%%")
            connection.exec_driver_sql(f"COMMENT ON VIEW {prefix}{name} IS '{quoted}'")


def drop_views(connection: Connection, schema: Schema) -> None:
    for name, _, _ in reversed(views()):
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {_prefix(connection, schema)}{name}")


def _prefix(connection: Connection, schema: Schema) -> str:
    return f"{connection.dialect.identifier_preparer.quote_schema(schema.name)}." if schema.name else ""
