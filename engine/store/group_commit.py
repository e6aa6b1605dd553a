"""The writer thread: everything that waits goes into one transaction, then everyone hears of it.

Urgent calls (accept, plan) are committed at once; calls that nobody waits for (settle, set_back) ride along with them, or go on
their own after LINGER seconds. While one transaction is on its way to the disk the next one gathers, so the group grows with the load.
What may be tried again (engine.store.transactions) is tried again after PAUSE seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, fail

from engine.errors import StoreError
from engine.store.transactions import Call, Place, Transactor, Work, Writing

LINGER: Final = 0.005
PAUSE: Final = 0.5
GROUP: Final = 1000
"""Most calls of one transaction."""


@dataclass(slots=True, kw_only=True, eq=False)
class Waiting(Call):
    """A call, and who is to hear what came of it."""

    done: Deferred[Any]


class GroupCommit:
    """Owns the writer thread. `submit` belongs to the reactor thread; results come back there."""

    def __init__(self, writes: Writing, reactor: Any) -> None:
        self._transactor, self._reactor = Transactor(writes), reactor
        self._calls: list[Waiting] = []
        self._urgent = 0
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="meridian-store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, work: Work | str, argument: Any, *, urgent: bool = True, place: Place = Place.WITH_ITS_KIND) -> Deferred[Any]:
        """Fires with the call's result once it is on the disk; fails with StoreError kinds, at once after `stop`."""
        done: Deferred[Any] = Deferred()
        with self._wake:
            if self._closing:
                return fail(StoreError("the store is closed"))
            self._calls.append(Waiting(work, argument, urgent, place, done=done))
            self._urgent += urgent
            if urgent or len(self._calls) == 1:
                self._wake.notify()
        return done

    def stop(self) -> Deferred[None]:
        """Commit what was submitted, then end the thread."""
        stopped: Deferred[None] = Deferred()

        def join() -> None:
            self._thread.join()
            self._reactor.callFromThread(stopped.callback, None)

        with self._wake:
            self._closing = True
            self._wake.notify()
        threading.Thread(target=join, daemon=True).start()
        return stopped

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while (calls := self._gather()) is not None:
            outcomes = list(zip(calls, self._transactor.run(calls), strict=True))
            again = [] if self._closing else [call for call, outcome in outcomes if call.may_be_tried_again(outcome)]
            self._reactor.callFromThread(fire, [(call, outcome) for call, outcome in outcomes if call not in again])
            if again:
                self._put_back(again)

    def _put_back(self, calls: list[Waiting]) -> None:
        with self._wake:
            self._calls[:0] = calls
            if not self._urgent and not self._closing:
                self._wake.wait(PAUSE)

    def _gather(self) -> list[Waiting] | None:
        with self._wake:
            while not self._calls:
                if self._closing:
                    return None
                self._wake.wait()
            if not self._urgent and not self._closing:
                self._wake.wait(LINGER)
            calls = self._first_group()
            del self._calls[: len(calls)]
            self._urgent -= sum(call.urgent for call in calls)
            return calls

    def _first_group(self) -> list[Waiting]:
        calls = self._calls[:GROUP]
        alone = next((index for index, call in enumerate(calls) if call.place is Place.ALONE), len(calls))
        return calls[: max(alone, 1)]


def fire(outcomes: Sequence[tuple[Waiting, Any]]) -> None:
    """Tell everyone, in the order of the calls."""
    for call, outcome in outcomes:
        if isinstance(outcome, StoreError):
            call.done.errback(outcome)
        else:
            call.done.callback(outcome)
