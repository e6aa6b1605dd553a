"""How often an address may fail to log in. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 60.0
_MOST_ADDRESSES: Final = 10_000


class Tries:
    """At most `most` failures of an address in a minute; times are seconds of any clock that only goes on."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._failed: dict[str, deque[float]] = {}

    def may_try(self, address: str, now: float) -> bool:
        failed = self._failed.get(address)
        if failed is None:
            return True
        while failed and now - failed[0] >= WINDOW_SECONDS:
            failed.popleft()
        if not failed:
            del self._failed[address]
        return len(failed) < self._most

    def failed(self, address: str, now: float) -> bool:
        """Whether this was the last one allowed for now."""
        if len(self._failed) >= _MOST_ADDRESSES:  # a crowd of addresses: the one that failed longest ago is forgotten
            del self._failed[min(self._failed, key=lambda one: self._failed[one][-1])]
        times = self._failed.setdefault(address, deque(maxlen=self._most))
        times.append(now)
        return len(times) == self._most
