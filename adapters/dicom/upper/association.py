"""One association: bytes and requests of the service user in, steps out. Pure; it knows no socket, no clock and no thread.

It is the state machine (`states`) with its PDUs (`framing`, `pdu`) and messages (`messages`). The caller does the steps in order:
write, close, start or stop the ARTIM timer, tell the service user.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from adapters.dicom.upper import pdu
from adapters.dicom.upper.framing import PduFramer, Piece
from adapters.dicom.upper.messages import SMALLEST_LENGTH, Began, Ended, MessageReader, Part, fragment
from adapters.dicom.upper.negotiation import Agreed, agreed_by
from adapters.dicom.upper.states import Deed, Event, Machine, State
from engine.errors import FramingError, LocalProtocolError


class Write(NamedTuple):
    """Bytes for the peer."""

    data: bytes


class Timer(Enum):
    """What to do with the ARTIM timer (PS3.8 clause 9.1.5)."""

    START = auto()
    STOP = auto()


class Close(NamedTuple):
    """Close the transport connection."""


class Aborted(NamedTuple):
    """A-ABORT or A-P-ABORT indication: the association is over. `by_us`: the peer broke the protocol, and `reason` says how."""

    reason: str
    by_us: bool = False


class Lost(NamedTuple):
    """The transport connection is gone, with an association on it: an A-P-ABORT indication."""


Step = (
    Write | Timer | Close | Aborted | Lost | pdu.AssociateRequest | pdu.AssociateAccept | pdu.AssociateReject | pdu.ReleaseRequest
    | pdu.ReleaseResponse | Began | Part | Ended
)  # fmt: skip

_EVENTS: Final = {
    pdu.AssociateAccept: Event.Evt3,
    pdu.AssociateReject: Event.Evt4,
    pdu.AssociateRequest: Event.Evt6,
    pdu.ReleaseRequest: Event.Evt12,
    pdu.ReleaseResponse: Event.Evt13,
    pdu.Abort: Event.Evt16,
}


class Association:
    """`requestor` tells the role. `max_length` is ours: the longest P-DATA-TF PDU that the peer may send."""

    def __init__(self, *, requestor: bool, max_length: int = 131072) -> None:
        self.machine = Machine(requestor=requestor)
        self.max_length = max_length
        self.request: pdu.AssociateRequest | None = None
        self.accept: pdu.AssociateAccept | None = None
        self.agreed: Agreed = {}
        self._framer = PduFramer(max_length)
        self._reader = MessageReader()
        self._deaf = False

    @property
    def state(self) -> State:
        return self.machine.state

    @property
    def established(self) -> bool:
        return self.machine.state is State.Sta6

    @property
    def inside(self) -> bool:
        """Whether a PDU or a message has begun and not ended."""
        return self._framer.inside or self._reader.inside

    @property
    def peer_max_length(self) -> int:
        """The longest P-DATA-TF PDU that the peer takes; 0 = any."""
        theirs = self.accept if self.machine.requestor else self.request
        return theirs.max_length if theirs is not None else 0

    # --- from the transport ------------------------------------------------------------------------

    def connected(self) -> list[Step]:
        """An acceptor's connection has come (Evt5), or a requestor's is there (Evt1, Evt2): its request goes out with `associate`."""
        if self.machine.requestor:
            self.machine.on(Event.Evt1)
            return []
        return self._do(Event.Evt5)

    def feed(self, data: bytes) -> Iterator[Step]:
        """The next bytes; to be exhausted before anything else is asked. Whatever a peer sends gives steps, never an error."""
        if self._is_deaf():
            return
        try:
            for found in self._framer.feed(data):
                if isinstance(found, Piece):
                    yield from self._piece(found)
                else:
                    yield from self._pdu(found)
                if self._is_deaf():
                    return
        except FramingError as error:
            self._deaf = True
            yield from self._do(Event.Evt19, reason=int(error.reply_hint or pdu.INVALID_VALUE), text=error.text)

    def _is_deaf(self) -> bool:
        """Whether what comes now is not looked at any more: it is over, and only the connection is still there."""
        return self._deaf

    def _piece(self, piece: Piece) -> Iterator[Step]:
        action = self.machine.on(Event.Evt10)
        if action.name in ("DT-2", "AR-6"):
            if piece.context_id not in self.agreed:
                raise pdu.broken("a presentation context that was not accepted", pdu.INVALID_VALUE)
            yield from self._reader.take(piece)
        else:
            yield from self._deeds(action.deeds, None, pdu.UNEXPECTED_PDU, "data where none may be")

    def _pdu(self, found: pdu.Pdu) -> list[Step]:
        event = _EVENTS[type(found)]
        if isinstance(found, pdu.AssociateAccept) and self.request is not None and self.state is State.Sta5:
            if not self._usable(found):
                return self._do(Event.Evt19, reason=pdu.INVALID_VALUE, text="the acceptance cannot be used")
            self.accept, self.agreed = found, agreed_by(self.request, found)
        elif isinstance(found, pdu.AssociateRequest) and self.state is State.Sta2:
            if not self._usable(found):
                return self._do(Event.Evt19, reason=pdu.INVALID_VALUE, text="the maximum length is too small")
            self.request = found
        return self._do(event, found, pdu.UNEXPECTED_PDU, f"{event.value} in a state where it cannot be")

    @staticmethod
    def _usable(found: pdu.Associate) -> bool:
        return not 0 < found.max_length < SMALLEST_LENGTH

    def lost(self) -> list[Step]:
        """The transport connection is closed (Evt17)."""
        self._deaf = True
        return self._do(Event.Evt17) if self.machine.allows(Event.Evt17) else []

    def expired(self) -> list[Step]:
        """The ARTIM timer has run out (Evt18)."""
        return self._do(Event.Evt18) if self.machine.allows(Event.Evt18) else []

    # --- from the service user ----------------------------------------------------------------------

    def associate(self, request: pdu.AssociateRequest) -> list[Step]:
        """A-ASSOCIATE request, over a connection that is there."""
        self.request = request
        return self._do(Event.Evt2, request)

    def accepted(self, accept: pdu.AssociateAccept, agreed: Agreed) -> list[Step]:
        """A-ASSOCIATE response: accept."""
        self.accept, self.agreed = accept, agreed
        return self._do(Event.Evt7, accept)

    def rejected(self, reject: pdu.AssociateReject) -> list[Step]:
        """A-ASSOCIATE response: reject."""
        return self._do(Event.Evt8, reject)

    def send(self, context_id: int, content: bytes | memoryview, *, is_command: bool, is_last: bool = True) -> list[bytes | memoryview]:
        """P-DATA request: the buffers to write. Raises LocalProtocolError where none may be sent now."""
        self.machine.on(Event.Evt9)
        if context_id not in self.agreed:
            raise LocalProtocolError(f"presentation context {context_id} was not agreed on")
        return fragment(context_id, content, self.peer_max_length, is_command=is_command, is_last=is_last)

    def release(self) -> list[Step]:
        """A-RELEASE request."""
        return self._do(Event.Evt11, pdu.ReleaseRequest())

    def released(self) -> list[Step]:
        """A-RELEASE response."""
        return self._do(Event.Evt14, pdu.ReleaseResponse())

    def abort(self) -> list[Step]:
        """A-ABORT request; nothing where there is nothing to abort."""
        self._deaf = True
        return self._do(Event.Evt15) if self.machine.allows(Event.Evt15) else []

    # --- the actions --------------------------------------------------------------------------------

    def _do(self, event: Event, about: pdu.Pdu | None = None, reason: int = 0, text: str = "") -> list[Step]:
        return self._deeds(self.machine.on(event).deeds, about, reason, text)

    def _deeds(self, deeds: tuple[Deed, ...], about: pdu.Pdu | None, reason: int, text: str) -> list[Step]:
        steps: list[Step] = []
        by_us = Deed.ABORT_BY_PROVIDER in deeds
        for deed in deeds:
            if deed is Deed.SEND and about is not None:
                steps.append(Write(pdu.encode(about)))
            elif deed is Deed.ABORT_BY_USER:
                steps.append(Write(pdu.encode(pdu.Abort(0, 0))))
            elif deed is Deed.ABORT_BY_PROVIDER:
                steps.append(Write(pdu.encode(pdu.Abort(2, reason))))
            elif deed is Deed.INDICATE:
                steps.append(self._indication(about, by_us, text))
            elif deed is Deed.START_ARTIM:
                steps.append(Timer.START)
            elif deed is Deed.STOP_ARTIM:
                steps.append(Timer.STOP)
            elif deed is Deed.CLOSE:
                self._deaf = True
                steps.append(Close())
        return steps

    @staticmethod
    def _indication(about: pdu.Pdu | None, by_us: bool, text: str) -> Step:
        if by_us:
            return Aborted(text, by_us=True)
        if about is None:
            return Lost()
        return Aborted(str(about)) if isinstance(about, pdu.Abort) else about
