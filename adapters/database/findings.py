"""What `meridian db check` has found: one line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """`what` was looked at (reach, key, index …); a fault keeps the channel from working, a warning is a danger or a cost.
    `ddl` is what an administrator runs to make or grant what is missing, "" where that is not for SQL to say."""

    what: str
    state: Literal["fine", "warning", "fault"]
    text: str
    ddl: str = ""


@dataclass(frozen=True)
class Preview:
    """What the next poll would take, with nothing taken. `bodies` are the messages, `positions` their
    watermarks, `columns` name -> kind."""

    bodies: Sequence[bytes] = ()
    positions: Sequence[str] = ()
    columns: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    more: bool = False
