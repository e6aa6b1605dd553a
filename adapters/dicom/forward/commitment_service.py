"""Storage commitment on a listener (PS3.4 annex J): N-ACTION requests are kept and answered, and reported on when the instances are in
the archive; N-EVENT-REPORTs on what this node has asked for are taken.

A request is on disk before it is answered 0000H, and is looked at again until all of its instances are in the archive, or its time is
over: then the others are reported as failed (0112H). The report goes over the association of the request while that is there, else over
one of our own to where the options say that the requesting AE title listens, again and again until it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from adapters.dicom.forward import commitment
from adapters.dicom.forward.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, Notice, Reference, decode, encode
from adapters.dicom.forward.commitment_hub import Reports, hub_for
from adapters.dicom.forward.outcomes import in_words
from adapters.dicom.forward.peer import Peer
from adapters.dicom.services import Provided
from adapters.dicom.upper import dimse
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.exchange import Gathered
from adapters.dicom.upper.failures import AssociationFailed
from adapters.dicom.upper.negotiation import Taken
from adapters.dicom.upper.pdu import Roles
from engine.errors import DeliveryError, MeridianError, ParseError, StoreError

if TYPE_CHECKING:
    from adapters.dicom.forward.commitment_book import Requested
    from adapters.dicom.source import DicomSource
    from adapters.dicom.upper.exchange import Exchange, Request, Response, Sink
    from engine.options import Settings

_LOOK_AGAIN: Final = 1.0
_FIRST, _MOST = 5.0, 300.0
"""Seconds between attempts to report."""
_MOST_REQUESTS: Final = 1000
_AT_ONCE: Final = 500


class CommitmentService:
    """adapters.dicom.upper.exchange.Service for the Storage Commitment Push Model."""

    def __init__(self, options: Settings, source: DicomSource) -> None:
        self._options, self._source, self._context = options, source, source.context
        self._hub = hub_for(self._context, options.file)
        self._reports = Reports(self._hub)
        self._open: dict[int, tuple[Requested, Exchange | None]] = {}
        self._timers: set[Any] = set()
        self._stopped = False

    def start(self) -> Deferred[None]:
        """Reports are owed for what was asked before a restart."""
        return self._hub.open().addCallback(lambda _: self._hub.run(self._hub.book.requested)).addCallback(self._resume)

    def _resume(self, requests: list[Requested]) -> None:
        for request in requests:
            self._take_up(request, None)

    def stop(self) -> Deferred[Any]:
        self._stopped = True
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        return self._hub.close()

    # --- requests ----------------------------------------------------------------------------------

    def begin(self, request: Request) -> Sink | None:
        if request.command.field == Field.N_EVENT_REPORT:
            return self._reports.begin(request)
        status = self._objection(request)
        if status:
            request.respond(status)
            return None
        return Gathered(request, lambda data: self._requested(request, data))

    def _objection(self, request: Request) -> int:
        if request.command.field != Field.N_ACTION or not self._options.archive:
            return Status.UNRECOGNIZED_OPERATION
        if request.command.get("ActionTypeID") != commitment.REQUEST_COMMITMENT:
            return Status.NO_SUCH_ACTION_TYPE
        if request.command.sop_instance != PUSH_MODEL_INSTANCE:
            return Status.NO_SUCH_SOP_INSTANCE
        return Status.RESOURCE_LIMITATION if len(self._open) >= _MOST_REQUESTS or self._stopped else Status.SUCCESS

    def _requested(self, request: Request, data: bytes) -> None:
        try:
            notice = decode(data, request.context.transfer_syntax)
        except ParseError as error:
            request.respond(Status.PROCESSING_FAILURE, error.text[:64])
            return
        if not notice.instances:
            request.respond(Status.INVALID_ARGUMENT_VALUE)
            return
        parties = request.parties
        kept = self._hub.run(self._hub.book.request, notice, parties.calling, parties.called, self._context.clock())
        kept.addCallbacks(self._kept, self._not_kept, callbackArgs=(request,), errbackArgs=(request,))

    def _kept(self, kept: Requested, request: Request) -> None:
        request.respond(Status.SUCCESS)
        self._take_up(kept, request.exchange)

    def _not_kept(self, failure: Failure, request: Request) -> None:
        failure.trap(StoreError)
        request.respond(Status.RESOURCE_LIMITATION)

    # --- looking for the instances -------------------------------------------------------------------

    def _take_up(self, request: Requested, exchange: Exchange | None) -> None:
        self._open[request.number] = request, exchange
        self._look(request.number)

    def _look(self, number: int) -> None:
        request, _ = self._open[number]
        self._source.run(self._held, request.instances).addCallbacks(
            self._looked, self._cannot_look, callbackArgs=(number,), errbackArgs=(number,)
        )

    def _held(self, instances: Sequence[Reference]) -> set[Reference]:
        """Which of them the archive has. In a thread; raises StoreError."""
        from adapters.dicom.archive.index import Index

        index = Index(self._context.data / self._options.archive)
        try:
            found: set[Reference] = set()
            uids = [uid for _, uid in instances]
            for at in range(0, len(uids), _AT_ONCE):
                found.update((held.sop_class, held.sop_uid) for held in index.instances(sop_uid=uids[at : at + _AT_ONCE]))
            return found
        finally:
            index.close()

    def _looked(self, held: set[Reference], number: int) -> None:
        request, _ = self._open[number]
        missing = [one for one in request.instances if one not in held]
        if missing and self._context.clock() - request.at < self._options.within * 1e6:
            self._later(_LOOK_AGAIN, self._look, number)
            return
        known = {uid for _, uid in held}
        failed = [(one, commitment.CONFLICT if one[1] in known else commitment.NO_SUCH_INSTANCE) for one in missing]
        notice = Notice(request.transaction_uid, [one for one in request.instances if one in held], failed)
        self._report(number, notice, _FIRST)

    def _cannot_look(self, failure: Failure, number: int) -> None:
        failure.trap(MeridianError)
        self._later(_LOOK_AGAIN * 5, self._look, number)

    # --- reporting -----------------------------------------------------------------------------------

    def _report(self, number: int, notice: Notice, wait: float) -> None:
        request, exchange = self._open[number]
        usable = exchange is not None and exchange.ended is None and exchange.context_for(PUSH_MODEL)
        sent = self._send(exchange, notice) if usable and exchange is not None else self._call(request, notice)
        self._open[number] = request, None  # another attempt goes over an association of its own
        sent.addCallbacks(self._sent, self._not_sent, callbackArgs=(number, notice, wait), errbackArgs=(number, notice, wait))

    def _call(self, request: Requested, notice: Notice) -> Deferred[Response]:
        """Over an association of our own, in the role of the SCP (PS3.4 J.3.3, PS3.7 annex D.3.3.4)."""
        known = self._options.known.get(request.calling)
        if known is None:
            return _refused(f"it is not said where {request.calling} listens")
        peer = Peer(
            known.address,
            known.tls,
            request.called,
            request.calling,
            self._context,
            idle=self._options.timeout,
            connect_timeout=self._options.timeout,
        )
        try:
            peer.open()
        except MeridianError as error:
            return _refused(error.text)
        made = peer.associate([(PUSH_MODEL, commitment.SYNTAXES)], roles={PUSH_MODEL: Roles(scu=False, scp=True)})

        def reported(association: Any) -> Deferred[Response]:
            def ended(result: Any) -> Any:
                association.release()
                return result

            return self._send(association, notice).addBoth(ended)

        return made.addCallback(reported)

    def _send(self, exchange: Exchange, notice: Notice) -> Deferred[Response]:
        context_id = exchange.context_for(PUSH_MODEL)
        if not context_id:
            return _refused("it does not take the report of storage commitment")
        syntax = exchange.association.agreed[context_id].transfer_syntax
        kind = commitment.SOME_FAILED if notice.failed else commitment.ALL_COMMITTED
        command = dimse.request(Field.N_EVENT_REPORT, PUSH_MODEL, PUSH_MODEL_INSTANCE, EventTypeID=kind)
        return exchange.request(command, encode(notice, syntax), context_id=context_id, timeout=self._options.timeout)

    def _sent(self, response: Response, number: int, notice: Notice, wait: float) -> None:
        if response.status == Status.SUCCESS:
            self._done(number, "dicom.committed", len(notice.instances), len(notice.failed))
        else:
            self._try_again(number, notice, wait, f"the report was answered {in_words(response.status)}")

    def _not_sent(self, failure: Failure, number: int, notice: Notice, wait: float) -> None:
        error = failure.value
        if not isinstance(error, AssociationFailed | DeliveryError):
            failure.raiseException()
        self._try_again(number, notice, wait, str(error))

    def _try_again(self, number: int, notice: Notice, wait: float, reason: str) -> None:
        request, _ = self._open[number]
        facts = {"channel": self._context.name, "transaction": request.transaction_uid, "reason": reason}
        if self._context.clock() - request.at > self._options.give_up_after * 1e6:
            self._context.log.error("storage commitment could not be reported; given up", extra=facts)
            self._done(number, "dicom.commitment_unreported", len(notice.instances), len(notice.failed))
            return
        self._context.log.warning("storage commitment could not be reported", extra=facts)
        self._later(wait, self._report, number, notice, min(wait * 2, _MOST))

    def _done(self, number: int, event: str, committed: int, failed: int) -> None:
        request, _ = self._open.pop(number)
        facts = {"channel": self._context.name, "calling": request.calling, "transaction": request.transaction_uid}
        self._context.audit(event, **facts, committed=committed, failed=failed)
        if not self._stopped:
            self._hub.run(self._hub.book.reported, number).addErrback(self._not_noted)

    def _not_noted(self, failure: Failure) -> None:
        """It will be reported once more after a restart, which harms nobody."""
        failure.trap(StoreError)

    def _later(self, seconds: float, work: Any, *arguments: Any) -> None:
        if self._stopped:
            return

        def now() -> None:
            self._timers.discard(timer)
            work(*arguments)

        timer = self._context.reactor.callLater(seconds, now)
        self._timers.add(timer)


def _refused(text: str) -> Deferred[Any]:
    return succeed(None).addCallback(lambda _: _raise(DeliveryError(text)))


def _raise(error: Exception) -> Any:
    raise error


def provide(options: Settings, source: DicomSource) -> Provided:
    """The option `commitment` of a `dicom` source. Either role: a peer that asks is SCU, one that reports on an association of its own is
    SCP."""
    service = CommitmentService(options, source)
    return Provided({PUSH_MODEL: service}, {PUSH_MODEL: Taken(commitment.SYNTAXES, scp=True)}, start=service.start, stop=service.stop)
