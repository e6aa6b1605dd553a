"""Requests per minute of each party: a bucket that holds a minute's worth, and fills as time goes. Pure."""

from __future__ import annotations


class Rates:
    """Time in seconds from anywhere. It remembers as many parties as are registered with a limit."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float, bool]] = {}

    def take(self, party: str, per_minute: int, now: float) -> tuple[float, bool]:
        """One more request: 0.0 where it is within the rate, otherwise the seconds until one is; and whether it is the first beyond."""
        left, since, over = self._left.get(party, (float(per_minute), now, False))
        left = min(float(per_minute), left + max(0.0, now - since) * per_minute / 60)
        within = left >= 1
        self._left[party] = (left - 1 if within else left, now, not within)
        return (0.0, False) if within else ((1 - left) * 60 / per_minute, not over)
