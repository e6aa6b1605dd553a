"""Where each element of a Bundle came from, and what of the message is not in it.

The rules are applied one at a time; what is there after a rule and was not before is its work. Which component of the
field an element stems from is found by trial: the rule runs again on a scratch resource with one component blanked at
a time, and the elements that then change or vanish stem from that component.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import orjson

from engine.message import Lineage
from mappings.conditions import ELEMENT, NULL, View
from mappings.hl7v2_to_fhir.context import V2Transaction
from mappings.rules import Map, Rule
from mappings.transaction import Draft

PROTOCOL: Final = "not carried: protocol"
"""What says how a message was written, not what it says."""
_OF_PROVENANCE: Final = (7, 9, 10)
_PROTOCOL: Final = (12, 13, 14, 15, 16, 18, 20, 21)

Leaf = tuple[str, str]
"""(path without indexes, value as text)"""


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf below `value` with its path (`name[0].family`); a JSON number stands as it was written."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, orjson.dumps(value).decode()


def _general(path: str) -> str:
    return "".join(piece.split("]", 1)[-1] for piece in path.split("["))


def view_name(rule: Rule) -> str:
    """The segment a rule reads."""
    return rule.row["source"].split("-", 1)[0]


class FieldTrace:
    """mappings.rules.Trace for one message."""

    def __init__(self) -> None:
        self._written: dict[tuple[int, str], Lineage] = {}
        self._made_by: dict[int, tuple[Draft, str]] = {}
        self._lost: list[Lineage] = []
        self._carried: set[tuple[int, int]] = set()
        self._read: dict[int, list[str]] = {}

    def made(self, draft: Draft, row: str) -> None:
        """`draft` was made by a row of messages.csv."""
        self._made_by[id(draft)] = (draft, row)

    def unread(self, fields: list[str]) -> None:
        """No row of messages.csv takes this segment."""
        self._lost.append(Lineage("", fields[0], "not mapped: no row of messages.csv takes this segment here"))
        self._read[id(fields)] = []

    def follow(self, rules: Map, fields: list[str], draft: Draft, tx: V2Transaction, view: View) -> None:
        """Apply `rules` one by one."""
        self._read.setdefault(id(fields), fields)
        for rule in rules.rules:
            raw = fields[rule.index] if rule.index < len(fields) else ""
            if raw and raw != NULL:
                self._one(rule, rules.name, raw, draft, tx, view)

    def _one(self, rule: Rule, name: str, raw: str, draft: Draft, tx: V2Transaction, view: View) -> None:
        before = self._state(draft, tx)
        losses = tx.losses if tx.losses is not None else []
        count = len(losses)
        rule.apply(raw, draft, tx, view)
        segment = f"{view_name(rule)}[{tx.turn}]" if rule.index else ""
        source = self._place(segment or f"{draft.fields[0]}[{tx.turn}]", rule)
        label = f"{name} row {rule.row['id']}" + (f", codes {rule.row['codes']}" if rule.row["codes"] else "")
        label += " (site)" if rule.row.site else ""
        for what, why in losses[count:]:
            self._lost.append(Lineage("", source, f"{label}: {what}: {why}"))
        new = [key for key in self._state(draft, tx) if key not in before]
        if not new:
            return
        read = ELEMENT.fullmatch(rule.row["source"])
        index = int(read[2] or 0) if read else 0
        self._carried.update((id(view.get(view_name(rule))), number) for number in (index, *rule.beside))
        components = self._components(rule, raw, draft, tx, view) if rule.index else {}
        for index in rule.beside:
            gone = self._of_field(rule, raw, draft, tx, view, index)
            if gone.total() < len(new):  # else it only says of what type the value is
                components.update(dict.fromkeys(gone, f"{segment}-{index}"))
        for owner, path, value in new:
            where = components.get((_general(path), value), "")
            self._written[owner, path] = Lineage(path, where if "-" in where else source + where, label)

    @staticmethod
    def _place(segment: str, rule: Rule) -> str:
        """`OBX[7]-5`: the field, in segment number 7 of the message."""
        own = rule.row["source"].split("-", 1)
        return f"{segment}-{own[1]}" if rule.index and len(own) > 1 else rule.row["source"] if len(own) > 1 else segment

    @staticmethod
    def _state(draft: Draft, tx: V2Transaction) -> dict[tuple[int, str, str], None]:
        """Every leaf of the draft, of the resources it has made, and of all ready ones."""
        found: dict[tuple[int, str, str], None] = {}
        for one in (draft, *draft.children):
            found.update(dict.fromkeys((id(one), path, value) for path, value in leaves(one.body)))
        for url, ready in tx.entries.items():
            found.update(dict.fromkeys((hash(url), path, value) for path, value in leaves(ready.body)))
        return found

    def _components(self, rule: Rule, raw: str, draft: Draft, tx: V2Transaction, view: View) -> dict[Leaf, str]:
        """For what the rule writes: the repetition and component it stems from."""
        if rule.row["source"].count(".") or rule.row["map"].startswith("="):
            return {}
        repetitions = raw.split("~")
        if len(repetitions) == 1 and "^" not in raw and "&" not in raw:
            return {}
        whole = self._probe(rule, raw, draft, tx, view)
        found: dict[Leaf, tuple[int, str]] = {}
        for r, repetition in enumerate(repetitions):
            parts = repetition.split("^")
            for c, word in enumerate(parts):
                if not word:
                    continue
                blanked = "^".join(["" if n == c else other for n, other in enumerate(parts)])
                rest = self._probe(rule, "~".join([blanked if n == r else other for n, other in enumerate(repetitions)]), draft, tx, view)
                gone = whole - rest
                where = (f"[{r + 1}]" if len(repetitions) > 1 else "") + f".{c + 1}"
                for leaf in gone:
                    if leaf not in found or len(gone) < found[leaf][0]:
                        found[leaf] = (len(gone), where)
        return {leaf: where for leaf, (_, where) in found.items()}

    def _of_field(self, rule: Rule, raw: str, draft: Draft, tx: V2Transaction, view: View, index: int) -> Counter[Leaf]:
        """What a rule writes because of another field."""
        name = view_name(rule)
        fields = view[name]
        if index >= len(fields) or not fields[index]:
            return Counter()
        without = {**view, name: [*fields[:index], "", *fields[index + 1 :]]}
        return self._probe(rule, raw, draft, tx, view) - self._probe(rule, raw, draft, tx, without)

    @staticmethod
    def _probe(rule: Rule, raw: str, draft: Draft, tx: V2Transaction, view: View) -> Counter[Leaf]:
        scratch = V2Transaction(unescape=tx.unescape, facility=tx.facility, zone=tx.zone, losses=[])
        trial = Draft(draft.kind, draft.write, draft.source, draft.fields, draft.view)
        if raw.strip("^~&"):
            rule.apply(raw, trial, scratch, view)
        bodies = [trial.body, *(child.body for child in trial.children), *(ready.body for ready in scratch.entries.values())]
        return Counter((_general(path), value) for body in bodies for path, value in leaves(body))

    def lineage(self, tx: V2Transaction, segments: list[list[str]]) -> list[Lineage]:
        """All of it, in the order of the Bundle; then what was not carried."""
        found: list[Lineage] = []
        resources: list[tuple[int, str, dict[str, Any], Draft | None]] = [(id(draft), draft.kind, draft.body, draft) for draft in tx.drafts]
        resources += [(hash(url), ready.kind, ready.body, None) for url, ready in tx.entries.items()]
        for number, (owner, kind, body, draft) in enumerate(resources):
            for path, _ in leaves(body):
                if path in ("resourceType", "id"):
                    continue
                known = self._written.get((owner, path)) or self._otherwise(draft, path)
                found.append(Lineage(f"entry[{number}].{kind}.{path}", known.source, known.rule))
        top = [Lineage("Bundle.identifier", "MSH[1]-10", "control id"), Lineage("Bundle.timestamp", "MSH[1]-7", "message time")]
        return top + found + self._lost + list(self._uncarried(segments))

    def _otherwise(self, draft: Draft | None, path: str) -> Lineage:
        """What no rule of a map wrote: links, derived keys, defaults."""
        if draft is None:
            return Lineage(path, "MSH[1]", "provenance of the message")
        _, row = self._made_by.get(id(draft), (draft, ""))
        if path.endswith(".reference") or path.startswith("link["):
            return Lineage(path, draft.source, f"messages row {row} (link)" if row else "provenance of the message")
        if path.startswith("identifier["):
            return Lineage(path, draft.source, "derived key")
        if id(draft) not in self._made_by:
            return Lineage(path, "MSH[1]", "provenance of the message")
        return Lineage(path, draft.source, f"default of {draft.kind}.{_general(path).partition('.')[0].lstrip('_')}")

    def _uncarried(self, segments: list[list[str]]) -> Iterator[Lineage]:
        """Valued fields that left no trace in the Bundle (the set id in field 1 and the delimiters apart)."""
        for number, fields in enumerate(segments, 1):
            if not self._read.get(id(fields)):
                continue
            for index in range(3 if fields[0] == "MSH" else 1, len(fields)):
                raw = fields[index]
                known = (id(fields), index) in self._carried or (fields[0] == "MSH" and index in _OF_PROVENANCE)
                if raw and raw != NULL and not known and not (index == 1 and raw.isdecimal()):
                    protocol = fields[0] == "MSH" and index in _PROTOCOL
                    yield Lineage("", f"{fields[0]}[{number}]-{index}", PROTOCOL if protocol else "not carried")
