"""Patient, visit and what a technologist must know of both, from PID, PV1, AL1, OBX (IHE RAD TF-2x appendix B). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from adapters.dicom.worklist import names
from adapters.dicom.worklist.segments import Group, Reading
from adapters.dicom.worklist.steps import Name, Patient
from engine.errors import ValidationError
from engine.formats import hl7v2

_SEXES: Final = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O"}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
_WEIGHTS: Final = frozenset(("29463-7", "3141-9", "BODY WEIGHT", "WEIGHT"))
_HEIGHTS: Final = frozenset(("8302-2", "3137-7", "BODY HEIGHT", "HEIGHT"))
_KILOGRAMS: Final = {"": 1.0, "kg": 1.0, "g": 0.001, "lb": 0.45359237, "[lb_av]": 0.45359237}
_METRES: Final = {"": 0.01, "cm": 0.01, "m": 1.0, "[in_i]": 0.0254, "in": 0.0254}
_PREGNANT: Final = "B6"
"""PV1-15, table 0009."""
DEFINITELY: Final = "3"


MESSAGES: Final = frozenset(("ADT^A08", "ADT^A31", "ADT^A18", "ADT^A40"))
"""Patient updated, patients merged (IHE RAD TF-2, RAD-12)."""


@dataclass(frozen=True, slots=True)
class Update:
    """Whoever has one of `numbers` from `patient.issuer` is now `patient`: number, name, birth date, sex."""

    numbers: tuple[str, ...]
    patient: Patient


def read_update(body: bytes, fallback: str, authority: str) -> Update:
    """What an ADT message says of a patient; the number that is merged away (MRG-1) too. Raises ParseError, ValidationError."""
    reading = Reading(hl7v2.decode(body, fallback=fallback))
    group, _ = reading.groups()
    pid, mrg = group.first("PID"), group.first("MRG")
    number, issuer, name = _identity(reading, pid, authority)
    merged = [one(1) for one in reading.repetitions(mrg, 1) if one(1) and one(4) in ("", issuer)]
    born, sex = _born(reading.part(pid, 7)), _SEXES.get(reading.part(pid, 8).upper(), "")
    return Update((number, *merged), Patient(number, issuer, name, born, sex))


def patient_of(reading: Reading, group: Group, order: Group, authority: str) -> Patient:
    """Raises ValidationError where there is no number or no name: both are of type 1 in PS3.4 table K.6-1."""
    pid, pv1, obr = group.first("PID"), group.first("PV1"), order.first("OBR")
    number, issuer, name = _identity(reading, pid, authority)
    observations = group.all("OBX") + order.all("OBX")
    ambulatory = [one(1) for one in reading.repetitions(pv1, 15)]
    return Patient(
        number,
        issuer,
        name,
        _born(reading.part(pid, 7)),
        _SEXES.get(reading.part(pid, 8).upper(), ""),
        _measured(reading, observations, _WEIGHTS, _KILOGRAMS),
        _measured(reading, observations, _HEIGHTS, _METRES),
        DEFINITELY if _PREGNANT in ambulatory else "",
        text_of(reading.part(obr, 12, 2) or reading.part(obr, 12)),
        tuple(filter(None, (text_of(reading.part(obr, 13)),))),
        _allergies(reading, group),
        text_of(reading.part(pv1, 16)),
        text_of(reading.part(pv1, 19) or reading.part(pid, 18)),
        text_of(reading.whole(pv1, 3)),
        names.provider(reading.repetitions(pv1, 8)),
    )


def text_of(text: str, longest: int = 64) -> str:
    """Text for a human in an LO or SH: one line without a backslash (which would make two values of it), cut where it is too long."""
    return line(text, longest).replace("\\", "/")


def line(text: str, longest: int) -> str:
    return _CONTROL.sub(" ", text).strip()[:longest].rstrip()


def _identity(reading: Reading, pid: list[str], authority: str) -> tuple[str, str, Name]:
    """Number, who gave it, and name."""
    number, issuer = _identifier(reading, pid, authority)
    name = names.person(reading.repetitions(pid, 5))
    if not (name.alphabetic or name.ideographic or name.phonetic):
        raise ValidationError("the patient has no name", location="PID-5", hl7_code="101")
    return number, issuer, name


def _identifier(reading: Reading, pid: list[str], authority: str) -> tuple[str, str]:
    """PID-3 of the wanted assigning authority (PID-3.4), else of the first repetition."""
    found = [(one(1), one(4)) for one in reading.repetitions(pid, 3) if one(1)]
    wanted = [one for one in found if one[1] == authority] if authority else []
    if not found:
        raise ValidationError("the patient has no number", location="PID-3", hl7_code="101")
    number, issuer = (wanted or found)[0]
    if len(number) > 64 or "\\" in number:
        raise ValidationError("the number does not fit into a DICOM LO", location="PID-3", hl7_code="102")
    return number, text_of(issuer)


def _born(text: str) -> str:
    """(0010,0030) is a whole date or nothing."""
    return text[:8] if re.match("[0-9]{8}", text) else ""


def _measured(reading: Reading, observations: list[list[str]], codes: frozenset[str], units: dict[str, float]) -> str:
    """The first numeric OBX of one of these codes or names, in DICOM's unit."""
    for obx in observations:
        unit = reading.part(obx, 6).lower()
        named = {reading.part(obx, 3).upper(), reading.part(obx, 3, 2).upper()} & codes
        if named and unit in units and re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value := reading.part(obx, 5)):
            return f"{float(value) * units[unit]:.4g}"
    return ""


def _allergies(reading: Reading, group: Group) -> tuple[str, ...]:
    """AL1-3 and IAM-3, by their text or code."""
    segments = group.all("AL1") + group.all("IAM")
    return tuple(text for one in segments if (text := text_of(reading.part(one, 3, 2) or reading.part(one, 3))))
