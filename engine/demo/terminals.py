"""A fleet of terminals that nurses take along on home visits: FHIR over mutual TLS. As everything of the demo it shares no line with the
adapters; this is the standard library's HTTP client.

Some are online, and one of them shows a token besides its certificate. One was offline for days: it uploads what it has gathered, is cut
off in the middle, and uploads all of it again. One has been stolen, so its certificate is revoked. One reports of a patient who is not its own.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import ssl
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP384R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from engine.demo.interactions import Inpatient
from engine.demo.morning import ACCEPTED, BROKEN, DAY, DUPLICATE, OPENING, Item
from engine.demo.simulator import Answer
from engine.errors import MeridianError

CHANNEL: Final = "terminals"
IDENTITY_CARD: Final = "urn:oid:2.16.156.10011.1.3"
"""Resident identity card numbers (GB 11643)."""
ONLINE: Final = ("terminal-01", "terminal-02")
WITH_TOKEN: Final = "terminal-03"  # noqa: S105  # its name
OFFLINE: Final = "terminal-04"
LYING: Final = "terminal-05"
STOLEN: Final = "terminal-06"
TERMINALS: Final = (*ONLINE, WITH_TOKEN, OFFLINE, LYING, STOLEN)
_ZONE: Final = ZoneInfo("Asia/Shanghai")
_NDJSON: Final = "application/fhir+ndjson"
_RESULT: Final = "urn:meridian:fhir:upload:result"
_SEQUENCE: Final = "urn:meridian:fhir:upload:sequence"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_VITALS: Final = (
    ("8867-4", "Heart rate", "/min", 58, 96),
    ("29463-7", "Body weight", "kg", 48, 92),
    ("8310-5", "Body temperature", "Cel", 36, 38),
    ("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", "%", 93, 100),
)
"""LOINC, its display, UCUM, from, to."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What one terminal does: its patients, and the items it sends, in their order."""

    terminal: str
    patients: tuple[Inpatient, ...]
    items: tuple[Item, ...]


def visits(people: Sequence[Inpatient], seed: int) -> list[Visit]:
    """Each terminal with two patients of its own, of `people`, who have been discharged since."""
    chance = random.Random(seed)  # noqa: S311  # a story, not a secret
    made = []
    for number, terminal in enumerate(TERMINALS):
        own = (people[number % len(people)], people[(number + 1) % len(people)])
        other = people[(number + 2) % len(people)]
        made.append(Visit(terminal, own, tuple(_story(terminal, own, other, chance))))
    return made


def _story(terminal: str, own: Sequence[Inpatient], other: Inpatient, chance: random.Random) -> Iterator[Item]:
    if terminal == STOLEN:
        yield _item(terminal, own[0], 1, BROKEN, "a terminal whose certificate is revoked", chance)
        return
    count = 12 if terminal == OFFLINE else 4
    for number in range(1, count + 1):
        yield _item(terminal, own[number % 2], number, ACCEPTED, "vital signs", chance)
    if terminal == LYING:
        yield _item(terminal, other, count + 1, BROKEN, "vital signs of a patient who is not the terminal's", chance)


def _item(terminal: str, somebody: Inpatient, number: int, expect: str, note: str, chance: random.Random) -> Item:
    seconds = 3600.0 + 600 * number
    control_id = f"{terminal.upper()}-{DAY:%y%m%d}-{number:03d}"
    at = datetime.combine(DAY, OPENING, _ZONE) + timedelta(seconds=seconds)
    body = json.dumps(_bundle(somebody, control_id, at, chance), ensure_ascii=False).encode()
    return Item(seconds, body, "Bundle transaction", note, expect, terminal, control_id)


def _bundle(somebody: Inpatient, control_id: str, at: datetime, chance: random.Random) -> dict[str, Any]:
    """A transaction: the patient where the platform does not know him yet, and one measurement."""
    loinc, display, unit, low, high = chance.choice(_VITALS)
    patient, observation = (f"urn:uuid:{uuid.UUID(int=chance.getrandbits(128), version=4)}" for _ in "po")
    category = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}
    measured = {
        "resourceType": "Observation",
        "identifier": [{"system": "urn:meridian:demo:measurement", "value": control_id}],
        "status": "final",
        "category": [{"coding": [category]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": loinc, "display": display}]},
        "subject": {"reference": patient},
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": {"value": chance.randint(low, high), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
    }
    create = {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier={IDENTITY_CARD}|{somebody.identity}"}
    return {
        "resourceType": "Bundle",
        "identifier": {"system": "urn:meridian:demo:bundle", "value": control_id},
        "type": "transaction",
        "entry": [
            {"fullUrl": patient, "resource": _patient(somebody), "request": create},
            {"fullUrl": observation, "resource": measured, "request": {"method": "POST", "url": "Observation"}},
        ],
    }


def _patient(somebody: Inpatient) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": IDENTITY_CARD, "value": somebody.identity}],
        "name": [{"text": somebody.name}],
        "gender": {"M": "male", "F": "female"}.get(somebody.sex, "unknown"),
        "birthDate": f"{somebody.born[:4]}-{somebody.born[4:6]}-{somebody.born[6:8]}",
    }
