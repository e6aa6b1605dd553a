"""A data set on its way to the disk: in any order of the reactor's and the threads' turns it is written whole, once, or not at all."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from adapters.dicom.spooling import SMALL, Spooling, Written
from engine.errors import StoreError, StoreFull
from engine.message import BodyRef
from tests.support.dicom import MemorySpool


class Layer:
    """Of adapters.dicom.upper.protocol.UpperLayer, what a spooling asks."""

    def __init__(self) -> None:
        self.held = False

    def hold(self, holder: Any) -> None:
        self.held = True

    def let_go(self, holder: Any) -> None:
        self.held = False


class Turns:
    """A thread pool whose jobs run, and whose results are told, when the test says so: in any order."""

    def __init__(self, **spool: Any) -> None:
        self.waiting: list[Any] = []
        self.told: list[Any] = []
        self.outcomes: list[Written | StoreError] = []
        self.spools: list[MemorySpool] = []
        self.layer = Layer()
        self._spool = spool
        self.spooling = Spooling(b"head", self._open, self._run, self.layer, 1 << 20, self.outcomes.append)  # type: ignore[arg-type]

    def _open(self) -> MemorySpool:
        self.spools.append(MemorySpool(**self._spool))
        return self.spools[-1]

    def _run(self, function: Any, *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((done, function, arguments))
        return done

    def work(self, index: int) -> None:
        """One job runs to its end."""
        done, function, arguments = self.waiting.pop(index % len(self.waiting))
        try:
            self.told.append((done.callback, function(*arguments)))
        except StoreError as error:
            self.told.append((done.errback, error))

    def tell(self, index: int) -> None:
        """The reactor hears of one job."""
        fire, result = self.told.pop(index % len(self.told))
        fire(result)

    def finish(self) -> None:
        while self.waiting or self.told:
            self.work(0) if self.waiting else self.tell(0)


STEPS = st.lists(st.tuples(st.sampled_from(("write", "work", "tell")), st.integers(0, 3)), max_size=40)


def play(turns: Turns, steps: list[tuple[str, int]]) -> bytes:
    """Gives what was written to the spooling."""
    content = b""
    for number, (step, index) in enumerate(steps):
        if step == "write":
            piece = bytes([number]) * 50_000
            content += piece
            turns.spooling.write(memoryview(piece))
        elif step == "work" and turns.waiting:
            turns.work(index)
        elif step == "tell" and turns.told:
            turns.tell(index)
    return content


@given(STEPS)
def test_it_is_written_whole_and_told_once(steps: list[tuple[str, int]]) -> None:
    """Head, then the pieces in their order; the digest is of the pieces alone."""
    turns = Turns()
    content = play(turns, steps)
    turns.spooling.finish()
    turns.finish()
    (outcome,) = turns.outcomes
    assert isinstance(outcome, Written)
    assert outcome.digest == sha256(content).digest()
    assert not turns.layer.held
    if len(content) <= SMALL:
        assert (outcome.body, turns.spools) == (b"head" + content, [])
    else:
        assert isinstance(outcome.body, BodyRef)
        assert bytes(turns.spools[0].content) == b"head" + content


@given(STEPS)
def test_an_abort_leaves_nothing(steps: list[tuple[str, int]]) -> None:
    """Whatever a thread is at just then."""
    turns = Turns()
    play(turns, steps)
    turns.spooling.abort()
    turns.finish()
    assert turns.outcomes == []
    assert not turns.layer.held
    assert [(spool.aborted, spool.finished) for spool in turns.spools] == [(True, False)] * len(turns.spools)


@given(STEPS, st.integers(0, 600_000))
def test_a_full_disk_is_told_once(steps: list[tuple[str, int]], room: int) -> None:
    """At the end of the data set, not before; the association is never left held."""
    turns = Turns(room=room)
    content = play(turns, steps)
    assert turns.outcomes == []
    turns.spooling.finish()
    turns.finish()
    (outcome,) = turns.outcomes
    assert isinstance(outcome, StoreFull) == (len(content) > SMALL and len(content) + 4 > room)
    assert not turns.layer.held
