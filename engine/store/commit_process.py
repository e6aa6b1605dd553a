"""The writer in a process of its own: what engine.store.group_commit does in a thread, without sharing the interpreter with the reactor.

A transaction of SQLite gives up the interpreter lock and takes it back a dozen times; beside a busy reactor each time costs a fifth of
a millisecond and more. So a node lets a child process write (ADR 009), ``python -m engine.store.committer``. While one group is being
committed the next lies in the pipe, and a third one if it is large. What is called meanwhile makes up the one after that.

When the child dies, whoever waits hears StoreError: what it asked for may be on the disk or not, as after any lost answer. What
may be tried again is, with a new child, which says that others have written, so that the node looks again at its queues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, fail

from engine.child import Child
from engine.errors import StoreError
from engine.store.committer import LOCK
from engine.store.group_commit import GROUP, LINGER, PAUSE, Waiting, fire
from engine.store.transactions import Place

_LEAST: Final = (1, 4, 8)
"""Calls that a group must have at the least to be sent while none, one or two others are on their way."""

_DIED: Final = "the process that writes the store has ended; it is started again"

DestinationIds = Mapping[tuple[str, str], int]


class CommitProcess(Child):
    """As engine.store.group_commit.GroupCommit, for calls of the writing half's own methods, by their names.

    `learned` is told the ids of destinations that were not known before. `lock` is the file descriptor of the node's lock.
    """

    def __init__(self, folder: Path, inline_limit: int, lock: int, reactor: Any, learned: Callable[[DestinationIds], object]) -> None:
        self._folder, self._inline_limit, self._lock = folder, inline_limit, lock
        self._reactor, self._learned = reactor, learned
        self._calls: list[Waiting] = []
        self._urgent = 0
        self._groups: deque[list[Waiting]] = deque()
        self._turn: Any = None
        self._starts = 0
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Start the child. What is submitted before it is there waits."""
        self.spawn(
            self._reactor, "engine.store.committer", str(self._folder), str(self._inline_limit), str(self._starts), files={LOCK: self._lock}
        )
        self._starts += 1
        self._alive = True

    def submit(self, work: str, argument: Any, *, urgent: bool = True, place: Place = Place.WITH_ITS_KIND) -> Deferred[Any]:
        """Fires with the call's result once it is on the disk; fails with StoreError kinds, at once after `stop`."""
        if self._stopped is not None:
            return fail(StoreError("the store is closed"))
        done: Deferred[Any] = Deferred()
        self._calls.append(Waiting(work, argument, urgent, place, done=done))
        if urgent:
            self._urgent += 1
            if not self._groups:
                self._send()  # the disk is idle
            elif self._urgent == 1:
                self._send_within(0)  # with all else that this turn of the reactor brings
        elif len(self._calls) == 1:
            self._send_within(LINGER)
        return done

    def stop(self) -> Deferred[None]:
        """Commit what was submitted, then end the child."""
        self._stopped = Deferred()
        self._send()
        self._end_when_done()
        return self._stopped

    # --- groups out ------------------------------------------------------------------------------

    def _send_within(self, seconds: float) -> None:
        if self._turn is not None and self._turn.active():
            if self._turn.getTime() <= self._reactor.seconds() + seconds:
                return
            self._turn.cancel()
        self._turn = self._reactor.callLater(seconds, self._send)

    def _send(self) -> None:
        if not self._alive or not self._calls or len(self._groups) >= len(_LEAST) or len(self._calls) < _LEAST[len(self._groups)]:
            return  # the next outcome, or the next child, leads back here
        group, self._calls = self._calls[:GROUP], self._calls[GROUP:]
        self._urgent = sum(call.urgent for call in self._calls)
        self._groups.append(group)
        self.send([(call.work, call.argument, call.urgent, call.place) for call in group])

    # --- outcomes in -----------------------------------------------------------------------------

    def heard(self, value: Any) -> None:
        outcomes, ids = value
        if ids:
            self._learned(ids)
        self._done(self._groups.popleft(), outcomes)

    def _done(self, group: Sequence[Waiting], outcomes: Sequence[Any]) -> None:
        if self._urgent or self._stopped is not None:
            self._send()  # first, so that the disk has work while the outcomes are told
        elif self._calls:
            self._send_within(LINGER)  # their own timer may have found the pipe in use
        again = [call for call, outcome in zip(group, outcomes, strict=True) if call.may_be_tried_again(outcome)]
        if again and self._stopped is None:
            fire([(call, outcome) for call, outcome in zip(group, outcomes, strict=True) if call not in again])
            self._try_again(again)
        else:
            fire(list(zip(group, outcomes, strict=True)))
        self._end_when_done()

    def _try_again(self, calls: list[Waiting]) -> None:
        self._calls[:0] = calls
        self._send_within(PAUSE)

    # --- the child's end -------------------------------------------------------------------------

    def _end_when_done(self) -> None:
        if self._stopped is not None and self._alive and not self._calls and not self._groups:
            self.end()

    def gone(self) -> None:
        self._alive = False
        lost = [call for group in self._groups for call in group]
        self._groups.clear()
        if self._stopped is not None:
            self._close(lost)
            return
        self._calls[:0] = [call for call in lost if not call.urgent]
        self._reactor.callLater(PAUSE, self._start_again)
        fire([(call, StoreError(_DIED)) for call in lost if call.urgent])

    def _start_again(self) -> None:
        if self._stopped is not None:
            self._close([])
            return
        try:
            self.start()
        except OSError:  # the system has no room for a process now
            self._reactor.callLater(PAUSE, self._start_again)
        else:
            self._send()

    def _close(self, lost: Sequence[Waiting]) -> None:
        calls, self._calls = [*lost, *self._calls], []
        fire([(call, StoreError(_DIED)) for call in calls])
        if self._stopped is not None and not self._stopped.called:
            self._stopped.callback(None)
