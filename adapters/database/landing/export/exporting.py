"""One run of an export: what has changed since the last one, by sequence number, out of one snapshot of the database.

A sequence number rises in the order of the commits (adapters.database.landing.landing), so that nothing can still come below the
highest one that a snapshot shows. A row that changed is exported again: the one with the highest `seq` is what it is now, `deleted` tells
that it is no more, and rows of parts count as long as their `version` is that of their resource.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import sqlalchemy
from sqlalchemy import Connection, Table, Text, cast, select
from sqlalchemy.engine import Engine

from adapters.database.landing.export.folder import File, Folder, Manifest, encoded, locked
from adapters.database.landing.export.formats import FORMATS, Columns, Writing
from adapters.database.landing.kinds import Form
from adapters.database.landing.migration import version_of
from adapters.database.landing.retention import note
from adapters.database.landing.schema import CLOCK, Schema, sequence_of
from engine.errors import ConfigError

_PAGE: Final = 5_000
_PAGE_CHARACTERS: Final = 32 << 20


@dataclass(frozen=True)
class Request:
    """`tables` empty: all of them. `since`: only in a folder that is new for a table: rows after that sequence number. `noted`: say in the
    database how far it has come, so that nothing is deleted before."""

    to: Path
    format: str = "parquet"
    tables: Sequence[str] = ()
    since: int | None = None
    rows: int = 1_000_000
    noted: bool = False


class Exported(NamedTuple):
    """What a run has done: the files it added, how far it came, what an interrupted run had left."""

    files: list[File]
    upto: int
    removed: list[str]


class _Snapshot(NamedTuple):
    connection: Connection
    schema: Schema
    upto: int


def export(engine: Engine, schema: Schema, request: Request) -> Exported:
    """Raises ConfigError, SQLAlchemyError, OSError."""
    tables = _tables(schema, request.tables)
    with locked(request.to) as folder, engine.connect() as connection:
        if request.noted:  # before the snapshot: from now on nothing goes that this folder lacks
            _note(engine, schema, request, folder, tables, {})
        snapshot = _snapshot(connection, schema)
        database = _identity(snapshot)
        manifest = folder.read()
        removed = folder.clean(manifest)
        manifest = manifest or Manifest(request.format, database)
        _check(manifest, request, database, snapshot.upto)
        added = [file for table in tables for file in _table(folder, snapshot, table, manifest, request)]
        manifest.files += added
        manifest.upto.update(dict.fromkeys((table.name for table in tables), snapshot.upto))
        folder.write(manifest)
        if request.noted:
            _note(engine, schema, request, folder, tables, manifest.upto)
    return Exported(added, snapshot.upto, removed)


def _note(engine: Engine, schema: Schema, request: Request, folder: Folder, tables: Sequence[Table], upto: dict[str, int]) -> None:
    """`upto` empty: as the folder has it now."""
    if not upto:
        manifest = folder.read()
        upto = manifest.upto if manifest else {}
    with engine.begin() as connection:
        note(connection, schema, str(request.to.resolve()), {table.name: upto.get(table.name, 0) for table in tables})


def _tables(schema: Schema, names: Sequence[str]) -> list[Table]:
    known = {**schema.tables, **{table.name: table for table in (schema.messages, schema.resources, schema.versions)}}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"there is no table {', '.join(unknown)} to export; known: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


def _snapshot(connection: Connection, schema: Schema) -> _Snapshot:
    if connection.dialect.name == "sqlite":  # without a transaction of its own each SELECT would see another moment
        connection.exec_driver_sql("BEGIN")
    else:
        connection.execution_options(isolation_level="REPEATABLE READ")
    has = version_of(connection, schema)
    if has == 0:
        raise ConfigError("nothing was landed in this database yet: it has no landing schema")
    if has != schema.layout.version:
        raise ConfigError(f"the landing schema in the database is version {has}, this program's is {schema.layout.version}")
    clock = select(schema.state.c.value).where(schema.state.c.name == CLOCK)
    return _Snapshot(connection, schema, int(connection.execute(clock).scalar_one()))


def _identity(snapshot: _Snapshot) -> str:
    """When its tables were first made: another database has another one."""
    migrations = snapshot.schema.migrations.c
    return str(snapshot.connection.execute(select(sqlalchemy.func.min(migrations.applied_at))).scalar_one())


def _check(manifest: Manifest, request: Request, database: str, upto: int) -> None:
    if manifest.format != request.format:
        raise ConfigError(f"{request.to} has {manifest.format}; export {request.format} to another folder")
    if manifest.database != database or any(there > upto for there in manifest.upto.values()):
        raise ConfigError(f"{request.to} has the tables of another database, or of a later state of this one")
    if request.since is not None and any(table in manifest.upto for table in request.tables or manifest.upto):
        raise ConfigError(f"{request.to} goes on where it has come to; --since is for a new folder")


# --- one table -----------------------------------------------------------------------------------


def _table(folder: Folder, snapshot: _Snapshot, table: Table, manifest: Manifest, request: Request) -> Iterator[File]:
    schema = f"{table.name}/schema.json"
    folder.put(schema, encoded([{"column": c.name, "type": c.info["form"].value, "meaning": c.comment} for c in table.c]))
    manifest.schemas[schema] = folder.sum(schema)
    after = manifest.upto.get(table.name, request.since or 0)
    pages = _pages(snapshot, table, after)
    columns = [(str(column.name), column.info["form"]) for column in table.c]
    place = next(index for index, (name, _) in enumerate(columns) if name == sequence_of(table).name)
    left: list[Any] = []
    while True:
        made = _one_file(folder, table, columns, pages, left, place, request, after, snapshot)
        if made is None:
            return
        yield made
        after = made.rows_to


def _one_file(
    folder: Folder, table: Table, columns: Columns, pages: Iterator[list[Any]], left: list[Any], place: int, request: Request, after: int,
    snapshot: _Snapshot,
) -> File | None:  # fmt: skip
    """As many rows as a file may have, and then those that share the last one's sequence number. `left` holds what was read too much."""
    rows = left or next(pages, [])
    if not rows:
        return None
    form = FORMATS[request.format]
    part = folder.part(f"{table.name}/{table.name}-{after + 1:012d}-{snapshot.upto:012d}.{form.suffix}")
    writing: Writing = form(part, columns)
    count, last = 0, after
    try:
        while rows:
            room = request.rows - count
            if room <= 0 and rows[0][place] != last:
                break
            taken = _up_to(rows, room, last, place)
            writing.add(rows[:taken])
            count, last = count + taken, rows[taken - 1][place]
            rows = rows[taken:] or next(pages, [])
    finally:
        writing.close()
    left[:] = rows
    to = last if rows else snapshot.upto
    name = f"{table.name}/{table.name}-{after + 1:012d}-{to:012d}.{form.suffix}"
    folder.finish(part, name)
    size = (folder.path / name).stat().st_size
    return File(name, table.name, count, size, folder.sum(name), after + 1, to, snapshot.schema.layout.version)


