"""The destination `fhir_repository`: applies each parcel to the node's own resource repository.

Group commit: while one group is being written, further parcels gather, and go as the next group in one commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, fail, succeed

from adapters.fhir.repository import Application
from adapters.fhir.writer import Writer
from engine.errors import PermanentDelivery, StoreError, TransientDelivery
from engine.message import BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.python.failure import Failure

    from adapters.fhir.outcome import Outcome
    from engine.contracts import Context
    from engine.options import Settings

GROUP: Final = 64


class Writing(Protocol):
    """What applies groups: adapters.fhir.writer.Writer, or a test's own."""

    def open(self) -> Deferred[Any]: ...

    def apply(self, group: Sequence[Application]) -> Deferred[list[Outcome]]: ...

    def close(self) -> Deferred[Any]: ...


Waiting = tuple[Application, "Deferred[Receipt]"]


class RepositoryDestination:
    """engine.contracts.Destination. Answers are in the form of adapters.fhir.outcome.Answer."""

    max_in_flight = 2 * GROUP

    def __init__(self, options: Settings, context: Context, writer: Writing | None = None) -> None:
        self._context = context
        self._writer: Writing = writer or Writer(
            context.data / options.path, options.remember, context.reactor, reads_all=options.reads == "all"
        )
        self._waiting: list[Waiting] = []
        self._writing = False
        self._idle: list[Deferred[None]] = []

    def open(self) -> Deferred[None]:
        return self._writer.open().addCallback(lambda _: None)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if isinstance(parcel.body, BodyRef):
            return fail(PermanentDelivery("the Bundle is too big for the resource repository"))
        done: Deferred[Receipt] = Deferred()
        self._waiting.append(((parcel.idempotency_key, parcel.body, parcel.peer), done))
        self._write()
        return done

    def close(self) -> Deferred[None]:
        idle: Deferred[None] = succeed(None)
        if self._writing:
            idle = Deferred()
            self._idle.append(idle)
        return idle.addCallback(lambda _: self._writer.close())

    def _write(self) -> None:
        if self._writing or not self._waiting:
            return
        self._writing = True
        group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        written = self._writer.apply([application for application, _ in group])
        written.addCallbacks(self._written, self._not_written, callbackArgs=(group,), errbackArgs=(group,))

    def _written(self, outcomes: list[Outcome], group: list[Waiting]) -> None:
        self._next()
        for outcome, (_, done) in zip(outcomes, group, strict=True):
            if outcome.text:
                done.errback(PermanentDelivery(outcome.text, location=outcome.location, answer=outcome.answer))
            else:
                done.callback(Receipt("200", outcome.answer))

    def _not_written(self, failure: Failure, group: list[Waiting]) -> None:
        """Nothing of the group is known to be applied: it comes again, and what was applied is recognized by its key."""
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
