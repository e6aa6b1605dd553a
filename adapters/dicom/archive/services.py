"""C-FIND, C-MOVE and C-GET over an archive (PS3.4 annex C), as services of the upper layer.

Reading is done in threads, a batch at a time; the reactor only sends. What goes out is audited before: `archive.query` with the keys that
were asked for (not their values), `archive.retrieve` with the studies.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, DeferredSemaphore, inlineCallbacks

from adapters.dicom.archive import identifiers
from adapters.dicom.archive.elements import Elements
from adapters.dicom.archive.identifiers import PATIENT_ROOT, STUDY_ROOT, Question, Wanted
from adapters.dicom.archive.index import Held, Index
from adapters.dicom.archive.levels import STUDY_UID, Level
from adapters.dicom.archive.retrieval import Get, Move, Retrieval
from adapters.dicom.archive.suboperations import MISMATCH, UNABLE
from adapters.dicom.services import Provided, storage_classes
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.exchange import Gathered, Request, Service, Sink
from adapters.dicom.upper.negotiation import Taken
from engine.errors import MessageError, StoreError

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.dicom.source import DicomSource
    from engine.contracts import Context
    from engine.options import Settings

FIND: Final = {"1.2.840.10008.5.1.4.1.2.1.1": PATIENT_ROOT, "1.2.840.10008.5.1.4.1.2.2.1": STUDY_ROOT}
MOVE: Final = {"1.2.840.10008.5.1.4.1.2.1.2": PATIENT_ROOT, "1.2.840.10008.5.1.4.1.2.2.2": STUDY_ROOT}
GET: Final = {"1.2.840.10008.5.1.4.1.2.1.3": PATIENT_ROOT, "1.2.840.10008.5.1.4.1.2.2.3": STUDY_ROOT}
"""Query/retrieve SOP classes (PS3.4 C.6) and the levels of their information models."""
TRANSFER_SYNTAXES: Final = identifiers.TRANSFER_SYNTAXES
"""In which identifiers are read and written; to be offered for these SOP classes."""

_THREADS: Final = 2
_BATCH: Final = 50
_MOST_NAMED: Final = 50
_MOST_IDENTIFIER: Final = 1 << 20


def provide(options: Settings, source: DicomSource) -> Provided:
    """The option `archive` of a `dicom` source: these services; and a requestor may be SCP of the storage SOP classes (C-GET)."""
    found = QueryRetrieve(options, source.context, source.run)
    stored = Taken(tuple(source.options.transfer_syntaxes), scp=True)
    taken = {uid: Taken(TRANSFER_SYNTAXES) for uid in found.services} | dict.fromkeys(storage_classes(), stored)
    return Provided(found.services, taken, stop=found.stop)


class QueryRetrieve:
    """The services of one listener, by abstract syntax."""

    def __init__(self, options: Settings, context: Context, run: Callable[..., Deferred[Any]]) -> None:
        """`run` calls in a thread."""
        self.options, self.context = options, context
        self.index = Index(context.data / options.folder)
        self._run, self._threads = run, DeferredSemaphore(_THREADS)
        self._under_way: set[Request] = set()
        self._stopping = False
        kinds: tuple[tuple[Mapping[str, tuple[Level, ...]], type[_Answering]], ...] = ((FIND, _Find), (MOVE, _Move), (GET, _Get))
        self.services: dict[str, Service] = {uid: kind(self, model) for uids, kind in kinds for uid, model in uids.items()}
        labels = {"channel": context.name}
        self.answered = context.metrics.counter("meridian_dicom_matches_total", "matches given to queries", **labels)
        self.sent = context.metrics.counter("meridian_dicom_retrieved_total", "instances sent to those who asked for them", **labels)

    def stop(self) -> None:
        """Cancel what is under way, take nothing more, let go of the archive."""
        self._stopping = True
        for request in list(self._under_way):
            request.cancel()
        self._look_idle()

    def begin(self, request: Request, answer: Callable[[], Deferred[None]]) -> None:
        """Answer a request, unless too many are under way. Whatever goes wrong, the peer hears a final response."""
        if len(self._under_way) >= self.options.at_once or self._stopping:
            request.respond(Status.OUT_OF_RESOURCES, "too many queries at once")
            return
        self._under_way.add(request)
        answer().addErrback(self._failed, request).addBoth(lambda _: self._ended(request))

    def _failed(self, failure: Failure, request: Request) -> None:
        error = failure.value
        if isinstance(error, MessageError):
            offending: dict[str, Any] = {"OffendingElement": (int(error.location, 16),)} if error.location else {}
            request.respond(MISMATCH, error.text, **offending)
        elif isinstance(error, StoreError):
            self.context.log.error("a query cannot be answered", extra={"channel": self.context.name, "reason": error.text})
            request.respond(Status.OUT_OF_RESOURCES, "the archive cannot be read now")
        else:
            self.context.log.error("unexpected failure in a query", exc_info=error, extra={"channel": self.context.name})
            request.respond(Status.CANNOT_UNDERSTAND, "an error in the server")

    def _ended(self, request: Request) -> None:
        self._under_way.discard(request)
        self._look_idle()

    def _look_idle(self) -> None:
        if self._stopping and not self._under_way:
            self.index.close()

    def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """A few at once, so that those who receive find a thread too."""
        return self._threads.run(self._run, work, *arguments)

    def disclose(self, event: str, request: Request, **facts: Any) -> None:
        """Before anything is handed out. Raises StoreError where it may not be."""
        parties = request.parties
        who = {"calling": parties.calling, "peer": parties.peer, "remote": parties.remote}
        self.context.disclose(event, channel=self.context.name, **who, **facts)


class _Answering:
    """engine's side of one SOP class: checks the command, gathers the identifier."""

    field: Field

    def __init__(self, owner: QueryRetrieve, model: tuple[Level, ...]) -> None:
        self.owner, self.model = owner, model

    def begin(self, request: Request) -> Sink | None:
        if request.command.field != self.field:
            request.respond(Status.UNRECOGNIZED_OPERATION)
            return None
        if not request.command.has_data:
            request.respond(MISMATCH, "there is no identifier")
            return None
        return Gathered(request, lambda data: self.owner.begin(request, lambda: self.answer(request, data)), _MOST_IDENTIFIER)

    def answer(self, request: Request, data: bytes) -> Deferred[None]:
        raise NotImplementedError


