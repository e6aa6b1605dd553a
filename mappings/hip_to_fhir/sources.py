"""The `source` column and the contexts of routes.csv: a path through elements by their names, compiled once.

patientPerson/birthTime/@value      an attribute; those without a value are not found
patientPerson/name                  elements
.                                   the element itself
../author/assignedEntity            from the element around it
//encounter                         wherever it stands below
id/item[2.16.156.10011.1.12]        an element whose root attribute is this one
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from mappings.conditions import Unreadable
from mappings.hip_to_fhir.context import Found, children

_STEP: Final = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:\[([0-9.]+)\])?")


@dataclass(frozen=True, slots=True)
class Source:
    """A compiled path."""

    up: int
    anywhere: bool
    steps: tuple[tuple[str, str], ...]
    attribute: str

    def find(self, element: Any) -> list[Found]:
        """Every element, or attribute with a value, at this path from `element`."""
        for _ in range(self.up):
            element = element.getparent()
            if element is None:
                return []
        found = self._below(element)
        if not self.attribute:
            return [(one, "") for one in found]
        return [(one, self.attribute) for one in found if (one.get(self.attribute) or "").strip()]

    def _below(self, element: Any) -> Iterator[Any]:
        if not self.anywhere:
            return _walk([element], self.steps)
        (name, root), *rest = self.steps
        begin = (one for one in element.iter(f"{{*}}{name}") if not root or one.get("root") == root)
        return _walk(begin, tuple(rest))


def _walk(elements: Any, steps: tuple[tuple[str, str], ...]) -> Iterator[Any]:
    if not steps:
        yield from elements
        return
    name, root = steps[0]
    for element in elements:
        yield from _walk((one for one in children(element, name) if not root or one.get("root") == root), steps[1:])


def compile_source(text: str) -> Source:
    """Raises Unreadable."""
    anywhere, words = text.startswith("//"), text.removeprefix("//").split("/")
    attribute = words.pop()[1:] if words[-1].startswith("@") else ""
    up = 0
    while words and words[0] in (".", ".."):
        up += words.pop(0) == ".."
    steps = []
    for word in words:
        match = _STEP.fullmatch(word)
        if not match:
            raise Unreadable(f"{text!r} is not a path such as patientPerson/name or id/item/@extension")
        steps.append((match[1], match[2] or ""))
    if anywhere and not steps:
        raise Unreadable(f"{text!r} names no element")
    return Source(up, anywhere, tuple(steps), attribute)
