"""The client side of one MLLP connection: messages out, acknowledgments matched by MSA-2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from adapters.mllp.framing import COMMIT, NOT_COMMITTED, Frame, MllpFramer
from engine.errors import (
    DeliveryError,
    FramingError,
    LocalProtocolError,
    ParseError,
    PermanentDelivery,
    TransientDelivery,
    UncertainDelivery,
)
from engine.formats.hl7v2 import acknowledgment
from engine.message import Parcel, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from engine.options import Settings


class _Sent:
    """A message that waits for its acknowledgment."""

    __slots__ = ("committed", "deadline", "done", "parcel")

    def __init__(self, parcel: Parcel, done: Deferred[Receipt], deadline: float) -> None:
        self.parcel, self.done, self.deadline = parcel, done, deadline
        self.committed = False


class MllpClient(Protocol):
    """One connection to a receiver. `freed(self)` is called when it can take more, `closed(self, reason)` when it is gone."""

    transport: Any

    def __init__(
        self, options: Settings, reactor: Any, freed: Callable[[MllpClient], None], closed: Callable[[MllpClient, str], None]
    ) -> None:
        self._options, self._reactor = options, reactor
        self._freed, self._closed = freed, closed
        self._framer = MllpFramer(options.max_size)
        self._waiting: dict[str, _Sent] = {}
        self._timer: Any = None
        self._last_used = 0.0
        self.usable = True
        self.ready: Deferred[MllpClient] = Deferred()
        self.unexpected = 0

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self._last_used = self._reactor.seconds()
        self._timer = self._reactor.callLater(min(self._options.timeout, self._options.idle), self._look_at_time)
        self.ready.callback(self)

    @property
    def room(self) -> int:
        """How many more messages it may send now."""
        return self._options.in_flight - len(self._waiting) if self.usable else 0

    def send(self, parcel: Parcel) -> Deferred[Receipt]:
        """Fails with DeliveryError kinds only."""
        done: Deferred[Receipt] = Deferred()
        key = parcel.control_id
        if key in self._waiting:
            key = f"{key}\0{parcel.seq}"  # two messages with one control id: the answers are taken in order
        try:
            framed = self._framer.wrap(parcel.body if isinstance(parcel.body, bytes) else b"")
        except LocalProtocolError as error:
            done.errback(PermanentDelivery(error.text))
            return done
        self._waiting[key] = _Sent(parcel, done, self._reactor.seconds() + self._options.timeout)
        self.transport.write(framed)
        return done

    def dataReceived(self, data: bytes) -> None:
        try:
            frames = self._framer.feed(data)
        except FramingError as error:
            self._give_up(f"the receiver does not speak MLLP: {error.text}")
            return
        for frame in frames:
            self._answered(frame)

    def _answered(self, frame: Frame) -> None:
        if frame.content in (COMMIT, NOT_COMMITTED) and self._options.release == 2:
            self._committed(frame.content == COMMIT)
            return
        try:
            ack = acknowledgment.read(frame.content)
        except ParseError as error:
            self._unreadable(error)
            return
        key = ack.control_id if ack.control_id in self._waiting else next(iter(self._waiting), "") if not ack.control_id else ""
        sent = self._waiting.get(key)
        if sent is None:
            self.unexpected += 1  # late or foreign; the message it answers has been given up and will be sent again
            return
        if ack.is_commit and ack.positive and self._options.wait_for_application:
            sent.committed = True
            return
        self._end(key, ack, frame.content)

    def _end(self, key: str, ack: acknowledgment.Acknowledgement, answer: bytes) -> None:
        sent = self._waiting.pop(key)
        self._last_used = self._reactor.seconds()
        if ack.positive:
            sent.done.callback(Receipt(ack.reference, b""))
        else:
            sent.done.errback(self._negative(ack, answer))
        self._freed(self)

    def _negative(self, ack: acknowledgment.Acknowledgement, answer: bytes) -> DeliveryError:
        """AE and AR mean different things to different vendors: the channel says what."""
        rule = self._options.on_reject if ack.code in ("AR", "CR") else self._options.on_error
        text = f"answered {ack.code}" + (f", condition {ack.error_code}" if ack.error_code else "")
        kind = TransientDelivery if rule == "retry" else PermanentDelivery
        return kind(text, answer=answer)

    def _committed(self, positive: bool) -> None:
        """Release 2: the oldest message that has no commit acknowledgment has it now."""
        for key, sent in self._waiting.items():
            if not sent.committed:
                sent.committed = True
                if not positive:
                    del self._waiting[key]
                    sent.done.errback(TransientDelivery("the receiver could not commit the message"))
                    self._freed(self)
                elif not self._options.wait_for_application:
                    pass  # the acknowledgment of HL7 itself follows
                return

    def _unreadable(self, error: ParseError) -> None:
        key = next(iter(self._waiting), None)
        if key is None:
            self.unexpected += 1
            return
        sent = self._waiting.pop(key)
        sent.done.errback(UncertainDelivery(f"the answer is no acknowledgment: {error.text}"))
        self._freed(self)

    # --- time and end ----------------------------------------------------------------------------

    def _look_at_time(self) -> None:
        now = self._reactor.seconds()
        oldest = min((sent.deadline for sent in self._waiting.values()), default=0.0)
        if oldest and oldest <= now:
            self._give_up("no acknowledgment in time")
            return
        if not self._waiting and now - self._last_used >= self._options.idle:
            self.close()
            return
        again = oldest - now if oldest else self._options.idle - (now - self._last_used)
        self._timer = self._reactor.callLater(max(0.01, min(again, self._options.timeout)), self._look_at_time)

    def _give_up(self, why: str) -> None:
        """What is under way may have been taken or not; a fresh connection starts clean."""
        self.usable = False
        self._fail_all(why)
        self.transport.abortConnection()

    def _fail_all(self, why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for sent in waiting.values():
            sent.done.errback(UncertainDelivery(why, whole_destination=True))

    def close(self) -> None:
        self.usable = False
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.usable = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        why = reason.getErrorMessage() if reason is not None else "closed"
        self._fail_all("the connection was lost before the acknowledgment")
        self._closed(self, why)
