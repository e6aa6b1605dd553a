"""The destination `fhir_tables`: gathers parcels into groups, lands each in one transaction, and singles out what the database refuses.

Between two groups, a few times a day, it forgets what the site no longer keeps.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred, fail

from adapters.database.connection import Threads, make_engine
from adapters.database.errors import sort
from adapters.database.landing.layout import shipped
from adapters.database.landing.retention import Retention
from adapters.database.landing.schema import schema_of
from adapters.database.landing.writer import Writer
from engine.errors import PermanentDelivery, TransientDelivery
from engine.grouping import Groups
from engine.message import BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.options import Settings

_RETENTION_SECONDS: Final = 6 * 3600.0


class TablesDestination:
    """engine.contracts.Destination. A receipt's reference is the number of the landing; its answer says in JSON what was changed."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._context = context
        self.max_in_flight = 2 * int(options.group)
        self._threads = Threads(lambda: make_engine(options.connection, context), context, 1)
        self._writer = Writer(options, context, lambda: self._threads.engine)
        self._groups: Groups[Parcel] = Groups(
            int(options.group), lambda parcels: self._threads.run(self._writer.write, parcels), self._failed, self._forgets
        )
        self._retention = Retention(schema_of(shipped(), options.schema), options.keep) if options.keep else None
        self._forget_at = 0.0

    def open(self) -> Deferred[None]:
        """Does not connect. Fails with ConfigError where a driver or a file is missing."""
        self._threads.start()
        return self._threads.run(lambda: self._threads.engine).addCallback(lambda _: None)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if isinstance(parcel.body, BodyRef):
            return fail(PermanentDelivery("the Bundle is too big to be landed in tables"))
        return self._groups.add(parcel)

    def close(self) -> Deferred[None]:
        return self._groups.close().addCallback(lambda _: self._threads.stop())

    def _failed(self, failure: Failure) -> TransientDelivery:
        """A bug of ours: nothing of the group is known to be landed, and what was is recognized when it comes again."""
        self._context.log.error("unexpected failure in the landing of resources", exc_info=failure.value)
        return TransientDelivery("the landing of resources failed", whole_destination=True)

    # --- what is no longer kept ------------------------------------------------------------------

    def _forgets(self) -> Deferred[None] | None:
        """One step where it is due; the next one follows when nothing waits."""
        now = float(self._context.reactor.seconds())
        if self._retention is None or now < self._forget_at:
            return None
        return self._threads.run(self._forget, self._retention).addCallbacks(self._forgot, self._not_forgotten)

    def _forget(self, retention: Retention) -> bool:
        """In a thread."""
        return retention.step(self._threads.engine, datetime.fromtimestamp(self._context.clock() / 1e6, UTC))

    def _forgot(self, more: bool) -> None:
        if not more:
            self._forget_at = float(self._context.reactor.seconds()) + _RETENTION_SECONDS

    def _not_forgotten(self, failure: Failure) -> None:
        self._forgot(more=False)
        reason = sort(failure.value).text if isinstance(failure.value, SQLAlchemyError) else type(failure.value).__name__
        self._context.log.warning("old rows of the landing schema could not be deleted", extra={"facts": {"reason": reason}})
