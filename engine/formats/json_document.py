"""Any JSON as a document: what filters, routes and templates read of it. Strict: a member that is there twice is refused; numbers keep
their digits (RFC 8259 clauses 4 and 6).

``data.order.no`` is a member of members, ``items[0].code`` counts from 0, ``[2].id`` is in an array at the top; a name that has a dot or a
bracket stands in quotes: ``"order.no"``. Of an array without an index the first is meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from engine.formats.fhir import dump, parse_any
from engine.message import JSON

_STEP: Final = re.compile(r'(?:"([^"]+)"|([^.\[\]"\s]+))?(?:\[(\d{1,6})\])?(?:\.|$)')


@lru_cache(maxsize=4096)
def steps(path: str) -> tuple[tuple[str, int | None], ...]:
    """Names ("" at the top of an array) with an index or None. Raises ValueError."""
    found: list[tuple[str, int | None]] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        name = (match[1] or match[2] or "") if match is not None else ""
        if match is None or not (name or (match[3] is not None and not found)):
            break
        found.append((name, None if match[3] is None else int(match[3])))
        at = match.end()
    if not found or at < len(path) or path.endswith("."):
        raise ValueError(f'{path!r} is not a path such as data.order.no, items[0].code or "order.no"')
    return tuple(found)


class JsonDocument:
    """engine.contracts.Document; `value` is what was read."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self, path: str) -> str | None:
        """The text at `path`; of what is no text its JSON; None where there is nothing, or null."""
        found = self.native(path)
        return found if found is None or isinstance(found, str) else dump(found).decode()

    def native(self, path: str) -> Any:
        """The value at `path`, None where there is none. Raises ValueError."""
        here = self.value
        for name, index in steps(path):
            if name:
                here = here[0] if isinstance(here, list) and here else here
                here = here.get(name) if isinstance(here, Mapping) else None
            if index is not None:
                here = here[index] if isinstance(here, list) and index < len(here) else None
        return here[0] if isinstance(here, list) and here and steps(path)[-1][1] is None else here

    def indexes(self, path: str) -> range:
        """The indexes of the array at `path`; of what is no array 0, and of what is not there none. Raises ValueError."""
        here = self.value
        for name, index in steps(path):
            if name:
                here = here.get(name) if isinstance(here, Mapping) else None
            if index is not None:
                here = here[index] if isinstance(here, list) and index < len(here) else None
        return range(len(here) if isinstance(here, list) else here is not None)


class JsonCodec:
    """engine.contracts.Codec"""

    content_type = JSON

    def decode(self, body: bytes) -> JsonDocument:
        return JsonDocument(parse_any(body))

    def check_path(self, path: str) -> None:
        steps(path)

    check_repeating = check_path


codec: Final = JsonCodec()
