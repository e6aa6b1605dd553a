"""One group after another into the database, in a thread: transactions, what their errors mean, and which parcel is at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import orjson
from sqlalchemy import Connection
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.errors import Meaning, delivery_error, sort
from adapters.database.landing.landing import Landed, Where, key_of, land, landed, lock
from adapters.database.landing.layout import Layout, shipped
from adapters.database.landing.migration import migrate, version_of
from adapters.database.landing.schema import schema_of
from engine.errors import DeliveryError, MessageError, PermanentDelivery, StoreError, TransientDelivery
from engine.message import Parcel, Receipt

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

Outcome = Receipt | DeliveryError
_MIGRATION_LOCK: Final = 7_205_759_403


class Writer:
    """Only one thread at a time may use it."""

    def __init__(self, options: Settings, context: Context, engine: Callable[[], Engine], layout: Layout | None = None) -> None:
        self._engine, self._migrates = engine, bool(options.migrate)
        self._schema = schema_of(layout or shipped(), options.schema)
        self._log, self._clock = context.log, context.clock
        self._where = Where(context.name, context.node, options.zone, self._now)
        self._ready = False

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e6, UTC)

    def write(self, parcels: Sequence[Parcel]) -> list[Outcome]:
        """An outcome for each; never raises a database's error."""
        try:
            if not self._ready:
                self._prepare()
        except SQLAlchemyError as error:
            return [self._whole(error)] * len(parcels)
        except StoreError as error:
            return [TransientDelivery(error.text, whole_destination=True)] * len(parcels)
        return self._written(parcels)

    def _written(self, parcels: Sequence[Parcel]) -> list[Outcome]:
        """Whole, or in halves until what the database refuses stands alone."""
        try:
            return [_outcome(result) for result in self._transaction(parcels)]
        except _CommitLost as lost:
            return self._looked_up(parcels, lost)
        except SQLAlchemyError as error:
            if sort(error).meaning is not Meaning.CONTENT:
                return [self._whole(error) for _ in parcels]
            if len(parcels) == 1:
                return [delivery_error(error)]
            middle = len(parcels) // 2
            return [*self._written(parcels[:middle]), *self._written(parcels[middle:])]

    def _transaction(self, parcels: Sequence[Parcel]) -> list[Landed | MessageError]:
        with self._engine().connect() as connection:
            transaction = connection.begin()
            results = land(connection, self._schema, self._where, parcels)
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                if sort(error, committing=True).meaning is Meaning.UNCERTAIN:
                    raise _CommitLost(results, error) from error
                raise
        return results

    def _looked_up(self, parcels: Sequence[Parcel], lost: _CommitLost) -> list[Outcome]:
        """The connection broke in the commit: what is there now tells what happened. Asked under the lock, so that a transaction that the
        database has not ended yet cannot come to its end afterwards."""
        try:
            with self._engine().connect() as connection, connection.begin():
                lock(connection, self._schema)
                done = landed(connection, self._schema, [key_of(parcel, self._where) for parcel in parcels])
        except SQLAlchemyError:
            self._ready = False
            return [delivery_error(lost.error, committing=True) for _ in parcels]
        outcomes: list[Outcome] = []
        for parcel, result in zip(parcels, lost.results, strict=True):
            known = done.get(key_of(parcel, self._where))
            if isinstance(result, Landed):
                again = TransientDelivery("the connection broke before the commit", whole_destination=True)
                outcomes.append(_outcome(known[1]) if known else again)
            else:
                outcomes.append(_outcome(result))
        return outcomes

    def _whole(self, error: SQLAlchemyError) -> DeliveryError:
        """No parcel is at fault: all wait. Where tables or rights are missing somebody has to do something, which is no reason to lose
        what comes meanwhile; the database may also be another, and empty, by now."""
        found = sort(error)
        self._ready = self._ready and found.meaning is Meaning.BUSY
        return TransientDelivery(found.text, answer=found.whole.encode(), whole_destination=True)

    # --- the schema ------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Bring the tables to this version, or look that they are. Raises SQLAlchemyError, StoreError."""
        with self._engine().connect() as connection:
            if connection.dialect.name == "sqlite":  # readers and the writer do not wait for each other
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                connection.commit()
            has = version_of(connection, self._schema)
            connection.rollback()
            if has != self._schema.layout.version:
                self._change(connection, has)
        self._ready = True

    def _change(self, connection: Connection, has: int) -> None:
        wanted = self._schema.layout.version
        if not self._migrates:
            raise StoreError(f"the landing schema in the database is version {has}, this program needs {wanted}, and `migrate` is false")
        with connection.begin(), _alone(connection):
            migrate(connection, self._schema, self._where.zone, self._now())
        self._log.info("landing schema changed", extra={"facts": {"from": has, "to": wanted}})


class _CommitLost(Exception):
    def __init__(self, results: list[Landed | MessageError], error: SQLAlchemyError) -> None:
        super().__init__()
        self.results, self.error = results, error


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Two nodes that start at once do not both make tables; and filling new columns takes as long as it takes."""
    begin, end = _ALONE.get(connection.dialect.name, ((), ()))
    for statement in begin:
        connection.exec_driver_sql(statement)
    try:
        yield
    finally:
        for statement in end:
            connection.exec_driver_sql(statement)


_ALONE: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "postgresql": (
        ("SET LOCAL statement_timeout = 0", "SET LOCAL lock_timeout = 0", f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"),
        (),
    ),
    "mysql": (
        (
            "SET @meridian_limit = @@SESSION.max_statement_time",
            "SET SESSION max_statement_time = 0",
            "SELECT GET_LOCK('meridian landing', 600)",
        ),
        ("SELECT RELEASE_LOCK('meridian landing')", "SET SESSION max_statement_time = @meridian_limit"),
    ),
}


def _outcome(result: Landed | MessageError) -> Outcome:
    if isinstance(result, MessageError):
        return PermanentDelivery(result.text, location=result.location, answer=result.text.encode())
    return Receipt(f"landing {result.landing}", orjson.dumps(result._asdict()))
