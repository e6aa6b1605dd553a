"""The upper layer's state machine against another reading of the same table: every cell, every action, every next state."""

from __future__ import annotations

import pytest
from pynetdicom.fsm import ACTIONS as THEIR_ACTIONS
from pynetdicom.fsm import TRANSITION_TABLE

from adapters.dicom.upper.states import ACTIONS, TABLE, Deed, Event, Machine, State
from engine.errors import LocalProtocolError

CELLS = [(event, state) for event in Event for state in State]


@pytest.mark.parametrize(("event", "state"), CELLS, ids=lambda one: one.name)
def test_each_cell_is_the_table_s(event: Event, state: State) -> None:
    """PS3.8 table 9-10: 19 events by 13 states."""
    theirs = TRANSITION_TABLE.get((event.name, state.name))
    ours = TABLE.get((event, state))
    assert (ours.name if ours else None) == theirs


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("requestor", [True, False])
def test_each_action_leads_where_the_standard_says(name: str, requestor: bool) -> None:
    """Tables 9-6 to 9-9. Where theirs has two next states it depends on the role, or (AE-6) on the acceptor's mind, which is an event of
    its own here."""
    theirs = THEIR_ACTIONS[name][2]
    action = ACTIONS[name]
    ours = action.to if requestor or action.by_acceptor is None else action.by_acceptor
    allowed = [theirs] if isinstance(theirs, str) else list(theirs)
    if name == "AR-8":
        assert ours is (State.Sta9 if requestor else State.Sta10)
    assert ours.name in allowed


def test_both_know_the_same_actions() -> None:
    assert set(ACTIONS) == set(THEIR_ACTIONS)


@pytest.mark.parametrize(("event", "state"), [cell for cell in CELLS if cell not in TABLE], ids=lambda one: one.name)
def test_an_empty_cell_is_our_own_fault(event: Event, state: State) -> None:
    """No peer can cause it, and the state stays."""
    machine = Machine(requestor=True)
    machine.state = state
    with pytest.raises(LocalProtocolError, match=event.name):
        machine.on(event)
    assert machine.state is state


@pytest.mark.parametrize(("event", "state"), [cell for cell in CELLS if cell in TABLE], ids=lambda one: one.name)
def test_every_way_out_ends(event: Event, state: State) -> None:
    """Whoever waits for the connection to close has the ARTIM timer running, or had it when it came there."""
    action = TABLE[event, state]
    if action.to is State.Sta13 and state is not State.Sta13:
        assert Deed.START_ARTIM in action.deeds
    if action.to is State.Sta1 and state in (State.Sta2, State.Sta13):
        assert Deed.STOP_ARTIM in action.deeds
