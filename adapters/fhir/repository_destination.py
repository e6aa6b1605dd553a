"""The destination `fhir_repository`: applies each parcel to the node's own resource repository.

Group commit: while one group is being written on the writer thread, further parcels gather, and go as the next group in one commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.fhir.identity import time_ordered_ids
from adapters.fhir.outcome import Answer, FhirRefusal, refusal
from adapters.fhir.repository import Application, ResourceRepository
from engine.errors import DeliveryError, MeridianError, PermanentDelivery, StoreError, TransientDelivery
from engine.message import BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.options import Settings

GROUP: Final = 64


class RepositoryDestination:
    """engine.contracts.Destination. Receipt.answer is in the form of adapters.fhir.outcome.Answer."""

    max_in_flight = 2 * GROUP

    def __init__(self, options: Settings, context: Context, defer: Callable[..., Deferred[Any]] | None = None) -> None:
        self._context = context
        self._pool = ThreadPool(1, 1, f"{context.name} writer")
        self._defer = defer or self._in_writer
        self._repository = ResourceRepository(
            context.data / options.path,
            clock=context.clock,
            new_id=time_ordered_ids(context.clock),
            log=context.log,
            remember=options.remember,
        )
        self._waiting: list[tuple[Application, Deferred[Receipt]]] = []
        self._writing = False
        self._idle: list[Deferred[None]] = []

    def _in_writer(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._context.reactor, self._pool, function, *arguments)

    def open(self) -> Deferred[None]:
        self._pool.start()
        return self._defer(self._repository.open)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if isinstance(parcel.body, BodyRef):
            return fail(PermanentDelivery("the Bundle is too big for the resource repository"))
        done: Deferred[Receipt] = Deferred()
        self._waiting.append(((parcel.idempotency_key, parcel.body), done))
        self._write()
        return done

    def close(self) -> Deferred[None]:
        idle: Deferred[None] = succeed(None)
        if self._writing:
            idle = Deferred()
            self._idle.append(idle)
        return idle.addCallback(lambda _: self._defer(self._repository.close)).addBoth(self._stopped)

    def _stopped(self, result: Any) -> Any:
        self._pool.stop()
        return result

    def _write(self) -> None:
        if self._writing or not self._waiting:
            return
        self._writing = True
        group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        written = self._defer(self._repository.apply, [application for application, _ in group])
        written.addCallbacks(self._written, self._not_written, callbackArgs=(group,), errbackArgs=(group,))

    def _written(self, results: list[Answer | MeridianError], group: list[tuple[Application, Deferred[Receipt]]]) -> None:
        self._next()
        for result, (_, done) in zip(results, group, strict=True):
            if isinstance(result, Answer):
                done.callback(Receipt(str(result.status), result.encode()))
            else:
                done.errback(_refused(result))

    def _not_written(self, failure: Failure, group: list[tuple[Application, Deferred[Receipt]]]) -> None:
        """Nothing of the group was applied: all of it comes again later."""
        self._next()
        reason = failure.value.text if isinstance(failure.value, StoreError) else "the resource repository failed"
        if not isinstance(failure.value, StoreError):
            self._context.log.error("unexpected failure in the resource repository", exc_info=failure.value)
        for _, done in group:
            done.errback(TransientDelivery(reason, whole_destination=True))

    def _next(self) -> None:
        self._writing = False
        self._write()
        if not self._writing:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)


def _refused(error: MeridianError) -> DeliveryError:
    answer = error.answer() if isinstance(error, FhirRefusal) else refusal(400, error.text, location=error.location)
    return PermanentDelivery(error.text, location=error.location, answer=answer.encode())
