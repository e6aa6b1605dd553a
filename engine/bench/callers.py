"""A vendor's platforms under load, a process of its own: ``python -m engine.bench.callers '{"port": 8088, "connections": 10}'``.

As engine.bench.generator, with calls of HIPMessageServer (WS/T 846) over HTTP connections that stay open: persons and orders for the
laboratory by turns, 4 to 8 KB each, wrapped in SOAP 1.2. With `certs` each is signed (WS-Security, X.509), before the clock starts.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from engine.bench.corpus import PATIENTS, control_id
from engine.bench.generator import Load
from engine.bench.http_load import HttpLoad
from engine.demo.interactions import Inpatient, message
from engine.demo.morning import DAY, OPENING

SIGNED_PER_SECOND: Final = 800
"""How many messages are signed beforehand for each second of the load: more than a node verifies."""
_SERVICES: Final = ("PatientInfoRegister", "ExamAppInfoAdd")
_AT: Final = datetime.combine(DAY, OPENING)
_MARK: Final = "#" * 12
_ENVELOPE: Final = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body><h:HIPMessageServer xmlns:h="urn:hl7-org:v3">'
    "<h:action>{}</h:action><h:message>{}</h:message></h:HIPMessageServer></s:Body></s:Envelope>"
)
_HEAD: Final = b"POST /hip HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/soap+xml; charset=utf-8\r\nContent-Length: %d\r\n\r\n"


@dataclass(frozen=True, slots=True)
class CallLoad(Load):
    """`certs` is a folder with node.pem and node.key to sign with, "" to sign nothing."""

    certs: str = ""


def envelope(number: int) -> str:
    """A call, with a mark where its control id goes."""
    patient = number % PATIENTS
    somebody = Inpatient(
        record_number=f"B{patient:07d}",
        identity="",
        name=f"测试{patient:04d}",
        sex="F",
        born="19700101",
        phone=f"000{patient:08d}",
        visit=f"V{patient:07d}",
        number=f"ZY{patient:07d}",
        diagnosis=("J18.9", "肺炎"),
        admitted=_AT,
    )
    service = _SERVICES[number % len(_SERVICES)]
    return _ENVELOPE.format(service, escape(message(service, _MARK, somebody, _AT, placer=f"P{patient:07d}")))


class Calls:
    """HTTP requests with unique control ids: what stands around the control id is made once."""

    def __init__(self) -> None:
        self._parts = [tuple(envelope(number).encode().split(_MARK.encode(), 1)) for number in range(PATIENTS)]

    def envelope(self, number: int) -> bytes:
        head, tail = self._parts[number % PATIENTS]
        return b"%b%b%b" % (head, control_id(number), tail)

    def request(self, number: int) -> bytes:
        body = self.envelope(number)
        return _HEAD % len(body) + body


class SignedCalls(Calls):
    """Signed when they are made: each is told apart by its signature."""

    def __init__(self, certs: Path, numbers: range) -> None:
        super().__init__()
        secure = _signer(certs)
        self._requests = {number: self._signed(number, secure) for number in numbers}

    def _signed(self, number: int, secure: Callable[[Any], Any]) -> bytes:
        from lxml import etree

        root = etree.fromstring(self.envelope(number))
        secure(root)
        body: bytes = etree.tostring(root)
        return _HEAD % len(body) + body

    def request(self, number: int) -> bytes:
        return self._requests.pop(number)


def _signer(certs: Path) -> Callable[[Any], Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from adapters.soap.security.outgoing import Outgoing, Signer

    certificate = x509.load_pem_x509_certificate((certs / "node.pem").read_bytes())
    key = load_pem_private_key((certs / "node.key").read_bytes(), None)
    signer = Signer(certificate, key)  # type: ignore[arg-type]  # a key that the authority has made
    return Outgoing(lambda: int(time.time() * 1e6), lambda: str(uuid.uuid4()), os.urandom, lambda: signer).secure


def run(load: CallLoad) -> dict[str, Any]:
    """One run of a load. Raises OSError where nobody listens."""
    last = load.first + load.messages
    calls = Calls()
    if load.certs:
        last = min(last, load.first + int(load.seconds * SIGNED_PER_SECOND) + load.connections)
        calls = SignedCalls(Path(load.certs), range(load.first, last))
    return HttpLoad(load, last, calls.request, lambda answer, number: is_positive(answer, control_id(number))).run()


def is_positive(answer: bytes, expected: bytes) -> bool:
    """Whether MCCI_IN000002UV01 says AA of just this control id."""
    return answer.startswith(b"HTTP/1.1 200") and b'typeCode="AA"' in answer and b'extension="%b"' % expected in answer


if __name__ == "__main__":
    print(json.dumps(run(CallLoad(**json.loads(sys.argv[1])))), flush=True)
