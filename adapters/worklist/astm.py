"""Host query in ASTM (LIS02-A2 clause 11, record Q) and its answer: H, P, O for each specimen, L."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from adapters.worklist.codes import Codes
from adapters.worklist.orders import Order, Patient
from engine.errors import ValidationError
from engine.formats.astm import Message, Record

_ALL: Final = "ALL"
_ABORTS: Final = "A"
"""Q-13: the last request is cancelled."""

Find = Callable[[str], Sequence[Order]]
"""Orders of a specimen; "" for all."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one record Q asks for: specimens (none: all that there are) and tests (none: all)."""

    specimens: tuple[str, ...]
    tests: frozenset[str]
    aborts: bool


def questions(message: Message) -> Iterator[Question]:
    """Q-3 is ``patient^specimen``; where instruments put the specimen's number alone, that is taken too. Raises ValidationError."""
    for record in message.of("Q"):
        ranges = [record.get(3, number, 2) or record.get(3, number, 1) for number in range(1, record.repeats(3) + 1)]
        aborts = record.get(13) == _ABORTS
        if not any(ranges) and not aborts:
            raise ValidationError("the query names no specimen", location="Q-3", hl7_code="101")
        specimens = () if _ALL in (one.upper() for one in ranges) else tuple(filter(None, ranges))
        yield Question(specimens, frozenset(_tests(record)), aborts)


def _tests(record: Record) -> Iterator[str]:
    for number in range(1, record.repeats(5) + 1):
        code = record.get(5, number, 4) or record.get(5, number, 1)
        if code and code.upper() != _ALL:
            yield code


def answer(message: Message, find: Find, codes: Codes, node: str, stamp: str) -> tuple[str, int]:
    """The answer to a query, and how many orders it hands out. Where nothing is known the terminator says so (L-3 is I)."""
    writer = _Writer(message, node, stamp)
    given = 0
    for question in questions(message):
        if question.aborts:
            continue
        for order_group in _by_specimen(question, find):
            wanted = [(order, code) for order, code in codes.of(order_group) if not question.tests or code in question.tests]
            if wanted:
                writer.specimen(wanted)
                given += len({(order.number, order.code) for order, _ in wanted})
    return writer.end("F" if given else "I"), given


def _by_specimen(question: Question, find: Find) -> Iterator[Sequence[Order]]:
    if question.specimens:
        yield from (find(specimen) for specimen in question.specimens)
        return
    groups: dict[str, list[Order]] = {}
    for order in find(""):
        groups.setdefault(order.specimens[0] if order.specimens else order.number, []).append(order)
    yield from groups.values()


class _Writer:
    """Writes in the delimiters of the query."""

    def __init__(self, query: Message, node: str, stamp: str) -> None:
        self._marks = query.delimiters
        header = query.records[0]
        declared = self._marks.repeat + self._marks.component + self._marks.escape
        mode = header.get(12, component=1) or "P"
        fields = {
            5: header.get(10, component=1) or node,
            10: header.get(5, component=1),
            12: mode,
            13: header.get(13) or "LIS2-A2",
            14: stamp,
        }
        line = (self._text(fields.get(number, "")) for number in range(3, 15))
        self._lines = [self._marks.field.join(["H" + self._marks.field + declared, *line])]
        self._patient: Patient | None = None
        self._patients = self._orders = 0

    def specimen(self, wanted: Sequence[tuple[Order, str]]) -> None:
        first = wanted[0][0]
        if first.patient != self._patient:
            self._patient, self._orders = first.patient, 0
            self._patients += 1
            self._write_patient(first.patient)
        self._orders += 1
        c = self._marks.component
        tests = self._marks.repeat.join(f"{c}{c}{c}{self._text(code)}" for code in dict.fromkeys(code for _, code in wanted))
        physician = c.join(map(self._text, first.physician.split("^")))
        fields = {2: str(self._orders), 3: self._text(first.specimens[0] if first.specimens else first.number), 5: tests,
                  6: self._text(first.priority or "R"), 7: self._text(first.requested[:14]), 8: self._text(first.collected[:14]), 12: "N",
                  16: self._text(first.specimen_type), 17: physician, 26: "Q"}  # fmt: skip
        self._lines.append("O" + "".join(self._marks.field + fields.get(number, "") for number in range(2, 27)))

    def _write_patient(self, patient: Patient) -> None:
        name = self._marks.component.join(map(self._text, filter(None, (patient.family, patient.given))))
        fields = {
            2: str(self._patients),
            3: self._text(patient.number),
            6: name,
            8: self._text(patient.born[:8]),
            9: self._text(patient.sex),
        }
        self._lines.append("P" + "".join(self._marks.field + fields.get(number, "") for number in range(2, 10)))

    def end(self, code: str) -> str:
        return "".join(f"{line}\r" for line in (*self._lines, self._marks.field.join(("L", "1", code))))

    def _text(self, text: str) -> str:
        return self._marks.escape_text(text)
