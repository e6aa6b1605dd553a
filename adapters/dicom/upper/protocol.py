"""One association on a Twisted transport: does the steps of `association.Association`, keeps its timers. Nothing of DIMSE is here.

Timers: ARTIM (PS3.8 clause 9.1.5) where the state machine says so; `idle` while nothing comes and nothing is under way; `receive_within`
for anything that has begun to come (a PDU, a message with its data set). The peer that lets one run out is aborted, and cut off where it
does not close. A transport that has been told to close is cut off as well if its last bytes do not leave in `FLUSH` seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from adapters.dicom.upper import pdu
from adapters.dicom.upper.association import Aborted, Association, Close, Lost, Step, Timer, Write
from adapters.dicom.upper.failures import AssociationFailed, ConnectionGone, PeerAborted, PeerBroke, WeAborted
from adapters.dicom.upper.messages import Began, Ended, Part
from adapters.dicom.upper.states import State
from engine.writing import write_now

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

FLUSH: Final = 5.0
READ_AT_ONCE: Final = 256 << 10
"""Bytes asked of the socket in one call: fewer turns of the reactor for each image."""


@dataclass(frozen=True)
class Times:
    """In seconds."""

    artim: float = 30.0
    idle: float = 300.0
    receive_within: float = 1800.0


@implementer(IHandshakeListener, IPushProducer)
class UpperLayer(Protocol):
    """Subclasses say what the indications mean. `clock` is an IReactorTime, injected; with `secure` nothing begins before the TLS
    handshake is over."""

    transport: Any

    def __init__(self, association: Association, clock: Any, times: Times, *, secure: bool) -> None:
        self.association, self._clock, self._times, self._secure = association, clock, times, secure
        self._artim: DelayedCall | None = None
        self._timer: DelayedCall | None = None
        self._deadline = 0.0
        self._receiving = False
        self._holders: set[Hashable] = set()
        self._blocked = False
        self._closing = self._over = False
        self.remote = ""

    # --- what subclasses say -----------------------------------------------------------------------

    def begun(self) -> None:
        """The transport is there (and secure)."""

    def proposed(self, request: pdu.AssociateRequest) -> None:
        """A-ASSOCIATE indication."""

    def answered(self, answer: pdu.AssociateAccept | pdu.AssociateReject) -> None:
        """A-ASSOCIATE confirmation."""

    def message_began(self, began: Began) -> None: ...

    def message_part(self, data: memoryview) -> None: ...

    def message_ended(self) -> None: ...

    def release_asked(self) -> None:
        """A-RELEASE indication."""

    def release_confirmed(self) -> None:
        """A-RELEASE confirmation."""

    def over(self, failure: AssociationFailed | None) -> None:
        """Once, when nothing more can be said or heard: None after an orderly release (or rejection)."""

    def writable(self) -> None:
        """The transport takes more, after `blocked` was true."""

    def busy(self) -> bool:
        """Whether it is we who let the peer wait."""
        return False

    def fault(self, kind: str, **facts: Any) -> None:
        """Something to count and log."""

    # --- transport ---------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        address = self.transport.getPeer()
        self.remote = f"{getattr(address, 'host', '')}:{getattr(address, 'port', '')}"
        for tune in ("setTcpNoDelay", "setTcpKeepAlive"):
            if hasattr(self.transport, tune):
                getattr(self.transport, tune)(True)
        self.transport.bufferSize = READ_AT_ONCE
        self.transport.registerProducer(self, True)
        if self._secure:
            self._touch(self._times.artim)
        else:
            self._begin()

    def handshakeCompleted(self) -> None:
        if self._secure:
            self._begin()

    def _begin(self) -> None:
        self._touch(self._times.idle)
        self._run(self.association.connected())
        self.begun()

    def dataReceived(self, data: bytes) -> None:
        self._run(self.association.feed(data))
        inside = self.association.inside
        if not inside:
            self._touch(self._times.idle)
        elif not self._receiving:
            self._touch(self._times.receive_within)
        self._receiving = inside

    def connectionLost(self, reason: Failure | None = None) -> None:
        for call in (self._timer, self._artim):
            if call is not None and call.active():
                call.cancel()
        self._run(self.association.lost())
        self._finish(ConnectionGone(_words(reason)))

    # --- steps -------------------------------------------------------------------------------------

    def _run(self, steps: Iterable[Step]) -> None:
        for step in steps:
            kind = type(step)
            if kind is Part:
                self.message_part(step.data)  # type: ignore[union-attr, arg-type]
            elif kind is Ended:
                self.message_ended()
            elif isinstance(step, Began):
                self.message_began(step)
            else:
                self._control(step)

    def _control(self, step: Step) -> None:
        if isinstance(step, Write):
            write_now(self.transport, step.data)
        elif isinstance(step, Close):
            self._close()
        elif step is Timer.START:
            self._stop_artim()
            self._artim = self._clock.callLater(self._times.artim, self._expired)
        elif step is Timer.STOP:
            self._stop_artim()
        elif isinstance(step, pdu.AssociateRequest):
            self.proposed(step)
        elif isinstance(step, pdu.AssociateAccept | pdu.AssociateReject):
            self.answered(step)
        else:
            self._ending(step)

    def _ending(self, step: Step) -> None:
        if isinstance(step, pdu.ReleaseRequest):
            self.release_asked()
        elif isinstance(step, pdu.ReleaseResponse):
            self.release_confirmed()
            self._finish(None)
        elif isinstance(step, Aborted):
            if step.by_us:
                self.fault("broke", reason=step.reason)
            self._finish(PeerBroke(step.reason) if step.by_us else PeerAborted(step.reason))
        elif isinstance(step, Lost):
            self._finish(ConnectionGone("the connection was lost"))

    def _finish(self, failure: AssociationFailed | None) -> None:
        if not self._over:
            self._over = True
            self._holders.clear()
            self.over(failure)
            self._read_on()

    def abort(self, why: AssociationFailed | None = None) -> None:
        """A-ABORT by us, wherever it stands."""
        steps = self.association.abort()
        self._run(steps)
        self._finish(why or WeAborted("we aborted it"))
        if not steps:  # nothing was to abort: no association had begun
            self.transport.abortConnection()

    def cut_off_soon(self) -> None:
        """What has been written may still leave."""
        self._touch(FLUSH)

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self._touch(FLUSH)

    # --- time --------------------------------------------------------------------------------------

    def _stop_artim(self) -> None:
        if self._artim is not None and self._artim.active():
            self._artim.cancel()
        self._artim = None

    def _expired(self) -> None:
        self._artim = None
        self.fault("artim")
        self._run(self.association.expired())
        self._finish(WeAborted("the ARTIM timer has run out"))
        self.transport.abortConnection()

    def _touch(self, seconds: float) -> None:
        """Something happened: move the deadline. The timer itself is only looked at when it fires, so this is cheap."""
        self._deadline = self._clock.seconds() + seconds
        timer = self._timer
        if timer is None or not timer.active():
            self._timer = self._clock.callLater(seconds, self._look_at_time)
        elif timer.getTime() > self._deadline:
            timer.reset(seconds)

    def _look_at_time(self) -> None:
        left = self._deadline - self._clock.seconds()
        if left > 0.001:
            self._timer = self._clock.callLater(left, self._look_at_time)
        elif self._closing or self._over or self.association.state is State.Sta1:
            self.transport.abortConnection()  # also where a TLS handshake does not end
        elif self._holders or (self.busy() and not self._blocked and not self._receiving):
            self._touch(self._times.idle)  # it is we who are slow
        else:
            self.fault("slow" if self._receiving or self._blocked else "idle")
            self.abort(WeAborted("the peer was too slow" if self._receiving or self._blocked else "the association was idle"))

    # --- flow --------------------------------------------------------------------------------------

    def hold(self, holder: Hashable) -> None:
        """Read nothing more from the peer until each holder has let go."""
        if not self._holders and not self._over:
            self.transport.pauseProducing()
        if not self._over:
            self._holders.add(holder)

    def let_go(self, holder: Hashable) -> None:
        if holder in self._holders:
            self._holders.discard(holder)
            if not self._holders:
                self._touch(self._times.receive_within if self._receiving else self._times.idle)
                self._read_on()

    def _read_on(self) -> None:
        if not self._holders and not self._closing:
            self.transport.resumeProducing()

    @property
    def blocked(self) -> bool:
        """Whether what was written waits for the peer to read."""
        return self._blocked

    def pauseProducing(self) -> None:
        """The transport's: bytes pile up that the peer does not read."""
        self._blocked = True

    def resumeProducing(self) -> None:
        self._blocked = False
        self._touch(self._times.receive_within if self._receiving else self._times.idle)
        self.writable()

    def stopProducing(self) -> None:
        """The connection is lost, and connectionLost follows."""


def _words(reason: Failure | None) -> str:
    return "the connection was lost" if reason is None else f"the connection was lost: {reason.getErrorMessage()}"
