"""Which files are whole: a file that somebody still writes must be left alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from adapters.file.places import Entry, last_part
from engine.values import value


@value(frozen=True, slots=True)
class Rule:
    """`settled_for` in seconds; with a `marker` a file is whole when NAME + marker is there, however long ago it was written.
    `ignore` is for capital and small letters alike."""

    include: Sequence[str]
    ignore: Sequence[str]
    settled_for: float
    marker: str = ""
    by_time: bool = False

    def wanted(self, name: str) -> bool:
        """By its name alone, without the folder of whoever has put it there."""
        name = last_part(name)
        if name.startswith(".") or (self.marker and name.endswith(self.marker)):
            return False
        if any(fnmatchcase(name.lower(), one.lower()) for one in self.ignore):
            return False
        return any(fnmatchcase(name, one) for one in self.include)


class Settling:
    """Remembers what each file looked like, and since when. A file must have been seen twice: its own time may be anybody's clock."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._seen: dict[str, tuple[int, int, float]] = {}
        self.waiting = 0  # wanted, and not whole yet

    def whole(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Those that may be taken, in their order. `now` in seconds that only ever grow."""
        entries = list(entries)
        names = {one.name for one in entries}
        wanted = [one for one in entries if self._rule.wanted(one.name)]
        self._seen = {one.name: self._look(one, now) for one in wanted}
        ready = [one for one in wanted if self._is_whole(one, names, now)]
        self.waiting = len(wanted) - len(ready)
        return sorted(ready, key=lambda one: (one.modified, one.name) if self._rule.by_time else (0, one.name))

    def _look(self, entry: Entry, now: float) -> tuple[int, int, float]:
        before = self._seen.get(entry.name)
        same = before is not None and before[:2] == (entry.size, entry.modified)
        return (entry.size, entry.modified, before[2] if same and before is not None else now)

    def _is_whole(self, entry: Entry, names: set[str], now: float) -> bool:
        if self._rule.marker:
            return entry.name + self._rule.marker in names
        return now - self._seen[entry.name][2] >= self._rule.settled_for
