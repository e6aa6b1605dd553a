"""An order message cut into what belongs to the patient and what to each order, and its fields as text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from engine.formats import hl7v2

_PATIENT: Final = frozenset(("PID", "PV1", "PV2", "AL1", "IAM", "MRG"))


@dataclass(slots=True)
class Group:
    """The segments of one order, by their names, each as its fields (index = number)."""

    segments: dict[str, list[list[str]]] = field(default_factory=dict)

    def add(self, fields: list[str]) -> None:
        self.segments.setdefault(fields[0], []).append(fields)

    def all(self, name: str) -> list[list[str]]:
        return self.segments.get(name, [])

    def first(self, name: str) -> list[str]:
        return next(iter(self.all(name)), [])


class Reading:
    """Fields as text, unescaped; "" for what is not there and for HL7's null."""

    def __init__(self, message: hl7v2.Message) -> None:
        self._separators, self._charset = message.separators, message.charset
        self._segments = [segment.fields for segment in message.segments]

    def groups(self) -> tuple[Group, list[Group]]:
        """The patient's segments, and each order's: an ORC, or an OBR where another OBR has gone before, begins one."""
        patient, orders = Group(), list[Group]()
        for fields in self._segments:
            name = fields[0]
            if name == "ORC" or (name == "OBR" and (not orders or orders[-1].all("OBR"))):
                before = orders[-1].first("ORC") if orders and name == "OBR" else []
                orders.append(Group({"ORC": [before]} if before else {}))
            (patient if name in _PATIENT or not orders else orders[-1]).add(fields)
        return patient, orders

    def part(self, fields: Sequence[str], number: int, component: int = 1, repetition: int = 1) -> str:
        """A component as text, its first subcomponent."""
        if number >= len(fields):
            return ""
        repetitions = self._separators.repetitions(fields[number])
        return self._component(repetitions[repetition - 1], component) if repetition <= len(repetitions) else ""

    def repetitions(self, fields: Sequence[str], number: int) -> list[Callable[[int], str]]:
        """Each repetition of a field, as what gives its components."""
        if number >= len(fields) or not fields[number]:
            return []
        return [partial(self._component, one) for one in self._separators.repetitions(fields[number])]

    def subcomponent(self, fields: Sequence[str], number: int, component: int, subcomponent: int) -> str:
        """A subcomponent of the first repetition as text."""
        if number >= len(fields):
            return ""
        components = self._separators.components(self._separators.repetitions(fields[number])[0])
        parts = self._separators.subcomponents(components[component - 1]) if component <= len(components) else []
        return self._text(parts[subcomponent - 1]) if subcomponent <= len(parts) else ""

    def whole(self, fields: Sequence[str], number: int) -> str:
        """The components of the first repetition that say something, one blank between them."""
        if number >= len(fields):
            return ""
        components = self._separators.components(self._separators.repetitions(fields[number])[0])
        return " ".join(filter(None, (self._text(self._separators.subcomponents(one)[0]) for one in components)))

    def _component(self, repetition: str, component: int) -> str:
        parts = self._separators.components(repetition)
        return self._text(self._separators.subcomponents(parts[component - 1])[0]) if component <= len(parts) else ""

    def _text(self, raw: str) -> str:
        return "" if raw == hl7v2.NULL else self._separators.unescape(raw, self._charset).strip()
