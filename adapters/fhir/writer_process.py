"""The repository's writer, as a process of its own: ``python -m adapters.fhir.writer_process``.

SQLite gives the interpreter lock back and takes it again at every row; beside a busy reactor thread each of these can wait for
milliseconds. In its own process the writer has its own lock, and a core.

It is sent (path, remember in seconds, reads_all) first, then groups of Application; and sends a result for each: a list of Outcome, or
a StoreError's (code, text). It ends after the commit it is in, when the node closes the pipe (engine.blocks).
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

from adapters.fhir.identity import time_ordered_ids
from adapters.fhir.outcome import Answer, FhirRefusal, Outcome
from adapters.fhir.repository import Application, ResourceRepository
from engine.blocks import Parent
from engine.errors import MeridianError, StoreError
from engine.observe import json_log


def outcome(result: Answer | MeridianError) -> Outcome:
    if isinstance(result, Answer):
        return Outcome(result.encode())
    refused = result if isinstance(result, FhirRefusal) else FhirRefusal(400, result.text, location=result.location)
    return Outcome(refused.answer().encode(), result.text, result.location)


def _work(repository: ResourceRepository, group: list[Application]) -> list[Outcome] | tuple[str, str]:
    try:
        return [outcome(result) for result in repository.apply(group)]
    except StoreError as error:
        return error.code, error.text


def main() -> None:
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)  # a parsed Bundle is thousands of objects without a cycle among them
    parent = Parent()
    values = iter(parent)
    path, remember, reads_all = next(values)
    log = json_log(sys.stderr)

    def clock() -> int:
        return time.time_ns() // 1000

    new_id = time_ordered_ids(clock)
    repository = ResourceRepository(Path(path), clock=clock, new_id=new_id, log=log, remember=remember, reads_all=reads_all)
    opened: list[Outcome] | tuple[str, str] = []
    try:
        repository.open()
    except StoreError as error:
        opened = error.code, error.text
    parent.send(opened)
    for group in values if opened == [] else ():
        parent.send(_work(repository, group))
    repository.close()


if __name__ == "__main__":
    main()
