"""While explaining: where each leaf of each body came from, for mappings that write bodies in code rather than by rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.message import Lineage
from mappings.hl7v2_to_fhir.lineage import leaves
from mappings.transaction import Body, Transaction


class Notes:
    """While explaining: where each leaf of each body came from."""

    def __init__(self) -> None:
        self.written: dict[int, dict[str, Lineage]] = {}
        self.ready: dict[str, Lineage] = {}
        self.lost: list[Lineage] = []

    def claim(self, body: Body, source: str, rule: str) -> None:
        """What is in `body` and nobody has claimed stems from `source`."""
        known = self.written.setdefault(id(body), {})
        for path, _ in leaves(body):
            known.setdefault(path, Lineage(path, source, rule))

    def made(self, urls: Iterable[str], source: str, rule: str) -> None:
        for url in urls:
            self.ready.setdefault(url, Lineage("", source, rule))

    def lines(self, value: Any, path: str, body: int, inner: str, otherwise: Lineage) -> Iterable[Lineage]:
        """A line for every leaf below `value`; a body inside another one has notes of its own."""
        if isinstance(value, dict):
            if id(value) in self.written and id(value) != body:
                body, inner = id(value), ""
            for name, part in value.items():
                yield from self.lines(part, f"{path}.{name}", body, f"{inner}.{name}" if inner else name, otherwise)
        elif isinstance(value, list):
            for index, part in enumerate(value):
                yield from self.lines(part, f"{path}[{index}]", body, f"{inner}[{index}]", otherwise)
        else:
            known = self.written.get(body, {}).get(inner, otherwise)
            yield Lineage(path, known.source, known.rule)


def written(tx: Transaction, notes: Notes, otherwise: Lineage) -> list[Lineage]:
    """A line for every element, in the order of the Bundle; `otherwise` is where what nobody claimed stems from."""
    found: list[Lineage] = []
    for number, draft in enumerate(tx.drafts):
        for line in notes.lines(draft.body, f"entry[{number}].{draft.kind}", id(draft.body), "", otherwise):
            if not line.target.endswith((".resourceType", f"{draft.kind}.id")):
                found.append(line)
    for number, (url, made) in enumerate(tx.entries.items(), len(tx.drafts)):
        of = notes.ready.get(url, otherwise)
        for line in notes.lines(made.body, f"entry[{number}].{made.kind}", 0, "", of):
            if not line.target.endswith(".resourceType"):
                found.append(Lineage(line.target, of.source, of.rule))
    return found
