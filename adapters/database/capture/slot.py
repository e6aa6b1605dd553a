"""Publication and replication slot of PostgreSQL: what is there, what is missing, and the statements that make it.

A table without a replica identity is refused before it comes into a publication: from then on PostgreSQL would refuse every UPDATE and
DELETE of the hospital's own programs on it (documentation, section 29.1 "Publication").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from adapters.database.capture.pgoutput import lsn_of
from adapters.database.capture.subject import Subject, Subjects
from adapters.database.findings import Finding
from adapters.database.polling.subject import Unusable

if TYPE_CHECKING:
    from engine.options import Settings

_SLOT: Final = sa.text(
    "SELECT plugin, database, active, restart_lsn::text, confirmed_flush_lsn::text, wal_status, safe_wal_size, "
    "pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = :name"
)
_IDENTITY: Final = sa.text(
    "SELECT c.relkind::text, c.relreplident::text, c.relpersistence::text, ARRAY(SELECT a.attname::text FROM pg_index i "
    "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = c.oid AND i.indisvalid AND "
    "CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relname = :table"
)
_PUBLICATION: Final = sa.text(
    "SELECT pubinsert, pubupdate, pubdelete, pubtruncate, coalesce((to_jsonb(p) ->> 'pubviaroot')::boolean, false) "
    "FROM pg_publication p WHERE pubname = :name"
)
_PUBLISHED: Final = sa.text(
    "SELECT schemaname::text, tablename::text, to_jsonb(t) ->> 'rowfilter', to_jsonb(t) -> 'attnames' "
    "FROM pg_publication_tables t WHERE pubname = :name"
)
_PARTITIONED: Final = sa.text("SELECT relkind = 'p' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                              "WHERE n.nspname = :schema AND c.relname = :table")  # fmt: skip
_RIGHTS: Final = sa.text("SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user")
_LIMIT: Final = sa.text("SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'")


@dataclass(frozen=True)
class Slot:
    """A slot as pg_replication_slots shows it. `kept` is how many bytes of log it holds back; `left` how many more it may."""

    plugin: str
    database: str
    active: bool
    restart: int
    confirmed: int
    status: str
    left: int | None
    kept: int


def slot_of(connection: Connection, name: str) -> Slot | None:
    row = connection.execute(_SLOT, {"name": name}).one_or_none()
    if row is None:
        return None
    plugin, database, active, restart, confirmed, status, left, kept = row
    return Slot(plugin or "", database or "", active, lsn_of(restart or "0/0"), lsn_of(confirmed or "0/0"), status or "", left, kept or 0)


def limit_of(connection: Connection) -> int | None:
    """How many bytes of log the server keeps for a slot at most; None: all of it, until its disk is full (and before version 13)."""
    found: int | None = connection.execute(_LIMIT).scalar()
    return None if found is None or found < 0 else found


def require_log(connection: Connection) -> None:
    """What no statement of ours can mend. Raises Unusable."""
    level = connection.execute(sa.text("SHOW wal_level")).scalar_one()
    if level != "logical":
        raise Unusable(f"wal_level is {level}: changes can be captured only with wal_level = logical, which needs a restart of the server")
    if not connection.execute(_RIGHTS).scalar_one():
        raise Unusable("the user may not read the log: ALTER ROLE … REPLICATION")


def require_tables(connection: Connection, options: Settings, subjects: Subjects) -> None:
    """Raises Unusable for a table whose changes would not say which row."""
    for subject in subjects.values():
        _identified(connection, options, subject)


def _identified(connection: Connection, options: Settings, subject: Subject) -> None:
    row: Any = connection.execute(_IDENTITY, {"schema": subject.schema, "table": subject.table}).one_or_none()
    if row is None or row[0] not in "rp":
        raise Unusable(f"{subject.name} is no table: a view has no changes of its own")
    if row[2] != "p":
        raise Unusable(f"{subject.name} is not logged (temporary or unlogged)")
    if row[1] == "f" or not {"update", "delete"} & set(options.operations):
        return
    if row[1] == "n" or not row[3]:
        text = "has no replica identity: updates and deletes would not say which row, and PostgreSQL would refuse them once it is published"
        raise Unusable(f"{subject.name} {text}; it needs a primary key, or ALTER TABLE {subject.name} REPLICA IDENTITY FULL")
    if missing := [name for name in subject.key if name not in row[3]]:
        raise Unusable(f"{subject.name}: {', '.join(missing)} of the key is not in its replica identity ({', '.join(row[3])})")


def missing(connection: Connection, options: Settings, name: str, subjects: Subjects) -> list[sa.DDL]:
    """The statements that the publication `name` still needs. Raises Unusable where it publishes less than is wanted."""
    publication = connection.execute(_PUBLICATION, {"name": name}).one_or_none()
    quoted, parted = connection.dialect.identifier_preparer.quote(name), _is_parted(connection, subjects)
    if publication is None:
        tables = ", ".join(_named(connection, subject) for subject in subjects.values())
        root = ", publish_via_partition_root = true" if parted else ""
        return [_statement(f"CREATE PUBLICATION {quoted} FOR TABLE {tables} WITH (publish = '{', '.join(options.operations)}'{root})")]
    *operations, via_root = publication
    published = dict(zip(("insert", "update", "delete", "truncate"), operations, strict=True))
    if left_out := [one for one in options.operations if not published[one]]:
        raise Unusable(f"the publication {name} does not publish {', '.join(left_out)}")
    if parted and not via_root:
        text = f"ALTER PUBLICATION {quoted} SET (publish_via_partition_root = true)"
        raise Unusable(f"the publication {name} gives rows of partitions, not of their table; an administrator may run: {text}")
    added = unpublished(connection, name, subjects)
    if not added:
        return []
    return [_statement(f"ALTER PUBLICATION {quoted} ADD TABLE {', '.join(_named(connection, one) for one in added)}")]


def unpublished(connection: Connection, name: str, subjects: Subjects) -> list[Subject]:
    """Tables that are not in the publication `name`. Raises Unusable for one of which it has only some rows, or not all columns."""
    there = {(schema, table): (rows, columns) for schema, table, rows, columns in connection.execute(_PUBLISHED, {"name": name})}
    for place, subject in subjects.items():
        rows, columns = there.get(place, (None, None))
        if rows is not None:
            raise Unusable(f"the publication {name} has only some rows of {subject.name}: WHERE {rows}")
        wanted = dict.fromkeys([*subject.key, *subject.shown, *subject.patient_ids])
        if left_out := [column for column in wanted if columns is not None and column not in columns]:
            raise Unusable(f"the publication {name} does not have {', '.join(left_out)} of {subject.name}")
    return [subject for place, subject in subjects.items() if place not in there]


def _is_parted(connection: Connection, subjects: Subjects) -> bool:
    places = ({"schema": subject.schema, "table": subject.table} for subject in subjects.values())
    return any(connection.execute(_PARTITIONED, place).scalar() for place in places)


def _named(connection: Connection, subject: Subject) -> str:
    return connection.dialect.identifier_preparer.format_table(_table(subject))


def _table(subject: Subject) -> Any:
    return sa.Table(subject.table, sa.MetaData(), schema=subject.schema)


def _statement(text: str) -> sa.DDL:
    """DDL is formatted with %."""
    return sa.DDL(text.replace("%", "%%"))  # type: ignore[no-untyped-call]


def text_of(statements: Sequence[sa.DDL]) -> str:
    return "; ".join(str(one.statement).replace("%%", "%") for one in statements)


# --- meridian db check ---------------------------------------------------------------------------

_SLOTS: Final = sa.text("SELECT current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots")


def checked(connection: Connection, options: Settings, slot: str, publication: str, subjects: Subjects) -> Iterator[Finding]:
    """What there is to say of a server that `require` has nothing against. Raises Unusable."""
    yield Finding("rights", "fine", "wal_level is logical, and the user may read the log")
    statements = missing(connection, options, publication, subjects)
    if not statements:
        yield Finding("publication", "fine", f"{publication} has all tables")
    else:
        state: Literal["warning", "fault"] = "warning" if options.create else "fault"
        yield Finding("publication", state, f"{publication} is not complete yet: {text_of(statements)}")
    yield from _slot(connection, options, slot)
    yield _limited(connection, options)


def _slot(connection: Connection, options: Settings, name: str) -> Iterator[Finding]:
    found, free = slot_of(connection, name), connection.execute(_SLOTS).scalar_one()
    if found is None:
        text = f"{name} is not there yet; {free} more slots can be made (max_replication_slots)"
        yield Finding("slot", "fault" if free < 1 or not options.create else "warning", text)
    elif found.status == "lost":
        yield Finding("slot", "fault", f"{name} is lost: the server has thrown away what it was to keep for it")
    else:
        late = found.kept > options.most_behind
        text = f"{name} holds {found.kept} bytes of log back" + (f", {found.left} more before it is lost" if found.left is not None else "")
        yield Finding("slot", "warning" if late else "fine", text)
        if free < 1 and options.snapshot == "initial":
            yield Finding("slot", "warning", "no further slot can be made: a snapshot that was interrupted needs one for a moment")


def _limited(connection: Connection, options: Settings) -> Finding:
    limit = limit_of(connection)
    if limit is None:
        text = "max_slot_wal_keep_size is not limited: while Meridian is away the log grows until the disk of the database is full"
        return Finding("log", "warning", text)
    if limit < options.most_behind:
        return Finding(
            "log", "warning", f"max_slot_wal_keep_size ({limit} bytes) is less than most_behind: the slot is lost before the alarm"
        )
    return Finding("log", "fine", f"the server keeps at most {limit} bytes of its log for a slot")
