"""Compiles rows into closures: one element of a message -> one element of a resource.

A map (one CSV file) is a list of rows with the columns

    id      what the row is called in lineage and in a site's overlay (`PID-8`, `PID-8.2` …)
    source  the element it reads: `PID-8`, `PID-8.1`, another segment's `MSH-9.2`, or `PID` for a constant
    target  the element it writes, see paths.py
    map     how the text becomes a value: a data type map, or a constant `=text`, `=SYSTEM#code "display"`
    codes   the code table that translates it
    when    a condition, see conditions.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from engine.errors import Fault
from mappings import paths
from mappings.conditions import ELEMENT, NULL, Condition, Unreadable, View, condition, element
from mappings.tables import Row
from mappings.transaction import Body, Draft, Transaction

COLUMNS: Final = ("id", "source", "target", "map", "codes", "when")

Converter = Callable[[str, Any], Any]
"""convert(text, transaction): a FHIR value, a list of them, an Unfit, or None where there is nothing to say."""

Apply = Callable[[str, Draft, Any, View], None]

_CODING: Final = re.compile(r'=([^\s#]+)#(\S+)(?:\s+"([^"]*)")?')


class Trace(Protocol):
    """Applies the rules of a map one by one and notes what each has written."""

    def follow(self, rules: Map, fields: list[str], draft: Draft, transaction: Transaction, view: View) -> None: ...


class Vocabulary(Protocol):
    """What rows refer to by name; the mapping at hand provides it."""

    urls: Mapping[str, str]

    def converter(self, name: str, codes: str) -> Converter:
        """Raises LookupError with (text, allowed words, wrong word)."""

    def coding_system(self, name: str) -> str: ...

    def special(self, name: str) -> tuple[Apply, tuple[int, ...]]:
        """A rule in Python that places its value itself (`@name` in the map column), and what other fields it reads.
        Raises LookupError as converter does."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled row. `index` is the field it reads, 0 when it reads another segment or nothing; `beside` are further fields
    that a rule in Python reads."""

    row: Row
    index: int
    apply: Apply
    beside: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Map:
    """The compiled rows of one file, applied in the order of the file."""

    name: str
    rules: tuple[Rule, ...]
    steps: tuple[tuple[int, Apply], ...]

    def apply(self, fields: list[str], draft: Draft, transaction: Transaction, view: View) -> None:
        """Let every row whose element is there write into `draft`."""
        if transaction.trace is not None:
            transaction.trace.follow(self, fields, draft, transaction, view)
            return
        count = len(fields)
        for index, apply in self.steps:
            if index < count:
                raw = fields[index]
                if raw and raw != NULL:
                    apply(raw, draft, transaction, view)


def compile_map(name: str, segment: str, rows: Sequence[Row], vocabulary: Vocabulary, faults: list[Fault]) -> Map:
    """Compile the rows of one map over `segment`; what cannot be compiled is a fault."""
    rules = []
    filled = frozenset(label for row in rows if not row["map"].startswith("=") for label in paths.labels(row["target"]))
    for row in rows:
        try:
            rules.append(_compile(segment, row, vocabulary, filled))
        except Unreadable as error:
            faults.append(row.fault(f"row {row['id']}: {error}"))
        except LookupError as error:
            text, allowed, wrong = error.args
            faults.append(row.fault(f"row {row['id']}: {text}", allowed, wrong))
    return Map(name, tuple(rules), tuple((rule.index, rule.apply) for rule in rules))


def _compile(segment: str, row: Row, vocabulary: Vocabulary, filled: frozenset[str]) -> Rule:
    match = ELEMENT.fullmatch(row["source"])
    if not match:
        raise Unreadable(f"source {row['source']!r} is not an element such as {segment}-3 or {segment}-3.1")
    when = condition(row["when"]) if row["when"] else None
    if row["map"].startswith("@"):
        special, beside = vocabulary.special(row["map"])
        return Rule(row, int(match[2] or 0), special if when is None else _guarded(special, when), beside)
    fixed = row["map"].startswith("=")
    put = paths.compile_put(paths.steps(row["target"], vocabulary.urls), filled if fixed and match[2] else frozenset())
    own = match[1] == segment
    index = int(match[2] or 0) if own else 0
    if fixed:
        apply = _put_constant(constant(row["map"], vocabulary), put, None if own else element(row["source"]))
    else:
        if own and not index:
            raise Unreadable("a row that reads no field needs a constant (=text) as its map")
        convert = vocabulary.converter(row["map"], row["codes"])
        component = int(match[3] or 0) if own else 0
        apply = _put_converted(convert, put, component, None if own else element(row["source"]))
    return Rule(row, index, apply if when is None else _guarded(apply, when))


def constant(text: str, vocabulary: Vocabulary) -> Any:
    coding = _CODING.fullmatch(text)
    if not coding:
        word = text[1:].strip('"')
        return {"true": True, "false": False}.get(word, word)
    value: Body = {"system": vocabulary.coding_system(coding[1]), "code": coding[2]}
    if coding[3]:
        value["display"] = coding[3]
    return value


def _put_constant(value: Any, put: paths.Put, read: Callable[[View], str] | None) -> Apply:
    def apply(raw: str, draft: Draft, transaction: Any, view: View) -> None:
        if read is None or read(view):
            put(draft, value, transaction, 0)
            if "~" in raw:
                for repetition in range(1, raw.count("~") + 1):
                    put(draft, value, transaction, repetition)

    return apply


def _put_converted(convert: Converter, put: paths.Put, component: int, read: Callable[[View], str] | None) -> Apply:
    if read is None and not component:
        return _put_field(convert, put)

    def apply(raw: str, draft: Draft, transaction: Any, view: View) -> None:
        text = raw if read is None else read(view)
        for repetition, part in enumerate(text.split("~")):
            if component:
                parts = part.split("^")
                part = parts[component - 1] if component <= len(parts) else ""  # noqa: PLW2901
            if part and part != NULL:
                value = convert(part, transaction)
                if value is not None:
                    put(draft, value, transaction, repetition)

    return apply


def _put_field(convert: Converter, put: paths.Put) -> Apply:
    """The common case, on the hot path: a whole field of the segment itself."""

    def apply(raw: str, draft: Draft, transaction: Any, view: View) -> None:
        if "~" not in raw:
            value = convert(raw, transaction)
            if value is not None:
                put(draft, value, transaction, 0)
            return
        for repetition, part in enumerate(raw.split("~")):
            if part and part != NULL:
                value = convert(part, transaction)
                if value is not None:
                    put(draft, value, transaction, repetition)

    return apply


def _guarded(apply: Apply, when: Condition) -> Apply:
    def guarded(raw: str, draft: Draft, transaction: Any, view: View) -> None:
        if when(view):
            apply(raw, draft, transaction, view)

    return guarded
