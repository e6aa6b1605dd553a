"""Worker processes: the pure steps (judge, plan) of channels that decode, validate or map.

Each worker is ``python -m engine.workers``, fed over a pipe with batches of envelopes as length-prefixed pickles (both ends
are this program, started by itself; nothing from outside is ever unpickled). A worker that dies takes one batch with it: the
batch is tried again message by message in a new worker, and the message that kills it twice is named as the fault.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import struct
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

from engine.channel import Program, Recipe
from engine.message import Envelope

if TYPE_CHECKING:
    from twisted.python.failure import Failure

Job = Literal["judge", "plan"]

_LENGTH: Final = struct.Struct("!I")
_TASKS, _RESULTS = 3, 4  # file descriptors in the worker


class WorkerDied(Exception):
    """The worker ended while it had this message alone."""


@dataclass(slots=True)
class _Batch:
    job: Job
    channel: str
    envelopes: Sequence[Envelope]
    done: Deferred[list[Any]] = field(default_factory=Deferred)


class Workers:
    """A pool of `size` workers for the channels in `recipes`. With size 0 the work is done at once in this process."""

    def __init__(self, recipes: Mapping[str, Recipe], size: int, *, reactor: Any, log: logging.Logger, most_seconds: float = 60.0) -> None:
        self._recipes, self._size = dict(recipes), size
        self._reactor, self._log, self._most_seconds = reactor, log, most_seconds
        self._programs = _Programs(self._recipes)
        self._waiting: deque[_Batch] = deque()
        self._idle: deque[_Worker] = deque()
        self._all: set[_Worker] = set()
        self._running = False
        self._stopped: Deferred[None] = Deferred()

    @property
    def slots(self) -> int:
        """How many batches can be worked on at once."""
        return max(1, self._size)

    def start(self) -> None:
        self._running = True
        for _ in range(self._size):
            self._spawn()

    def stop(self) -> Deferred[None]:
        """Let the workers end; fires when they have. Batches that are still waiting never fire."""
        self._running = False
        for worker in self._all:
            worker.end()
        if not self._all:
            self._stopped.callback(None)
        return self._stopped

    def submit(self, job: Job, channel: str, envelopes: Sequence[Envelope]) -> Deferred[list[Any]]:
        """Fires with one Judgement or Plan for each envelope, in order; in place of one a WorkerDied may stand."""
        batch = _Batch(job, channel, envelopes)
        if self._size == 0:
            batch.done.callback(self._programs.run(job, channel, envelopes))
        else:
            self._waiting.append(batch)
            self._feed()
        return batch.done

    def _feed(self) -> None:
        while self._idle and self._waiting:
            self._idle.popleft().work(self._waiting.popleft())

    def _spawn(self) -> None:
        worker = _Worker(self, self._recipes)
        self._all.add(worker)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONINSPECT"}
        self._reactor.spawnProcess(
            worker,
            sys.executable,
            [sys.executable, "-m", "engine.workers"],
            env=environment,
            childFDs={0: 0, 1: 1, 2: 2, _TASKS: "w", _RESULTS: "r"},
        )
        self._idle.append(worker)
        self._feed()

    # called by _Worker

    def finished(self, worker: _Worker) -> None:
        self._idle.append(worker)
        self._feed()

    def ended(self, worker: _Worker, batch: _Batch | None) -> None:
        self._all.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if not self._running:
            if not self._all:
                self._stopped.callback(None)
            return
        self._log.error("a worker process ended", extra={"messages": len(batch.envelopes) if batch else 0})
        if batch is not None:
            self._again_one_by_one(batch)
        self._reactor.callLater(0.2, self._respawn)

    def _respawn(self) -> None:
        if self._running:
            self._spawn()

    def _again_one_by_one(self, batch: _Batch) -> None:
        if len(batch.envelopes) == 1:
            batch.done.callback([WorkerDied()])
            return
        results: list[Any] = []

        def collect(result: list[Any]) -> None:
            results.extend(result)
            if len(results) == len(batch.envelopes):
                batch.done.callback(results)

        for envelope in batch.envelopes:
            single = _Batch(batch.job, batch.channel, [envelope])
            single.done.addCallback(collect)
            self._waiting.append(single)


class _Worker(ProcessProtocol):
    """Our end of one worker process."""

    transport: Any = None

    def __init__(self, pool: Workers, recipes: Mapping[str, Recipe]) -> None:
        self._pool, self._recipes = pool, recipes
        self._batch: _Batch | None = None
        self._received = bytearray()
        self._deadline: Any = None
        self._backlog: list[bytes] = []

    def connectionMade(self) -> None:
        self._write(pickle.dumps(self._recipes, pickle.HIGHEST_PROTOCOL))
        for block in self._backlog:
            self._write(block)
        self._backlog.clear()

    def work(self, batch: _Batch) -> None:
        self._batch = batch
        self._deadline = self._pool._reactor.callLater(self._pool._most_seconds, self._kill)
        block = pickle.dumps((batch.job, batch.channel, batch.envelopes), pickle.HIGHEST_PROTOCOL)
        if self.transport is None:
            self._backlog.append(block)
        else:
            self._write(block)

    def _write(self, block: bytes) -> None:
        self.transport.writeToChild(_TASKS, _LENGTH.pack(len(block)) + block)

    def _kill(self) -> None:
        if self.transport is not None and self.transport.pid:
            self.transport.signalProcess("KILL")

    def end(self) -> None:
        if self.transport is not None:
            self.transport.closeChildFD(_TASKS)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        received = self._received
        received += data
        if len(received) < _LENGTH.size:
            return
        (length,) = _LENGTH.unpack_from(received)
        if len(received) < _LENGTH.size + length:
            return
        results = pickle.loads(bytes(received[_LENGTH.size :]))  # noqa: S301  # our own child's
        received.clear()
        batch, self._batch = self._batch, None
        self._deadline.cancel()
        self._pool.finished(self)
        assert batch is not None
        batch.done.callback(results)

    def processEnded(self, reason: Failure) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        batch, self._batch = self._batch, None
        self._pool.ended(self, batch)


class _Programs:
    """The compiled programs of this process, each made when it is first asked for."""

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = recipes
        self._compiled: dict[str, Program] = {}

    def run(self, job: Job, channel: str, envelopes: Sequence[Envelope]) -> list[Any]:
        program = self._compiled.get(channel)
        if program is None:
            program = self._compiled[channel] = self._recipes[channel].compile()
        function: Callable[[Envelope], Any] = program.judge if job == "judge" else program.plan
        return [function(envelope) for envelope in envelopes]


def _read_block(stream: BinaryIO) -> bytes | None:
    head = stream.read(_LENGTH.size)
    return stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None


def _serve() -> None:
    """A worker's life: recipes first, then batch after batch until the pipe closes. Signals are for the node alone: Ctrl-C reaches
    the whole group, and a worker must outlive it until the node has drained."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    with os.fdopen(_TASKS, "rb") as tasks, os.fdopen(_RESULTS, "wb") as results:
        first = _read_block(tasks)
        if first is None:
            return
        programs = _Programs(pickle.loads(first))  # noqa: S301  # our own parent's
        while (block := _read_block(tasks)) is not None:
            answer = pickle.dumps(programs.run(*pickle.loads(block)), pickle.HIGHEST_PROTOCOL)  # noqa: S301
            results.write(_LENGTH.pack(len(answer)) + answer)
            results.flush()


if __name__ == "__main__":
    _serve()
