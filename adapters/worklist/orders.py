"""Orders as the worklist keeps them, read from HL7 v2 (clauses 4.4.1 ORM^O01, 4.4.6 OML^O21, 4.4.8 OML^O33, 4.4.10 OML^O35)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from engine.errors import ValidationError
from engine.formats import hl7v2

MESSAGES: Final = frozenset(("ORM^O01", "OML^O21", "OML^O33", "OML^O35"))
_SPECIMEN_FIRST: Final = ("OML^O33", "OML^O35")
_CANCELS: Final = frozenset(("CA", "DC", "OC", "CR", "OD", "DR"))
"""ORC-1 (table 0119): cancelled or discontinued, asked for or done."""
_IGNORED: Final = frozenset(("SC", "SN", "NA", "HD", "OH", "HR", "RL", "UA", "UC", "UD", "UF", "UH", "UM", "UN", "UR", "UX"))
"""ORC-1 that leaves the order as it is."""


@dataclass(frozen=True, slots=True)
class Patient:
    """`born` as in PID-7; `number` is PID-3.1 of the first repetition, `authority` its PID-3.4."""

    number: str = ""
    authority: str = ""
    family: str = ""
    given: str = ""
    born: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One test, or panel, of one specimen. Times as HL7 v2 writes them."""

    number: str
    placer: str
    filler: str
    code: str
    name: str
    system: str
    specimens: tuple[str, ...]
    specimen_type: str = ""
    priority: str = ""
    requested: str = ""
    collected: str = ""
    physician: str = ""
    cancelled: bool = False
    patient: Patient = field(default_factory=Patient)


def read(body: bytes, fallback: str) -> list[Order]:
    """The orders of a message. `fallback` is the character set where MSH-18 does not fit. Raises ParseError, and ValidationError
    where an order has no number or no specimen by which it could be asked for."""
    message = hl7v2.decode(body, fallback=fallback)
    return _Reader(message).orders()


class _Reader:
    def __init__(self, message: hl7v2.Message) -> None:
        self._separators, self._charset = message.separators, message.charset
        self._segments = [segment.fields for segment in message.segments]
        self._message_type = "^".join(self._part(self._segments[0], 9, number) for number in (1, 2))

    def orders(self) -> list[Order]:
        found: list[Order] = []
        patient, order_control, specimens = Patient(), [""], list[list[str]]()
        for index, fields in enumerate(self._segments):
            match fields[0]:
                case "PID":
                    patient = self._patient(fields)
                case "SPM" if self._message_type in _SPECIMEN_FIRST:
                    specimens = self._group(index, ("SPM", "SAC"), ends=("ORC", "OBR"))
                case "ORC":
                    order_control = fields
                case "OBR":
                    order = self._order(order_control, fields, index, specimens, patient)
                    if order is not None:
                        found.append(order)
        return found

    def _order(self, orc: list[str], obr: list[str], index: int, before: list[list[str]], patient: Patient) -> Order | None:
        control = self._part(orc, 1)
        if control in _IGNORED:
            return None
        first = self._message_type in _SPECIMEN_FIRST
        group = before if first else self._group(index, ("SPM", "SAC"), ends=("ORC", "OBR", "PID"))
        placer = self._part(orc, 2) or self._part(obr, 2)
        filler = self._part(orc, 3) or self._part(obr, 3)
        numbers = tuple(dict.fromkeys(number for one in group for number in self._numbers(one))) or tuple(filter(None, (filler, placer)))
        number = placer or filler
        if not number:
            raise ValidationError("an order without a number cannot be kept", location="ORC-2", hl7_code="101")
        timing = next((fields for fields in self._group(index, ("TQ1",), ends=("ORC", "OBR", "PID"))), [])
        specimen = next((fields for fields in group if fields[0] == "SPM"), [])
        own, alternate = self._part(obr, 4), self._part(obr, 4, 4)
        return Order(
            number,
            placer,
            filler,
            own or alternate,
            self._part(obr, 4, 2 if own else 5),
            self._part(obr, 4, 3 if own else 6),
            numbers,
            self._part(specimen, 4) or self._part(obr, 15),
            self._part(timing, 9) or self._part(obr, 27, 6) or self._part(orc, 7, 6) or self._part(obr, 5),
            self._part(orc, 9) or self._part(obr, 6),
            self._part(specimen, 17) or self._part(obr, 7),
            self._physician(orc, obr),
            control in _CANCELS,
            patient,
        )

    def _physician(self, orc: list[str], obr: list[str]) -> str:
        """Number, family and given name of who ordered, separated by ^."""
        fields, number = (orc, 12) if self._part(orc, 12) else (obr, 16)
        return "^".join(self._part(fields, number, component).replace("^", " ") for component in (1, 2, 3)).rstrip("^")

    def _patient(self, fields: list[str]) -> Patient:
        name, given = self._part(fields, 5), self._part(fields, 5, 2)
        return Patient(self._part(fields, 3), self._part(fields, 3, 4), name, given, self._part(fields, 7), self._part(fields, 8))

    def _group(self, index: int, names: tuple[str, ...], ends: tuple[str, ...]) -> list[list[str]]:
        """The segments of these names from `index` on, up to the next of `ends`."""
        found = [self._segments[index]] if self._segments[index][0] in names else []
        for fields in self._segments[index + 1 :]:
            if fields[0] in ends or (found and fields[0] == "SPM" and "SPM" in names and self._message_type in _SPECIMEN_FIRST):
                break
            if fields[0] in names:
                found.append(fields)
        return found

    def _numbers(self, fields: list[str]) -> list[str]:
        """By which numbers a specimen may be asked for: SPM-2 (both parts), SPM-30, SAC-2 to SAC-4."""
        separators = self._separators
        if fields[0] == "SPM":
            pair = separators.components(separators.repetitions(fields[2])[0]) if len(fields) > 2 else []
            return [found for one in pair[:2] if (found := self._text(separators.subcomponents(one)[0]))]
        return [found for number in (3, 2, 4) if (found := self._part(fields, number))]

    def _part(self, fields: list[str], number: int, component: int = 1) -> str:
        """A component of the first repetition as text, without its subcomponents; "" for HL7's null."""
        separators = self._separators
        if number >= len(fields):
            return ""
        parts = separators.components(separators.repetitions(fields[number])[0])
        return self._text(separators.subcomponents(parts[component - 1])[0]) if component <= len(parts) else ""

    def _text(self, raw: str) -> str:
        return "" if raw == hl7v2.NULL else self._separators.unescape(raw, self._charset).strip()
