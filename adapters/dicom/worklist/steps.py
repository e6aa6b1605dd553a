"""A scheduled procedure step as the worklist keeps it: what PS3.4 table K.6-1 asks of it, as text.

Dates are YYYYMMDD, times HHMMSS, names in the three groups of a PN (PS3.5 clause 6.2.1.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

SCHEDULED: Final = "SCHEDULED"
ON_HOLD: Final = "ON HOLD"
IN_PROGRESS: Final = "IN PROGRESS"
COMPLETED: Final = "COMPLETED"
DISCONTINUED: Final = "DISCONTINUED"
CANCELLED: Final = "CANCELLED"
OPEN: Final = (SCHEDULED, IN_PROGRESS)
"""A step in one of these is on the worklist."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded entry (PS3.3 table 8.8-1): (0008,0100), (0008,0102), (0008,0104)."""

    value: str = ""
    scheme: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """The component groups of a PN; each with its components separated by ^."""

    alphabetic: str = ""
    ideographic: str = ""
    phonetic: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """`pregnancy` as (0010,21C0) has it, "" where nothing is said; `weight` in kg, `size` in m."""

    number: str = ""
    issuer: str = ""
    name: Name = field(default_factory=Name)
    born: str = ""
    sex: str = ""
    weight: str = ""
    size: str = ""
    pregnancy: str = ""
    state: str = ""
    alerts: tuple[str, ...] = ()
    allergies: tuple[str, ...] = ()
    confidentiality: str = ""
    admission: str = ""
    location: str = ""
    referring: Name = field(default_factory=Name)


@dataclass(frozen=True, slots=True)
class Step:
    """`order`, `procedure` and `position` say which step it is when a later message speaks of it (adapters.dicom.worklist.orders).
    `stations` are AE titles; none = whichever asks. `priority` is of (0040,1003)."""

    order: str
    procedure: str
    position: str
    placer: str = ""
    filler: str = ""
    accession: str = ""
    requested_id: str = ""
    step_id: str = ""
    study_uid: str = ""
    requested: Code = field(default_factory=Code)
    description: str = ""
    protocols: tuple[Code, ...] = ()
    step_description: str = ""
    modality: str = ""
    stations: tuple[str, ...] = ()
    station_name: str = ""
    location: str = ""
    date: str = ""
    time: str = ""
    performer: Name = field(default_factory=Name)
    requesting: Name = field(default_factory=Name)
    service: str = ""
    priority: str = ""
    transport: str = ""
    reason: str = ""
    comments: str = ""
    patient: Patient = field(default_factory=Patient)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.order, self.procedure, self.position


def to_json(step: Step) -> dict[str, Any]:
    return asdict(step)


def from_json(content: Mapping[str, Any]) -> Step:
    """What `to_json` gave."""
    patient = dict(content["patient"])
    for name in ("name", "referring"):
        patient[name] = Name(**patient[name])
    for name in ("alerts", "allergies"):
        patient[name] = tuple(patient[name])
    made = {
        "requested": Code(**content["requested"]),
        "protocols": tuple(Code(**one) for one in content["protocols"]),
        "stations": tuple(content["stations"]),
        "performer": Name(**content["performer"]),
        "requesting": Name(**content["requesting"]),
        "patient": Patient(**patient),
    }
    return Step(**{**content, **made})
