"""The destination `database`: what waits together is applied together, in a thread; each message hears for itself what came of it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from sqlalchemy import event
from twisted.internet.defer import Deferred, succeed

from adapters.database.connection import Threads, make_engine
from adapters.database.statements.applying import Applying
from adapters.database.statements.compiled import compiled
from adapters.database.statements.outcomes import Broken, Outcome
from engine.errors import DeliveryError, UncertainDelivery
from engine.message import Parcel, Receipt

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.options import Settings

_PURGE_SECONDS: Final = 3600.0


def writing_engine(options: Settings, context: Context) -> Engine:
    """An engine whose sessions have the isolation of the destination from their beginning: to set it for each transaction costs two more
    ways to the server. Raises ConfigError."""
    engine = make_engine(options.connection, context)
    level = options.isolation.upper()
    if engine.dialect.name == "oracle" and level == "REPEATABLE READ":  # it calls that serializable
        level = "SERIALIZABLE"
    if engine.dialect.name != "sqlite":
        event.listen(engine, "connect", lambda connection, _: engine.dialect.set_isolation_level(connection, level))
    return engine


class DatabaseDestination:
    """engine.contracts.Destination. Receipt.answer is a record (application/rows+json) where a statement is the answer."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self.max_in_flight: int = options.batch * (options.writers + 1)
        self._threads = Threads(lambda: writing_engine(options, context), context, options.writers)
        self._applying = Applying(options, compiled(options), context.name, context.clock, context.body_file)
        self._waiting: deque[tuple[Parcel, Deferred[Receipt]]] = deque()
        self._running = 0
        self._looking = False
        self._idle: Deferred[None] | None = None
        self._purge_at = 0.0
        label = {"destination": context.name}
        self._groups = context.metrics.counter("meridian_database_transactions_total", "groups of messages written", **label)

    def open(self) -> Deferred[None]:
        """Fails with ConfigError where the driver, a certificate or a secret is not there. It does not connect."""
        self._threads.start()
        return self._threads.run(lambda: self._threads.engine).addCallback(lambda _: None)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        done: Deferred[Receipt] = Deferred()
        self._waiting.append((parcel, done))
        if not self._looking and self._running < self._options.writers:
            self._looking = True
            self._context.reactor.callLater(0, self._look)  # once those that come in the same turn are here
        return done

    def close(self) -> Deferred[None]:
        if self._running or self._waiting:
            self._idle = Deferred()
            return self._idle.addCallback(lambda _: self._threads.stop())
        self._threads.stop()
        return succeed(None)

    # --- groups ----------------------------------------------------------------------------------

    def _look(self) -> None:
        self._looking = False
        while self._waiting and self._running < self._options.writers:
            count = min(len(self._waiting), self._options.batch)
            group = [self._waiting.popleft() for _ in range(count)]
            self._running += 1
            applied = self._threads.run(self._apply, [parcel for parcel, _ in group])
            applied.addCallbacks(self._tell, self._failed, callbackArgs=(group,), errbackArgs=(group,))
            applied.addBoth(self._done)

    def _apply(self, parcels: list[Parcel]) -> list[Outcome]:
        """In a thread."""
        return self._applying.apply(self._threads.engine, parcels)

    def _tell(self, outcomes: list[Outcome], group: list[tuple[Parcel, Deferred[Receipt]]]) -> None:
        self._groups.inc()
        for outcome, (_, done) in zip(outcomes, group, strict=True):
            if isinstance(outcome, DeliveryError):
                done.errback(outcome)
            else:
                done.callback(outcome)

    def _failed(self, failure: Failure, group: list[tuple[Parcel, Deferred[Receipt]]]) -> None:
        """A bug, or an engine that cannot be made: nobody knows how far it has come."""
        self._context.log.error(
            "a group of messages could not be applied", exc_info=failure.value, extra={"destination": self._context.name}
        )
        for _, done in group:
            done.errback(UncertainDelivery("the destination failed in a way that it does not name"))

    def _done(self, _: object) -> None:
        self._running -= 1
        if not self._purging():
            self._look()
        if self._idle is not None and not self._running and not self._waiting:
            idle, self._idle = self._idle, None
            idle.callback(None)

    # --- upkeep ----------------------------------------------------------------------------------

    def _purging(self) -> bool:
        """Forget old keys of the outbox now and then, between two groups."""
        now = float(self._context.reactor.seconds())
        if self._options.outbox is None or self._idle is not None or now < self._purge_at:
            return False
        self._purge_at = now + _PURGE_SECONDS
        self._running += 1
        purged = self._threads.run(self._purge)
        purged.addErrback(self._not_purged).addBoth(self._done)
        return True

    def _purge(self) -> int:
        engine: Engine = self._threads.engine
        return self._applying.purge(engine)

    def _not_purged(self, failure: Failure) -> None:
        error = failure.value
        reason = error.meaning.value if isinstance(error, Broken) else type(error).__name__
        facts = {"destination": self._context.name, "reason": reason}
        self._context.log.warning("old keys of the outbox could not be deleted", extra=facts)
