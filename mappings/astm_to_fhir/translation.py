"""From the records of an ASTM message to the segments of an OUL^R22, and for each v2 element where it came from.

Each order record O becomes SPM and OBR, each result R below it an OBX, a comment C a NTE behind what it follows, a patient P a PID.
Orders whose specimen is a control (O-12 = Q, LIS02-A2 clause 8.4.12) go first, before any PID, so that no patient is made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.errors import UnsupportedError, ValidationError
from engine.formats.astm import Message, Record
from mappings.astm_to_fhir.records import Rule, Tables
from mappings.instruments import Instrument
from mappings.oul import NUMBER, Segments
from mappings.tables import Row

_RESULT_STATUS: Final = {"R": "F", "M": "F", "Q": "F", "V": "F", "N": ""}
"""R-9 (LIS02-A2 clause 9.9) where HL7 table 0085 says it with another letter: transmitted before, MIC, answer to a query, verified by an
operator are final; what only gives information for a new order is no status."""
_LOINC_NAMES: Final = frozenset(("LN", "LOINC"))


@dataclass(slots=True)
class Order:
    """An order record with its results and what is noted about both."""

    number: int
    record: Record
    follow: list[tuple[int, Record]] = field(default_factory=list)

    @property
    def is_control(self) -> bool:
        return self.record.get(12, component=1) == "Q"

    @property
    def results(self) -> Iterator[tuple[int, Record]]:
        return ((number, record) for number, record in self.follow if record.type == "R")


@dataclass(slots=True)
class Patient:
    """A patient record, None where orders stand without one, with its comments and orders."""

    number: int = 0
    record: Record | None = None
    notes: list[tuple[int, Record]] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)


class Translation:
    """One message. `segments` are the OUL^R22; `read` are the (record, field) that something was made of."""

    def __init__(self, message: Message, tables: Tables, digest: str) -> None:
        self.header = message.records[0]
        sender = self.header.get(5)
        self.instrument: Instrument = tables.instruments.find(sender, self.header.get(5, component=1))
        self._rules = tables.rules
        self.segments = Segments()
        self.read: set[str] = set()
        patients = _grouped(message)
        if not any(True for patient in patients for order in patient.orders for _ in order.results):
            raise UnsupportedError("there is no result in this message", location="R", hl7_code="200")
        self._header(digest)
        for patient in patients:
            for order in patient.orders:
                if order.is_control:
                    self._order(order)
        for patient in patients:
            orders = [order for order in patient.orders if not order.is_control]
            if patient.record is not None and (orders or not patient.orders):
                self._patient(patient.number, patient.record, patient.notes)
            for order in orders:
                self._order(order)

    # --- segments --------------------------------------------------------------------------------

    def _header(self, digest: str) -> None:
        segments = self.segments
        segments.header("H[1]", self.instrument, "H[1]-5")
        control_id = "-".join(filter(None, (self.header.get(3), digest[:16])))
        segments.put(10, 1, control_id, "H[1]-3" if self.header.get(3) else "H[1]", "the message's control id and digest")
        self._apply("MSH", {"H": (1, self.header)})

    def _patient(self, number: int, record: Record, notes: Sequence[tuple[int, Record]]) -> None:
        self.segments.open("PID", f"P[{number}]")
        self._apply("PID", {"P": (number, record)})
        self._notes(notes)

    def _order(self, order: Order) -> None:
        view = {"O": (order.number, order.record)}
        here = f"O[{order.number}]"
        self.segments.open("SPM", here)
        self._apply("SPM", view)
        if order.is_control:
            self._put("SPM", 11, 1, "Q", f"{here}-12", "action code Q: a control")
            self._put("SPM", 11, 3, "HL70369", f"{here}-12", "action code Q: a control")
        self.segments.open("OBR", here)
        self._services(order)
        self._report_status(order)
        self._apply("OBR", view)
        notes: list[tuple[int, Record]] = []
        for number, record in order.follow:
            if record.type == "C":
                notes.append((number, record))
                continue
            self._notes(notes)
            notes = []
            self._result(number, record, order)
        self._notes(notes)

    def _result(self, number: int, record: Record, order: Order) -> None:
        here = f"R[{number}]"
        self.segments.open("OBX", here)
        test = self._test(record, 3, 1, "OBX", 3, here)
        self._value(record, here)
        unit = record.get(5, component=1) or record.get(5)
        if test is not None and test["unit"]:
            self._put("OBX", 6, 1, test["unit"], f"{here}-3", _row_name(self.instrument, test))
            self._put("OBX", 6, 2, unit or test["unit"], f"{here}-5" if unit else f"{here}-3", "R-5")
            self._put("OBX", 6, 3, "UCUM", f"{here}-3", _row_name(self.instrument, test))
        elif unit:
            self._put("OBX", 6, 1, unit, f"{here}-5", "R-5")
        self._range(record, here)
        status = record.get(9, component=1)
        if meant := _RESULT_STATUS.get(status, status):
            self._put("OBX", 11, 1, meant, f"{here}-9", "R-9")
        if not order.record.get(8, component=1):  # nobody says when the specimen was taken
            for source in (13, 12):
                if at := record.get(source, component=1):
                    self._put("OBX", 14, 1, at, f"{here}-{source}", f"R-{source}")
                    break
        self._apply("OBX", {"R": (number, record), "H": (1, self.header)})

    def _notes(self, notes: Sequence[tuple[int, Record]]) -> None:
        for number, record in notes:
            here = f"C[{number}]"
            text = " ".join(word for word in (record.get(4, repeat, part) for repeat, part in _parts(record, 4)) if word)
            self.segments.open("NTE", here)
            self._put("NTE", 3, 1, text, f"{here}-4", "C-4")
            self._apply("NTE", {"C": (number, record)})

    # --- what needs more than a row ---------------------------------------------------------------

    def _test(self, record: Record, number: int, repeat: int, segment: str, into: int, here: str) -> Row | None:
        """A universal test id (LIS02-A2 clause 5.6.1) as CWE: LOINC first, the instrument's own code beside it."""
        source = f"{here}-{number}"
        universal, name, kind, own, own_name = (record.get(number, repeat, component) for component in range(1, 6))
        system = f"99{self.instrument.name or self.header.get(5, component=1) or 'L'}"
        codes = [code for code in (own, universal, name, record.get(number, repeat)) if code]
        test = self.instrument.test(codes)
        local = own or universal or name
        said = own_name if own else name
        at = 1
        if test is not None:
            row = _row_name(self.instrument, test)
            for component, text in ((1, test["to"]), (2, test["display"]), (3, "LN")):
                self._put(segment, into, component, text, source, row)
            at = 4
        elif universal and kind.upper() in _LOINC_NAMES:
            for component, text in ((1, universal), (2, name), (3, "LN")):
                self._put(segment, into, component, text, source, f"{record.type}-{number}")
            local, at = own, 4
        if local:
            for component, text in ((at, local), (at + 1, said), (at + 2, system)):
                self._put(segment, into, component, text, source, f"{record.type}-{number}")
        return test

    def _services(self, order: Order) -> None:
        """O-5: one test, or several, which are one report named after all of them."""
        here, count = f"O[{order.number}]", order.record.repeats(5)
        if count == 1:
            self._test(order.record, 5, 1, "OBR", 4, here)
            return
        words = [order.record.get(5, repeat, 4) or order.record.get(5, repeat).strip("^") for repeat in range(1, count + 1)]
        if any(words):
            self._put("OBR", 4, 2, ", ".join(word for word in words if word), f"{here}-5", "O-5")

    def _report_status(self, order: Order) -> None:
        """O-26; of an order that says none, or only that it answers a query, what its results say."""
        said = order.record.get(26, component=1)
        if order.record.get(12, component=1) == "C":
            self._put("OBR", 25, 1, "X", f"O[{order.number}]-12", "action code C: cancelled")
        elif said and said != "Q":
            self._put("OBR", 25, 1, said, f"O[{order.number}]-26", "O-26")
        else:
            statuses = [
                (number, _RESULT_STATUS.get(status, status)) for number, one in order.results if (status := one.get(9, component=1))
            ]
            for wanted in ("I", "P", "C", "F"):
                for number, status in statuses:
                    if status == wanted:
                        self._put("OBR", 25, 1, wanted, f"R[{number}]-9", "R-9")
                        return

    def _value(self, record: Record, here: str) -> None:
        """R-4: a number, else text. A value of several components (``POS^12.3``) stays one text, as it was sent."""
        words = [record.get(4, repeat, part) for repeat, part in _parts(record, 4)]
        valued = [word for word in words if word.strip()]
        text = valued[0] if len(valued) == 1 else record.get(4)
        if not valued:
            return
        self._put("OBX", 2, 1, "NM" if NUMBER.fullmatch(text) else "ST", f"{here}-4", "R-4")
        self._put("OBX", 5, 1, text, f"{here}-4", "R-4")

    def _range(self, record: Record, here: str) -> None:
        """R-6: ``low^high`` or text; of several ranges the first has the limits and all are told."""
        low, high = record.get(6, 1, 1), record.get(6, 1, 2)
        both = bool(NUMBER.fullmatch(low) and NUMBER.fullmatch(high))
        text = f"{low}-{high}" if both and record.repeats(6) == 1 else record.fields[5] if len(record.fields) > 5 else ""
        if text:
            self._put("OBX", 7, 1, text, f"{here}-6", "R-6")

    # --- rows ------------------------------------------------------------------------------------

    def _apply(self, segment: str, view: dict[str, tuple[int, Record]]) -> None:
        for rule in self._rules:
            if rule.segment != segment or rule.record not in view:
                continue
            number, record = view[rule.record]
            source = f"{rule.record}[{number}]-{rule.source_field}"
            label = f"records row {rule.row['id']}" + (" (site)" if rule.row.site else "")
            for component, text, repeat in _texts(rule, record):
                if text:
                    self._put(segment, rule.field, component, text, source, label, repeat=repeat)
                    if rule.map.startswith("id:"):
                        self._put(segment, rule.field, 4, self.instrument.authority if rule.map == "id:MR" else "", source, label)
                        self._put(segment, rule.field, 5, rule.map[3:], source, label)

    def _put(self, segment: str, number: int, component: int, text: str, source: str, rule: str, *, repeat: bool = False) -> None:
        if text:
            self.read.add(source)
            self.segments.put(number, component, text, source, rule, repeat=repeat)


