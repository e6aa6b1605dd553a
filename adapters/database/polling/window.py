"""How far a table has been read by its watermark, and which part of it may still gain rows.

A row gets its watermark when it is written and is seen when its transaction commits, which may be later: rows turn up below what was
read already. What is known of a table:

    low ──── every row up to here was seen after the last moment at which one could turn up: it is never read again
     │
     │       the window: rows here are read again, and those not met before are taken
     │
    front ── every row up to here (watermark, then key) that was there when it was read has been taken

`low` follows `front` once enough time has passed: a watermark is settled `overlap` seconds after it can have been given. For an instant
(or a local time whose zone is known) the database's clock says when that was; for anything else (numbers, text) what was the highest
in the table at some moment was given before that moment.

Of the rows met in the window a digest is remembered, at most `REMEMBERED`; of more the store's duplicate check is the last resort.
Everything here is pure; marks of one table compare with each other.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from engine.formats.rows import native, worded

REMEMBERED: Final = 200_000
KEPT_WITH_CHECKPOINT: Final = 2048
_DIGEST: Final = 9
_STEP: Final = timedelta(minutes=15)
_TICK: Final = timedelta(seconds=1)
"""Columns of whole seconds cut what the clock said."""


@dataclass(frozen=True)
class Position:
    """A row's place in the order of reading: its watermark, then its key; with an empty key, before every row of that watermark."""

    mark: Any
    key: tuple[Any, ...] = ()


def frozen(values: Sequence[Any]) -> list[list[Any]]:
    """A driver's values for a checkpoint."""
    return [list(worded(value)) for value in values]


def thawed(values: Sequence[Sequence[Any]]) -> list[Any]:
    return [native(value, kind) for value, kind in values]


class Window:
    """`front` and `low` are None before the first row."""

    def __init__(self, front: Position | None = None, low: Any = None) -> None:
        self.front = front
        self.low = low
        self._seen: OrderedDict[bytes, Any] = OrderedDict()

    # --- what was met --------------------------------------------------------------------------------

    def unmeet(self, digest: bytes) -> None:
        self._seen.pop(digest[:_DIGEST], None)

    def met(self, digest: bytes) -> bool:
        return digest[:_DIGEST] in self._seen

    def meet(self, digest: bytes, mark: Any) -> None:
        self._seen[digest[:_DIGEST]] = mark
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _forget(self) -> None:
        for digest in [one for one, mark in self._seen.items() if mark < self.low]:
            del self._seen[digest]

    def agree(self, like: Any) -> None:
        """Marks of a checkpoint of before, which are local times of UTC, as the instants that marks such as `like` are."""
        front = self.front
        if not isinstance(like, datetime) or like.tzinfo is None or front is None or not isinstance(front.mark, datetime):
            return
        if front.mark.tzinfo is None:
            self.front, self.low = Position(_aware(front.mark), front.key), _aware(self.low)
            self._seen = OrderedDict((digest, _aware(mark)) for digest, mark in self._seen.items())

    # --- moving on -----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is anything that must be read again."""
        return self.front is not None and (self.low is None or self.low < self.front.mark)

    def advance(self, front: Position, settled: Any) -> None:
        """A page up to `front` was taken, which was read when everything up to `settled` was final (None: nothing is)."""
        whole = not self.is_open
        self.front = front
        if whole and settled is not None:
            self._rise(min(front.mark, settled))

    def swept(self, settled: Any) -> None:
        """The window was read again, begun when everything up to `settled` was final."""
        if settled is not None and self.front is not None:
            self._rise(min(self.front.mark, settled))

    def _rise(self, low: Any) -> None:
        if self.low is None or low > self.low:
            self.low = low
            self._forget()

    # --- checkpoints ---------------------------------------------------------------------------------

    def checkpoint(self, server: str, **more: Any) -> str:
        """As text, with what else is to be known after a restart. A small window's digests are in it: nothing comes twice after days."""
        seen = b"".join(self._seen) if len(self._seen) <= KEPT_WITH_CHECKPOINT else b""
        front = [] if self.front is None else frozen([self.front.mark, *self.front.key])
        low = [] if self.low is None else frozen([self.low])
        content = {"server": server, "front": front, "low": low, "seen": b64encode(seen).decode(), **more}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def resumed(cls, text: str) -> tuple[Window, str]:
        """From a checkpoint, and the server that it is of. Raises ValueError."""
        content = json.loads(text)
        front, low = thawed(content["front"]), thawed(content["low"])
        window = cls(Position(front[0], tuple(front[1:])) if front else None, low[0] if low else None)
        seen = b64decode(content["seen"])
        for at in range(0, len(seen), _DIGEST):
            if window.front is not None:
                window.meet(seen[at : at + _DIGEST], window.front.mark)
        return window, content["server"]


