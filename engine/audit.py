"""The audit log: who connected, who was refused, who read and changed what. Append-only, hash-chained, without patient data.

On disk: ``YYYY-MM-DD.jsonl`` (UTC), one record a line: seq, time, event, facts, prev, hash; `hash` is the SHA-256 of the record without
itself, `prev` the hash of the record before it, across files. ``head.json`` holds the last seq and hash: kept off the host it shows a
truncation too. Records are buffered for at most FLUSH_SECONDS and then written and fsynced off the reactor thread, in order.

The verifier finds an edited, deleted, inserted or reordered record by the chain, and a cut-off end by the head.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

FLUSH_SECONDS: Final = 0.2
START: Final = "0" * 64


@dataclass(frozen=True)
class Record:
    """One event. `at` in microseconds UTC."""

    seq: int
    at: int
    event: str
    facts: dict[str, Any]
    prev: str
    hash: str


def digest(seq: int, at: int, event: str, facts: dict[str, Any], prev: str) -> str:
    """The hash that closes a record."""
    text = json.dumps([seq, at, event, facts, prev], sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class AuditLog:
    """The writing side; `record` is what the rest of the node calls. One per node."""

    def __init__(self, folder: Path, *, reactor: Any, clock: Callable[[], int]) -> None:
        self._folder, self._reactor, self._clock = folder, reactor, clock
        for made in (self._folder.parent, self._folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._buffer: list[str] = []
        self._call: Any = None
        self._pool = ThreadPool(1, 1, "meridian-audit")
        self._pool.start()
        self._pending: Deferred[None] = succeed(None)
        _mend(folder)
        last = next(iter(deque((one for one in records(folder) if one.seq >= 0), maxlen=1)), None)
        self._seq, self._prev = (last.seq, last.hash) if last else (0, START)

    def record(self, event: str, **facts: Any) -> None:
        """Write down that something happened. No patient data."""
        self._seq += 1
        at = self._clock()
        facts = {name: str(value) for name, value in facts.items()}
        self._prev, prev = digest(self._seq, at, event, facts, self._prev), self._prev
        line = {"seq": self._seq, "at": at, "event": event, "facts": facts, "prev": prev, "hash": self._prev}
        self._buffer.append(json.dumps(line, ensure_ascii=False))
        if self._call is None:
            self._call = self._reactor.callLater(FLUSH_SECONDS, self.flush)

    def flush(self) -> Deferred[None]:
        """Write what is buffered; fires when it is on the disk."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        lines, self._buffer = self._buffer, []
        if lines:
            head = json.dumps({"seq": self._seq, "hash": self._prev})
            day = datetime.fromtimestamp(self._clock() / 1e6, UTC).strftime("%Y-%m-%d")
            write = deferToThreadPool(self._reactor, self._pool, _append, self._folder, day, lines, head)
            self._pending = write.addBoth(lambda result: None)
        done: Deferred[None] = Deferred()
        self._pending.addCallback(lambda _: done.callback(None))
        return done

    def close(self) -> Deferred[None]:
        return self.flush().addCallback(lambda _: self._pool.stop())


def _mend(folder: Path) -> None:
    """Cut off the torn last line that a kill or a power cut has left: its record was never complete, and the next one must not join it."""
    for file in sorted(folder.glob("*.jsonl"))[-1:]:
        content = file.read_bytes()
        if content and not content.endswith(b"\n"):
            with file.open("r+b") as torn:
                torn.truncate(content.rfind(b"\n") + 1)


def _append(folder: Path, day: str, lines: list[str], head: str) -> None:
    with (folder / f"{day}.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside = folder / ".head.json"
    with beside.open("w", encoding="utf-8") as file:
        file.write(head)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / "head.json")


def records(folder: Path) -> Iterator[Record]:
    """All records, oldest first. A line that is no record is given with an impossible hash, so that `verify` names it."""
    for file in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    read = json.loads(line)
                    yield Record(read["seq"], read["at"], read["event"], read["facts"], read["prev"], read["hash"])
                except (ValueError, KeyError, TypeError):
                    yield Record(-1, 0, "unreadable", {}, "", file.name)


def search(folder: Path, *, event: str = "", fact: str = "", since: int = 0, until: int = 0, limit: int = 100) -> list[Record]:
    """Newest first. `event` matches a beginning (``tls.``), `fact` any fact's text."""
    found = [
        record
        for record in records(folder)
        if record.event.startswith(event)
        and (not fact or any(fact in str(value) for value in record.facts.values()))
        and record.at >= since
        and (not until or record.at < until)
    ]
    return found[::-1][:limit]


def verify(folder: Path) -> list[str]:
    """What is wrong with the chain, in words; nothing when all is well."""
    faults, prev, seq = [], START, 0
    hashes = {0: START}
    for record in records(folder):
        if record.seq == -1:
            faults.append(f"a line in {record.hash} is not a record")
            continue
        if record.seq != seq + 1:
            faults.append(f"after record {seq} comes {record.seq}: something was removed, inserted or reordered")
        if record.prev != prev:
            faults.append(f"record {record.seq} does not follow from the one before it")
        if record.hash != digest(record.seq, record.at, record.event, record.facts, record.prev):
            faults.append(f"record {record.seq} has been changed")
        prev, seq = record.hash, record.seq
        hashes[seq] = prev
    head = folder / "head.json"
    if head.exists():
        faults += _head_faults(head.read_text(), hashes, seq)
    return faults


def _head_faults(text: str, hashes: dict[int, str], seq: int) -> list[str]:
    """The head names a record that must be there; the log may be a few records ahead of it after a crash."""
    try:
        head = json.loads(text)
        known = hashes.get(head["seq"]) == head["hash"]
    except (ValueError, KeyError, TypeError):
        return ["head.json cannot be read"]
    return [] if known else [f"the log ends at record {seq}, but its head is another: the end was cut off or written anew"]