class _Find(_Answering):
    field = Field.C_FIND

    @inlineCallbacks
    def answer(self, request: Request, data: bytes) -> Generator[Deferred[Any], Any, None]:
        owner = self.owner
        syntax = request.context.transfer_syntax
        asked: Question = yield owner.in_thread(identifiers.question, data, syntax, self.model)
        owner.disclose("archive.query", request, level=str(asked.level), keys=_named(asked))
        matches = owner.index.find(asked.level, asked.keys)
        status = Status.PENDING_WITH_WARNING if asked.warned else Status.PENDING
        left, ended = owner.options.most, False
        while left and not ended and not request.cancelled:
            batch: list[bytes] = yield owner.in_thread(_worded, matches, min(_BATCH, left), asked, request.parties.called, syntax)
            for one in batch:
                request.respond(status, data=one)
            owner.answered.inc(len(batch))
            left, ended = left - len(batch), len(batch) < min(_BATCH, left)
            yield request.writable()
        if request.cancelled:
            request.respond(Status.CANCEL)
        elif not ended and (yield owner.in_thread(_more, matches)):
            request.respond(Status.OUT_OF_RESOURCES, f"there are more than {owner.options.most} matches")
        else:
            request.respond(Status.SUCCESS)


def _worded(matches: Iterator[Elements], most: int, asked: Question, ae_title: str, transfer_syntax: str) -> list[bytes]:
    return [identifiers.answer(found, asked, ae_title, transfer_syntax) for found in islice(matches, most)]


def _more(matches: Iterator[Elements]) -> bool:
    return next(matches, None) is not None


class _Retrieving(_Answering):
    """What C-MOVE and C-GET have in common."""

    @inlineCallbacks
    def answer(self, request: Request, data: bytes) -> Generator[Deferred[Any], Any, None]:
        owner = self.owner
        wanted: Wanted = yield owner.in_thread(identifiers.wanted, data, request.context.transfer_syntax, self.model)
        retrieval = self.retrieval(request)
        if retrieval is None:
            return
        most = owner.options.most_instances
        held: list[Held] = yield owner.in_thread(_held, owner.index, wanted, most + 1)
        if len(held) > most:
            request.respond(UNABLE, f"these are more than {most} instances")
            return
        if held:
            studies = list(dict.fromkeys(one.study_uid for one in held))
            facts = {"instances": len(held), "studies": studies[:_MOST_NAMED], "to": retrieval.to}
            owner.disclose("archive.retrieve", request, level=str(wanted.level), **facts)
        yield retrieval.run(held)
        owner.sent.inc(retrieval.counts.completed + retrieval.counts.warning)

    def retrieval(self, request: Request) -> Retrieval | None:
        """None: it has been answered."""
        raise NotImplementedError


class _Move(_Retrieving):
    field = Field.C_MOVE

    def retrieval(self, request: Request) -> Retrieval | None:
        title = str(request.command.get("MoveDestination", ""))
        destination = (self.owner.options.destinations or {}).get(title)
        if destination is None:
            self.owner.context.audit("archive.unknown_destination", channel=self.owner.context.name, remote=request.parties.remote)
            request.respond(Status.MOVE_DESTINATION_UNKNOWN, "this node knows no such move destination")
            return None
        return Move(request, self.owner.options, self.owner.context, self.owner.in_thread, title, destination)


class _Get(_Retrieving):
    field = Field.C_GET

    def retrieval(self, request: Request) -> Retrieval | None:
        return Get(request, self.owner.options, self.owner.context, self.owner.in_thread)


def _held(index: Index, wanted: Wanted, most: int) -> list[Held]:
    return index.instances(wanted.study_uid, wanted.series_uid, wanted.sop_uid, wanted.patient_id, most)


def _named(asked: Question) -> list[str]:
    """The keys with values; of a study its UID, which is no patient identifier."""
    named = [tag for tag, key in sorted(asked.keys.items()) if key.get("Value")]
    studies = [f"{STUDY_UID}={value}" for value in asked.keys.get(STUDY_UID, {}).get("Value", ())[:1]]
    return [tag for tag in named if tag != STUDY_UID] + studies
