"""The client side of one MLLP connection: messages out, acknowledgments matched by MSA-2.

What a lost connection means depends on how far things were. Before the TLS handshake is over nothing was sent. A TLS alert before the
first answer means that the receiver never read a message: in TLS 1.3 our handshake is over before it has looked at our certificate.
In any other case a message that was sent and not answered may have been taken.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final

from OpenSSL.SSL import Error as TlsError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from adapters.mllp.framing import COMMIT, NOT_COMMITTED, MllpFramer
from adapters.mllp.outgoing import read_outgoing
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

_CODES: Final = frozenset(("AA", "AE", "AR", "CA", "CE", "CR"))  # HL7 table 0008
_REMEMBERED: Final = 256
"""Messages settled by a commit acknowledgment whose application acknowledgment is still recognized."""


class _Sent:
    """A message that waits for its acknowledgment."""

    __slots__ = ("asks", "committed", "deadline", "done", "parcel")

    def __init__(self, parcel: Parcel, done: Deferred[Receipt], deadline: float, asks: bool) -> None:
        self.parcel, self.done, self.deadline, self.asks = parcel, done, deadline, asks
        self.committed = False


@implementer(IHandshakeListener)
class MllpClient(Protocol):
    """One connection to a receiver. `freed(self)` is called when it can take more, `closed(self)` when it is gone, and
    `unexpected()` for each acknowledgment that answers nothing. `ready` fires when it may be used."""

    transport: Any

    def __init__(
        self,
        options: Settings,
        reactor: Any,
        log: logging.Logger,
        *,
        freed: Callable[[MllpClient], None],
        closed: Callable[[MllpClient], None],
        unexpected: Callable[[], None],
    ) -> None:
        self._options, self._reactor, self._log = options, reactor, log
        self._freed, self._closed, self._unexpected = freed, closed, unexpected
        self._framer = MllpFramer(options.max_size)
        self._waiting: dict[str, _Sent] = {}
        self._held: deque[tuple[Parcel, Deferred[Receipt]]] = deque()
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._timer: Any = None
        self._last_used = 0.0
        self._heard = False
        self._usable, self._closing = True, False
        self.ready: Deferred[MllpClient] = Deferred(lambda _: self.transport.abortConnection())

    # --- connection ------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        if self._options.tls is None:
            self._begin()

    def handshakeCompleted(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._last_used = self._reactor.seconds()
        self._timer = self._reactor.callLater(min(self._options.timeout, self._options.idle), self._look_at_time)
        if not self.ready.called:
            self.ready.callback(self)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._usable = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        words = _words(reason)
        if self._options.tls is not None and not self._heard and "alert" in words:
            self._fail_all(TransientDelivery, f"the receiver refused the TLS connection: {words}")
        else:
            self._fail_all(UncertainDelivery, "the connection was lost before the acknowledgment")
        if self.ready.called:
            self._closed(self)
        else:
            self.ready.errback(TransientDelivery(f"no secure connection: {words}", whole_destination=True))

    def close(self) -> None:
        """Finish what is under way, then close; `timeout` bounds it."""
        self._closing = True
        self._close_when_done()

    def _close_when_done(self) -> None:
        if not self._waiting and self._usable:
            self._usable = False
            self._let_go()

    def _let_go(self) -> None:
        self.transport.loseConnection()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater(self._options.connect_timeout, self.transport.abortConnection)

    # --- messages out ----------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more messages it may send now."""
        return self._options.in_flight - len(self._waiting) - len(self._held) if self._usable and not self._closing else 0

    def send(self, parcel: Parcel) -> Deferred[Receipt]:
        """Fails with DeliveryError kinds only."""
        done: Deferred[Receipt] = Deferred()
        self._send(parcel, done)
        return done

    def _send(self, parcel: Parcel, done: Deferred[Receipt]) -> None:
        body = parcel.body
        if not isinstance(body, bytes):
            done.errback(PermanentDelivery("the message is too big to be sent over MLLP"))
            return
        try:
            framed = self._framer.wrap(body)
        except LocalProtocolError as error:
            done.errback(PermanentDelivery(error.text))
            return
        control_id, asks = read_outgoing(body, parcel.control_id)
        if control_id in self._waiting:  # one after the other, since their answers could not be told apart
            self._held.append((parcel, done))
            return
        self._waiting[control_id] = _Sent(parcel, done, self._reactor.seconds() + self._options.timeout, asks)
        self.transport.write(framed)
        self._closing = self._closing or not self._options.keep_open
        if not asks and self._options.when_not_asked == "settle" and self._options.release == 1:
            self._settle(control_id, Receipt("no acknowledgment asked for"))

    def _settle(self, control_id: str, result: Receipt | DeliveryError) -> None:
        sent = self._waiting.pop(control_id)
        self._last_used = self._reactor.seconds()
        if isinstance(result, Receipt):
            sent.done.callback(result)
        else:
            sent.done.errback(result)
        if self._held and self._usable:
            held, self._held = self._held, deque()
            for parcel, done in held:
                self._send(parcel, done)
        if self._closing:
            self._close_when_done()
        else:
            self._freed(self)

    # --- acknowledgments in ----------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self._heard = True
        try:
            for frame in self._framer.feed(data):
                self._answered(frame.content)
            if self._framer.error is not None:
                raise self._framer.error
        except FramingError as error:
            self._give_up(f"the receiver does not speak MLLP: {error.text}")

    def _answered(self, content: bytes) -> None:
        if content in (COMMIT, NOT_COMMITTED):
            self._committed(content == COMMIT)
            return
        try:
            ack = acknowledgment.read(content)
        except ParseError as error:
            self._unreadable(error.text)
            return
        control_id = ack.control_id or next(iter(self._waiting), "")  # sloppy receivers leave it out: the oldest one then
        sent = self._waiting.get(control_id)
        if sent is None:
            self._foreign(ack)
        elif ack.code not in _CODES:
            self._settle(control_id, UncertainDelivery("the acknowledgment has a code that is not in HL7 table 0008", answer=content))
        elif not ack.positive:
            self._settle(control_id, self._negative(ack, content))
        elif not ack.is_commit:
            self._settle(control_id, _receipt(ack, content))
        elif self._options.wait_for_application:
            sent.committed = True
        else:
            self._remember(control_id)
            self._settle(control_id, _receipt(ack, content))

    def _foreign(self, ack: acknowledgment.Acknowledgement) -> None:
        """It answers nothing that waits: late (that message will be sent again), foreign, or the application's word after a commit."""
        if ack.control_id in self._settled and not ack.is_commit:
            del self._settled[ack.control_id]
            if not ack.positive:
                extra = {"control_id": ack.control_id, "code": ack.code, "condition": ack.error_code}
                self._log.warning("the receiver committed a message, and then refused it", extra=extra)
            return
        self._log.warning("an acknowledgment that answers nothing", extra={"control_id": ack.control_id, "code": ack.code})
        self._unexpected()

    def _remember(self, control_id: str) -> None:
        self._settled[control_id] = None
        if len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)

    def _negative(self, ack: acknowledgment.Acknowledgement, answer: bytes) -> DeliveryError:
        """AE and AR mean different things to different vendors: the channel says what."""
        rule = self._options.on_reject if ack.code in ("AR", "CR") else self._options.on_error
        text = f"answered {ack.code}" + (f", condition {ack.error_code}" if ack.error_code else "")
        kind = TransientDelivery if rule == "retry" else PermanentDelivery
        return kind(text, answer=answer)

    def _committed(self, positive: bool) -> None:
        """Release 2: commit acknowledgments come in the order of the messages. The acknowledgment of HL7 itself follows a positive one."""
        control_id = next((one for one, sent in self._waiting.items() if not sent.committed), None)
        if control_id is None:
            self._unexpected()
        elif not positive:
            self._settle(control_id, TransientDelivery("the receiver could not commit the message"))
        elif not self._waiting[control_id].asks and self._options.when_not_asked == "settle":
            self._settle(control_id, Receipt("committed"))
        else:
            self._waiting[control_id].committed = True

    def _unreadable(self, why: str) -> None:
        control_id = next(iter(self._waiting), None)
        if control_id is None:
            self._unexpected()
        else:
            self._settle(control_id, UncertainDelivery(f"the answer is no acknowledgment: {why}"))

    # --- time and end ----------------------------------------------------------------------------

    def _look_at_time(self) -> None:
        now = self._reactor.seconds()
        oldest = min((sent.deadline for sent in self._waiting.values()), default=0.0)
        if oldest and oldest <= now:
            self._give_up("no acknowledgment in time")
        elif not self._waiting and now - self._last_used >= self._options.idle:
            self.close()
        else:
            again = oldest - now if oldest else self._options.idle - (now - self._last_used)
            self._timer = self._reactor.callLater(max(0.01, min(again, self._options.timeout)), self._look_at_time)

    def _give_up(self, why: str) -> None:
        """What is under way may have been taken or not; a fresh connection starts clean."""
        self._usable = False
        self._fail_all(UncertainDelivery, why)
        self.transport.abortConnection()

    def _fail_all(self, kind: type[DeliveryError], why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        held, self._held = self._held, deque()
        for sent in waiting.values():
            sent.done.errback(kind(why, whole_destination=True))
        for _, done in held:
            done.errback(TransientDelivery("the connection was lost before the message was sent", whole_destination=True))


def _receipt(ack: acknowledgment.Acknowledgement, content: bytes) -> Receipt:
    """An answer that says more than yes (a query response, warnings) is handed back; a bare acknowledgment is not worth keeping."""
    more = content.rstrip(b"\r\n").count(b"\r") > 1
    return Receipt(ack.reference, content if more else b"")


def _words(reason: Failure | None) -> str:
    """Why a connection ended, in OpenSSL's own words where it was TLS; never content."""
    error: Any = reason.value if reason is not None else None
    if isinstance(error, TlsError) and error.args and error.args[0]:
        return ", ".join(str(part[-1]) for part in error.args[0] if part)
    return type(error).__name__ if error is not None else "closed"
