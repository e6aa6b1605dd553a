"""The destination `fhir_repository`: applies each parcel to the node's own resource repository.

Group commit: while one group is being written, further parcels gather, and go as the next group in one commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, fail

from adapters.fhir.repository import Application
from adapters.fhir.writer import Writer
from engine.errors import DeliveryError, PermanentDelivery, StoreError, TransientDelivery
from engine.grouping import Groups
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


class RepositoryDestination:
    """engine.contracts.Destination. Answers are in the form of adapters.fhir.outcome.Answer."""

    max_in_flight = 2 * GROUP

    def __init__(self, options: Settings, context: Context, writer: Writing | None = None) -> None:
        self._context = context
        self._writer: Writing = writer or Writer(
            context.data / options.path, options.remember, context.reactor, reads_all=options.reads == "all"
        )
        self._groups: Groups[Application] = Groups(GROUP, self._apply, self._not_written)

    def open(self) -> Deferred[None]:
        return self._writer.open().addCallback(lambda _: None)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if isinstance(parcel.body, BodyRef):
            return fail(PermanentDelivery("the Bundle is too big for the resource repository"))
        return self._groups.add((parcel.idempotency_key, parcel.body, parcel.peer))

    def close(self) -> Deferred[None]:
        return self._groups.close().addCallback(lambda _: self._writer.close())

    def _apply(self, group: list[Application]) -> Deferred[Sequence[Receipt | DeliveryError]]:
        return self._writer.apply(group).addCallback(lambda outcomes: [_told(outcome) for outcome in outcomes])

    def _not_written(self, failure: Failure) -> TransientDelivery:
        """Nothing of the group is known to be applied: it comes again, and what was applied is recognized by its key."""
        if isinstance(failure.value, StoreError):
            return TransientDelivery(failure.value.text, whole_destination=True)
        self._context.log.error("unexpected failure in the resource repository", exc_info=failure.value)
        return TransientDelivery("the resource repository failed", whole_destination=True)


def _told(outcome: Outcome) -> Receipt | DeliveryError:
    if outcome.text:
        return PermanentDelivery(outcome.text, location=outcome.location, answer=outcome.answer)
    return Receipt("200", outcome.answer)
