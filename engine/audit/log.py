"""The node's side of the audit log: records are buffered for at most FLUSH_SECONDS and written off the reactor thread, in order.

What cannot be written is kept and tried again every RETRY_SECONDS, with an error in the log and in the metrics each time; `failing` says
why, and a site with ``audit: strict`` takes and hands out nothing meanwhile. Beyond MOST records the newest are counted instead of kept,
and the count is written down as ``audit.lost``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from engine.audit.writing import Entry, append
from engine.errors import ConfigError
from engine.observe import Metrics

if TYPE_CHECKING:
    from twisted.python.failure import Failure

FLUSH_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 5.0
MOST: Final = 100_000


class AuditLog:
    """One per node; `record` is what the rest of the node calls. Raises ConfigError where the folder cannot be written."""

    def __init__(
        self, folder: Path, *, reactor: Any, clock: Callable[[], int], log: logging.Logger | None = None, metrics: Metrics | None = None
    ) -> None:
        self._folder, self._reactor, self._clock = folder, reactor, clock
        self._log = log or logging.getLogger("meridian.audit")
        metrics = metrics or Metrics()
        self._failures = metrics.counter("meridian_audit_failures_total", "failed attempts to write the audit log")
        self._unwritten = metrics.gauge("meridian_audit_unwritten", "audit records that wait because they could not be written")
        self._buffer: list[Entry] = []
        self._waiting: list[Deferred[None]] = []
        self._call: Any = None
        self._writing = self._closing = False
        self._lost = 0
        self.failing = ""
        try:
            for made in (folder.parent, folder):
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._say_damage(append(folder, [], clock()))
        except OSError as error:
            raise ConfigError(f"the audit log in {folder} cannot be written: {error.strerror}") from None
        self._pool = ThreadPool(1, 1, "meridian-audit")
        self._pool.start()

    def record(self, event: str, **facts: Any) -> None:
        """Write down that something happened. No patient data."""
        if len(self._buffer) >= MOST:
            self._lost += 1
            return
        self._buffer.append(Entry(self._clock(), event, {name: str(value) for name, value in facts.items()}))
        if self._call is None and not self._closing:
            self._call = self._reactor.callLater(FLUSH_SECONDS, self.flush)

    def flush(self) -> Deferred[None]:
        """Write what is buffered; fires when it is on the disk, or could not be written: then `failing` says why, and it is kept."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if not self._writing:
            self._write()
        return done

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        batch, self._buffer = self._buffer, []
        if not batch:
            _fire(waiting)
            return
        if self._lost:
            batch.append(Entry(self._clock(), "audit.lost", {"records": str(self._lost)}))
            self._lost = 0
        self._writing = True
        written = deferToThreadPool(self._reactor, self._pool, append, self._folder, batch, self._clock())
        written.addCallbacks(self._written, self._not_written, errbackArgs=(batch,))
        written.addErrback(self._broken).addCallback(lambda _: self._next(waiting))

    def _written(self, damage: list[str]) -> None:
        self._unwritten.set(0)
        if self.failing:
            self.failing = ""
            self._log.warning("the audit log is written again")
        self._say_damage(damage)

    def _not_written(self, failure: Failure, batch: list[Entry]) -> None:
        failure.trap(OSError)
        assert isinstance(failure.value, OSError)
        self.failing = failure.value.strerror or type(failure.value).__name__
        self._buffer = [*batch, *self._buffer]
        self._failures.inc()
        unwritten = len(self._buffer) + self._lost
        self._unwritten.set(unwritten)
        level = logging.CRITICAL if self._closing else logging.ERROR
        self._log.log(level, "the audit log cannot be written", extra={"reason": self.failing, "unwritten": unwritten})
        if self._call is None and not self._closing:
            self._call = self._reactor.callLater(RETRY_SECONDS, self.flush)

    def _broken(self, failure: Failure) -> None:
        """A bug of ours: say so, and go on with what comes next."""
        self._failures.inc()
        self._log.critical("audit records were lost", exc_info=failure.value)

    def _next(self, waiting: list[Deferred[None]]) -> None:
        self._writing = False
        _fire(waiting)
        if self._waiting:
            self._write()

    def _say_damage(self, damage: list[str]) -> None:
        for reason in damage:
            self._log.error("the audit log was damaged", extra={"reason": reason})

    def close(self) -> Deferred[None]:
        """Write what is left. What cannot be written now is lost, and said so."""
        self._closing = True
        return self.flush().addCallback(lambda _: self._pool.stop())


def _fire(waiting: list[Deferred[None]]) -> None:
    for done in waiting:
        done.callback(None)
