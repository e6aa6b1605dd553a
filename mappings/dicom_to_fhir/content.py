"""The content tree of a structured report (PS3.3 clause C.17.3): items, their names and values, and the whole as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from engine.formats.dicom import DataSet
from engine.formats.dicom.dictionary import uid_name
from mappings.dicom_to_fhir.context import DicomTransaction
from mappings.dicom_to_fhir.converters import MEANING, SCHEME, Concepts, date, date_time, groups, is_uid, number
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.context import clean
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body

RELATIONSHIP, VALUE_TYPE, CONCEPT, CONTENT = 0x0040A010, 0x0040A040, 0x0040A043, 0x0040A730
_TEXTS: Final = {
    "TEXT": 0x0040A160,
    "DATETIME": 0x0040A120,
    "DATE": 0x0040A121,
    "TIME": 0x0040A122,
    "PNAME": 0x0040A123,
    "UIDREF": 0x0040A124,
}
_REFERENCES: Final = frozenset(("IMAGE", "COMPOSITE", "WAVEFORM"))
_COORDINATES: Final = {"SCOORD": (0x00700023, 0x00700022), "SCOORD3D": (0x00700023, 0x00700022), "TCOORD": (0x0040A130, 0x0040A138)}
MEASURED, NUMERIC, UNITS, QUALIFIER, CODE = 0x0040A300, 0x0040A30A, 0x004008EA, 0x0040A301, 0x0040A168
_EVIDENCE: Final = (0x0040A375, 0x0040A385)
_MOST_POINTS: Final = 200


@dataclass(slots=True)
class Item:
    """One content item."""

    data: DataSet
    relationship: str
    value_type: str
    title: str
    scheme: str
    code: str
    parent: Item | None = None
    children: list[Item] = field(default_factory=list)

    @property
    def concept(self) -> str:
        """SCHEME|CODE of its name."""
        return f"{self.scheme}|{self.code}"

    @property
    def is_container(self) -> bool:
        return self.value_type == "CONTAINER"

    @property
    def is_reference(self) -> bool:
        return self.value_type in _REFERENCES

    @property
    def place(self) -> str:
        """Where it stands in the data set."""
        return self.data.path + "ValueType"


def tree(data: DataSet, parent: Item | None = None) -> Item:
    """The content tree of a document; its data set is the root."""
    name = next(iter(data.items(CONCEPT)), None)
    texts = (name.text(MEANING), name.text(SCHEME), name.text(0x00080100) or name.text(0x00080119)) if name else ("", "", "")
    item = Item(data, data.text(RELATIONSHIP), data.text(VALUE_TYPE), clean(texts[0]), texts[1], texts[2], parent)
    item.children = [tree(child, item) for child in data.items(CONTENT)]
    return item


def evidence(one: DataSet) -> dict[str, str]:
    """SOP instance UID -> study instance UID of everything that the document refers to (PS3.3 table C.17-3)."""
    found = {}
    for sequence in _EVIDENCE:
        for study in one.items(sequence):
            for series in study.items(0x00081115):
                for instance in series.items(0x00081199):
                    found[instance.text(0x00081155)] = study.text(0x0020000D) if is_uid(study.text(0x0020000D)) else ""
    return found


class Reader:
    """What items say, as FHIR values and as text."""

    def __init__(self, concepts: Concepts, tx: DicomTransaction) -> None:
        self._concepts, self._tx = concepts, tx

    def name(self, item: Item) -> Body | None:
        """The concept name as CodeableConcept."""
        name = next(iter(item.data.items(CONCEPT)), None)
        return self._concepts.concept(name, self._tx) if name is not None else None

    def coded(self, item: Item) -> Body | None:
        """The value of a CODE item."""
        code = next(iter(item.data.items(CODE)), None)
        return self._concepts.concept(code, self._tx) if code is not None else None

    def value(self, item: Item) -> Body | None:
        """The value as one element, such as `valueQuantity`; None where there is none."""
        kind = item.value_type
        if kind == "NUM":
            return self._number(item)
        if kind == "CODE":
            coded = self.coded(item)
            return {"valueCodeableConcept": coded} if coded else None
        if kind in ("DATETIME", "DATE", "TIME"):
            return self._moment(item)
        text = self.text(item)
        return {"valueString": text} if text else None

    def _number(self, item: Item) -> Body | None:
        """Numeric measurement (PS3.3 clause C.18.1); without a value, why there is none."""
        measured = next(iter(item.data.items(MEASURED)), None)
        text = measured.text(NUMERIC) if measured is not None else ""
        if measured is None or not text:
            qualifier = next(iter(item.data.items(QUALIFIER)), None)
            why = self._concepts.concept(qualifier, self._tx) if qualifier is not None else None
            return {"dataAbsentReason": why or {"coding": [coding(TERMINOLOGY + "data-absent-reason", "unknown")]}}
        value = number(text)
        if value is None:
            return {"valueString": clean(text)}
        units = next(iter(measured.items(UNITS)), None)
        return {"valueQuantity": {"value": value, **(self._concepts.unit(units, self._tx) if units is not None else {})}}

    def _moment(self, item: Item) -> Body | None:
        tag = _TEXTS[item.value_type]
        text = item.data.text(tag)
        if item.value_type == "TIME":
            time = times.time(text)
            return {"valueTime": time} if time else self._said(text)
        found = (date if item.value_type == "DATE" else date_time)((item.data, tag, text), self._tx)
        return {"valueDateTime": found} if found else self._said(text)

    @staticmethod
    def _said(text: str) -> Body | None:
        return {"valueString": clean(text)} if clean(text) else None

    def text(self, item: Item) -> str:
        """The value as a person reads it, "" where there is none."""
        kind = item.value_type
        if kind == "PNAME":
            written = groups(item.data.text(_TEXTS[kind]))
            return " = ".join(
                " ".join(clean(word) for word in (parts[3], parts[1], parts[2], parts[0], parts[4]) if word) for _, parts in written
            )
        if kind in _TEXTS:
            return clean("\n".join(item.data.values(_TEXTS[kind])))
        if kind == "CODE":
            code = next(iter(item.data.items(CODE)), None)
            return clean(code.text(MEANING) or code.text(0x00080100)) if code is not None else ""
        if kind == "NUM":
            return self._quantity(item)
        if kind in _COORDINATES:
            return self._coordinates(item)
        if item.is_reference:
            return "; ".join(
                " ".join(filter(None, (kind_of, uid, f"frame {frames}" if frames else "")))
                for uid, kind_of, frames in self.references(item)
            )
        return ""

    def _quantity(self, item: Item) -> str:
        measured = next(iter(item.data.items(MEASURED)), None)
        if measured is None:
            qualifier = next(iter(item.data.items(QUALIFIER)), None)
            return f"({clean(qualifier.text(MEANING))})" if qualifier is not None else ""
        units = next(iter(measured.items(UNITS)), None)
        return f"{measured.text(NUMERIC)} {clean(units.text(0x00080100)) if units is not None else ''}".strip()

    def _coordinates(self, item: Item) -> str:
        """Spatial or temporal coordinates; a long outline stays in the instance."""
        kind, points = _COORDINATES[item.value_type]
        values = item.data.values(points) or item.data.values(0x0040A132) or item.data.values(0x0040A13A)
        if len(values) > _MOST_POINTS:
            self._tx.lose(item.data.path + "GraphicData", f"an outline of more than {_MOST_POINTS} numbers")
            values = (f"{len(values)} numbers",)
        return f"{item.data.text(kind)} {' '.join(values)}".strip()

    def references(self, item: Item) -> list[tuple[str, str, str]]:
        """(SOP instance UID, what it is, frame numbers) of the instances that an item refers to."""
        found = []
        for one in item.data.items(0x00081199):
            uid = one.text(0x00081155)
            if is_uid(uid):
                found.append((uid, uid_name(one.text(0x00081150)), ", ".join(one.values(0x00081160))))
        return found

    def narrative(self, root: Item) -> str:
        """The whole tree as indented text."""
        lines: list[str] = []
        self._write(root, 0, lines)
        return "\n".join(lines) + "\n"

    def _write(self, item: Item, depth: int, lines: list[str]) -> None:
        text = self.text(item).replace("\n", "\n" + "  " * (depth + 1))
        said: list[Any] = [word for word in (item.title, text) if word]
        if said:
            lines.append("  " * depth + ": ".join(said))
        for child in item.children:
            self._write(child, depth + 1 if said else depth, lines)