def _texts(rule: Rule, record: Record) -> Iterator[tuple[int, str, bool]]:
    """(component, text, whether it begins another repetition) that a rule takes from a record."""
    number = rule.source_field
    if rule.map == "components":
        yield from ((part, record.get(number, 1, part), False) for repeat, part in _parts(record, number) if repeat == 1)
    elif rule.map == "repeats":
        yield from ((1, record.get(number, repeat, 1), True) for repeat in range(1, record.repeats(number) + 1))
    elif rule.map == "people":
        yield from ((1, record.get(number, repeat, part), True) for repeat, part in _parts(record, number))
    else:
        yield rule.component or 1, record.get(number, 1, rule.source_component), rule.map.startswith("id:")


def _parts(record: Record, number: int) -> Iterator[tuple[int, int]]:
    """(repetition, component) of all there are in a field."""
    for repeat in range(1, record.repeats(number) + 1):
        for part in range(1, record.components(number, repeat) + 1):
            yield repeat, part


def _row_name(instrument: Instrument, test: Row) -> str:
    return f"tests/{instrument.name}.csv row {test['code']} (site)"


def _grouped(message: Message) -> list[Patient]:
    """Patients, their orders, and what belongs to these (LIS02-A2 clause 5.2: a record belongs to the last of the next higher level)."""
    counted: dict[str, int] = {}
    patients: list[Patient] = []
    for record in message.records:
        number = counted[record.type] = counted.get(record.type, 0) + 1
        if record.type == "P":
            patients.append(Patient(number, record))
        elif record.type == "O":
            if not patients:
                patients.append(Patient())
            patients[-1].orders.append(Order(number, record))
        elif record.type == "R":
            if not patients or not patients[-1].orders:
                raise ValidationError("a result without an order record before it", location=f"R[{number}]", hl7_code="100")
            patients[-1].orders[-1].follow.append((number, record))
        elif record.type == "C" and patients:
            place = patients[-1].orders[-1].follow if patients[-1].orders else patients[-1].notes
            place.append((number, record))
    return patients
