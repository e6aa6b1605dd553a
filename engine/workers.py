"""Worker processes: the pure steps (judge, plan) of channels that decode, validate or map.

Each worker is ``python -m engine.workers``, fed with batches of envelopes. A worker that dies takes one batch with it: the batch is tried
again message by message in a new worker, and the message with which one has died `DEATHS` times, alone, is named as the fault: the first
times it may have been the system that ended the worker (out of memory, an operator).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from twisted.internet.defer import Deferred

from engine.blocks import Parent
from engine.channel import Program, Recipe
from engine.child import Child
from engine.message import Envelope

Job = Literal["judge", "plan"]
DEATHS: Final = 3


class WorkerDied(Exception):
    """A worker ended each time that it had this message alone."""


@dataclass(slots=True)
class _Batch:
    job: Job
    channel: str
    envelopes: Sequence[Envelope]
    done: Deferred[list[Any]] = field(default_factory=Deferred)
    deaths: int = 0
    """Of a single message: how many workers have ended with it."""


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
        worker = _Worker(self)
        self._all.add(worker)
        worker.spawn(self._reactor, "engine.workers")
        worker.send(self._recipes)
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
            batch.deaths += 1
            if batch.deaths < DEATHS:
                self._waiting.appendleft(batch)
            else:
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


class _Worker(Child):
    """Our end of one worker process."""

    def __init__(self, pool: Workers) -> None:
        self._pool = pool
        self._batch: _Batch | None = None
        self._deadline: Any = None

    def work(self, batch: _Batch) -> None:
        self._batch = batch
        self._deadline = self._pool._reactor.callLater(self._pool._most_seconds, self.kill)
        self.send((batch.job, batch.channel, batch.envelopes))

    def heard(self, value: Any) -> None:
        batch, self._batch = self._batch, None
        self._deadline.cancel()
        self._pool.finished(self)
        assert batch is not None
        batch.done.callback(value)

    def gone(self) -> None:
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


def _serve() -> None:
    """A worker's life: recipes first, then batch after batch."""
    parent = Parent()
    values = iter(parent)
    programs = _Programs(next(values, {}))
    for task in values:
        parent.send(programs.run(*task))


if __name__ == "__main__":
    _serve()
