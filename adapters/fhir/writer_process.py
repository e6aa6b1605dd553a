"""The repository's writer, as a process of its own: ``python -m adapters.fhir.writer_process``.

SQLite gives the interpreter lock back and takes it again at every row; beside a busy reactor thread each of these can wait for
milliseconds. In its own process the writer has its own lock, and a core.

It reads length-prefixed pickles from standard input: first (path, remember in seconds), then groups of (idempotency key, Bundle); and
writes one pickled result for each: a list of Outcome, or a StoreError's (code, text). Both ends are this program, started by itself;
nothing from outside is ever unpickled. It ends when its input does, after the commit it is in; signals are the parent's affair.
"""

from __future__ import annotations

import gc
import pickle
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Final

from adapters.fhir.identity import time_ordered_ids
from adapters.fhir.outcome import Answer, FhirRefusal, Outcome, refusal
from adapters.fhir.repository import Application, ResourceRepository
from engine.errors import MeridianError, StoreError
from engine.observe import json_log

LENGTH: Final = struct.Struct("!I")


def outcome(result: Answer | MeridianError) -> Outcome:
    if isinstance(result, Answer):
        return Outcome(result.encode())
    answer = result.answer() if isinstance(result, FhirRefusal) else refusal(400, result.text, location=result.location)
    return Outcome(answer.encode(), result.text, result.location)


def pack(value: object) -> bytes:
    block = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(block)) + block


def _unpack(stream: BinaryIO) -> Any:
    """The next block, None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    block = stream.read(LENGTH.unpack(head)[0])
    return pickle.loads(block) if len(block) == LENGTH.unpack(head)[0] else None  # noqa: S301  our own parent wrote it


def _work(repository: ResourceRepository, group: list[Application]) -> list[Outcome] | tuple[str, str]:
    try:
        return [outcome(result) for result in repository.apply(group)]
    except StoreError as error:
        return error.code, error.text


def main(source: BinaryIO, sink: BinaryIO) -> None:
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)  # a parsed Bundle is thousands of objects without a cycle among them
    path, remember = _unpack(source)
    log = json_log(sys.stderr)

    def clock() -> int:
        return time.time_ns() // 1000

    repository = ResourceRepository(Path(path), clock=clock, new_id=time_ordered_ids(clock), log=log, remember=remember)
    opened: list[Outcome] | tuple[str, str] = []
    try:
        repository.open()
    except StoreError as error:
        opened = error.code, error.text
    sink.write(pack(opened))
    sink.flush()
    while opened == [] and (group := _unpack(source)) is not None:
        sink.write(pack(_work(repository, group)))
        sink.flush()
    repository.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    main(sys.stdin.buffer, sys.stdout.buffer)
