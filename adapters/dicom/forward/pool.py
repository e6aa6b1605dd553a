"""The associations of one C-STORE destination: what each was proposed, which one is free, when a new one is due. Pure.

A presentation context is proposed for each SOP class with each transfer syntax alone, so that the peer's answer tells of each pair
whether it takes it. What was seen before is proposed again with every new association, so that one association soon takes all that a
modality sends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

MOST_CONTEXTS: Final = 128
"""PS3.8 clause 9.3.2.2: odd numbers of a byte."""

Pair = tuple[str, str]
"""SOP class UID, transfer syntax UID."""


class Wanted:
    """The pairs that were wanted so far, the newest last."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[Pair, None] = OrderedDict()

    def add(self, pairs: Iterable[Pair]) -> None:
        for pair in pairs:
            self._pairs[pair] = None
            self._pairs.move_to_end(pair)
        while len(self._pairs) > MOST_CONTEXTS:
            self._pairs.popitem(last=False)

    def contexts(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(sop_class, (syntax,)) for sop_class, syntax in self._pairs]


class Line:
    """One association. `busy`: it is being opened, carries an instance, or ends."""

    def __init__(self, proposed: Iterable[Pair]) -> None:
        self.proposed = frozenset(proposed)
        self.busy = True


class Pool:
    """Up to `most` lines."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.lines: list[Line] = []

    def free_for(self, pairs: Iterable[Pair]) -> Line | None:
        """The free line that was used last, among those that all of `pairs` were proposed on."""
        wanted = frozenset(pairs)
        return next((line for line in reversed(self.lines) if not line.busy and wanted <= line.proposed), None)

    def useless_for(self, pairs: Iterable[Pair]) -> Line | None:
        """A free line to give up where there may be no other for `pairs`."""
        full = len(self.lines) >= self._most
        return next((line for line in self.lines if not line.busy), None) if full and self.free_for(pairs) is None else None

    @property
    def has_room(self) -> bool:
        return len(self.lines) < self._most

    def add(self, line: Line) -> None:
        self.lines.append(line)

    def used(self, line: Line) -> None:
        """It is free again, and the one used last."""
        line.busy = False
        if line in self.lines:
            self.lines.remove(line)
            self.lines.append(line)

    def remove(self, line: Line) -> None:
        if line in self.lines:
            self.lines.remove(line)
