"""What is said of an order when its steps are begun and ended: HL7 v2 with ORC-1 SC and ORC-5 (IHE RAD TF-2, RAD-3 order status update,
after the modality's RAD-6 and RAD-7). ORM^O01 of 2.3.1, or OMG^O19 of 2.5.1. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from adapters.dicom.worklist import mpps
from adapters.dicom.worklist.steps import COMPLETED, DISCONTINUED, IN_PROGRESS, ON_HOLD, SCHEDULED, Code, Name, Step, from_json, to_json
from engine.formats.hl7v2.separators import STANDARD

FORMATS: Final = ("ORM^O01", "OMG^O19")
_STATUSES: Final = {IN_PROGRESS: "IP", COMPLETED: "CM", DISCONTINUED: "DC", SCHEDULED: "SC", ON_HOLD: "HD"}
"""ORC-5, table 0038."""
_TYPES: Final = {"ORM^O01": ("ORM^O01", "2.3.1"), "OMG^O19": ("OMG^O19^OMG_O19", "2.5.1")}


def change(step: Step, order_status: str, content: mpps.Content, stamp: str, control_id: str) -> dict[str, Any]:
    """What is kept of a change until it is reported; `stamp` is when, YYYYMMDDHHMMSS."""
    begin, end = mpps.moments(content)
    return {"id": control_id, "at": stamp, "order_status": order_status, "begin": begin, "end": end, "step": to_json(step)}


def message(kept: Mapping[str, Any], kind: str, sender: str, receiver: str) -> bytes:
    """The message of a change; `sender` and `receiver` are ``application|facility``."""
    step = from_json(kept["step"])
    return "".join(f"{one}\r" for one in _segments(step, kept, kind, sender, receiver)).encode()


def _segments(step: Step, kept: Mapping[str, Any], kind: str, sender: str, receiver: str) -> Iterator[str]:
    structure, version = _TYPES[kind]
    yield _segment("MSH", {
        2: "^~\\&", **_pair(3, sender), **_pair(5, receiver), 7: kept["at"], 9: structure, 10: kept["id"], 11: "P", 12: version,
        18: "UNICODE UTF-8",
    })  # fmt: skip
    patient = step.patient
    yield _segment("PID", {
        1: "1", 3: f"{_text(patient.number)}^^^{_text(patient.issuer)}".rstrip("^"), 5: _names(patient.name), 7: patient.born,
        8: patient.sex, 18: _text(patient.admission),
    })  # fmt: skip
    numbers = {2: _number(step.placer), 3: _number(step.filler)}
    yield _segment("ORC", {1: "SC", **numbers, 5: _STATUSES[kept["order_status"]], 9: kept["at"]})
    yield _segment("OBR", {
        1: "1", **numbers, 4: _service(step), 7: kept["begin"], 8: kept["end"], 18: _text(step.accession), 19: _text(step.requested_id),
        20: _text(step.step_id), 22: kept["at"], 24: step.modality, 44: _code(step.requested),
    })  # fmt: skip
    yield _segment("ZDS", {1: f"{step.study_uid}^MERIDIAN^Application^DICOM"})


def _service(step: Step) -> str:
    """OBR-4: the procedure, then the protocol of the step."""
    requested = _code(step.requested) or f"^{_text(step.description)}"
    return f"{requested}^{_code(step.protocols[0])}" if step.protocols else requested


def _code(code: Code) -> str:
    return f"{_text(code.value)}^{_text(code.meaning)}^{_text(code.scheme)}" if code.value else ""


def _number(number: str) -> str:
    """An EI as it came: number and who gave it."""
    return "^".join(map(_text, number.split("^")))


def _names(name: Name) -> str:
    """XPN: each spelling a repetition; more than one with its name representation code (XPN-8)."""
    spellings = [(text, code) for text, code in ((name.alphabetic, "A"), (name.ideographic, "I"), (name.phonetic, "P")) if text]
    return "~".join(_xpn(text, code if len(spellings) > 1 else "") for text, code in spellings)


def _xpn(text: str, code: str) -> str:
    family, given, middle, prefix, suffix = (_text(part) for part in [*text.split("^"), "", "", "", ""][:5])
    return "^".join((family, given, middle, suffix, prefix, "", "L", code)).rstrip("^")


def _pair(first: int, names: str) -> dict[int, str]:
    return {first + offset: _text(name) for offset, name in enumerate(names.split("|")[:2])}


def _segment(name: str, fields: Mapping[int, str]) -> str:
    first = 2 if name == "MSH" else 1
    last = max((number for number, text in fields.items() if text), default=0)
    return "|".join((name, *(fields.get(number, "") for number in range(first, last + 1))))


def _text(text: str) -> str:
    return STANDARD.escape_text(text)
