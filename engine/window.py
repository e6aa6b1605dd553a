"""The part of a destination's queue that is in memory, as a pure state machine: no clock, no store, no reactor.

Invariants (tests/property/test_window.py acts at random against a model)
1. Parcels with the same order key form a *lane*: at most one of them is under way, and they leave in the order of `seq`.
2. A lane whose head must be tried again is *blocked* until then; other lanes go on.
3. Memory is bounded: beyond LANE parcels a lane *overflows*, its further parcels stay in the store and are asked for again
   (`lane_to_reload`) when the lane has drained. Whether the window as a whole is full, the caller asks with `full`.
4. Every parcel that was added is taken, and settled or retried, exactly once per adding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from heapq import heappop, heappush
from typing import Final

from engine.channel import Order
from engine.message import Parcel

WINDOW: Final = 1024
WINDOW_BYTES: Final = 32 << 20
LANE: Final = 64

Key = str | int
"""An order key; a parcel that needs no order has its own `seq` as key, a lane for itself."""


class _Lane:
    __slots__ = ("dropped", "last_seq", "overflow", "parcels")

    def __init__(self) -> None:
        self.parcels: deque[Parcel] = deque()  # the head may be under way or blocked
        self.last_seq = 0  # highest seq in memory
        self.overflow = False  # later parcels of this key are only in the store
        self.dropped = False  # … and one more of them since the last reload began


class Window:
    """The head of one queue. `tail` is the highest seq seen, in memory or not."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._lanes: dict[Key, _Lane] = {}
        self._ready: deque[Key] = deque()
        self._blocked: list[tuple[int, int, Key]] = []  # time, seq of the head, key
        self._drained: deque[Key] = deque()
        self._count = self._bytes = 0
        self.tail = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return self._count >= WINDOW or self._bytes >= WINDOW_BYTES

    def add(self, parcel: Parcel, not_before: int = 0) -> None:
        """Take a parcel in, in the order of `seq`; its lane waits until `not_before` (microseconds UTC, 0 = at once)."""
        self.tail = parcel.seq
        key = self._key(parcel)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
            self._keep(lane, parcel)
            self._wake(key, not_before)
        elif lane.overflow or (len(lane.parcels) >= LANE and self._order is not Order.STRICT):
            lane.overflow = lane.dropped = True
        else:
            self._keep(lane, parcel)

    def take(self) -> Parcel | None:
        """The next parcel to send; its lane is busy until `done` or `retry`."""
        return self._lanes[self._ready.popleft()].parcels[0] if self._ready else None

    def done(self, parcel: Parcel) -> None:
        """The parcel is settled: its lane goes on."""
        key = self._key(parcel)
        lane = self._lanes[key]
        self._forget(lane.parcels.popleft())
        if lane.parcels:
            self._ready.appendleft(key)
        elif lane.overflow:
            self._drained.append(key)
        else:
            del self._lanes[key]

    def retry(self, parcel: Parcel, not_before: int = 0) -> None:
        """The parcel was not taken: it stays the head of its lane, with one attempt more, until `not_before`."""
        key = self._key(parcel)
        self._lanes[key].parcels[0] = replace(parcel, attempt=parcel.attempt + 1)
        if not_before:
            self._wake(key, not_before)
        else:
            self._ready.appendleft(key)

    def wake(self, now: int) -> int:
        """Make lanes ready whose time has come; gives when the next one comes (0 = none is blocked)."""
        while self._blocked and self._blocked[0][0] <= now:
            self._ready.appendleft(heappop(self._blocked)[2])
        return self._blocked[0][0] if self._blocked else 0

    def lane_to_reload(self) -> tuple[Key, int] | None:
        """A drained lane that has more parcels in the store, with its last seq in memory; call `reload` with what was found."""
        if not self._drained:
            return None
        key = self._drained.popleft()
        lane = self._lanes[key]
        lane.dropped = False
        return key, lane.last_seq

    def reload(self, key: Key, parcels: Sequence[Parcel], limit: int) -> None:
        """What the store has of a lane up to `tail`: at most `limit` parcels, fewer mean that there are no more."""
        lane = self._lanes[key]
        lane.overflow = lane.dropped or len(parcels) >= limit
        for parcel in parcels:
            self._keep(lane, parcel)
        if lane.parcels:
            self._ready.appendleft(key)
        elif lane.overflow:
            self._drained.append(key)
        else:
            del self._lanes[key]

    def _key(self, parcel: Parcel) -> Key:
        if self._order is Order.STRICT:
            return ""
        return parcel.order_key or parcel.seq if self._order is Order.BY_PATIENT else parcel.seq

    def _wake(self, key: Key, not_before: int) -> None:
        if not_before:
            heappush(self._blocked, (not_before, self._lanes[key].parcels[0].seq, key))
        else:
            self._ready.append(key)

    def _keep(self, lane: _Lane, parcel: Parcel) -> None:
        lane.parcels.append(parcel)
        lane.last_seq = parcel.seq
        self._count += 1
        self._bytes += _weight(parcel)

    def _forget(self, parcel: Parcel) -> None:
        self._count -= 1
        self._bytes -= _weight(parcel)


def _weight(parcel: Parcel) -> int:
    return len(parcel.body) if isinstance(parcel.body, bytes) else 256
