"""One study's transaction, and what the rules may know of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.formats.dicom import DataSet
from engine.formats.dicom.dictionary import keyword_of
from mappings.hl7v2_to_fhir.context import V2Transaction
from mappings.notes import Notes
from mappings.transaction import Draft

Found = tuple[DataSet, int, Any]
"""(the data set that holds it, tag, a value as text or an item)"""


class View:
    """Data sets that stand for the same thing: an attribute is taken from the first that has a value for it."""

    __slots__ = ("data_sets",)

    def __init__(self, data_sets: Iterable[DataSet]) -> None:
        self.data_sets = tuple(data_sets)

    def find(self, tags: tuple[int, ...]) -> list[Found]:
        """Every value (or item) at a path of tags."""
        for one in self.data_sets:
            if found := _within(one, tags):
                return found
        return []

    def text(self, *tags: int) -> str:
        """The first value, "" where there is none."""
        found = self.find(tags)
        return found[0][2] if found and isinstance(found[0][2], str) else ""

    @property
    def first(self) -> DataSet:
        return self.data_sets[0]


def _within(data_set: DataSet, tags: tuple[int, ...]) -> list[Found]:
    tag = tags[0]
    if len(tags) > 1:
        return [found for item in data_set.items(tag) for found in _within(item, tags[1:])]
    if items := data_set.items(tag):
        return [(data_set, tag, item) for item in items]
    return [(data_set, tag, value) for value in data_set.values(tag) if value]


def place(data_set: DataSet, tag: int) -> str:
    """Where an attribute stands: ``RequestAttributesSequence[1].RequestedProcedureID``."""
    return data_set.path + keyword_of(tag)


@dataclass(slots=True)
class DicomTransaction(V2Transaction):
    """`patients` and `orders` are who assigns the sender's patient numbers and order numbers, `schemes` the coding schemes that the
    instances identify themselves. `kept` are bodies under construction, which labels know by their address."""

    patients: str = ""
    orders: str = ""
    schemes: dict[str, str] = field(default_factory=dict)
    kept: list[Draft] = field(default_factory=list)
    notes: Notes | None = None
