"""`meridian db check` for the destination `fhir_tables`: the level of the landing schema, and the rights on its tables. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Table
from sqlalchemy.engine import Engine

from adapters.database import looking
from adapters.database.connection import make_engine
from adapters.database.findings import Finding
from adapters.database.landing.layout import shipped
from adapters.database.landing.migration import version_of
from adapters.database.landing.retention import passed_by
from adapters.database.landing.schema import Schema, schema_of

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings


def check(options: Settings, context: Context) -> list[Finding]:
    """Every finding; what cannot be looked at because something before it failed is left out."""
    if file := looking.absent_file(options, context):
        if options.migrate:
            return [Finding("reach", "fine", f"{file.name} is made, with its tables, when the first message is landed")]
        return [Finding("reach", "fault", f"there is no file {file}, and `migrate` is false: say migrate: true until it has been made")]
    schema = schema_of(shipped(), options.schema)
    return looking.destination(lambda: make_engine(options.connection, context), lambda engine: _findings(options, schema, engine))


def _findings(options: Settings, schema: Schema, engine: Engine) -> Iterator[Finding]:
    with engine.connect() as connection:
        yield from looking.written_text(connection)
        has, wanted = version_of(connection, schema), schema.layout.version
    if has == wanted:
        yield Finding("level", "fine", f"the landing schema is version {has}, as this program's")
        yield from _rights(options, schema, engine)
        if options.keep is not None:
            yield from _retention(options.keep, schema, engine)
    elif has > wanted:
        text = f"the landing schema in the database is version {has}, this program knows up to {wanted}: a newer one has been here"
        yield Finding("level", "fault", f"{text}. Run that one, or land in another schema or database")
    elif not options.migrate:
        there = f"is version {has}" if has else "is not there, or may not be seen by this user"
        text = f"the landing schema {there}, this program needs {wanted}, and `migrate` is false"
        yield Finding("level", "fault", f"{text}: start a node once with migrate: true and a user who may make tables")
    else:
        yield from _to_be_made(schema, engine, "made" if not has else f"brought from version {has} to {wanted}")


def _to_be_made(schema: Schema, engine: Engine, how: str) -> Iterator[Finding]:
    named = f"schema {schema.name}" if schema.name else "the database"
    with engine.connect() as connection:
        absent = schema.name and not sa.inspect(connection).has_schema(schema.name)
        database = "SELECT has_database_privilege(current_database(), 'CREATE')"
        creates = bool(connection.exec_driver_sql(database).scalar()) if absent else looking.may_create(connection, schema.name)
    if creates is False:
        missing = "may make no schema" if absent else f"may make no tables in {named}"
        yield Finding("level", "fault", f"the landing schema must be {how}, and this user {missing}: grant CREATE on "
                      f"{'the database' if absent else named}, or have somebody else start a node once")  # fmt: skip
    else:
        yield Finding("level", "fine", f"the landing schema is {how} when the first message is landed")


def _rights(options: Settings, schema: Schema, engine: Engine) -> Iterator[Finding]:
    lacking: dict[tuple[str, ...], list[str]] = {}
    said = ""
    for table, rights in _needed(schema, forgets=options.keep is not None):
        if refused := looking.refused(engine, {right: _statement(table, right) for right in rights}):
            lacking.setdefault(tuple(refused), []).append(table.name)
            said = said or next(iter(refused.values()))
    if not lacking:
        yield Finding("rights", "fine", "every table may be read and written")
    for missing, tables in lacking.items():
        grants = [looking.grant(engine, missing, f"{schema.name}.{name}" if schema.name else name) for name in tables]
        some = f"{', '.join(tables[:3])}{f' and {len(tables) - 3} more' if len(tables) > 3 else ''}"
        yield Finding("rights", "fault", f"{', '.join(missing)} on {some} is refused: {said}. Run what --sql shows", ";\n".join(grants))


def _retention(keep: Settings, schema: Schema, engine: Engine) -> Iterator[Finding]:
    """What keeps old rows from being deleted."""
    for table, age in ((schema.versions, keep.versions), (schema.messages, keep.messages)):
        if not age:
            continue
        with engine.connect() as connection:
            passed = passed_by(connection, schema, table)
        if passed:
            folder, upto = min(passed.items(), key=lambda one: one[1])
            yield Finding("keep", "fine", f"old rows of {table.name} go up to {upto}, where the export to {folder} has come")
        elif keep.without_export:
            yield Finding("keep", "fine", f"old rows of {table.name} go; no export has it")
        else:
            text = f"nothing of {table.name} goes: no export has passed it yet. Export it, or say keep: {{without_export: true}}"
            yield Finding("keep", "warning", text)


def _needed(schema: Schema, *, forgets: bool) -> Iterator[tuple[Table, tuple[str, ...]]]:
    """What the landing does with each table."""
    book = ("SELECT", "INSERT", "DELETE") if forgets else ("SELECT", "INSERT")
    yield schema.state, ("SELECT", "UPDATE")
    yield schema.messages, book
    yield schema.versions, book
    yield schema.resources, ("SELECT", "INSERT", "UPDATE")
    for table in schema.layout.tables:
        yield schema.tables[table.name], ("SELECT", "INSERT", "UPDATE") if table.of_resources else ("SELECT", "INSERT", "DELETE")


def _statement(table: Table, right: str) -> tuple[Any, list[str] | None]:
    first = next(iter(table.primary_key.columns))
    of = first == sa.bindparam("wanted")
    match right:
        case "SELECT":
            return sa.select(table).where(of), None
        case "INSERT":
            return sa.insert(table), [column.name for column in table.c]
        case "UPDATE":
            return sa.update(table).where(of), [list(table.c)[-1].name]
        case _:
            return sa.delete(table).where(of), None
