"""Paths address what the standard numbers: segment, field, repetition, component, subcomponent.

``PID-3[2].4.1`` is the second repetition's fourth component's first subcomponent, ``OBX[3]-5`` the field of the third OBX.
Everything is counted from 1; an index that is not written means the first. ``PID.3.1`` is taken for ``PID-3.1``, since
people write it; ``PID-3-1``, lower case and anything else is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

_PATH: Final = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<occurrence>\d{1,4})\])?[-.](?P<field>\d{1,3})(?:\[(?P<repetition>\d{1,4})\])?"
    r"(?:\.(?P<component>\d{1,3})(?:\.(?P<subcomponent>\d{1,3}))?)?",
    re.ASCII,
)


class Path(NamedTuple):
    """A parsed path, 1-based; 0 for a component or subcomponent means the whole above it."""

    segment: str
    occurrence: int
    field: int
    repetition: int
    component: int
    subcomponent: int


@lru_cache(maxsize=4096)
def parse_path(path: str) -> Path:
    """Raises ValueError for what can never be a path of HL7 v2."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"{path!r} is not an HL7 v2 path such as PID-3[1].4 or OBX[2]-5")
    if any(number is not None and not int(number) for number in match.groups()[1:]):
        raise ValueError(f"{path!r}: everything is counted from 1")
    segment, occurrence, field, repetition, component, subcomponent = match.groups()
    return Path(segment, int(occurrence or 1), int(field), int(repetition or 1), int(component or 0), int(subcomponent or 0))


_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}")


def check_repeating(path: str) -> bool:
    """Whether `path` is a segment (``OBX``) rather than a field (``PID-3``), of which there may be several. Raises ValueError."""
    if _SEGMENT.fullmatch(path):
        return True
    if parse_path(path).component or path.endswith("]"):
        raise ValueError(f"{path!r} does not repeat: a segment does (OBX), or a field (PID-3)")
    return False
