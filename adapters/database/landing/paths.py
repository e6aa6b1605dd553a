"""Paths into a resource, as the tables of the landing schema name them: ``component[code~48018-6].valueCodeableConcept|…``.

A step is an element's name; lists are walked through. ``[a=b]`` takes the items whose element `a` is `b`, ``[a^b]`` those where it begins
with `b`, ``[a~b]`` those whose concept, coding or code `a` has the code `b`. ``^`` is the item around this one. ``|`` parts alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

_STEP: Final = re.compile(r"(?P<name>\^|[A-Za-z][A-Za-z0-9]*)(?:\[(?P<element>[A-Za-z]+)(?P<how>[=~^])(?P<wanted>[^\]]+)\])?")


class Condition(NamedTuple):
    """What an item must be: its `element`, compared `how`, with `wanted`."""

    element: str
    how: str
    wanted: str

    def fits(self, item: Any) -> bool:
        found = item.get(self.element) if isinstance(item, dict) else None
        if self.how == "~":
            return self.wanted in _codes(found)
        return isinstance(found, str) and (found == self.wanted if self.how == "=" else found.startswith(self.wanted))


class Step(NamedTuple):
    name: str
    condition: Condition | None


Path = tuple[tuple[Step, ...], ...]
"""Alternatives, each with its steps."""


def compiled(text: str) -> Path:
    """Raises ValueError where it is no path. "" is the item itself."""
    return tuple(tuple(_steps(alternative)) for alternative in _parted(text, "|"))


def condition(text: str) -> Condition:
    """``code~69548-6``. Raises ValueError."""
    (step,) = _steps(f"x[{text}]")
    assert step.condition is not None
    return step.condition


def items(path: Path, item: Any, around: Sequence[Any] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Everything at `path`, of all alternatives, each with the items around it, the nearest first."""
    for alternative in path:
        yield from _walk(alternative, item, tuple(around))


def values(path: Path, item: Any, around: Sequence[Any] = ()) -> list[Any]:
    """Everything of the first alternative that has anything."""
    for alternative in path:
        if found := [value for value, _ in _walk(alternative, item, tuple(around))]:
            return found
    return []


def _steps(text: str) -> Iterator[Step]:
    for part in _parted(text, ".") if text else ():
        match = _STEP.fullmatch(part)
        if match is None:
            raise ValueError(f"{text!r} is not a path into a resource")
        limits = Condition(match["element"], match["how"], match["wanted"]) if match["element"] else None
        yield Step(match["name"], limits)


def _parted(text: str, mark: str) -> list[str]:
    """Parted at `mark`, but not within brackets: an extension's url has dots of its own."""
    return re.split(rf"{re.escape(mark)}(?![^\[]*\])", text)


def _walk(steps: tuple[Step, ...], item: Any, around: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    if not steps:
        if item is not None:
            yield item, around
        return
    step, rest = steps[0], steps[1:]
    if step.name == "^":
        if around:
            yield from _walk(rest, around[0], around[1:])
        return
    found = item.get(step.name) if isinstance(item, dict) else None
    for one in found if isinstance(found, list) else (found,):
        if one is not None and (step.condition is None or step.condition.fits(one)):
            yield from _walk(rest, one, (item, *around))


def _codes(value: Any) -> list[Any]:
    found: list[Any] = []
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, dict):
            codings = one.get("coding")
            found += (
                [coding.get("code") for coding in codings if isinstance(coding, dict)] if isinstance(codings, list) else [one.get("code")]
            )
        else:
            found.append(one)
    return found
