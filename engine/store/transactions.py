"""Many calls in one transaction, so that they share one wait for the disk. Knows no thread, no process and no reactor.

When a transaction fails because the disk is full or another process holds the database, urgent calls fail with StoreFull or StoreBusy, and
whoever made the others tries them again. When it fails for another reason, its calls are tried one by one, so that only the one at
fault fails. The wait for another process is one for all calls of a group, never one for each.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from engine.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull
from engine.store.schema import translate


class Writing(Protocol):
    """What is needed of the writing half; the works are its methods too."""

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


@dataclass(slots=True, eq=False)
class Call:
    """`work` may be the name of a method of the writing half. With `urgent` someone waits for it."""

    work: Work | str
    argument: Any
    urgent: bool = True
    place: Place = Place.WITH_ITS_KIND

    def may_be_tried_again(self, outcome: Any) -> bool:
        """A full disk or a lock must not lose what was delivered."""
        return not self.urgent and isinstance(outcome, StoreFull | StoreBusy)


class Transactor:
    """Carries out groups of calls, each a transaction."""

    def __init__(self, writes: Writing) -> None:
        self._writes = writes
        self._broken: StoreError | None = None

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """What each call gave, on the disk; or the StoreError for it. Never raises."""
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

    def _one_by_one(self, calls: Sequence[Call]) -> list[Any]:
        outcomes: list[Any] = []
        for call in calls:
            busy = bool(outcomes) and isinstance(outcomes[-1], StoreBusy)
            outcomes.append(outcomes[-1] if busy else self.run([call])[0])
        return outcomes

    def _without_urgent(self, calls: Sequence[Call], full: StoreFull) -> list[Any]:
        """There is no room for new messages; there may still be some for settling."""
        settled = iter(self.run([call for call in calls if not call.urgent]))
        return [full if call.urgent else next(settled) for call in calls]

    def _together(self, calls: Sequence[Call]) -> list[Any]:
        """One transaction: calls of one kind are carried out together, kinds in the order in which they first came, but none of them
        is moved past a call that stands IN_ORDER."""
        kinds: dict[tuple[int, Work | str], list[int]] = {}
        span = 0
        for index, call in enumerate(calls):
            fence = call.place is not Place.WITH_ITS_KIND
            span += fence
            kinds.setdefault((span, call.work), []).append(index)
            span += fence
        outcomes: list[Any] = [None] * len(calls)
        try:
            self._writes.begin()
            for (_, named), indexes in kinds.items():
                work: Work = getattr(self._writes, named) if isinstance(named, str) else named
                for index, result in zip(indexes, work([calls[i].argument for i in indexes]), strict=True):
                    outcomes[index] = result
            self._writes.commit()
        except Exception as error:  # the one boundary around SQLite and the file system: translated, never swallowed
            self._undo()
            raise translate(error) from error
        return outcomes

    def _undo(self) -> None:
        try:
            self._writes.rollback()
        except sqlite3.Error as error:
            self._broken = StoreCorrupt(f"a transaction cannot be rolled back: {error}")
