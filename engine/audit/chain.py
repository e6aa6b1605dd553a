"""The audit log's format: its records, their chain, and what is wrong with it. Reads only."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

START: Final = "0" * 64
HEAD: Final = "head.json"
DAMAGED: Final = "audit.damaged"
LOCK: Final = ".lock"


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


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """While nobody else appends. A reader waits only where there is a lock to wait for."""
    if shared and not (folder / LOCK).exists():
        yield
        return
    handle = os.open(folder / LOCK, os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT, 0o600)
    try:
        own(handle, folder)
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def own(handle: int, folder: Path) -> None:
    """Give a file to the owner of the folder: what root's command line has made, the node must be able to append to."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)


def files(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("*.jsonl")) if folder.is_dir() else []


def parse(line: str | bytes) -> Record | None:
    """None for what is no record."""
    try:
        read = json.loads(line)
        return Record(read["seq"], read["at"], read["event"], read["facts"], read["prev"], read["hash"])
    except (ValueError, KeyError, TypeError):
        return None


def records(folder: Path) -> Iterator[Record]:
    """All records, oldest first. A line that is no record is given with an impossible hash, so that `verify` names it."""
    for file in files(folder):
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                yield parse(line) or Record(-1, 0, "unreadable", {}, "", file.name)


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


def verify(folder: Path, copies: tuple[Path, ...] = ()) -> list[str]:
    """What is wrong with the chain, in words; nothing when all is well. `copies` are head files that were kept elsewhere: each of them
    must be of a record that is still there. Raises OSError where a copy cannot be read."""
    heads = [(str(copy), copy.read_text(encoding="utf-8", errors="replace")) for copy in copies]
    with locked(folder, shared=True):
        faults, hashes, seq = _walk(folder)
        head = folder / HEAD
        if head.exists():
            heads.append((HEAD, head.read_text(encoding="utf-8", errors="replace")))
        elif seq:
            faults.append(f"{HEAD} is gone: whether the end was cut off cannot be told without a copy of it")
    for name, text in heads:
        faults += head_faults(name, text, hashes, seq)
    return faults


def _walk(folder: Path) -> tuple[list[str], dict[int, str], int]:
    """Faults of the chain, the hash of each record, and the last number."""
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
        if record.event == DAMAGED:
            faults.append(f"before record {record.seq} was written: {record.facts.get('reason', '')}")
        prev, seq = record.hash, record.seq
        hashes[seq] = prev
    return faults, hashes, seq


def head_faults(name: str, text: str, hashes: dict[int, str], seq: int) -> list[str]:
    """A head names a record that must be there; the log may be ahead of it, by a crash or because the copy is older."""
    try:
        head = json.loads(text)
        at, hashed = int(head["seq"]), head["hash"]
    except (ValueError, KeyError, TypeError):
        return [f"{name} cannot be read"]
    if hashes.get(at) == hashed:
        return []
    return [f"the log ends at record {seq}, but {name} is of another record {at}: the end was cut off or written anew"]
