"""A `Station` on a transport: TCP, TLS or a serial line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone

from adapters.astm.intake import QUERY, Reader, no_information
from adapters.astm.link import ACK, NAK, Answer, Complete, Fault, Incomplete
from adapters.astm.sending import NotTaken, Taken
from adapters.astm.station import Station, StationStep
from engine.errors import LocalProtocolError
from engine.message import Ack, Judgement, Verdict

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Context, Intake
    from engine.message import Envelope

FAULTS: Final = {
    "busy": "the other end was busy when we wanted to send",
    "checksum": "a frame with a wrong checksum",
    "contention": "both ends wanted to send at the same time",
    "crowded": "too many connections",
    "frame": "a frame that is not well formed",
    "incomplete": "a message without its end, kept as invalid",
    "noise": "bytes outside of any frame",
    "number": "a frame out of sequence",
    "repeated": "a frame that came before",
    "restart": "the sender began anew",
    "sent_again": "a frame of ours that was not taken at once",
    "too_long": "a message longer than the channel takes",
    "unanswered": "the answer to a query could not be sent",
    "unreadable": "a message that cannot be read, kept",
}
"""What the label `fault` of ``meridian_astm_faults_total`` may be, and what the log says."""


_SILENT: Final = 60.0
"""Seconds in which a connection's next fault of the same kind is counted, and not logged: noise must not fill the disk with log lines."""


def count_fault(context: Context, side: str, kind: str, connection: AstmConnection, **facts: Any) -> None:
    """Count one of FAULTS, and log it; `side` is channel or destination."""
    context.metrics.counter("meridian_astm_faults_total", "what goes wrong on the line", fault=kind, **{side: context.name}).inc()
    now, logged = context.reactor.seconds(), connection.logged
    if kind not in logged or now - logged[kind] >= _SILENT:
        logged[kind] = now
        context.log.warning(FAULTS[kind], extra={side: context.name, "remote": connection.remote, **facts})


class Owner(Protocol):
    """Whose line it is. `intake` None: it takes nothing in, what comes is refused."""

    reactor: Any
    reader: Reader | None
    intake: Intake | None

    def came(self, connection: AstmConnection) -> bool:
        """A line is open; False closes it at once."""

    def gone(self, connection: AstmConnection) -> None:
        """It has ended, and nothing of it is under way."""

    def peer_of(self, transport: Any) -> str: ...

    def fault(self, kind: str, connection: AstmConnection, **facts: Any) -> None:
        """Something went wrong: one of FAULTS."""


