"""Results that are used in the order in which they were asked for, however they come in; each key has an order of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred


class Turns:
    """Holds what comes early until it is its turn."""

    def __init__(self) -> None:
        self._last: dict[str, Deferred[None]] = {}

    def __len__(self) -> int:
        """Of how many keys something is under way."""
        return len(self._last)

    def enter(self, key: str, result: Deferred[Any]) -> Callable[[], None]:
        """`result`, with its failure, waits for the turns before it; gives what is to be called when its own is over. Key "": no order."""
        if not key:
            return lambda: None
        before, mine = self._last.get(key), Deferred[None]()
        self._last[key] = mine
        if before is not None:
            result.addBoth(lambda found: before.addCallback(lambda _: found))

        def over() -> None:
            if self._last.get(key) is mine:
                del self._last[key]
            mine.callback(None)

        return over
