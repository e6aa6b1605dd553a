"""The server side of one MLLP connection: frames in, acknowledgments out in the same order.

A connection ends in one of three ways: the peer leaves; time runs out (then it is cut off); or it is *ending*: what was handed to the
intake is answered, and it is closed. While it is ending, further bytes are read and thrown away, since closing a socket with unread
bytes in it can take the last answer with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from adapters.mllp.framing import COMMIT, NOT_COMMITTED, Frame, MllpFramer
from engine.errors import FramingError
from engine.formats.hl7v2 import batch
from engine.message import Ack, Judgement, Verdict
from engine.writing import write_now

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from adapters.mllp.intake import Received
    from adapters.mllp.source import MllpSource

LINGER: Final = 2.0
"""Seconds that a sender whose framing is broken has to read why, before its connection is closed."""
FLUSH: Final = 5.0
"""Seconds for the last bytes to leave, before a connection is cut off."""

_STRAY: Final = Judgement(Verdict.INVALID, "bytes outside of any frame", "100")
_LONG_BATCH: Final = Judgement(Verdict.INVALID, "too many messages in one frame", "207")


class _Turn:
    """One frame's place in the order of answers. `parts` are its messages: one, or those of a batch; `size` in bytes."""

    __slots__ = ("acks", "batch", "missing", "parts", "size")

    def __init__(self, parts: Sequence[Received], of: batch.Batch | None, size: int) -> None:
        self.parts, self.batch, self.size = parts, of, size
        self.acks: list[Ack | None] = [None] * len(parts)
        self.missing = len(parts)


