"""The server side of one MLLP connection: frames in, acknowledgments out in the same order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Protocol

from adapters.mllp.framing import COMMIT, NOT_COMMITTED, Frame, MllpFramer
from adapters.mllp.intake import no_answer
from engine.errors import FramingError
from engine.formats.hl7v2 import batch
from engine.message import HL7V2, Ack, Envelope, Judgement, Verdict

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from adapters.mllp.intake import Received
    from adapters.mllp.source import MllpSource


class _Turn:
    """One frame's place in the order of answers. `parts` are its messages: one, or those of a batch."""

    __slots__ = ("acks", "batch", "missing", "parts")

    def __init__(self, parts: Sequence[Received], of: batch.Batch | None) -> None:
        self.parts, self.batch = parts, of
        self.acks: list[Ack | None] = [None] * len(parts)
        self.missing = len(parts)


class MllpConnection(Protocol):
    """Reads frames, hands them to the intake, answers strictly in order; stops reading while too much is under way."""

    transport: Any

    def __init__(self, source: MllpSource) -> None:
        self._source = source
        self._options = source.options
        self._framer = MllpFramer(source.options.max_size)
        self._turns: deque[_Turn] = deque()
        self._under_way = 0
        self._paused = self._ending = self._gone = False
        self._timer: DelayedCall | None = None
        self._deadline = 0.0
        self.peer = self.remote = ""

    # --- connection ------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        address = self.transport.getPeer()
        self.remote = f"{address.host}:{address.port}"
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self._touch(self._options.idle)
        if not self._source.admit(self):
            self._gone = True
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._gone = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._source.gone(self, reason)
        try:
            stray = self._framer.finish()
        except FramingError as error:
            self._source.cut_off(self, error)
            return
        if stray:
            self._quarantine(stray, Judgement(Verdict.INVALID, "bytes outside of any frame", "100"))

    def stop(self) -> None:
        """Take nothing new; close once everything under way is answered."""
        self._ending = True
        if not self._gone:
            self.transport.pauseProducing()
            self._close_when_done()

    def _close_when_done(self) -> None:
        if self._ending and not self._turns and not self._gone:
            self.transport.loseConnection()

    # --- time ------------------------------------------------------------------------------------

    def _touch(self, seconds: float) -> None:
        """Something happened: move the deadline. The timer itself is only looked at when it fires, so this is cheap."""
        reactor = self._source.reactor
        self._deadline = reactor.seconds() + seconds
        if self._timer is None or not self._timer.active():
            self._timer = reactor.callLater(seconds, self._look_at_time)
        elif self._timer.getTime() > self._deadline:
            self._timer.reset(seconds)

    def _look_at_time(self) -> None:
        left = self._deadline - self._source.reactor.seconds()
        if left > 0.001:
            self._timer = self._source.reactor.callLater(left, self._look_at_time)
        elif self._turns:
            self._touch(self._options.idle)  # it is we who are slow
        else:
            self._source.too_slow(self, self._framer.inside)
            self.transport.abortConnection()

    # --- bytes in --------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        was_inside = self._framer.inside
        try:
            frames = self._framer.feed(data)
        except FramingError as error:
            self._broken(error)
            return
        for frame in frames:
            self._take(frame)
        if not self._framer.inside:
            self._touch(self._options.idle)
        elif frames or not was_inside:
            self._touch(self._options.receive_within)

    def _broken(self, error: FramingError) -> None:
        """No frame can be found any more: keep the bytes, answer, close."""
        self._source.broken(self, error)
        judgement = Judgement(Verdict.INVALID, error.text, error.reply_hint)
        content, self._framer = self._framer.rest, MllpFramer(self._options.max_size)
        self._ending = True
        self._submit(self._source.reader.unreadable(content, judgement, self.peer_name(), self.remote))

    def _quarantine(self, content: bytes, judgement: Judgement) -> None:
        """Keep bytes that nobody waits an answer for."""
        envelope = Envelope(content, HL7V2, peer=self.peer, remote=self.remote, received_at=self._source.clock())
        self._source.intake(envelope, lambda _: b"", judgement)

    def peer_name(self) -> str:
        """The proven party; known once the handshake is over, so asked for with the first frame."""
        if not self.peer and self._options.tls is not None:
            self.peer = self._source.peer_of(self.transport)
        return self.peer

    def _take(self, frame: Frame) -> None:
        if frame.before:
            self._source.stray(self)
            self._quarantine(frame.before, Judgement(Verdict.INVALID, "bytes outside of any frame", "100"))
        if batch.is_batch(frame.content):
            parts = batch.split(frame.content)
            for fault in parts.faults:
                self._source.batch_fault(self, fault)
            reader, party = self._source.reader, self.peer_name()
            self._submit(*(reader.read(one, party, self.remote) for one in parts.messages), of=parts)
        else:
            self._submit(self._source.reader.read(frame.content, self.peer_name(), self.remote))

    def _submit(self, *parts: Received, of: batch.Batch | None = None) -> None:
        turn = _Turn(parts, of)
        self._turns.append(turn)
        self._under_way += len(parts)
        if self._under_way >= self._options.in_flight and not self._paused:
            self._paused = True
            self.transport.pauseProducing()
        if not parts:
            self._answer()
        for index, part in enumerate(parts):
            self._source.intake(part.envelope, part.reply, part.invalid).addCallback(self._acked, turn, index)

    # --- answers out -----------------------------------------------------------------------------

    def _acked(self, ack: Ack, turn: _Turn, index: int) -> None:
        turn.acks[index] = ack
        turn.missing -= 1
        if not turn.missing:
            self._answer()

    def _answer(self) -> None:
        """Write every answer that is due: as far as all earlier ones are complete."""
        turns = self._turns
        while turns and not turns[0].missing:
            turn = turns.popleft()
            self._under_way -= len(turn.parts)
            if self._gone:
                self._source.unheard(self)
            else:
                self._write(turn)
        if self._paused and self._under_way < self._options.in_flight and not self._gone and not self._ending:
            self._paused = False
            self.transport.resumeProducing()
        self._close_when_done()

    def _write(self, turn: _Turn) -> None:
        acks = [ack for ack in turn.acks if ack is not None]
        wrap = self._framer.wrap
        if self._options.release == 2:
            kept = all(ack.judgement.verdict is not Verdict.UNAVAILABLE for ack in acks)
            self.transport.write(wrap(COMMIT if kept else NOT_COMMITTED))
        if any(no_answer(ack, self._options) for ack in acks):
            return
        if turn.batch is not None and (turn.batch.batch_headers or turn.batch.file_header):
            answers = [answer for part, ack in zip(turn.parts, acks, strict=True) for answer in part.answers(ack)]
            self.transport.write(wrap(self._source.batch_answer(turn.batch, answers)))
            return
        for part, ack in zip(turn.parts, acks, strict=True):
            for answer in part.answers(ack):
                self.transport.write(wrap(answer))
