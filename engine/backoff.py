"""When to try again: exponential back-off with full jitter on the upper half, and a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.channel import Retry


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays of `first`, 2·first, 4·first … seconds up to `most`, each shortened at random by up to half so that
    queues which failed together do not come back together. `random` gives numbers in [0, 1)."""

    retry: Retry
    random: Callable[[], float]

    def delay(self, attempt: int, asked_for: float | None = None) -> float:
        """Seconds to wait after failed attempt number `attempt` (1, 2 …); at least what the peer `asked_for`."""
        doubled = min(self.retry.most, self.retry.first * 2.0 ** min(attempt - 1, 40))
        return max(asked_for or 0.0, doubled * (1.0 - self.random() / 2.0))

    def gives_up(self, received_at: int, now: int) -> bool:
        """Whether a message received then (both in microseconds UTC) is past its limit."""
        limit = self.retry.give_up_after
        return limit is not None and now - received_at > limit * 1_000_000
