"""Our end of the writer process: groups of Bundles out, their outcomes back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from adapters.fhir.outcome import Outcome
from adapters.fhir.repository import Application
from engine.child import Child
from engine.errors import StoreCorrupt, StoreError, StoreFull

_ERRORS = {error.code: error for error in (StoreFull, StoreCorrupt)}


class Writer:
    """Applies one group at a time. A process that has ended is started again for the next group."""

    def __init__(self, path: Path, remember: float, reactor: Any, *, reads_all: bool = True) -> None:
        self._path, self._remember, self._reactor, self._reads_all = path, remember, reactor, reads_all
        self._process: _Process | None = None

    def open(self) -> Deferred[Any]:
        """Fires when the repository is open. Fails with StoreError."""
        return self._start().opened

    def _start(self) -> _Process:
        process = self._process = _Process()
        process.spawn(self._reactor, "adapters.fhir.writer_process")
        process.send((str(self._path), self._remember, self._reads_all))
        return process

    def apply(self, group: Sequence[Application]) -> Deferred[list[Outcome]]:
        """Fails with StoreError: then nothing, or (where the process died) all of the group is applied."""
        process = self._process
        if process is None or process.ended.called:
            process = self._start()
            return process.opened.addCallback(lambda _: process.ask(group))
        return process.ask(group)

    def close(self) -> Deferred[Any]:
        """Let the process end; no group may be under way."""
        if self._process is None or self._process.ended.called:
            return succeed(None)
        self._process.end()
        return self._process.ended


class _Process(Child):
    def __init__(self) -> None:
        self.opened: Deferred[Any] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._answer: Deferred[Any] | None = self.opened

    def ask(self, group: Sequence[Application]) -> Deferred[list[Outcome]]:
        answer: Deferred[list[Outcome]] = Deferred()
        self._answer = answer
        self.send(list(group))
        return answer

    def heard(self, value: Any) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if isinstance(value, tuple):
            code, text = value
            answer.errback(Failure(_ERRORS.get(code, StoreError)(text)))
        else:
            answer.callback(value)

    def gone(self) -> None:
        self.ended.callback(None)
        self.heard((StoreError.code, f"the repository's writer process ended ({self.ending})"))
