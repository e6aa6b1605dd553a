"""One store request (PS3.18 clause 10.5): its body is taken as it comes, each instance in it is a message, and the answer waits for all
their commits.

Small instances stay in memory until they are committed, larger ones go straight to the store's spool. Several are fsynced and
committed at once, up to `AT_ONCE`; more wait on the wire. What was complete is kept whatever becomes of the rest of the request: a
client that sends it again hears of the same instance as stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed

from adapters.dicom.instances import envelope
from adapters.dicom.web.envelopes import Arrived, arrived
from adapters.dicom.web.faults import WebRefusal
from adapters.dicom.web.media import DICOM_FILE, parse_media_type
from adapters.dicom.web.outcomes import CANNOT_UNDERSTAND, OTHER_STUDY, OUT_OF_RESOURCES, PROCESSING_FAILURE, Outcome, failure_reason
from adapters.dicom.web.part10 import FileReading
from engine.errors import FramingError, StoreError
from engine.formats.multipart import Event, MultipartFramer, PartBegin, PartContent

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from engine.contracts import Context, Intake
    from engine.http_answers import Answer, Sender
    from engine.message import Ack, BodyRef, Judgement
    from engine.store.contract import Spool

IN_MEMORY: Final = 64 << 10
AT_ONCE: Final = 8
_PLAIN: Final = ("", "binary", "8bit", "7bit")


@dataclass(frozen=True, slots=True)
class Taking:
    """What a store request needs of its surroundings. `in_thread` runs a function off the reactor thread; `stopping` tells whether the
    intake may not be called any more; `most_instance` and `most_request` are in bytes."""

    context: Context
    intake: Intake
    in_thread: Callable[..., Deferred[Any]]
    stopping: Callable[[], bool]
    most_instance: int
    most_request: int


class Incoming:
    """An instance on its way in: what is kept of it is in memory or in the spool, or nothing because of `failure`."""

    def __init__(self, open_spool: Callable[[], Spool], most: int) -> None:
        self.reading = FileReading()
        self.failure: tuple[int, str] | None = None
        self.spool: Spool | None = None
        self.memory = bytearray()
        self._open_spool, self._most = open_spool, most

    def feed(self, data: bytes) -> None:
        """The next bytes. A full store is a failure of this instance only."""
        self.reading.feed(data)
        if self.failure is not None:
            return
        if self.reading.size > self._most:
            self.fail(OUT_OF_RESOURCES, f"an instance may have {self._most} bytes")
            return
        try:
            self._keep(data)
        except StoreError as error:
            self.spool = None  # it has cleaned up after itself
            self.fail(OUT_OF_RESOURCES, error.text)

    def _keep(self, data: bytes) -> None:
        if self.spool is None:
            self.memory += data
            if len(self.memory) <= IN_MEMORY:
                return
            self.spool = self._open_spool()
            data = bytes(self.memory)
            self.memory.clear()
        self.spool.write(data)

    def fail(self, reason: int, text: str) -> None:
        """It will not be kept; what was written goes."""
        self.failure = self.failure or (reason, text)
        self.memory.clear()
        if self.spool is not None:
            self.spool.abort()
            self.spool = None


class StoreRequest:
    """engine.http_uploads.Upload. `framer` is None where the body is one instance; `answer` words what became of them."""

    def __init__(
        self, taking: Taking, study: str, framer: MultipartFramer | None, sender: Sender, answer: Callable[[list[Outcome], bool], Answer]
    ) -> None:
        self._taking, self._study, self._framer, self._sender, self._answer = taking, study, framer, sender, answer
        self._outcomes: list[Outcome] = []
        self._part: Incoming | None = None if framer is not None else self._incoming()
        self._received = self._under_way = 0
        self._ended: Deferred[Answer] | None = None
        self.full = self.over = self._answered = False
        self.wake: Callable[[], None] = lambda: None

    # --- the body ----------------------------------------------------------------------------------

    def content(self, data: bytes) -> None:
        """engine.http_uploads.Upload"""
        if self.over:
            return
        self._received += len(data)
        if self._received > self._taking.most_request:
            self._give_up(OUT_OF_RESOURCES, f"a request may have {self._taking.most_request} bytes")
        elif self._framer is None:
            assert self._part is not None
            self._part.feed(data)
        else:
            self._split(self._framer, data)

    def _split(self, framer: MultipartFramer, data: bytes) -> None:
        try:
            for event in framer.feed(data):
                self._take(event)
        except FramingError as error:
            self._give_up(CANNOT_UNDERSTAND, error.text)

    def _take(self, event: Event) -> None:
        if isinstance(event, PartBegin):
            self._part = self._incoming()
            if fault := _unfit(event.headers):
                self._part.fail(CANNOT_UNDERSTAND, fault)
        elif isinstance(event, PartContent):
            assert self._part is not None
            self._part.feed(event.content)
        else:
            self._complete()

    def _incoming(self) -> Incoming:
        return Incoming(self._taking.context.spool, self._taking.most_instance)

    def _give_up(self, reason: int, text: str) -> None:
        """The rest of the body is of no use."""
        self._drop()
        self._outcomes.append(Outcome(reason=reason, text=text))
        self.over = True

    def _drop(self) -> None:
        if self._part is not None:
            self._part.fail(CANNOT_UNDERSTAND, "")
            self._part = None

    # --- its end -----------------------------------------------------------------------------------

    def ended(self) -> Deferred[Answer]:
        """engine.http_uploads.Upload"""
        if not self.over:
            self._finish()
        self._ended = Deferred()
        ended = self._ended
        self._look_done()
        return ended

    def _finish(self) -> None:
        if self._framer is None and self._received:
            self._complete()
        elif self._framer is not None and self._received:
            try:
                self._framer.finish()
            except FramingError as error:
                self._give_up(CANNOT_UNDERSTAND, error.text)
        if not self._outcomes:
            self._outcomes.append(Outcome(reason=CANNOT_UNDERSTAND, text="there is no instance in the request"))

    def cut(self) -> None:
        """engine.http_uploads.Upload"""
        if not self.over:
            self._give_up(OUT_OF_RESOURCES, "the server stops; send again later")

    def gone(self) -> Deferred[Answer]:
        """engine.http_uploads.Upload: fires when what was complete is kept, or is not."""
        self._drop()
        self.over = True
        return self.ended()

    def _look_done(self) -> None:
        if self._ended is not None and not self._under_way and not self._answered:
            self._answered = True
            self._ended.callback(self._answer(self._outcomes, self.over))

    # --- one instance ------------------------------------------------------------------------------

    def _complete(self) -> None:
        """The part is whole: keep it, and remember what became of it in its place."""
        part, self._part = self._part, None
        assert part is not None
        place = len(self._outcomes)
        self._outcomes.append(Outcome())
        self._under_way += 1
        self.full = self._under_way >= AT_ONCE
        self._keep(part).addErrback(self._bug).addCallback(self._kept, place)

    def _kept(self, outcome: Outcome, place: int) -> None:
        self._outcomes[place] = outcome
        self._under_way -= 1
        if self.full:
            self.full = False
            self.wake()
        self._look_done()

    def _keep(self, part: Incoming) -> Deferred[Outcome]:
        instance = arrived(part.reading, self._study)
        if part.failure is not None:
            return succeed(_outcome(instance, *part.failure))
        body: Deferred[Any] = succeed(bytes(part.memory)) if part.spool is None else self._taking.in_thread(part.spool.finish)
        body.addCallback(self._commit, instance)
        return body.addErrback(self._no_room, instance)

    def _commit(self, body: bytes | BodyRef, instance: Arrived) -> Outcome | Deferred[Outcome]:
        if self._taking.stopping():
            return _outcome(instance, OUT_OF_RESOURCES, "the server stops; send again later")
        made = envelope(
            body,
            instance.facts,
            received_at=self._taking.context.clock(),
            content_digest=instance.digest,
            peer=self._sender.peer,
            remote=self._sender.remote,
        )
        committed: Deferred[Any] = self._taking.intake(made, _reply, instance.fault)
        return committed.addCallback(_committed, instance)

    def _no_room(self, failure: Failure, instance: Arrived) -> Outcome:
        failure.trap(StoreError)
        return _outcome(instance, OUT_OF_RESOURCES, str(failure.value))

    def _bug(self, failure: Failure) -> Outcome:
        self._taking.context.log.error(
            "unexpected failure in a store request", exc_info=failure.value, extra={"channel": self._taking.context.name}
        )
        return Outcome(reason=PROCESSING_FAILURE, text="an error in the server")


def _unfit(headers: Mapping[str, str]) -> str:
    """Why a part cannot be an instance, "" when it can."""
    if headers.get("content-transfer-encoding", "").lower() not in _PLAIN:
        return "a part has a transfer encoding, which HTTP does not need"
    try:
        name = parse_media_type(headers.get("content-type", DICOM_FILE)).name
    except WebRefusal:
        name = ""
    return "" if name == DICOM_FILE else f"a part is not {DICOM_FILE}"


def _reply(judgement: Judgement) -> bytes:
    """What is stored as the answer to one instance: a status in hexadecimal digits."""
    return b"%04X" % failure_reason(judgement)


def _committed(ack: Ack, instance: Arrived) -> Outcome:
    reason = failure_reason(ack.judgement)
    if reason and instance.other_study:
        reason = OTHER_STUDY
    return _outcome(instance, reason, ack.judgement.reason if reason else "")


def _outcome(instance: Arrived, reason: int, text: str = "") -> Outcome:
    return Outcome(instance.facts.sop_class, instance.facts.sop_instance, instance.study, instance.series, reason, text)
