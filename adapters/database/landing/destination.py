"""The destination `fhir_tables`: gathers parcels into groups, lands each in one transaction, and singles out what the database refuses.

While one group is being written, further parcels gather, and go as the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed

from adapters.database.connection import Threads, make_engine
from adapters.database.landing.writer import Outcome, Writer
from engine.errors import DeliveryError, PermanentDelivery, TransientDelivery
from engine.message import BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.options import Settings

Waiting = tuple[Parcel, "Deferred[Receipt]"]


class TablesDestination:
    """engine.contracts.Destination. A receipt's reference is the number of the landing; its answer says in JSON what was changed."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._context, self._most = context, int(options.group)
        self.max_in_flight = 2 * self._most
        self._threads = Threads(lambda: make_engine(options.connection, context), context, 1)
        self._writer = Writer(options, context, lambda: self._threads.engine)
        self._waiting: list[Waiting] = []
        self._writing = False
        self._idle: list[Deferred[None]] = []

    def open(self) -> Deferred[None]:
        """Does not connect. Fails with ConfigError where a driver or a file is missing."""
        self._threads.start()
        return self._threads.run(lambda: self._threads.engine).addCallback(lambda _: None)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if isinstance(parcel.body, BodyRef):
            return fail(PermanentDelivery("the Bundle is too big to be landed in tables"))
        done: Deferred[Receipt] = Deferred()
        self._waiting.append((parcel, done))
        self._write()
        return done

    def close(self) -> Deferred[None]:
        idle: Deferred[None] = succeed(None)
        if self._writing:
            idle = Deferred()
            self._idle.append(idle)
        return idle.addCallback(lambda _: self._threads.stop())

    def _write(self) -> None:
        if self._writing or not self._waiting:
            return
        self._writing = True
        group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        written = self._threads.run(self._writer.write, [parcel for parcel, _ in group])
        written.addCallbacks(self._written, self._failed, callbackArgs=(group,), errbackArgs=(group,))

    def _written(self, outcomes: Sequence[Outcome], group: list[Waiting]) -> None:
        self._next()
        for outcome, (_, done) in zip(outcomes, group, strict=True):
            if isinstance(outcome, DeliveryError):
                done.errback(outcome)
            else:
                done.callback(outcome)

    def _failed(self, failure: Failure, group: list[Waiting]) -> None:
        """A bug of ours: nothing of the group is known to be landed, and what was is recognized when it comes again."""
        self._context.log.error("unexpected failure in the landing of resources", exc_info=failure.value)
        self._next()
        for _, done in group:
            done.errback(TransientDelivery("the landing of resources failed", whole_destination=True))

    def _next(self) -> None:
        self._writing = False
        self._write()
        if not self._writing:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)
