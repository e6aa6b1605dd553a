"""The destination `dicom_archive`: keeps instances.

Group commit: while one group is being written, further parcels gather, and go as the next group in one commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, fail, succeed

from adapters.dicom.archive.book import BESIDE, Arrival, Outcome
from adapters.dicom.archive.writer import Writer, WriterEnded
from engine.errors import PermanentDelivery, StoreError, TransientDelivery, UncertainDelivery
from engine.message import DICOM, BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.options import Settings

GROUP: Final = 64
_NEXT_STEP: Final = 0.05
"""Seconds between two steps of retention while there is something to do."""
_NEXT_ROUND: Final = 30.0


class Writing(Protocol):
    """What keeps groups: adapters.dicom.archive.writer.Writer, or a test's own."""

    def open(self) -> Deferred[Any]: ...

    def keep(self, group: Sequence[Arrival]) -> Deferred[list[Outcome]]: ...

    def retire(self, keep: int, most_bytes: int) -> Deferred[bool]: ...

    def close(self) -> Deferred[Any]: ...


Waiting = tuple[Parcel, Arrival, "Deferred[Receipt]"]


class ArchiveDestination:
    """engine.contracts.Destination. What an imaging channel carries beside instances (MPPS^CREATE, COMMITMENT^REQUEST …) is passed over."""

    max_in_flight = 2 * GROUP
    reads_files = True

    def __init__(self, options: Settings, context: Context, writer: Writing | None = None) -> None:
        self._options, self._context = options, context
        self._writer: Writing = writer or Writer(context.data / options.folder, context.reactor)
        self._waiting: list[Waiting] = []
        self._writing = False
        self._idle: list[Deferred[None]] = []
        self._timer: DelayedCall | None = None
        self._retiring: Deferred[Any] = succeed(None)
        self._closed = False
        labels = {"channel": context.name}
        self._beside = context.metrics.counter(
            "meridian_dicom_conflicts_total", "instances that came with a UID that others with other content had", **labels
        )

    def open(self) -> Deferred[None]:
        def opened(_: Any) -> None:
            self._next_step(_NEXT_STEP)

        return self._writer.open().addCallbacks(opened, _transient)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if parcel.content_type != DICOM:
            return fail(PermanentDelivery(f"an archive keeps {DICOM}"))
        if "^" in parcel.message_type:  # of a SOP class there is a keyword
            return succeed(Receipt("passed over: no instance"))
        try:
            arrival = self._arrival(parcel.body)
        except StoreError as error:
            return fail(TransientDelivery(error.text))
        done: Deferred[Receipt] = Deferred()
        self._waiting.append((parcel, arrival, done))
        self._write()
        return done

    def _arrival(self, body: bytes | BodyRef) -> Arrival:
        return Arrival(self._context.body_file(body), body.digest) if isinstance(body, BodyRef) else Arrival(body)

    def close(self) -> Deferred[None]:
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        idle: Deferred[None] = succeed(None)
        if self._writing:
            idle = Deferred()
            self._idle.append(idle)
        return idle.addCallback(lambda _: self._retiring).addCallback(lambda _: self._writer.close())

    # --- what comes ------------------------------------------------------------------------------

    def _write(self) -> None:
        if self._writing or not self._waiting:
            return
        self._writing = True
        group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        written = self._writer.keep([arrival for _, arrival, _ in group])
        written.addCallbacks(self._written, self._not_written, callbackArgs=(group,), errbackArgs=(group,))

    def _written(self, outcomes: list[Outcome], group: list[Waiting]) -> None:
        self._next()
        for outcome, (parcel, _, done) in zip(outcomes, group, strict=True):
            if outcome.fault:
                done.errback(PermanentDelivery(outcome.fault, answer=outcome.fault.encode()))
                continue
            if outcome.what == BESIDE:
                self._flag(outcome.sop_uid, parcel)
            done.callback(Receipt(outcome.what))

    def _flag(self, sop_uid: str, parcel: Parcel) -> None:
        self._beside.inc()
        facts = {"channel": self._context.name, "sop_uid": sop_uid, "message_id": parcel.message_id}
        self._context.log.warning("an instance came again with other content", extra=facts)
        self._context.audit("archive.conflict", **facts)

    def _not_written(self, failure: Failure, group: list[Waiting]) -> None:
        """Nothing of the group is known to be kept: it comes again, and what was kept is recognized."""
        self._next()
        if not isinstance(failure.value, StoreError):
            self._context.log.error("unexpected failure in the archive", exc_info=failure.value)
        reason = failure.value.text if isinstance(failure.value, StoreError) else "the archive failed"
        kind = UncertainDelivery if failure.check(WriterEnded) else TransientDelivery
        for _, _, done in group:
            done.errback(kind(reason, whole_destination=True))

    def _next(self) -> None:
        self._writing = False
        self._write()
        if not self._writing:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    # --- what leaves -----------------------------------------------------------------------------

    def _next_step(self, seconds: float) -> None:
        if not self._closed:
            self._timer = self._context.reactor.callLater(seconds, self._retire)

    def _retire(self) -> None:
        self._retiring = self._writer.retire(int(self._options.keep * 1e6), self._options.most)
        self._retiring.addCallbacks(lambda more: self._next_step(_NEXT_STEP if more else _NEXT_ROUND), self._not_retired)

    def _not_retired(self, failure: Failure) -> None:
        failure.trap(StoreError)
        facts = {"channel": self._context.name, "reason": str(failure.value)}
        self._context.log.error("what is old in the archive cannot be removed", extra=facts)
        self._next_step(_NEXT_ROUND)


def _transient(failure: Failure) -> None:
    failure.trap(StoreError)
    raise TransientDelivery(str(failure.value), whole_destination=True) from failure.value
