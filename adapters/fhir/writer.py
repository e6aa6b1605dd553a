"""Our end of the writer process: groups of Bundles out, their outcomes back."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from adapters.fhir.outcome import Outcome
from adapters.fhir.repository import Application
from adapters.fhir.writer_process import LENGTH, pack
from engine.errors import StoreCorrupt, StoreError, StoreFull

_ERRORS = {error.code: error for error in (StoreFull, StoreCorrupt)}


class Writer:
    """Applies one group at a time. A process that has ended is started again for the next group."""

    def __init__(self, path: Path, remember: float, reactor: Any) -> None:
        self._path, self._remember, self._reactor = path, remember, reactor
        self._process: _Process | None = None

    def open(self) -> Deferred[Any]:
        """Fires when the repository is open. Fails with StoreError."""
        return self._start().opened

    def _start(self) -> _Process:
        process = self._process = _Process()
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONINSPECT"}
        # the program's own path, since the working directory may be anything
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-m", "adapters.fhir.writer_process"]
        self._reactor.spawnProcess(process, sys.executable, command, env=environment, childFDs={0: "w", 1: "r", 2: 2})
        process.send(pack((str(self._path), self._remember)))
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


class _Process(ProcessProtocol):
    transport: Any = None

    def __init__(self) -> None:
        self.opened: Deferred[Any] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._answer: Deferred[Any] | None = self.opened
        self._received = bytearray()
        self._unsent: list[bytes] = []

    def connectionMade(self) -> None:
        for block in self._unsent:
            self.transport.write(block)
        self._unsent.clear()

    def send(self, block: bytes) -> None:
        if self.transport is None:
            self._unsent.append(block)
        else:
            self.transport.write(block)

    def ask(self, group: Sequence[Application]) -> Deferred[list[Outcome]]:
        answer: Deferred[list[Outcome]] = Deferred()
        self._answer = answer
        self.send(pack(list(group)))
        return answer

    def end(self) -> None:
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < LENGTH.size:
            return
        end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
        if len(self._received) >= end:
            result = pickle.loads(bytes(self._received[LENGTH.size : end]))  # noqa: S301  our own child wrote it
            del self._received[:end]
            self._settle(result)

    def _settle(self, result: Any) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if isinstance(result, tuple):
            code, text = result
            answer.errback(Failure(_ERRORS.get(code, StoreError)(text)))
        else:
            answer.callback(result)

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)
        self._settle((StoreError.code, "the repository's writer process ended"))