@implementer(IHandshakeListener, IHalfCloseableProtocol, IPushProducer)
class MllpConnection(Protocol):
    """Reads frames, hands them to the intake, answers strictly in order; stops reading while too much is under way, or while
    the peer does not read its answers (then the transport says `pauseProducing`)."""

    transport: Any

    def __init__(self, source: MllpSource) -> None:
        self._source = source
        self._options = source.options
        self._most: int = source.options.in_flight
        self._most_bytes: int = source.options.in_flight_size
        self._framer = MllpFramer(source.options.max_size)
        self._turns: deque[_Turn] = deque()
        self._under_way = self._bytes = 0
        self._paused = self._deaf = self._silent = self._ending = self._lingers = self._closing = self._gone = False
        self._timer: DelayedCall | None = None
        self._deadline = 0.0
        self._peer: str | None = None if source.options.tls is not None else ""
        self.remote = ""

    # --- connection ------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        address = self.transport.getPeer()
        self.remote = f"{address.host}:{address.port}"
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        if self._source.admit(self):
            self.transport.registerProducer(self, True)
            self._touch(self._options.idle if self._peer is not None else self._options.receive_within)
        else:
            self._gone = True
            self.transport.abortConnection()

    def handshakeCompleted(self) -> None:
        self._peer = self._source.peer_of(self.transport)
        self._touch(self._options.idle)

    def readConnectionLost(self) -> None:
        """The peer has said all that it has to say, and may still read: many a script closes its side and waits for the answer."""
        self._end_of_stream()
        self.stop()

    def writeConnectionLost(self) -> None:
        """Only told to those who close their own side alone."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._source.gone(self)
        self._end_of_stream()
        self._gone = True

    def _end_of_stream(self) -> None:
        """Keep what stands after the last frame, tell of a frame that was cut in two."""
        if self._gone or self._ending:
            return
        try:
            stray = self._framer.finish()
        except FramingError as error:
            self._source.fault("cut_off", self, reason=error.text)
            return
        if stray:
            self._quarantine(stray)

    @property
    def peer(self) -> str:
        """The proven party, "" for none; known once the handshake is over, so asked for with the first frame."""
        if self._peer is None:
            self._peer = self._source.peer_of(self.transport)
        return self._peer

    def stop(self) -> None:
        """Take nothing new; close once everything under way is answered."""
        self._ending = True
        self._read_on()
        self._close_when_done()

    def _close_when_done(self) -> None:
        if not self._ending or self._turns or self._gone or self._closing:
            return
        if self._lingers:
            self._touch(LINGER)
        else:
            self._close()

    def _close(self) -> None:
        self._closing = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._touch(FLUSH)

    # --- time ------------------------------------------------------------------------------------

    def _touch(self, seconds: float) -> None:
        """Something happened: move the deadline. The timer itself is only looked at when it fires, so this is cheap."""
        reactor = self._source.reactor
        self._deadline = reactor.seconds() + seconds
        timer = self._timer
        if timer is None or not timer.active():
            self._timer = reactor.callLater(seconds, self._look_at_time)
        elif timer.getTime() > self._deadline:
            timer.reset(seconds)

    def _look_at_time(self) -> None:
        left = self._deadline - self._source.reactor.seconds()
        if left > 0.001:
            self._timer = self._source.reactor.callLater(left, self._look_at_time)
        elif self._turns:
            self._touch(self._options.idle)  # it is we who are slow
        elif self._ending and not self._closing:
            self._close()
        else:
            if not self._ending:
                self._source.fault("slow" if self._framer.inside or self._peer is None else "idle", self)
            self.transport.abortConnection()

    # --- bytes in --------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self._ending:
            return
        framer = self._framer
        was_inside = framer.inside
        try:
            frames = framer.feed(data)
        except FramingError as error:
            self._broken(error)
            return
        for frame in frames:
            self._take(frame)
        if framer.error is not None:
            self._broken(framer.error)
        elif not framer.inside:
            self._touch(self._options.idle)
        elif frames or not was_inside:
            self._touch(self._options.receive_within)

    def _broken(self, error: FramingError) -> None:
        """No frame can be found any more: keep the bytes, answer, close."""
        self._source.fault("framing", self, reason=error.text)
        judgement = Judgement(Verdict.INVALID, error.text, error.reply_hint)
        content, self._framer = self._framer.rest, MllpFramer()
        self._ending = self._lingers = True
        self._submit((self._source.reader.broken(content, judgement, self.peer, self.remote),), len(content))

    def _quarantine(self, content: bytes) -> None:
        """Keep bytes that nobody waits an answer for."""
        self._source.fault("stray", self, size=len(content))
        stray = self._source.reader.unreadable(content, _STRAY, self._peer or "", self.remote)
        if stray.impostor:
            self._source.unusable(self, stray)
        self._source.intake(stray.envelope, lambda _: b"", stray.invalid)

    def _take(self, frame: Frame) -> None:
        content, before = frame
        if before:
            self._quarantine(before)
        reader, peer = self._source.reader, self.peer
        if batch.is_batch(content):
            if batch.most_messages(content) > self._options.batch:
                self._submit((reader.broken(content, _LONG_BATCH, peer, self.remote),), len(content))
                return
            of = batch.split(content)
            for fault in of.faults:
                self._source.fault("batch", self, reason=fault)
            self._submit([reader.read(one, peer, self.remote) for one in of.messages], len(content), of)
        else:
            self._submit((reader.read(content, peer, self.remote),), len(content))

    def _submit(self, parts: Sequence[Received], size: int, of: batch.Batch | None = None) -> None:
        turn = _Turn(parts, of, size)
        self._turns.append(turn)
        self._under_way += len(parts)
        self._bytes += size
        self._read_less()
        if not parts:
            self._answer()
        for index, part in enumerate(parts):
            if part.invalid is not None:
                self._source.unusable(self, part)
            self._source.intake(part.envelope, part.reply, part.invalid).addCallback(self._acked, turn, index)

    # --- answers out -----------------------------------------------------------------------------

    def _acked(self, ack: Ack, turn: _Turn, index: int) -> None:
        turn.acks[index] = ack
        turn.missing -= 1
        if not turn.missing and self._turns[0] is turn:
            self._answer()

    def _answer(self) -> None:
        """Write every answer that is due: as far as all earlier ones are complete."""
        turns, due = self._turns, []
        while turns and not turns[0].missing:
            turn = turns.popleft()
            self._under_way -= len(turn.parts)
            self._bytes -= turn.size
            if self._gone or self._closing or self._silent:
                self._source.fault("unheard", self)
            else:
                due += self._worded(turn)
        if due and not self._gone:
            write_now(self.transport, b"".join(map(MllpFramer.wrap, due)))
        if self._paused and not self._crowded:
            self._read_on()
        if self._ending:
            self._close_when_done()

    @property
    def _crowded(self) -> bool:
        return self._deaf or self._under_way >= self._most or self._bytes >= self._most_bytes

    def _read_less(self) -> None:
        if self._crowded and not self._paused and not self._ending:
            self._paused = True
            self.transport.pauseProducing()

    def _read_on(self) -> None:
        if self._paused and not self._gone and not self._closing:
            self._paused = False
            self.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """The transport's: answers pile up that the peer does not read."""
        self._deaf = True
        self._read_less()

    def resumeProducing(self) -> None:
        self._deaf = False
        if not self._crowded:
            self._read_on()

    def stopProducing(self) -> None:
        """The connection is lost, and connectionLost follows."""

    def _worded(self, turn: _Turn) -> list[bytes]:
        """The contents of the frames that answer a frame."""
        acks = [ack for ack in turn.acks if ack is not None]
        unavailable = any(ack.judgement.verdict is Verdict.UNAVAILABLE for ack in acks)
        due = [] if self._options.release == 1 else [NOT_COMMITTED if unavailable else COMMIT]
        silent = unavailable and self._options.when_unavailable == "silent"
        answers = [[] if silent else part.answers(ack) for part, ack in zip(turn.parts, acks, strict=True)]
        if unavailable and not any(answers):
            self._ending = self._silent = True  # the only sign there is; a later answer could be taken for the one to this
        elif turn.batch is not None and turn.batch.has_headers:
            return [*due, self._source.batch_answer(turn.batch, answers)]
        return [*due, *chain.from_iterable(answers)]
