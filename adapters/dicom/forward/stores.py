"""C-STORE as SCU (PS3.4 annex B) over a few associations that are used again.

An instance goes out in the transfer syntax that it has, streamed from its file. Where the peer does not take that, it is changed only if
the channel says to what, and refused otherwise. Statuses are sorted by `outcomes`, failures of associations by `peer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.python.failure import Failure

from adapters.dicom.forward.instance import Instance
from adapters.dicom.forward.outcomes import failure as failure_of
from adapters.dicom.forward.outcomes import in_words, is_taken
from adapters.dicom.forward.peer import Peer, broken_within
from adapters.dicom.forward.pool import Line, Pair, Pool, Wanted
from adapters.dicom.forward.transcoding import SYNTAXES, Transcoder
from adapters.dicom.upper import dimse
from adapters.dicom.upper.dimse import Field
from adapters.dicom.upper.failures import AssociationFailed
from adapters.dicom.upper.pdu import Result
from engine.errors import DeliveryError, LocalProtocolError, PermanentDelivery, TransientDelivery

if TYPE_CHECKING:
    from adapters.dicom.upper.exchange import Response
    from adapters.dicom.upper.requestor import Requestor
    from engine.contracts import Context
    from engine.options import Settings

_REASONS: Final = {
    Result.ABSTRACT_SYNTAX: "the peer does not take its SOP class",
    Result.TRANSFER_SYNTAXES: "the peer does not take its transfer syntax, and the channel does not say to what it may be changed",
}


class _Job(NamedTuple):
    instance: Instance
    pairs: tuple[Pair, ...]
    """As it is, and as it may be changed to."""
    done: Deferred[str]


class _Open(Line):
    """A Line with its association."""

    association: Requestor | None = None
    retirement: Any = None


class Stores:
    """C-STORE over a pool of associations; `store` fires with the status in words, and fails with DeliveryError."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        patience = options.timeout + options.idle
        self._peer = Peer(
            options.peer,
            options.tls,
            options.calling_ae,
            options.called_ae,
            context,
            idle=patience,
            connect_timeout=options.connect_timeout,
        )
        self._pool, self._wanted = Pool(options.associations), Wanted()
        self._jobs: deque[_Job] = deque()
        self._transcoder = Transcoder(context) if options.transcode != "none" else None
        self._under_way: set[Deferred[Any]] = set()

    @property
    def peer(self) -> Peer:
        return self._peer

    def open(self) -> None:
        self._peer.open()

    def close(self) -> Deferred[Any]:
        """Finishes what is under way, and releases."""
        finished: Deferred[Any] = DeferredList(list(self._under_way), consumeErrors=True) if self._under_way else succeed(None)
        return finished.addCallback(lambda _: DeferredList([self._retire(line) for line in list(self._pool.lines)])).addCallback(
            self._closed
        )

    def _closed(self, _: Any) -> Any:
        return self._transcoder.close() if self._transcoder is not None else None

    def store(self, instance: Instance) -> Deferred[str]:
        own = (instance.meta.sop_class, instance.meta.transfer_syntax)
        changed = (instance.meta.sop_class, SYNTAXES.get(self._options.transcode, instance.meta.transfer_syntax))
        job = _Job(instance, tuple(dict.fromkeys((own, changed))), Deferred())
        watch: Deferred[None] = Deferred()
        self._under_way.add(watch)
        self._jobs.append(job)
        self._wanted.add(job.pairs)
        self._go_on()

        def ended(result: Any) -> Any:
            self._under_way.discard(watch)
            watch.callback(None)
            return result

        return job.done.addBoth(ended)

    # --- which association ---------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Give each waiting instance a free association, or begin one, as far as there may be more."""
        for _ in range(len(self._jobs)):
            job = self._jobs.popleft()
            line = self._pool.free_for(job.pairs)
            if line is not None:
                self._send(line, job)
                continue
            self._jobs.append(job)
            useless = self._pool.useless_for(job.pairs)
            if useless is not None:
                self._retire(useless)  # the next one is begun when it has ended
            if self._opening() < len(self._jobs) and self._pool.has_room:
                self._begin()

    def _opening(self) -> int:
        return sum(1 for line in self._pool.lines if isinstance(line, _Open) and line.association is None)

    def _begin(self) -> None:
        contexts = self._wanted.contexts()
        line = _Open((abstract, syntaxes[0]) for abstract, syntaxes in contexts)
        self._pool.add(line)
        made = self._peer.associate(contexts, max_length=self._options.max_pdu)
        made.addCallbacks(self._begun, self._not_begun, callbackArgs=(line,), errbackArgs=(line,))

    def _begun(self, association: Requestor, line: _Open) -> None:
        line.association = association
        association.closed.addBoth(lambda _: self._ended(line))
        self._free(line)

    def _not_begun(self, failure: Failure, line: _Open) -> None:
        """All that wait would fare the same."""
        self._pool.remove(line)
        if self._pool.lines and not all(one.busy and isinstance(one, _Open) and one.association is None for one in self._pool.lines):
            return  # the peer takes only so many associations: those that there are go on
        jobs, self._jobs = self._jobs, deque()
        for job in jobs:
            job.done.errback(failure)

    def _free(self, line: _Open) -> None:
        self._pool.used(line)
        self._stop_timer(line)
        line.retirement = self._context.reactor.callLater(self._options.idle, self._retire, line)
        self._go_on()

    def _retire(self, line: Line) -> Deferred[Any]:
        assert isinstance(line, _Open)
        line.busy = True
        self._stop_timer(line)
        return line.association.release() if line.association is not None else succeed(None)

    @staticmethod
    def _stop_timer(line: _Open) -> None:
        if line.retirement is not None and line.retirement.active():
            line.retirement.cancel()

    def _ended(self, line: _Open) -> None:
        line.busy = True
        self._stop_timer(line)
        self._pool.remove(line)
        self._go_on()

    # --- one instance --------------------------------------------------------------------------------

    def _send(self, line: Line, job: _Job) -> None:
        assert isinstance(line, _Open)
        association = line.association
        assert association is not None
        line.busy = True
        self._stop_timer(line)
        self._in_agreed_syntax(association, job).addCallback(self._request, association).addBoth(self._answered, line, job)

    def _in_agreed_syntax(self, association: Requestor, job: _Job) -> Deferred[Instance]:
        """The instance as the peer takes it. Fails with PermanentDelivery."""
        for index, (sop_class, syntax) in enumerate(job.pairs):
            if association.context_for(sop_class, syntax):
                if index == 0 or self._transcoder is None:
                    return succeed(job.instance)
                return self._transcoder.change(job.instance, syntax)
        return fail(PermanentDelivery(self._why_not(association, job.pairs[0])))

    @staticmethod
    def _why_not(association: Requestor, pair: Pair) -> str:
        request, accept = association.association.request, association.association.accept
        proposed = {one.context_id: one for one in request.contexts} if request is not None else {}
        for answer in accept.results if accept is not None else ():
            one = proposed.get(answer.context_id)
            if one is not None and (one.abstract_syntax, one.transfer_syntaxes[0]) == pair and answer.result in _REASONS:
                return f"{_REASONS[answer.result]} ({pair[0]}, {pair[1]})"
        return f"the peer does not take it ({pair[0]}, {pair[1]})"

    def _request(self, instance: Instance, association: Requestor) -> Deferred[Response]:
        meta = instance.meta
        broken: list[DeliveryError] = []
        sent = association.request(
            dimse.request(Field.C_STORE, meta.sop_class, meta.sop_instance),
            _guarded(instance.data_set(), broken),
            context_id=association.context_for(meta.sop_class, meta.transfer_syntax),
            timeout=self._options.timeout,
        )
        return sent.addErrback(_failed, broken).addBoth(_let_go, instance)

    def _answered(self, result: Response | Failure, line: _Open, job: _Job) -> None:
        if line.association is not None and line.association.ended is None:
            self._free(line)
        if isinstance(result, Failure):
            job.done.errback(result)
        elif is_taken(result.status):
            job.done.callback(in_words(result.status))
        else:
            job.done.errback(failure_of(result.status, self._options.called_ae, _kept(result), whole_when_full=True))


def _guarded(pieces: Iterator[bytes], broken: list[DeliveryError]) -> Iterator[bytes]:
    """The upper layer takes an OSError for data that cannot be read, and aborts: the peer must not take half an image for a whole one."""
    try:
        yield from pieces
    except DeliveryError as error:
        broken.append(error)
        raise OSError(error.text) from None


def _let_go(result: Any, instance: Instance) -> Any:
    """What was changed for this sending lies in a file that nobody else knows."""
    if instance.is_temporary:
        instance.path.unlink(missing_ok=True)
    return result


def _failed(failure: Failure, broken: list[DeliveryError]) -> Any:
    if broken:
        raise broken[0]
    if isinstance(failure.value, AssociationFailed):
        raise broken_within(failure.value)
    if isinstance(failure.value, LocalProtocolError):
        raise TransientDelivery(failure.value.text)
    return failure


def _kept(response: Response) -> bytes:
    """What the peer said, for the store only."""
    return orjson.dumps({"Status": f"{response.status:04X}", "ErrorComment": response.command.get("ErrorComment", "")})
