"""`meridian db check` and `meridian db preview` for the source `database`: looks at the real database and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.connection import make_engine
from adapters.database.errors import DatabaseError, sort
from adapters.database.findings import Finding, Preview
from adapters.database.looking import charsets, proven, reached
from adapters.database.polling.explaining import serves
from adapters.database.polling.rounds import Poll
from adapters.database.polling.server import clock_of
from adapters.database.polling.source import poll_of
from adapters.database.polling.statements import Claims, TablePages
from adapters.database.polling.subject import Subject, reading, subject_of, writing
from adapters.database.polling.window import Position
from adapters.database.savepoints import spared
from adapters.database.tables import shape_of, table_of
from engine.errors import ConfigError, MeridianError
from engine.formats import rows

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

_SKEW: Final = 5.0


def preview(options: Settings, context: Context, checkpoints: dict[str, str]) -> Preview:
    """Raises MeridianError with the reason why nothing could be read."""
    engine = make_engine(options.connection, context)
    try:
        poll = poll_of(options, context, engine)
        poll.resume(checkpoints)
        page = poll.preview(context.clock())
    except SQLAlchemyError as error:
        raise ConfigError(sort(error).text) from None
    finally:
        engine.dispose()
    records = [rows.read(bytes(item.envelope.body)) for item in page.items]  # type: ignore[arg-type]
    columns: dict[str, str] = {}
    for record in records:
        columns.update({name: record.types.get(name, columns.get(name, "")) for name in record.row})
    bodies = [rows.write(record) for record in records]
    unreadable = sum(item.invalid is not None for item in page.items)
    return Preview(bodies, [record.position for record in records], columns, unreadable, page.more)


def check(options: Settings, context: Context, checkpoints: dict[str, str]) -> list[Finding]:
    """Every finding; what cannot be looked at because something before it failed is left out."""
    found: list[Finding] = []
    try:
        engine = make_engine(options.connection, context)
    except MeridianError as error:
        return [Finding("reach", "fault", str(error))]
    try:
        found.extend(_Check(options, context, engine, checkpoints).findings())
    finally:
        engine.dispose()
    return found


class _Check:
    def __init__(self, options: Settings, context: Context, engine: Engine, checkpoints: dict[str, str]) -> None:
        self._options, self._context, self._engine, self._checkpoints = options, context, engine, checkpoints

    def findings(self) -> Iterator[Finding]:
        yield from proven(self._engine.dialect.name)
        try:
            with reading(self._engine, self._options.isolation) as connection:
                yield reached(connection)
                yield from self._clock(connection)
                subject = subject_of(connection, self._options, self._context.site, self._context.name)
                yield from self._looked(connection, subject)
            yield from self._rights(subject)
            yield from self._read()
        except ConfigError as error:
            yield Finding("table", "fault", error.text)
        except SQLAlchemyError as error:
            yield Finding("reach", "fault", sort(error).text)

    def _clock(self, connection: Connection) -> Iterator[Finding]:
        ours = self._context.clock() / 1e6
        skew = clock_of(connection).timestamp() - ours
        state: Any = "fine" if abs(skew) < _SKEW else "warning"
        yield Finding("clock", state, f"the database's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's")

    def _looked(self, connection: Connection, subject: Subject) -> Iterator[Finding]:
        looks: list[Callable[[Connection, Subject], Iterator[Finding]]] = [self._key, self._index, self._charset, self._zone, self._details]
        for look in looks:
            yield from look(connection, subject)
        yield from _longest(connection, self._options)

    def _key(self, _: Connection, subject: Subject) -> Iterator[Finding]:
        shape = subject.shape
        unique = shape is None or set(subject.key) >= set(shape.key) != set()
        text = f"rows are told apart by {', '.join(subject.key)}"
        yield Finding("key", "fine", text) if unique else Finding("key", "warning", f"{text}, which no primary key or unique index ensures")

    def _index(self, connection: Connection, subject: Subject) -> Iterator[Finding]:
        shape, options = subject.shape, self._options
        if shape is None:
            return
        column = options.watermark.column if options.watermark else options.status.column
        if options.watermark:
            pages = TablePages(subject.table, subject.columns, subject.key, column, subject.raw, subject.dialect)
            highest = connection.execute(pages.highest()).scalar()
            statement = pages.page(None if highest is None else Position(highest), options.limit)
        else:
            statement = Claims(subject.table, subject.columns, subject.key, options.status, subject.raw, subject.dialect).page(
                None, options.limit, locking=False
            )
        used = serves(connection, statement)
        fitting = any(index[:1] == (column,) for index in shape.indexes)
        if used:
            yield Finding("index", "fine", f"the poll is served by an index ({used})")
        elif fitting:
            yield Finding("index", "fine", f"there is an index on {column}; the database reads the table whole as long as it is small")
        else:
            missing = f"an index on ({column}, {', '.join(subject.key)}) is missing"
            yield Finding("index", "warning", f"every poll reads {subject.table} whole: {missing}")

    def _charset(self, connection: Connection, subject: Subject) -> Iterator[Finding]:
        if connection.dialect.name == "postgresql":
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
            odd = encoding == "SQL_ASCII" and not self._options.charset
            more = ": it checks no bytes; say charset where they are not UTF-8" if odd else ""
            yield Finding("charset", "warning" if odd else "fine", f"the database's encoding is {encoding}{more}")
        elif connection.dialect.name == "mysql" and subject.shape is not None:
            yield from self._mysql_charsets(connection, subject)

    def _mysql_charsets(self, connection: Connection, subject: Subject) -> Iterator[Finding]:
        found = charsets(connection, subject.table).items()
        other = [
            f"{name} {charset}" for name, charset in found if charset not in ("utf8mb4", "ascii") and name not in self._options.charset
        ]
        if not other:
            yield Finding("charset", "fine", "text is utf8mb4, or its charset is said")
        elif all(one.endswith(("utf8mb3", "utf8")) for one in other):
            yield Finding("charset", "fine", f"read as it is: {', '.join(other)} (no rare characters beyond three bytes can be in it)")
        else:
            text = f"read as declared: {', '.join(other)}; where the bytes are really GBK say charset: {{column: gb18030}}"
            yield Finding("charset", "warning", text)

    def _zone(self, _: Connection, subject: Subject) -> Iterator[Finding]:
        kinds = subject.shape.types if subject.shape else {}
        options = self._options
        if options.watermark and options.zone is None and subject.dialect != "sqlite":
            kind = kinds.get(options.watermark.column, "").upper()
            local = kind.startswith("DATETIME") or (kind.startswith("TIMESTAMP") and subject.dialect == "postgresql" and "WITHOUT" in kind)
            if local:
                yield Finding("zone", "warning", f"{options.watermark.column} has no time zone: say zone, so that the database's clock can "
                              "tell when a watermark is settled")  # fmt: skip

    def _details(self, connection: Connection, _: Subject) -> Iterator[Finding]:
        for name, detail in self._options.details.items():
            shape = shape_of(connection, detail.table) if detail.table else None
            if shape is not None and not any(index and index[0] in detail.by for index in shape.indexes):
                yield Finding("index", "warning", f"details {name}: every page reads {detail.table} whole; an index on "
                              f"({', '.join(detail.by)}) is missing")  # fmt: skip

    def _rights(self, subject: Subject) -> Iterator[Finding]:
        """By the statement itself, with a condition that no row meets, rolled back."""
        if self._options.status is None:
            return
        status = self._options.status
        names = [name for name in (status.column, status.claimed_at, status.claimed_by, status.reason) if name]
        table = table_of(subject.table, names)
        try:
            with writing(self._engine) as connection:
                connection.execute(sa.update(table).where(sa.literal(1) == 0).values({name: table.c[name] for name in names}))
                connection.rollback()
            yield Finding("rights", "fine", f"{', '.join(names)} may be updated")
        except SQLAlchemyError as error:
            yield Finding("rights", "fault", f"{', '.join(names)} cannot be updated: {sort(error).text}")

    def _read(self) -> Iterator[Finding]:
        """As the next poll would."""
        poll: Poll = poll_of(self._options, self._context, self._engine)
        poll.resume(self._checkpoints)
        try:
            page = poll.preview(self._context.clock())
        except (DatabaseError, ConfigError) as error:
            yield Finding("read", "fault", error.text)
            return
        for notice in poll.notices():
            yield Finding("read", "warning" if notice.level != "info" else "fine", notice.text)
        bad = [item for item in page.items if item.invalid is not None]
        count = f"{len(page.items)}{' and more' if page.more else ''} new rows can be read"
        if bad:
            assert bad[0].invalid is not None
            text = f"{len(bad)} of {len(page.items)} rows are not text of their charset: {bad[0].invalid.reason}"
            yield Finding("charset", "warning", text)
        yield Finding("read", "fine", count)


def _longest(connection: Connection, options: Settings) -> Iterator[Finding]:
    """The longest transaction that this user can see: a row of it may turn up that late."""
    statement = {
        "postgresql": "SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
        "mysql": "SELECT max(timestampdiff(SECOND, trx_started, now())) FROM information_schema.innodb_trx",
    }.get(connection.dialect.name)
    if statement is None or options.watermark is None:
        return
    try:
        with spared(connection):
            found = float(connection.exec_driver_sql(statement).scalar() or 0)
    except SQLAlchemyError:  # the right to see others' transactions is not needed for anything else
        return
    if found > options.watermark.overlap:
        yield Finding("overlap", "warning", f"a transaction has been open for {found:.0f} s, longer than overlap: its rows would be missed")
    else:
        yield Finding("overlap", "fine", f"the longest open transaction is {found:.0f} s old, overlap is {options.watermark.overlap:g} s")
