"""Latencies as percentiles, by nearest rank: a value that was measured, never one between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

POINTS: Final = (50, 95, 99)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all are not above; `ordered` ascending. 0.0 where there is none."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else 0.0


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """p50_ms, p95_ms, p99_ms and max_ms of latencies given in seconds, in any order."""
    ordered = sorted(seconds)
    points = {f"p{point}_ms": percentile(ordered, point) for point in POINTS}
    return {name: round(value * 1000, 3) for name, value in {**points, "max_ms": ordered[-1] if ordered else 0.0}.items()}