def _aware(mark: datetime | None) -> datetime | None:
    return None if mark is None else mark.replace(tzinfo=UTC)


# --- what is settled -----------------------------------------------------------------------------


class ClockSettled:
    """Of marks that a clock gives: `zone` is that of naive marks (UTC for those that are instants)."""

    def __init__(self, overlap: float, zone: ZoneInfo | None) -> None:
        self._overlap = timedelta(seconds=overlap) + _TICK
        self._zone = zone

    def note(self, now: datetime, highest: Any) -> None:
        pass

    def settled(self, now: datetime, like: Any) -> Any:
        """The highest final mark at the database's `now` (aware), as a mark such as `like`."""
        if isinstance(like, datetime) and like.tzinfo is not None:
            return now - self._overlap
        lowest = self._local(now)
        begin = now - timedelta(minutes=now.minute % 15, seconds=now.second, microseconds=now.microsecond)
        ahead = [self._local(begin + _STEP * count) for count in range(1, 14)]  # clocks that will be set back show these times again
        found = min(lowest, *ahead) - self._overlap
        return found.date() - timedelta(days=1) if not isinstance(like, datetime) else found

    def cap(self, now: datetime, like: Any) -> Any:
        """No row of a later mark is taken yet: it would take the front into the future, past rows to come."""
        if isinstance(like, datetime) and like.tzinfo is not None:
            return now
        local = self._local(now)
        return local if isinstance(like, datetime) else local.date()

    def _local(self, at: datetime) -> datetime:
        return at.astimezone(self._zone or UTC).replace(tzinfo=None)


class HistorySettled:
    """Of marks that tell no time (numbers, text, local times of an unknown zone): by what was the highest, when."""

    def __init__(self, overlap: float) -> None:
        self._overlap = timedelta(seconds=overlap)
        self._noted: deque[tuple[datetime, Any]] = deque()
        self._settled: Any = None

    def note(self, now: datetime, highest: Any) -> None:
        """`highest` was in the table at `now`."""
        if highest is not None and (not self._noted or now - self._noted[-1][0] >= self._overlap / 16):
            self._noted.append((now, highest))
        while self._noted and self._noted[0][0] <= now - self._overlap:
            mark = self._noted.popleft()[1]
            self._settled = mark if self._settled is None else max(self._settled, mark)

    def settled(self, now: datetime, like: Any) -> Any:
        return self._settled

    def cap(self, now: datetime, like: Any) -> Any:
        """A local time of an unknown zone is at most fourteen hours ahead of UTC."""
        if isinstance(like, datetime):
            return now.replace(tzinfo=None) + timedelta(hours=14)
        return now.date() + timedelta(days=1) if isinstance(like, date) else None


def before(mark: Any) -> Any:
    """A mark just below `mark`, None where there is no telling (text)."""
    match mark:
        case bool() | str() | time() | None:
            return None
        case int() | Decimal():
            return mark - 1
        case float():
            return mark - 1e-6 * max(1.0, abs(mark))
        case datetime():
            return mark - timedelta(microseconds=1)
        case date():
            return mark - timedelta(days=1)
        case bytes():
            return max(int.from_bytes(mark, "big") - 1, 0).to_bytes(len(mark), "big")
        case _:
            return None
