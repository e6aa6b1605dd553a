"""Compiles rows into closures: one attribute of a data set -> one element of a resource (tables/attributes/*.csv).

id      what the row is called in lineage and in a site's overlay
source  the attribute by keyword: ``PatientSex``, ``ProcedureCodeSequence``, ``RequestAttributesSequence.RequestedProcedureID``
target  the element it writes, see mappings/paths.py
map     how the value becomes a FHIR value (converters.py), or a constant `=text`, `=SYSTEM#code "display"`
codes   the code table that translates it
when    a condition over attributes, see mappings/conditions.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from engine.errors import Fault
from engine.formats.dicom import DataSet
from engine.formats.dicom.paths import parse_path
from engine.message import Lineage
from mappings import paths
from mappings.conditions import Unreadable, condition
from mappings.dicom_to_fhir.context import DicomTransaction, Found, View, place
from mappings.hl7v2_to_fhir.lineage import leaves
from mappings.rules import constant
from mappings.tables import Row
from mappings.transaction import Draft

Convert = Callable[[Found, DicomTransaction], Any]
"""convert((holder, tag, value), transaction): a FHIR value, a list of them, an Unfit, or None where there is nothing to say."""


ITEMS: Final = frozenset(("CodeableConcept", "Coding"))
"""Maps that take the items of a sequence; the others take text."""


class Vocabulary(Protocol):
    """What rows refer to by name."""

    urls: Mapping[str, str]

    def converter(self, name: str, codes: str) -> Convert:
        """Raises LookupError with (text, allowed words, wrong word)."""

    def coding_system(self, name: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled row."""

    row: Row
    tags: tuple[int, ...]
    convert: Convert
    put: paths.Put
    when: Callable[[View], bool] | None
    kind: type
    """What the converter takes: text, or items; `object` where it takes both. Which it is the bytes say, and they may lie."""

    def apply(self, view: View, draft: Draft, tx: DicomTransaction) -> list[Found]:
        """Write what the attribute says into `draft`; what was read."""
        if self.when is not None and not self.when(view):
            return []
        found = [one for one in view.find(self.tags) if self.kind is object or isinstance(one[2], self.kind)]
        for repetition, one in enumerate(found):
            value = self.convert(one, tx)
            if value is not None:
                self.put(draft, value, tx, repetition)
            elif tx.notes is not None:
                tx.lose(self.row["target"], "cannot be said in this element")
        return found


@dataclass(frozen=True, slots=True)
class AttributeMap:
    """The compiled rows of one file, applied in the order of the file."""

    name: str
    rules: tuple[Rule, ...]

    def apply(self, view: View, draft: Draft, tx: DicomTransaction) -> None:
        """Let every row write into `draft`, and note what each has written while that is to be explained."""
        tx.kept.append(draft)
        if tx.notes is None:
            for rule in self.rules:
                rule.apply(view, draft, tx)
            return
        for rule in self.rules:
            self._noted(rule, view, draft, tx)

    def _noted(self, rule: Rule, view: View, draft: Draft, tx: DicomTransaction) -> None:
        if tx.notes is None:
            return
        before, there, losses = dict(leaves(draft.body)), set(tx.entries), tx.losses if tx.losses is not None else []
        count = len(losses)
        found = rule.apply(view, draft, tx)
        if not found:
            return
        label = f"{self.name} row {rule.row['id']}" + (f", codes {rule.row['codes']}" if rule.row["codes"] else "")
        label += " (site)" if rule.row.site else ""
        source = place(found[0][0], found[0][1])
        tx.notes.lost += [Lineage("", source, f"{label}: {what}: {why}") for what, why in losses[count:]]
        del losses[count:]
        tx.notes.made((url for url in tx.entries if url not in there), source, label)
        if dict(leaves(draft.body)) != before:
            tx.notes.claim(draft.body, source, label)


def compile_map(name: str, rows: Sequence[Row], vocabulary: Vocabulary, faults: list[Fault]) -> AttributeMap:
    """Compile the rows of one map; what cannot be compiled is a fault."""
    rules = []
    for row in rows:
        try:
            rules.append(_compile(row, vocabulary))
        except (Unreadable, ValueError) as error:
            faults.append(row.fault(f"row {row['id']}: {error}"))
        except LookupError as error:
            text, allowed, wrong = error.args
            faults.append(row.fault(f"row {row['id']}: {text}", allowed, wrong))
    return AttributeMap(name, tuple(rules))


def _compile(row: Row, vocabulary: Vocabulary) -> Rule:
    tags = _tags(row["source"])
    put = paths.compile_put(paths.steps(row["target"], vocabulary.urls))
    when = condition(row["when"], _reader) if row["when"] else None
    if row["map"].startswith("="):
        value = constant(row["map"], vocabulary)  # type: ignore[arg-type]  # of a vocabulary it uses only `coding_system`
        return Rule(row, tags, lambda found, tx: value, put, when, object)
    return Rule(row, tags, vocabulary.converter(row["map"], row["codes"]), put, when, DataSet if row["map"] in ITEMS else str)


def _tags(text: str) -> tuple[int, ...]:
    return tuple(step.tag for step in parse_path(text).steps)


def _reader(text: str) -> Callable[[View], str]:
    """A condition's element: the first value, or "items" for a sequence that has some."""
    try:
        tags = _tags(text)
    except ValueError as error:
        raise Unreadable(str(error)) from None

    def read(view: View) -> str:
        found = view.find(tags)
        return "" if not found else found[0][2] if isinstance(found[0][2], str) else "items"

    return read
