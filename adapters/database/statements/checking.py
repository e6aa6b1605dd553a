"""`meridian db check` for the destination `database`: whether each statement, and the outbox, could work as they are. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateIndex

from adapters.database import looking
from adapters.database.findings import Finding
from adapters.database.statements.compiled import Statement, compiled
from adapters.database.statements.destination import writing_engine
from adapters.database.statements.outbox import ddl, outbox_table
from adapters.database.statements.upserts import NATIVE
from adapters.database.tables import Shape, shape_of, split

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings


def check(options: Settings, context: Context) -> list[Finding]:
    """Every finding; what cannot be looked at because something before it failed is left out."""
    if file := looking.absent_file(options, context):
        return [Finding("reach", "fault", f"there is no file {file}: make it, with the tables of the statements")]
    return looking.destination(lambda: writing_engine(options, context), lambda engine: _findings(options, engine))


def _findings(options: Settings, engine: Engine) -> Iterator[Finding]:
    statements = compiled(options)
    with engine.connect() as connection:
        yield from looking.written_text(connection)
    if options.outbox is not None:
        yield from _outbox(engine, options.outbox, any(one.answer for one in statements))
    for statement in statements:
        what, faulty = f"statement {statement.number}", False
        for finding in _statement(engine, statement):
            faulty = faulty or finding.state != "fine"
            yield replace(finding, what=finding.what or what)
        if not faulty:
            yield Finding(what, "fine", f"{_called(statement)} may be run")


def _called(statement: Statement) -> str:
    kind = "upsert of " if statement.upsert is not None else "procedure " if statement.procedure else ""
    return f"{kind}{statement.title}" if kind else "it"


# --- the outbox ------------------------------------------------------------------------------------


def _outbox(engine: Engine, options: Settings, answers: bool) -> Iterator[Finding]:
    table, made = outbox_table(options.table), ddl(options.table, engine.dialect)
    with engine.connect() as connection:
        try:
            shape = shape_of(connection, options.table)
        except SQLAlchemyError:  # MariaDB shows a table, even that there is none, to who may select from it only
            yield _hidden(engine, options.table, made)
            return
        if shape is None:
            yield _absent(options, looking.may_create(connection, table.schema), made)
            return
    missing = [column.name for column in table.c if column.name not in shape.types]
    if missing:
        text = f"{options.table} has no column {', '.join(missing)}: it is no outbox. Say another table, or make this one anew"
        yield Finding("outbox", "fault", text, made)
    elif not _is_unique(shape, {"destination", "digest"}):
        text = f"nothing keeps two keys of {options.table} from being the same: digest and destination must be its primary key"
        yield Finding("outbox", "fault", text, made)
    else:
        yield from _outbox_rights(engine, table, options.table, answers)


def _hidden(engine: Engine, name: str, made: str) -> Finding:
    more = looking.grant(engine, ["SELECT", "INSERT", "UPDATE", "DELETE"], name)
    text = f"this user may not see {name}: make it where it is not there, and give the rights: {more}"
    return Finding("outbox", "fault", text, f"{made};\n{more}")


def _absent(options: Settings, creates: bool | None, made: str) -> Finding:
    if not options.create:
        text = f"there is no table {options.table}, or this user may not see it: run the statement that --sql shows"
        return Finding("outbox", "fault", text, made)
    if creates is False:
        text = f"there is no table {options.table}, and this user may make none: run the statement that --sql shows, or grant CREATE"
        return Finding("outbox", "fault", text, made)
    return Finding("outbox", "fine", f"{options.table} is made with the first message", made)


def _outbox_rights(engine: Engine, table: sa.Table, name: str, answers: bool) -> Iterator[Finding]:
    plain = sa.table(table.name, *(sa.column(one.name) for one in table.c), schema=table.schema)
    columns, of = [one.name for one in table.c], plain.c.digest == sa.bindparam("wanted")
    wanted: dict[str, Any] = {"SELECT": (sa.select(plain).where(of), None), "INSERT": (sa.insert(plain), columns)}
    if answers:
        wanted["UPDATE"] = (sa.update(plain).where(of), ["answer"])
    if refused := _explain(engine, wanted):
        more = looking.grant(engine, refused, name)
        yield Finding("outbox", "fault", f"{'; '.join(refused.values())}: {more}", more)
    elif refused := _explain(engine, {"DELETE": (sa.delete(plain).where(of), None)}):
        more = looking.grant(engine, refused, name)
        yield Finding("outbox", "warning", f"old keys stay for ever: {refused['DELETE']}: {more}", more)
    else:
        yield Finding("outbox", "fine", f"{name} is there, and may be written")


def _explain(engine: Engine, wanted: dict[str, Any]) -> dict[str, str]:
    return looking.refused(engine, wanted) if engine.dialect.name in looking.EXPLAINED else {}


# --- statements ------------------------------------------------------------------------------------


def _statement(engine: Engine, statement: Statement) -> Iterator[Finding]:
    """Findings whose `what` is empty are of the statement itself."""
    if statement.upsert is not None:
        yield from _upsert(engine, statement)
    elif statement.procedure:
        yield from _procedure(engine, statement)
    elif statement.sql.split(None, 1)[0].upper() not in looking.EXPLAINED.get(engine.dialect.name, ()):
        yield Finding("", "warning", "whether it may run is not known before it does: this database explains no such statement")
    elif refused := looking.refusal(engine, sa.text(statement.sql)):
        advice = "" if refused.state == "warning" else ": correct the statement, or give this user the right"
        yield replace(refused, text=refused.text + advice)


def _upsert(engine: Engine, statement: Statement) -> Iterator[Finding]:
    assert statement.upsert is not None
    table, columns = statement.title, [one.name for one in statement.bindings]
    faulty = False
    with engine.connect() as connection:
        for finding in _target(connection, table, columns, statement.upsert.key):
            faulty = faulty or finding.state == "fault"
            yield finding
    if faulty or engine.dialect.name not in NATIVE:
        return
    if refused := looking.refusal(engine, statement.upsert.statement(engine.dialect.name), columns):
        more = looking.grant(engine, ["SELECT", "INSERT", "UPDATE"], table)
        yield replace(refused, text=f"{refused.text}: {more}", ddl=more) if refused.state == "fault" else refused


def _target(connection: Connection, table: str, columns: list[str], key: list[str]) -> Iterator[Finding]:
    """The table that rows are put into."""
    try:
        shape = shape_of(connection, table)
    except SQLAlchemyError:  # MariaDB shows a table to who may select from it only
        yield Finding("", "warning", f"the columns and keys of {table} may not be seen by this user; SELECT would show them")
        return
    if shape is None:
        yield Finding("", "fault", f"there is no table {table}, or this user may not see it: make it, or correct `upsert`")
        return
    if missing := [name for name in columns if name not in shape.types]:
        yield Finding("", "fault", f"{table} has no column {', '.join(missing)}; it has {', '.join(shape.types)}: correct `with`")
        return
    if needed := [name for name in shape.needed if name not in columns]:
        text = f"{table} wants a value for {', '.join(needed)}, which `with` does not say: an INSERT fails, unless a trigger gives it"
        yield Finding("", "warning", text)
    yield from _unique(connection, shape, columns, key)
    if connection.dialect.name == "mysql":
        yield from _narrow(connection, table, columns)


def _unique(connection: Connection, shape: Shape, columns: list[str], key: list[str]) -> Iterator[Finding]:
    backend = connection.dialect.name
    if not _is_unique(shape, set(key)):
        made = _unique_index(connection, shape.name, key)
        if backend in NATIVE:
            text = f"no unique index of {shape.name} is over {', '.join(key)}: each message would be another row, or refused"
            yield Finding("", "fault", f"{text}. {made}", made)
        else:
            yield Finding("", "warning", f"two writers may insert the same row twice: {made}", made)
    if backend != "mysql":
        return
    for other in shape.unique:
        if set(other) != set(key) and set(other) <= set(columns):
            text = f"{shape.name} is also unique by {', '.join(other)}: a row that is the same there is changed, whatever its key"
            yield Finding("", "warning", text)


def _is_unique(shape: Shape, key: set[str]) -> bool:
    return any(set(one) == key for one in shape.unique)


def _unique_index(connection: Connection, name: str, key: list[str]) -> str:
    schema, table = split(name)
    made = sa.Table(table, sa.MetaData(), *(sa.Column(one) for one in key), schema=schema)
    index = sa.Index(f"{table}_{'_'.join(key)}_u"[:60], *made.c, unique=True)
    return str(CreateIndex(index).compile(dialect=connection.dialect)).strip()


def _narrow(connection: Connection, table: str, columns: list[str]) -> Iterator[Finding]:
    found = looking.charsets(connection, table)
    other = [f"{name} {found[name]}" for name in columns if found.get(name, "utf8mb4") not in ("utf8mb4", "ascii")]
    if other:
        text = f"{table}: a message with a character that these columns lack is a dead letter: {', '.join(other)}"
        yield Finding("charset", "warning", text)


# --- procedures ------------------------------------------------------------------------------------


def _procedure(engine: Engine, statement: Statement) -> Iterator[Finding]:
    asked = _PROCEDURES.get(engine.dialect.name)
    if asked is None:
        yield Finding("", "warning", f"whether {statement.procedure} is there is not looked at in {engine.dialect.name}")
        return
    schema, name = split(statement.procedure)
    with engine.connect() as connection:
        found = connection.execute(sa.text(asked), {"schema": schema, "name": name}).all()
    given = len(statement.bindings)
    if not found:
        yield Finding("", "fault", f"there is no procedure {statement.procedure}, or this user may not run it: make it, or grant EXECUTE")
    elif not (fitting := [one for one in found if one.least <= given <= one.most]):
        takes = " or ".join(str(one.most) for one in found)
        yield Finding("", "fault", f"{statement.procedure} takes {takes} arguments, `with` has {given}: correct `with`")
    elif not any(one.may for one in fitting):
        yield Finding("", "fault", f"this user may not run {statement.procedure}: grant EXECUTE on it")


_PROCEDURES = {
    "postgresql": "SELECT pronargs - pronargdefaults AS least, CASE WHEN provariadic > 0 THEN 100 ELSE pronargs END AS most, "
    "has_function_privilege(p.oid, 'EXECUTE') AS may FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
    "WHERE p.proname = :name AND (n.nspname = :schema OR (CAST(:schema AS text) IS NULL AND pg_function_is_visible(p.oid)))",
    "mysql": "SELECT count(p.ordinal_position) AS least, count(p.ordinal_position) AS most, 1 AS may FROM information_schema.routines r "
    "LEFT JOIN information_schema.parameters p ON p.specific_schema = r.routine_schema AND p.specific_name = r.specific_name "
    "AND p.ordinal_position > 0 WHERE r.routine_schema = coalesce(:schema, database()) AND r.routine_name = :name GROUP BY r.specific_name",
}
"""How many arguments each of that name takes, and whether this user may run it; MariaDB does not show it to who may not."""
