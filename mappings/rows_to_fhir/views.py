"""What rules read: columns of a row, or of one of its details, as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from engine.formats.fhir import dump
from engine.formats.rows import Record
from mappings.conditions import Unreadable
from mappings.tables import Row

_FACTS: Final = ("table", "change", "origin", "position")
_PLACEHOLDER: Final = re.compile(r"\$\{([^{}]+)\}")


class View(NamedTuple):
    """A record, or one of its details: `number` counts from 0."""

    record: Record
    detail: Mapping[str, Any] | None = None
    number: int = 0


Read = Callable[[View], str]


def plain(value: Any) -> str:
    """A value of a record as text; "" for NULL."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return dump(value).decode()


class Columns:
    """Finds columns by the names that rules use. `declared` are those that a rules file lists, with details' as ``items.code``."""

    def __init__(self, declared: Sequence[str], details: Sequence[str]) -> None:
        self._declared, self.details = list(declared), list(details)

    def source(self, name: str, each: str | None) -> str:
        """The path of a column in a record, with ``[*]`` for the detail at hand. Raises Unreadable for what is not declared."""
        if name in _FACTS:
            return name
        scope, _, rest = name.partition(".")
        if rest and scope in ("row", "key", "before"):
            self._check(rest, "")
            return name
        if each is not None:
            self._check(name, f"{each}.")
            return f"details.{each}[*].{name}"
        self._check(name, "")
        return f"row.{name}"

    def _check(self, column: str, prefix: str) -> None:
        if self._declared and prefix + column not in self._declared:
            known = [one.removeprefix(prefix) for one in self._declared if one.startswith(prefix) and "." not in one.removeprefix(prefix)]
            nearest = get_close_matches(column, known, 1)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise Unreadable(f"`columns` has no {prefix}{column}{hint}; allowed: {', '.join(known)}")

    def reader(self, name: str, each: str | None) -> Read:
        """Raises Unreadable."""
        path = self.source(name, each)
        if path in _FACTS:
            return lambda view: str(getattr(view.record, path))
        if path.startswith("details."):
            return lambda view: plain((view.detail or {}).get(name))
        scope, _, column = path.partition(".")
        if scope == "row":
            return lambda view: plain(view.record.row.get(column))
        if scope == "key":
            return lambda view: plain(view.record.key.get(column))
        return lambda view: plain((view.record.before or {}).get(column))

    def text(self, written: str, each: str | None) -> tuple[Read, tuple[str, ...]]:
        """A column, or text with ``${column}``: a reader, and the paths that it reads. Where every column of a text is empty the text is
        too. Raises Unreadable."""
        names = _PLACEHOLDER.findall(written)
        if not names:
            return self.reader(written, each), (self.source(written, each),)
        if "${" in _PLACEHOLDER.sub("", written):
            raise Unreadable("a placeholder is not closed")
        readers = {name: self.reader(name, each) for name in names}

        def read(view: View) -> str:
            found = {name: one(view) for name, one in readers.items()}
            return _PLACEHOLDER.sub(lambda match: found[match[1]], written).strip() if any(found.values()) else ""

        return read, tuple(self.source(name, each) for name in names)


def fault_of(error: Exception, file: str, line: int, what: str) -> Any:
    """A fault of a rule; a LookupError has (text, allowed words, wrong word)."""
    if isinstance(error, LookupError):
        text, allowed, wrong = error.args
        return Row(file, line, {}).fault(f"{what}: {text}", allowed, wrong)
    return Row(file, line, {}).fault(f"{what}: {error}")
