"""The writer thread: everything that waits goes into one transaction, then everyone hears of it.

Urgent calls (accept, plan) are committed at once; calls that nobody waits for (settle, set_back) ride along with them, or go on
their own after LINGER seconds. While one transaction is on its way to the disk the next one gathers, so the group grows with the load.

When a transaction fails because the disk is full or another process holds the database, urgent calls fail with StoreFull or StoreBusy
and the others are kept and tried again; when it fails for another reason, its calls are tried one by one, so that only the one at fault
fails. The wait for another process is one for all calls of a group, never one for each.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, fail

from engine.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull
from engine.store.schema import translate

LINGER: Final = 0.005
FULL_PAUSE: Final = 0.5


class Transactions(Protocol):
    """What the thread needs of the writing half."""

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...


Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Carries out many calls of one kind inside the transaction; gives one result each."""


class Place(Enum):
    """Where a call stands among the others of its transaction."""

    WITH_ITS_KIND = auto()  # all calls of a kind at once, where the first of them stood; for what does not concern other kinds
    IN_ORDER = auto()  # after all that was called before it, before all that was called later
    ALONE = auto()  # in order, and in a transaction of its own: it must see committed rows only


@dataclass(slots=True)
class _Call:
    work: Work
    argument: Any
    done: Deferred[Any]
    urgent: bool
    place: Place


class GroupCommit:
    """Owns the writer thread. `submit` belongs to the reactor thread; results come back there."""

    def __init__(self, writes: Transactions, reactor: Any, *, group: int = 1000) -> None:
        self._writes, self._reactor, self._group = writes, reactor, group
        self._calls: list[_Call] = []
        self._urgent = 0
        self._wake = threading.Condition()
        self._closing = False
        self._broken: StoreError | None = None
        self._thread = threading.Thread(target=self._run, name="meridian-store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, work: Work, argument: Any, *, urgent: bool = True, place: Place = Place.WITH_ITS_KIND) -> Deferred[Any]:
        """Fires with the call's result once it is on the disk; fails with StoreError kinds, at once after `stop`."""
        done: Deferred[Any] = Deferred()
        with self._wake:
            if self._closing:
                return fail(StoreError("the store is closed"))
            self._calls.append(_Call(work, argument, done, urgent, place))
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
            outcomes = self._transact(calls)
            kept = [call for call, outcome in zip(calls, outcomes, strict=True) if self._keep(call, outcome)]
            pairs = [(call.done, outcome) for call, outcome in zip(calls, outcomes, strict=True) if not self._keep(call, outcome)]
            self._reactor.callFromThread(_fire, pairs)
            if kept:
                self._put_back(kept)

    def _keep(self, call: _Call, outcome: Any) -> bool:
        """A full disk or a lock must not lose what was delivered: that is tried again. At the end there is no again."""
        return isinstance(outcome, StoreFull | StoreBusy) and not call.urgent and not self._closing

    def _put_back(self, calls: list[_Call]) -> None:
        with self._wake:
            self._calls[:0] = calls
            if not self._urgent and not self._closing:
                self._wake.wait(FULL_PAUSE)

    def _gather(self) -> list[_Call] | None:
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

    def _first_group(self) -> list[_Call]:
        calls = self._calls[: self._group]
        alone = next((index for index, call in enumerate(calls) if call.place is Place.ALONE), len(calls))
        return calls[: max(alone, 1)]

    def _transact(self, calls: list[_Call]) -> list[Any]:
        if self._broken is not None:
            return [self._broken] * len(calls)
        try:
            return self._together(calls)
        except StoreFull as full:
            late = [call for call in calls if not call.urgent]
            return self._without_urgent(calls, full) if late and len(late) < len(calls) else [full] * len(calls)
        except StoreBusy as busy:
            return [busy] * len(calls)
        except StoreCorrupt as corrupt:
            self._broken = corrupt
            return [corrupt] * len(calls)
        except StoreError as error:
            return [error] if len(calls) == 1 else self._one_by_one(calls)

    def _one_by_one(self, calls: list[_Call]) -> list[Any]:
        outcomes: list[Any] = []
        for call in calls:
            busy = bool(outcomes) and isinstance(outcomes[-1], StoreBusy)
            outcomes.append(outcomes[-1] if busy else self._transact([call])[0])
        return outcomes

    def _without_urgent(self, calls: list[_Call], full: StoreFull) -> list[Any]:
        """There is no room for new messages; there may still be some for settling."""
        settled = iter(self._transact([call for call in calls if not call.urgent]))
        return [full if call.urgent else next(settled) for call in calls]

    def _together(self, calls: list[_Call]) -> list[Any]:
        """One transaction: calls of one kind are carried out together, kinds in the order in which they first came, but none of them
        is moved past a call that stands IN_ORDER."""
        kinds: dict[tuple[int, Work], list[int]] = {}
        span = 0
        for index, call in enumerate(calls):
            fence = call.place is not Place.WITH_ITS_KIND
            span += fence
            kinds.setdefault((span, call.work), []).append(index)
            span += fence
        outcomes: list[Any] = [None] * len(calls)
        try:
            self._writes.begin()
            for (_, work), indexes in kinds.items():
                for index, result in zip(indexes, work([calls[i].argument for i in indexes]), strict=True):
                    outcomes[index] = result
            self._writes.commit()
        except Exception as error:  # the supervisor's boundary of this thread: translated, never swallowed
            self._undo()
            raise translate(error) from error
        return outcomes

    def _undo(self) -> None:
        try:
            self._writes.rollback()
        except sqlite3.Error as error:
            self._broken = StoreCorrupt(f"a transaction cannot be rolled back: {error}")


def _fire(pairs: Sequence[tuple[Deferred[Any], Any]]) -> None:
    for done, outcome in pairs:
        if isinstance(outcome, StoreError):
            done.errback(outcome)
        else:
            done.callback(outcome)
