"""Terminals under load, a process of its own: ``python -m engine.bench.terminals '{"port": 8088, "connections": 1000}'``.

As engine.bench.generator, with FHIR creates of one Observation of 1 KB over HTTP connections that stay open, each with one request under
way; with `certs` over mutual TLS, whose handshakes are over before the clock starts.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.bench.corpus import PATIENTS, control_id
from engine.bench.generator import Load
from engine.bench.http_load import HttpLoad

_HEAD: Final = b"POST /fhir/Observation HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\n\r\n"
_GOOD: Final = (b"HTTP/1.1 200", b"HTTP/1.1 201", b"HTTP/1.1 202")
_VITALS: Final = (("8480-6", "Systolic blood pressure", "mm[Hg]", 118), ("8462-4", "Diastolic blood pressure", "mm[Hg]", 76))


@dataclass(frozen=True, slots=True)
class TerminalLoad(Load):
    """`certs` is a folder with node.pem, node.key and ca.pem, "" to speak in the clear."""

    certs: str = ""


def observation(number: int) -> bytes:
    """A blood pressure, as a nurse's terminal writes it: about 1 KB."""
    patient = number % PATIENTS
    parts = [
        {
            "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": text}]},
            "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        }
        for code, text, unit, value in _VITALS
    ]
    made = {
        "resourceType": "Observation",
        "identifier": [{"system": "urn:meridian:bench", "value": control_id(number).decode()}],
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel"}]},
        "subject": {"identifier": {"system": "urn:oid:1.2.156.1", "value": f"B{patient:07d}"}},
        "effectiveDateTime": "2026-11-23T08:15:00+08:00",
        "performer": [{"identifier": {"system": "urn:oid:1.2.156.2", "value": f"N{number % 97:04d}"}}],
        "component": parts,
    }
    return json.dumps(made, separators=(",", ":")).encode()


def run(load: TerminalLoad) -> dict[str, Any]:
    """One run of a load. Raises OSError where nobody listens."""
    return HttpLoad(load, load.first + load.messages, request, lambda answer, _: answer.startswith(_GOOD), _secure(load.certs)).run()


def request(number: int) -> bytes:
    body = observation(number)
    return _HEAD % len(body) + body


def _secure(certs: str) -> Callable[[socket.socket], socket.socket]:
    if not certs:
        return lambda plain: plain
    context = ssl.create_default_context(cafile=str(Path(certs) / "ca.pem"))
    context.load_cert_chain(Path(certs) / "node.pem", Path(certs) / "node.key")
    return lambda plain: context.wrap_socket(plain, server_hostname="localhost")


if __name__ == "__main__":
    print(json.dumps(run(TerminalLoad(**json.loads(sys.argv[1])))), flush=True)