class AstmConnection(TwistedProtocol):
    """One line. `send` sends a message on it."""

    transport: Any

    def __init__(self, owner: Owner, station: Station, remote: str = "") -> None:
        self._owner, self._station = owner, station
        self._timers: dict[str, DelayedCall | None] = {"receiver": None, "sender": None}
        self._turn = 0
        self._stopping = self._gone = False
        self._under_way = 0
        self._sent: dict[int, Callable[[Taken | NotTaken], None]] = {}
        self._numbers = 0
        self.remote = remote
        self.logged: dict[str, float] = {}
        """When which kind of FAULTS was logged last."""

    # --- the transport's side --------------------------------------------------------------------

    def connectionMade(self) -> None:
        if not self.remote:
            peer = self.transport.getPeer()
            self.remote = f"{peer.host}:{peer.port}"
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        if not self._owner.came(self):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._gone:
            self._gone = True
            self._carry_out(self._station.lost())
            self._look_done()

    def dataReceived(self, data: bytes) -> None:
        if not self._stopping:
            self._carry_out(self._station.feed(data))

    def stop(self) -> None:
        """Take nothing new; close once what was handed to the intake is answered, and what is being sent has ended."""
        self._stopping = True
        self._look_idle()

    # --- sending ---------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return not self._gone

    def send(self, message: bytes) -> Deferred[Taken | NotTaken]:
        """Fires with what became of it; fails with LocalProtocolError for bytes that cannot be sent."""
        done: Deferred[Taken | NotTaken] = Deferred()
        self._numbers += 1
        number = self._numbers
        self._sent[number] = done.callback
        if self._gone:
            self._end(NotTaken(number, "the line was lost"))
            return done
        try:
            steps = self._station.offer(message, number)
        except LocalProtocolError:
            del self._sent[number]
            done.errback()
        else:
            self._carry_out(steps)
        return done

    def _end(self, step: Taken | NotTaken) -> None:
        self._sent.pop(step.tag)(step)

    # --- steps -----------------------------------------------------------------------------------

    def _carry_out(self, steps: Sequence[StationStep]) -> None:
        for step in steps:
            match step:
                case Answer():
                    if not self._gone:
                        self.transport.write(step.data)
                case Complete():
                    self._hand_in(step.messages)
                case Fault():
                    self._owner.fault(step.kind, self)
                case Incomplete():
                    self._keep_incomplete(step)
                case Taken() | NotTaken():
                    self._end(step)
        self._set_timers()
        if self._stopping:
            self._look_idle()

    def _set_timers(self) -> None:
        self._set_timer("receiver", self._station.receiver.patience, self._station.receiver_late)
        if self._turn != self._station.sender.turn or self._gone:  # the receiver waits for the next byte, the sender for an answer
            self._turn = self._station.sender.turn
            self._set_timer("sender", self._station.sender.patience, self._station.sender_late)

    def _set_timer(self, name: str, patience: float | None, late: Callable[[], list[StationStep]]) -> None:
        timer = self._timers[name]
        if timer is not None:
            timer.cancel()
        self._timers[name] = None
        if patience is not None and not self._gone:
            self._timers[name] = self._owner.reactor.callLater(patience, self._late, name, late)

    def _late(self, name: str, late: Callable[[], list[StationStep]]) -> None:
        self._timers[name] = None
        self._carry_out(late())

    # --- receiving -------------------------------------------------------------------------------

    def _keep_incomplete(self, step: Incomplete) -> None:
        intake, reader = self._owner.intake, self._owner.reader
        if intake is None or reader is None or self._stopping:
            return
        self._owner.fault("incomplete", self, reason=step.reason)
        for envelope, judgement in reader.incomplete(step, self._owner.peer_of(self.transport), self.remote):
            intake(envelope, lambda _: b"", judgement)

    def _hand_in(self, messages: Sequence[bytes]) -> None:
        intake, reader = self._owner.intake, self._owner.reader
        if intake is None or reader is None:
            self._owner.fault("unreadable", self, reason="this line only sends")
            self._carry_out(self._station.kept(False, again=False))
            return
        self._under_way += 1
        peer = self._owner.peer_of(self.transport)
        acks: list[Deferred[Ack]] = []
        for content in messages:
            envelope, invalid = reader.read(content, peer, self.remote)
            if invalid is not None:
                self._owner.fault("unreadable", self, reason=invalid.reason, location=invalid.location)
            acks.append(intake(envelope, partial(_reply, envelope), invalid))
        gatherResults(acks).addCallback(self._judged)

    def _judged(self, acks: list[Ack]) -> None:
        """A message that was refused for good is answered NAK, so that the instrument says so on its screen; it is kept all the same.
        The answer to a query is sent when the instrument has given the line back."""
        self._under_way -= 1
        verdicts = [ack.judgement.verdict for ack in acks]
        positive = all(verdict is Verdict.ACCEPTED for verdict in verdicts)
        steps = self._station.kept(positive, again=Verdict.UNAVAILABLE in verdicts)
        self._carry_out(steps)
        for answer in (ack.answer for ack in acks if positive and ack.answer not in (ACK, NAK, b"")):
            self._answer(answer)
        self._look_idle()
        self._look_done()

    def _answer(self, answer: bytes) -> None:
        sent = self.send(answer)
        sent.addCallbacks(self._answered, lambda failure: self._owner.fault("unanswered", self, reason=failure.value.text))

    def _answered(self, end: Taken | NotTaken) -> None:
        if isinstance(end, NotTaken):
            self._owner.fault("unanswered", self, reason=end.reason)

    # --- ending ----------------------------------------------------------------------------------

    def _look_idle(self) -> None:
        if self._stopping and not self._gone and not self._under_way and not self._sent:
            self.transport.loseConnection()

    def _look_done(self) -> None:
        if self._gone and not self._under_way:
            self._set_timers()
            self._owner.gone(self)


def _reply(envelope: Envelope, judgement: Judgement) -> bytes:
    """engine.contracts.Reply: of a query what is said when nobody knows an answer."""
    if judgement.verdict is not Verdict.ACCEPTED:
        return NAK
    return no_information(envelope) if envelope.message_type == QUERY else ACK
