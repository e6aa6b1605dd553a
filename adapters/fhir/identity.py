"""Ids for new resources: UUID version 7 (RFC 9562 5.7). They rise with time, so that the index grows at its end."""

from __future__ import annotations

import os
from collections.abc import Callable


def time_ordered_ids(clock: Callable[[], int], random: Callable[[int], bytes] = os.urandom) -> Callable[[], str]:
    """A function giving ids; `clock` in microseconds UTC, `random(n)` gives n random bytes."""

    def new_id() -> str:
        milliseconds, microseconds = divmod(clock(), 1000)
        stamp, bits = f"{milliseconds:012x}", random(8)
        rest = bits.hex()
        # rand_a (12 bits) holds the microseconds, as the standard allows for a finer order
        return f"{stamp[:8]}-{stamp[8:]}-7{microseconds << 2:03x}-{'89ab'[bits[0] & 3]}{rest[1:4]}-{rest[4:]}"

    return new_id
