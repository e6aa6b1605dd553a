"""How far a log was read with what is kept: the checkpoint that commits with a message, and the mark beside the store.

Invariants:
- `at` is where the log is read again: every change before it is kept. It is confirmed to the database only after that.
- of the transaction `within` (the first that is read from `at`) the first `index` changes are kept.
- `snapshot` is None once every row that was there at the beginning is kept. Until then tables in `done` are, and of `table` those rows
  whose key is not beyond `key`; all changes since the snapshot's `generation` are in the log from there on.
- the mark is written while nothing is under way, so that a log in which only other tables change can be let go. It counts only as long as
  the store's checkpoint is the one it was written after: a store that was set back takes its mark with it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

CHECKPOINT: Final = "capture"


class Unreadable(Exception):
    """Something in the log may hold changes and cannot be read: the capture stops, with the way back from what is kept."""


@dataclass(frozen=True)
class Snapshot:
    """How far the first state was read. `key` are values as a Record has them, `kinds` their kinds."""

    generation: str
    done: tuple[str, ...] = ()
    table: str = ""
    key: tuple[Any, ...] = ()
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """`server` tells this database from another that has taken its place; `proof` is what the log says of `at` (MariaDB: the GTIDs).
    `tables` are those that are captured since then, `types` the columns of each as they were last seen in the log."""

    server: str
    at: str
    within: str = ""
    index: int = 0
    snapshot: Snapshot | None = None
    proof: str = ""
    tables: tuple[str, ...] = ()
    types: dict[str, dict[str, str]] = field(default_factory=dict)

    def moved(self, at: str, within: str = "", index: int = 0, *, proof: str = "", types: dict[str, dict[str, str]] | None = None) -> State:
        return replace(self, at=at, within=within, index=index, proof=proof or self.proof, types=self.types if types is None else types)

    def covering(self, names: tuple[str, ...], initial: bool, generation: str) -> State:
        """With the first state of those tables that were not captured yet, where it is wanted."""
        added = [name for name in names if name not in self.tables]
        if not added or not initial:
            return replace(self, tables=names)
        done = tuple(name for name in self.tables if self.snapshot is None or name in self.snapshot.done)
        begun = self.snapshot or Snapshot(generation)
        return replace(self, tables=names, snapshot=replace(begun, done=done))

    def written(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))


def state_of(text: str) -> State:
    found = json.loads(text)
    snapshot = found.pop("snapshot")
    if snapshot is not None:
        lists: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in snapshot.items()}
        snapshot = Snapshot(**lists)
    return State(**{**found, "tables": tuple(found["tables"])}, snapshot=snapshot)


def way_back(state: State, reason: str) -> str:
    """What an operator hears of a log that does not go on from `state`."""
    return f"{reason}. Changes may be lost. Way back: begin_again: {state.at} begins with a new snapshot; rows come again"


class Mark:
    """The file beside the store."""

    def __init__(self, data: Path, channel: str) -> None:
        self._file = data / "capture" / f"{channel}.json"

    def read(self, checkpoint: str) -> State | None:
        """None where there is none that belongs to this checkpoint of the store."""
        try:
            found = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return state_of(found["state"]) if found["after"] == _digest(checkpoint) else None

    def write(self, checkpoint: str, state: State) -> None:
        """On disk when it returns. Raises OSError."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_suffix(".new")
        with beside.open("w") as out:
            json.dump({"after": _digest(checkpoint), "state": state.written()}, out)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(self._file)
        folder = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _digest(checkpoint: str) -> str:
    return blake2b(checkpoint.encode(), digest_size=16).hexdigest()
