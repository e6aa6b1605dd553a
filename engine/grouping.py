"""Group commit for destinations: while one group is being written, what comes gathers, and goes as the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from twisted.internet.defer import Deferred, succeed

from engine.errors import DeliveryError
from engine.message import Receipt

if TYPE_CHECKING:
    from twisted.python.failure import Failure

ItemT = TypeVar("ItemT")
Outcome = Receipt | DeliveryError


class Groups(Generic[ItemT]):
    """At most `most` items in one group, one group at a time.

    `write` gives an outcome for each of a group, in order; where it fails instead, each hears what `failed` makes of that. `rest` is
    asked when a group is written, and again when what it began has ended and nothing waits: it gives something else to do, or None;
    what it gives never fails.
    """

    def __init__(
        self,
        most: int,
        write: Callable[[list[ItemT]], Deferred[Sequence[Outcome]]],
        failed: Callable[[Failure], DeliveryError],
        rest: Callable[[], Deferred[None] | None] = lambda: None,
    ) -> None:
        self._most, self._write, self._failed, self._rest = most, write, failed, rest
        self._waiting: list[tuple[ItemT, Deferred[Receipt]]] = []
        self._busy = self._closing = False
        self._idle: list[Deferred[None]] = []

    def add(self, item: ItemT) -> Deferred[Receipt]:
        """Fires with its receipt, or fails with its DeliveryError."""
        done: Deferred[Receipt] = Deferred()
        self._waiting.append((item, done))
        if not self._busy:
            self._next()
        return done

    def close(self) -> Deferred[None]:
        """Fires when everything that was added is written; what `rest` would do is left."""
        self._closing = True
        if not self._busy:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def _next(self, *, rested: bool = True) -> None:
        """Another group, something else to do, or nothing: by turns where both wait."""
        if not rested and self._rests():
            return
        self._busy = bool(self._waiting)
        if self._busy:
            group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            written = self._write([item for item, _ in group])
            written.addCallbacks(self._written, self._not_written, callbackArgs=(group,), errbackArgs=(group,))
        elif not self._rests():
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    def _rests(self) -> bool:
        rest = None if self._closing else self._rest()
        if rest is not None:
            self._busy = True
            rest.addCallback(lambda _: self._next())
        return rest is not None

    def _written(self, outcomes: Sequence[Outcome], group: list[tuple[ItemT, Deferred[Receipt]]]) -> None:
        self._next(rested=False)
        for outcome, (_, done) in zip(outcomes, group, strict=True):
            if isinstance(outcome, DeliveryError):
                done.errback(outcome)
            else:
                done.callback(outcome)

    def _not_written(self, failure: Failure, group: list[tuple[ItemT, Deferred[Receipt]]]) -> None:
        self._next(rested=False)
        for _, done in group:
            done.errback(self._failed(failure))
