"""The node's end of a process that it starts: a module of this program, spoken to in blocks (engine.blocks)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import ProcessProtocol

from engine.blocks import FROM_CHILD, TO_CHILD, Blocks, block
from engine.writing import write_now

if TYPE_CHECKING:
    from twisted.python.failure import Failure


class Child(ProcessProtocol):
    """A subclass says what to do when the child has `heard` back and when it is `gone`."""

    transport: Any = None
    ending = "not started"
    """How it ended: its exit code, or the signal that ended it."""

    def heard(self, value: Any) -> None:
        """The child has sent a value."""

    def gone(self) -> None:
        """The child has ended, by itself or not; it may be spawned again."""

    def spawn(self, reactor: Any, module: str, *arguments: str, files: Mapping[int, int] | None = None) -> None:
        """Start ``python -m module``. `files`: further descriptors, by their numbers in the child. Raises OSError."""
        self._blocks = Blocks()
        self._unsent: list[bytes] = []
        self._pipe: Any = None
        command = [sys.executable, "-m", module, *arguments]
        fds: Any = {0: 0, 1: 1, 2: 2, TO_CHILD: "w", FROM_CHILD: "r", **(files or {})}
        reactor.spawnProcess(self, sys.executable, command, env=_environment(), childFDs=fds)

    def send(self, value: Any) -> None:
        """What is sent before the child is there waits for it; what is sent to one that is dying is lost."""
        data = block(value)
        if self._pipe is None:
            self._unsent.append(data)
        else:
            write_now(self._pipe, data)

    def end(self) -> None:
        """Close the pipe: the child ends after what it has in hand."""
        self.transport.closeChildFD(TO_CHILD)

    def kill(self) -> None:
        if self.transport is not None and self.transport.pid:
            self.transport.signalProcess("KILL")

    def connectionMade(self) -> None:
        self._pipe = self.transport.pipes[TO_CHILD]
        for data in self._unsent:
            self._pipe.write(data)
        self._unsent.clear()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        for value in self._blocks.feed(data):
            self.heard(value)

    def processEnded(self, reason: Failure) -> None:
        self._pipe = None
        signal, code = getattr(reason.value, "signal", None), getattr(reason.value, "exitCode", None)
        self.ending = f"signal {signal}" if signal else f"exit code {code}"
        self.gone()


def _environment() -> dict[str, str]:
    """Ours, with the program's own path, since the working directory may be anything; without what would make Python wait for a user."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONINSPECT"}
    return {**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
