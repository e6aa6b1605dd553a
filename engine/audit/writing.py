"""Appends to the audit log, under its lock: the node's thread and the command line write one chain."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from engine.audit.chain import DAMAGED, HEAD, START, Record, digest, files, head_faults, locked, own, parse, records

_TAIL: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened, before it has a place in the chain. `at` in microseconds UTC."""

    at: int
    event: str
    facts: dict[str, str] = field(default_factory=dict)


def append(folder: Path, entries: Sequence[Entry], now: int) -> list[str]:
    """Write `entries` down, fsynced. Gives what was found wrong with the end of the log, which is then written down first.
    Raises OSError; then none of the entries is in the log."""
    with locked(folder):
        mend(folder)
        last = _end(folder)
        damage = _damage(folder, last)
        found = [Entry(now, DAMAGED, {"reason": reason}) for reason in damage]
        if found or entries or not (folder / HEAD).exists():
            _write(folder, [*found, *entries], now, last)
    return damage


def mend(folder: Path) -> None:
    """Cut off the torn last line that a kill or a power cut has left: its record was never complete, and the next one must not join it."""
    for file in files(folder)[-1:]:
        content = file.read_bytes()
        if content and not content.endswith(b"\n"):
            with file.open("r+b") as torn:
                torn.truncate(content.rfind(b"\n") + 1)


def _end(folder: Path) -> tuple[int, str]:
    """Number and hash of the last record."""
    for file in reversed(files(folder)):
        line = _last_line(file)
        if line:
            last = parse(line) or _last_whole(folder)
            return (last.seq, last.hash) if last else (0, START)
    return 0, START


def _last_line(file: Path) -> bytes:
    with file.open("rb") as content:
        size = content.seek(0, os.SEEK_END)
        content.seek(max(0, size - _TAIL))
        return content.read().rstrip(b"\n").rpartition(b"\n")[2]


def _last_whole(folder: Path) -> Record | None:
    """The last record that can be read, where somebody has written something else behind it."""
    last = None
    for record in records(folder):
        if record.seq >= 0:
            last = record
    return last


def _damage(folder: Path, last: tuple[int, str]) -> list[str]:
    """Whether the log ends where the head says. The head is written after the records, so it may lag by a crash, and never be ahead."""
    head = folder / HEAD
    try:
        text = head.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [f"{HEAD} was gone"] if last[0] else []
    if not head_faults(HEAD, text, {0: START, last[0]: last[1]}, last[0]):
        return []
    return head_faults(HEAD, text, {0: START, **{record.seq: record.hash for record in records(folder)}}, last[0])


def _write(folder: Path, entries: Sequence[Entry], now: int, last: tuple[int, str]) -> None:
    """The records, then the head; all or nothing."""
    lines, last = _lines(entries, last)
    with (folder / f"{_day(folder, now)}.jsonl").open("ab") as file:
        before = file.seek(0, os.SEEK_END)
        try:
            if not before:
                _keep(file, folder)
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
            _write_head(folder, last)
        except OSError:
            _take_back(file, before)
            raise


def _lines(entries: Sequence[Entry], last: tuple[int, str]) -> tuple[list[str], tuple[int, str]]:
    """The records as they are written, chained to the last one, and what is the last one then."""
    lines = []
    seq, prev = last
    for entry in entries:
        seq += 1
        closed = digest(seq, entry.at, entry.event, entry.facts, prev)
        line = {"seq": seq, "at": entry.at, "event": entry.event, "facts": entry.facts, "prev": prev, "hash": closed}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        prev = closed
    return lines, (seq, prev)


def _keep(file: BinaryIO, folder: Path) -> None:
    """A new file: its name must be on the disk before a head that counts on it."""
    own(file.fileno(), folder)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_back(file: BinaryIO, size: int) -> None:
    """Half a batch must not stay: it is written again as a whole."""
    try:
        os.ftruncate(file.fileno(), size)
    except OSError:  # `mend` cuts off what is torn; whole records that stay are then there twice, which the chain allows
        return


def _day(folder: Path, now: int) -> str:
    """Today, or the newest file's day where the clock has been set back behind it."""
    today = datetime.fromtimestamp(now / 1e6, UTC).strftime("%Y-%m-%d")
    return max([today, *(file.stem for file in files(folder)[-1:])])


def _write_head(folder: Path, last: tuple[int, str]) -> None:
    beside = folder / ".head.json"
    with beside.open("w", encoding="utf-8") as file:
        own(file.fileno(), folder)
        file.write(json.dumps({"seq": last[0], "hash": last[1]}))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / HEAD)
