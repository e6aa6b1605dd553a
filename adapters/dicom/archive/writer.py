"""Our end of the archive's writer process: groups of instances out, what became of them back."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from adapters.dicom.archive.book import Arrival, Outcome
from engine.child import Child
from engine.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull


class WriterEnded(StoreError):
    """The process ended before it said what it had done."""

    code = "store.writer_ended"


class Writer:
    """Does one thing after the other. A process that has ended is started again for the next."""

    def __init__(self, folder: Path, reactor: Any) -> None:
        self._folder, self._reactor = folder, reactor
        self._process: _Process | None = None

    def open(self) -> Deferred[Any]:
        """Fires when the archive is open. Fails with StoreError."""
        return self._start().opened

    def _start(self) -> _Process:
        process = self._process = _Process()
        process.spawn(self._reactor, "adapters.dicom.archive.writer_process")
        process.opened = process.ask(str(self._folder))
        return process

    def keep(self, group: Sequence[Arrival]) -> Deferred[list[Outcome]]:
        """Fails with StoreError: then nothing is kept; with WriterEnded nothing, or all of the group."""
        return self._ask(list(group))

    def retire(self, keep: int, most_bytes: int) -> Deferred[bool]:
        """As Book.retire."""
        return self._ask((keep, most_bytes))

    def _ask(self, value: Any) -> Deferred[Any]:
        process = self._process
        if process is None or process.ended.called:
            process = self._start()
            return process.opened.addCallback(lambda _: process.ask(value))
        return process.ask(value)

    def close(self) -> Deferred[Any]:
        """Let the process end after what it was asked."""
        if self._process is None or self._process.ended.called:
            return succeed(None)
        self._process.end()
        return self._process.ended


ERRORS = {error.code: error for error in (StoreFull, StoreBusy, StoreCorrupt, WriterEnded)}


class _Process(Child):
    opened: Deferred[Any]

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self._answers: deque[Deferred[Any]] = deque()

    def ask(self, value: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self._answers.append(answer)
        self.send(value)
        return answer

    def heard(self, value: Any) -> None:
        answer = self._answers.popleft()
        if isinstance(value, tuple):
            code, text = value
            answer.errback(Failure(ERRORS.get(code, StoreError)(text)))
        else:
            answer.callback(value)

    def gone(self) -> None:
        self.ended.callback(None)
        while self._answers:
            self.heard((WriterEnded.code, f"the archive's writer process ended ({self.ending})"))
