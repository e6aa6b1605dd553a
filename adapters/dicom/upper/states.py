"""The state machine of the DICOM upper layer: PS3.8 table 9-10 as it stands there, for requestor and acceptor. Pure.

`TABLE` gives the action for an event in a state, `ACTIONS` what an action does (tables 9-6 to 9-9) and where it leads. Empty cells of
table 9-10 are not in `TABLE`: such an event cannot come from a peer, so it is a fault of ours.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

from engine.errors import LocalProtocolError


class State(Enum):
    """PS3.8 tables 9-1 to 9-5."""

    Sta1 = "idle"
    Sta2 = "transport connection open, awaiting A-ASSOCIATE-RQ"
    Sta3 = "awaiting local A-ASSOCIATE response"
    Sta4 = "awaiting transport connection opening"
    Sta5 = "awaiting A-ASSOCIATE-AC or -RJ"
    Sta6 = "association established"
    Sta7 = "awaiting A-RELEASE-RP"
    Sta8 = "awaiting local A-RELEASE response"
    Sta9 = "release collision, requestor: awaiting local A-RELEASE response"
    Sta10 = "release collision, acceptor: awaiting A-RELEASE-RP"
    Sta11 = "release collision, requestor: awaiting A-RELEASE-RP"
    Sta12 = "release collision, acceptor: awaiting local A-RELEASE response"
    Sta13 = "awaiting transport connection closing"


class Event(Enum):
    """The rows of PS3.8 table 9-10."""

    Evt1 = "A-ASSOCIATE request"
    Evt2 = "transport connection confirmed"
    Evt3 = "A-ASSOCIATE-AC PDU"
    Evt4 = "A-ASSOCIATE-RJ PDU"
    Evt5 = "transport connection indication"
    Evt6 = "A-ASSOCIATE-RQ PDU"
    Evt7 = "A-ASSOCIATE response (accept)"
    Evt8 = "A-ASSOCIATE response (reject)"
    Evt9 = "P-DATA request"
    Evt10 = "P-DATA-TF PDU"
    Evt11 = "A-RELEASE request"
    Evt12 = "A-RELEASE-RQ PDU"
    Evt13 = "A-RELEASE-RP PDU"
    Evt14 = "A-RELEASE response"
    Evt15 = "A-ABORT request"
    Evt16 = "A-ABORT PDU"
    Evt17 = "transport connection closed"
    Evt18 = "ARTIM timer expired"
    Evt19 = "unrecognized or invalid PDU"


class Deed(Enum):
    """What an action consists of."""

    CONNECT = auto()  # ask for a transport connection
    SEND = auto()  # the PDU that the event's primitive stands for
    INDICATE = auto()  # tell the service user: an indication or confirmation primitive
    ABORT_BY_USER = auto()  # send A-ABORT, source 0
    ABORT_BY_PROVIDER = auto()  # send A-ABORT, source 2, with the reason
    START_ARTIM = auto()  # or start it again
    STOP_ARTIM = auto()
    CLOSE = auto()


class Action(NamedTuple):
    """`name` as in tables 9-6 to 9-9; `by_acceptor` where the next state depends on the role."""

    name: str
    deeds: tuple[Deed, ...]
    to: State
    by_acceptor: State | None = None


_S, _D = State, Deed
ACTIONS: Final = {
    action.name: action
    for action in (
        Action("AE-1", (_D.CONNECT,), _S.Sta4),
        Action("AE-2", (_D.SEND,), _S.Sta5),
        Action("AE-3", (_D.INDICATE,), _S.Sta6),
        Action("AE-4", (_D.INDICATE, _D.CLOSE), _S.Sta1),
        Action("AE-5", (_D.START_ARTIM,), _S.Sta2),
        Action("AE-6", (_D.STOP_ARTIM, _D.INDICATE), _S.Sta3),  # the provider's own refusal is an A-ASSOCIATE response too: AE-8
        Action("AE-7", (_D.SEND,), _S.Sta6),
        Action("AE-8", (_D.SEND, _D.START_ARTIM), _S.Sta13),
        Action("DT-1", (_D.SEND,), _S.Sta6),
        Action("DT-2", (_D.INDICATE,), _S.Sta6),
        Action("AR-1", (_D.SEND,), _S.Sta7),
        Action("AR-2", (_D.INDICATE,), _S.Sta8),
        Action("AR-3", (_D.INDICATE, _D.CLOSE), _S.Sta1),
        Action("AR-4", (_D.SEND, _D.START_ARTIM), _S.Sta13),
        Action("AR-5", (_D.STOP_ARTIM,), _S.Sta1),
        Action("AR-6", (_D.INDICATE,), _S.Sta7),
        Action("AR-7", (_D.SEND,), _S.Sta8),
        Action("AR-8", (_D.INDICATE,), _S.Sta9, by_acceptor=_S.Sta10),
        Action("AR-9", (_D.SEND,), _S.Sta11),
        Action("AR-10", (_D.INDICATE,), _S.Sta12),
        Action("AA-1", (_D.ABORT_BY_USER, _D.START_ARTIM), _S.Sta13),
        Action("AA-2", (_D.STOP_ARTIM, _D.CLOSE), _S.Sta1),
        Action("AA-3", (_D.INDICATE, _D.CLOSE), _S.Sta1),
        Action("AA-4", (_D.INDICATE,), _S.Sta1),
        Action("AA-5", (_D.STOP_ARTIM,), _S.Sta1),
        Action("AA-6", (), _S.Sta13),
        Action("AA-7", (_D.ABORT_BY_PROVIDER,), _S.Sta13),
        Action("AA-8", (_D.ABORT_BY_PROVIDER, _D.INDICATE, _D.START_ARTIM), _S.Sta13),
    )
}

# The columns are Sta1 to Sta13; "." is an empty cell.
_ROWS: Final = """
Evt1   AE-1  .     .     .     .     .     .     .     .     .     .     .     .
Evt2   .     .     .     AE-2  .     .     .     .     .     .     .     .     .
Evt3   .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4   .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5   AE-5  .     .     .     .     .     .     .     .     .     .     .     .
Evt6   .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7   .     .     AE-7  .     .     .     .     .     .     .     .     .     .
Evt8   .     .     AE-8  .     .     .     .     .     .     .     .     .     .
Evt9   .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
Evt10  .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11  .     .     .     .     .     AR-1  .     .     .     .     .     .     .
Evt12  .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13  .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14  .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
Evt15  .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
Evt16  .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17  .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18  .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
Evt19  .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""
TABLE: Final = {
    (Event[row.split()[0]], state): ACTIONS[cell]
    for row in _ROWS.strip().splitlines()
    for state, cell in zip(State, row.split()[1:], strict=True)
    if cell != "."
}


class Machine:
    """Where one association stands."""

    def __init__(self, *, requestor: bool) -> None:
        self.requestor = requestor
        self.state = State.Sta1

    def allows(self, event: Event) -> bool:
        return (event, self.state) in TABLE

    def on(self, event: Event) -> Action:
        """Go to the next state; the caller does the action's deeds. Raises LocalProtocolError for an empty cell of the table."""
        action = TABLE.get((event, self.state))
        if action is None:
            raise LocalProtocolError(f"{event.name} ({event.value}) cannot be in {self.state.name} ({self.state.value})")
        self.state = action.to if action.by_acceptor is None or self.requestor else action.by_acceptor
        return action