def _up_to(rows: list[Any], room: int, last: int, place: int) -> int:
    """How many rows go into this file: those there is room for, and all with the sequence number of the last of them."""
    end = min(max(room, 0), len(rows))
    edge = rows[end - 1][place] if end else last
    while end < len(rows) and rows[end][place] == edge:
        end += 1
    return end


def _pages(snapshot: _Snapshot, table: Table, after: int) -> Iterator[list[Any]]:
    """Rows with the table's columns in their order, exact decimals out of the text beside them."""
    sequence = sequence_of(table)
    shown = [cast(column, Text) if column.info["form"] is Form.JSON else column for column in table.c]
    query = select(*shown).where(sequence > after, sequence <= snapshot.upto).order_by(sequence, *table.primary_key.columns)
    exact = [(index, _beside(table, column.name)) for index, column in enumerate(table.c) if column.info["form"] is Form.NUMERIC]
    result = snapshot.connection.execution_options(stream_results=True, max_row_buffer=1_000).execute(query)
    page: list[Any] = []
    size = 0
    for found in result:
        row = list(found)
        for index, beside in exact:
            row[index] = None if row[beside] is None else _decimal(row[beside])
        page.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
        if len(page) >= _PAGE or size >= _PAGE_CHARACTERS:
            yield page
            page, size = [], 0
    if page:
        yield page


def _beside(table: Table, name: str) -> int:
    return list(table.c.keys()).index(f"{name}_text")


def _decimal(text: str) -> Decimal | None:
    """None where the column is NULL too: no number that a table could hold."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        return None
    return number if number.is_finite() and -1000 < number.adjusted() < 1000 else None
