"""Messages of the hospital platform (WS/T 846-2024) and a clinical document (WS/T 500), as a vendor's platform writes them.

A foreign hand, as everything of the demo: it shares no line with adapters.soap, engine.formats.hip or a schema. The texts are in messages/.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from string import Template
from typing import Final
from xml.sax.saxutils import escape

VENDOR: Final = "HIP-COUNTY"
"""Its device id, as messages say it."""
ROOTS: Final = {
    "PatientInfoRegister": "PRPA_IN201311UV02",
    "InPatientInfoAdd": "PRPA_IN400001UV",
    "ExamAppInfoAdd": "POOR_IN200901UV",
    "DocumentRegister": "RCMR_IN000002UV02",
}
"""Services and the roots of their messages."""


@dataclass(frozen=True, slots=True)
class Inpatient:
    """Somebody who was admitted, as the platform knows him. `sex` is M or F; `born` YYYYMMDD; `number` the inpatient number."""

    record_number: str
    identity: str
    name: str
    sex: str
    born: str
    phone: str
    visit: str
    number: str
    diagnosis: tuple[str, str]
    admitted: datetime


def message(service: str, control_id: str, somebody: Inpatient, at: datetime, **more: str) -> str:
    """A message of one of ROOTS' services; `more` are `placer` for an order, `document_id` and `document` for a document."""
    words = {**_words(somebody, at), **more}
    whole = {"root": ROOTS[service], "control_id": control_id, "sender": VENDOR, "at": _stamp(at)}
    return _text("message").substitute(whole, content=_text(service).substitute(words))


def report(somebody: Inpatient, document_id: str, at: datetime, placer: str, glucose: str) -> bytes:
    """A laboratory report (C0007)."""
    words = {**_words(somebody, at), "document_id": document_id, "placer": placer, "glucose": glucose}
    return _text("C0007").substitute(words).encode()


def encoded(document: bytes) -> str:
    """A document as a message holds it."""
    return base64.b64encode(document).decode("ascii")


@cache
def _text(name: str) -> Template:
    return Template((Path(__file__).parent / "messages" / f"{name}.xml").read_text("utf-8"))


def _words(somebody: Inpatient, at: datetime) -> dict[str, str]:
    gender, gender_name = ("1", "男性") if somebody.sex == "M" else ("2", "女性")
    words = {
        "record_number": somebody.record_number,
        "identity": somebody.identity,
        "name": somebody.name,
        "family": somebody.name[0],
        "gender": gender,
        "gender_name": gender_name,
        "born": somebody.born,
        "age": str(at.year - int(somebody.born[:4])),
        "phone": somebody.phone,
        "house": somebody.record_number[-3:],
        "visit": somebody.visit,
        "number": somebody.number,
        "diagnosis_code": somebody.diagnosis[0],
        "diagnosis_name": somebody.diagnosis[1],
        "admitted": f"{somebody.admitted:%Y%m%d}",
        "at": _stamp(at),
        "day": f"{at:%Y%m%d}",
    }
    return {name: escape(text, {'"': "&quot;"}) for name, text in words.items()}


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y%m%d%H%M%S}"
