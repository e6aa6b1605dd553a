"""Ids for new resources: UUID version 7 (RFC 9562 5.7). They rise with time, so that the index grows at its end."""

from __future__ import annotations

import secrets
from collections.abc import Callable


def time_ordered_ids(clock: Callable[[], int], random: Callable[[int], int] = secrets.randbits) -> Callable[[], str]:
    """A function giving ids; `clock` in microseconds UTC, `random(n)` gives n random bits."""

    def new_id() -> str:
        milliseconds, microseconds = divmod(clock(), 1000)
        # rand_a holds the microseconds (12 bits suffice for 0 to 999 shifted by 2), as the standard allows for finer order.
        text = f"{milliseconds << 80 | 7 << 76 | microseconds << 66 | 2 << 62 | random(62):032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    return new_id
