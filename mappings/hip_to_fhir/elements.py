"""Compiles rows into closures: an element of a message -> an element of a resource (tables/elements/*.csv).

id      what the row is called in lineage and in a site's overlay
source  the path to it, see sources.py
target  the element it writes, see mappings/paths.py
map     how what is there becomes a FHIR value (converters.py), or a constant `=text`, `=SYSTEM#code "display"`
codes   the code table that translates it
when    a condition over paths, see mappings/conditions.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from engine.errors import Fault
from engine.message import Lineage
from mappings import paths
from mappings.conditions import Unreadable, condition
from mappings.hip_to_fhir.context import Found, HipTransaction, place
from mappings.hip_to_fhir.sources import Source, compile_source
from mappings.hl7v2_to_fhir.lineage import leaves
from mappings.rules import constant
from mappings.tables import Row
from mappings.transaction import Draft

_MANY: Final = 64
CHOICE: Final = "value[x]"
FLAGS: Final = "urn:meridian:mapping"
_DISPLAYS: Final = {
    "unmapped-code": "A code is in none of the tables",
    "identity-card": "The identity card number fails its check character or date",
}

Convert = Callable[[Found, HipTransaction], Any]
"""convert((element, attribute), transaction): a FHIR value, a list of them, an Unfit, or None where there is nothing to say."""


class Vocabulary(Protocol):
    """What rows refer to by name."""

    @property
    def urls(self) -> Mapping[str, str]: ...

    def converter(self, name: str, codes: str) -> Convert:
        """Raises LookupError with (text, allowed words, wrong word)."""

    def coding_system(self, name: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled row."""

    row: Row
    source: Source
    convert: Convert
    put: paths.Put
    when: Callable[[Any], bool] | None

    def apply(self, element: Any, draft: Draft, tx: HipTransaction) -> list[Found]:
        """Write what is there into `draft`; what was read."""
        if self.when is not None and not self.when(element):
            return []
        found = self.source.find(element)
        for repetition, one in enumerate(found):
            value = self.convert(one, tx)
            if value is not None and not self._there(value, draft):
                self.put(draft, value, tx, repetition)
        for code in tx.flags:
            flag(draft, code)
        tx.flags.clear()
        return found

    def _there(self, value: Any, draft: Draft) -> bool:
        """Whether a list of the resource has `value` already: senders say things twice. Long lists (concepts) are not looked through."""
        target = self.row["target"]
        there = draft.body.get(target[:-2], ()) if target.endswith("[]") else ()
        return len(there) < _MANY and value in there


def flag(draft: Draft, code: str) -> None:
    """Tag a resource as doubtful, once."""
    tag = {"system": FLAGS, "code": code, "display": _DISPLAYS[code]}
    tags = draft.body.setdefault("meta", {}).setdefault("tag", [])
    if tag not in tags:
        tags.append(tag)


@dataclass(frozen=True, slots=True)
class ElementMap:
    """The compiled rows of one file, applied in the order of the file."""

    name: str
    rules: tuple[Rule, ...]

    def apply(self, element: Any, draft: Draft, tx: HipTransaction) -> None:
        """Let every row write into `draft`, and note what each has written while that is to be explained."""
        tx.kept.append(draft)
        for rule in self.rules:
            if tx.notes is None:
                rule.apply(element, draft, tx)
            else:
                self._noted(rule, element, draft, tx)

    def _noted(self, rule: Rule, element: Any, draft: Draft, tx: HipTransaction) -> None:
        assert tx.notes is not None
        before, there, losses = dict(leaves(draft.body)), set(tx.entries), tx.losses if tx.losses is not None else []
        count = len(losses)
        found = rule.apply(element, draft, tx)
        if not found:
            return
        if tx.read is not None:
            tx.read.update(one for one in found if one[1])
        source, label = place(found[0]), f"{self.name} row {rule.row['id']}"
        label += (f", codes {rule.row['codes']}" if rule.row["codes"] else "") + (" (site)" if rule.row.site else "")
        tx.notes.lost += [Lineage("", source, f"{label}: {what}: {why}") for what, why in losses[count:]]
        del losses[count:]
        tx.notes.made((url for url in tx.entries if url not in there), source, label)
        if dict(leaves(draft.body)) != before:
            tx.notes.claim(draft.body, source, label)


def compile_map(name: str, rows: Sequence[Row], vocabulary: Vocabulary, faults: list[Fault]) -> ElementMap:
    """Compile the rows of one map; what cannot be compiled is a fault."""
    rules = []
    for row in rows:
        try:
            rules.append(_compile(row, vocabulary))
        except Unreadable as error:
            faults.append(row.fault(f"row {row['id']}: {error}"))
        except LookupError as error:
            text, allowed, wrong = error.args
            faults.append(row.fault(f"row {row['id']}: {text}", allowed, wrong))
    return ElementMap(name, tuple(rules))


def _compile(row: Row, vocabulary: Vocabulary) -> Rule:
    put = _put_choice if row["target"] == CHOICE else paths.compile_put(paths.steps(row["target"], vocabulary.urls))
    when = condition(row["when"], reader) if row["when"] else None
    source = compile_source(row["source"])
    if row["map"].startswith("="):
        value = constant(row["map"], vocabulary)  # type: ignore[arg-type]  # of a vocabulary it uses only `coding_system`
        return Rule(row, source, lambda found, tx: value, put, when)
    return Rule(row, source, vocabulary.converter(row["map"], row["codes"]), put, when)


def _put_choice(draft: Draft, value: Any, tx: Any, repetition: int) -> None:
    """What is a value of one type or another says itself which: {"valueString": …}."""
    draft.body.update(value)


def reader(text: str) -> Callable[[Any], str]:
    """A condition's element: the first attribute's text, or "there" for an element that is."""
    source = compile_source(text)

    def read(element: Any) -> str:
        found = source.find(element)
        if not found:
            return ""
        one, attribute = found[0]
        return (one.get(attribute) or "").strip() if attribute else "there"

    return read
