"""The source that looks at a list on disk, round after round, and hands in what stands there: work orders, status messages, studies.

A subclass says what the list is; everything that touches it runs in one thread of its own. What the intake has kept is taken off by the
subclass; what it could not keep, or what a failed round has left, comes again with the next one, so it needs an idempotency key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from engine.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Context, Intake

_ERRORS = (StoreError, OSError, sqlite3.Error)
"""What a list may raise when it cannot be used."""


class PollingSource:
    """engine.contracts.Source. `poll` is in seconds."""

    intake: Intake
    what: ClassVar[str]
    """What the list is, in words."""

    def __init__(self, context: Context, poll: float) -> None:
        self._context, self._poll = context, poll
        self._pool = ThreadPool(1, 1, name=f"{self.what} {context.name}")
        self._timer: DelayedCall | None = None
        self._round: Deferred[Any] | None = None
        self._opened = self._pooled = self.stopping = False
        self.failures = 0  # rounds that failed since the last good one

    # --- what a subclass says ------------------------------------------------------------------------

    def open(self) -> None:
        """In the thread, once. Raises StoreError, OSError, sqlite3.Error."""
        raise NotImplementedError

    def close(self) -> None:
        """In the thread, once, where `open` has not failed."""
        raise NotImplementedError

    def listed(self) -> Sequence[Any]:
        """In the thread: what is to be handed in next, oldest first. Raises as `open` does."""
        raise NotImplementedError

    def hand_in(self, item: Any) -> Deferred[Any]:
        """Hand one to the intake, and take it off the list when it is kept."""
        raise NotImplementedError

    def hand_all_in(self, items: Sequence[Any]) -> Deferred[Any]:
        """Hand all of a round in; in any order, unless a subclass has a reason."""
        return gatherResults([self.hand_in(item) for item in items if not self.stopping], consumeErrors=True)

    def pause(self) -> float:
        """Seconds to the next round; `failures` tells how the last ones went."""
        return self._poll

    # --- engine.contracts.Source -----------------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        self.intake = intake
        self._pool.start()
        self._pooled = True
        return self.in_thread(self.open).addCallbacks(self._begin, self._not_opened)

    def _begin(self, _: object) -> None:
        self._opened = True
        if not self.stopping:
            self._look()

    def _not_opened(self, failure: Failure) -> Deferred[None]:
        self._end_pool(None)  # its thread would keep the process from ending
        failure.trap(*_ERRORS)
        return fail(ConfigError(f"channel {self._context.name}: cannot open the {self.what}: {failure.value}"))

    def stop(self) -> Deferred[None]:
        self.stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended: Deferred[Any] = Deferred()
        (self._round or succeed(None)).addBoth(lambda _: ended.callback(None))
        ended.addCallback(lambda _: self.in_thread(self.close) if self._opened and self._pooled else None)
        return ended.addBoth(self._end_pool)

    def _end_pool(self, result: Any) -> Any:
        if self._pooled:
            self._pooled = False
            self._pool.stop()
        return result

    def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._context.reactor, self._pool, work, *arguments)

    # --- one round -------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._timer = None
        self._round = done = self.in_thread(self.listed)
        done.addCallback(self.hand_all_in).addCallbacks(self._went, self._failed).addBoth(self._again)

    def _went(self, _: object) -> None:
        self.failures = 0

    def _failed(self, failure: Failure) -> None:
        self.failures += 1
        error: Any = failure.value
        reason = error.subFailure.value if isinstance(error, FirstError) else error
        if isinstance(reason, _ERRORS):
            self.cannot_read(reason)
        else:
            self._context.log.error(f"unexpected failure at the {self.what}", exc_info=reason, extra={"channel": self._context.name})

    def cannot_read(self, error: Exception) -> None:
        """Say why a round failed."""
        self._context.log.error(f"the {self.what} cannot be read", extra={"channel": self._context.name, "reason": str(error)})

    def _again(self, result: Any) -> Any:
        self._round = None
        if not self.stopping:
            self._timer = self._context.reactor.callLater(self.pause(), self._look)
        return result
