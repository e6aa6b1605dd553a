"""A fleet of terminals that nurses take along on home visits: FHIR over mutual TLS. As everything of the demo it shares no line with the
adapters; this is the standard library's HTTP client.

Some are online, and one of them shows a token besides its certificate. One was offline for days: it uploads what it has gathered, is cut
off in the middle, and uploads all of it again. One has been stolen, so its certificate is revoked. One reports of a patient who is not
its own.
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
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from engine.demo.interactions import Inpatient
from engine.demo.morning import ACCEPTED, BROKEN, DAY, OPENING, Item
from engine.demo.simulator import Answer
from engine.demo.writing import FACILITY
from engine.errors import MeridianError

CHANNEL: Final = "terminals"
RECORDS: Final = f"urn:meridian:ns:{FACILITY}"
"""The hospital's record numbers, by which it has told the terminals of their patients."""
ONLINE: Final = ("terminal-01", "terminal-02")
WITH_TOKEN: Final = "terminal-03"  # noqa: S105  # its name
OFFLINE: Final = "terminal-04"
LYING: Final = "terminal-05"
STOLEN: Final = "terminal-06"
TERMINALS: Final = (*ONLINE, WITH_TOKEN, OFFLINE, LYING, STOLEN)
KEY: Final = "assertion.key"
KEY_ID: Final = "assertion.kid"
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
    create = {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier={RECORDS}|{somebody.record_number}"}
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
        "identifier": [{"system": RECORDS, "value": somebody.record_number}],
        "name": [{"text": somebody.name}],
        "gender": {"M": "male", "F": "female"}.get(somebody.sex, "unknown"),
        "birthDate": f"{somebody.born[:4]}-{somebody.born[4:6]}-{somebody.born[6:8]}",
    }


class Fleet:
    """Sends, one terminal after the other, in a thread. `answers` grows while it runs; `folder` holds a folder of certificates for each."""

    def __init__(self, made: Sequence[Visit], port: int, folder: Path) -> None:
        self._visits, self._port, self._folder = made, port, folder
        self.answers: list[Answer] = []

    @property
    def items(self) -> list[Item]:
        return [item for visit in self._visits for item in visit.items]

    def run(self) -> None:
        """Raises MeridianError where a terminal cannot do its work."""
        for visit in self._visits:
            terminal = Terminal(visit.terminal, self._port, self._folder / visit.terminal)
            send = self._upload if visit.terminal == OFFLINE else self._post
            self.answers += send(terminal, visit.items)

    def _post(self, terminal: Terminal, items: Sequence[Item]) -> Iterator[Answer]:
        token = terminal.token() if terminal.name == WITH_TOKEN else ""
        for item in items:
            began = time.monotonic()
            yield Answer(item, terminal.post(item, token), time.monotonic() - began, 1)

    @staticmethod
    def _upload(terminal: Terminal, items: Sequence[Item]) -> Iterator[Answer]:
        """The connection breaks in the middle of it; then all of it again."""
        terminal.break_off(items)
        began = time.monotonic()
        results = terminal.upload(items)
        for number, item in enumerate(items, 1):
            yield Answer(item, results.get(number, ""), time.monotonic() - began, 2)


class Terminal:
    """One of them, with its certificate."""

    def __init__(self, name: str, port: int, certs: Path) -> None:
        self.name, self._port, self._certs = name, port, certs
        self._tls = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        self._tls.load_cert_chain(certs / "node.pem", certs / "node.key")

    def post(self, item: Item, token: str) -> str:
        """The status that a Bundle hears; "refused" where the connection is."""
        headers = {"Content-Type": "application/fhir+json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            return str(self._ask("/fhir", item.body, headers)[0])
        except OSError:
            return "refused"

    def token(self) -> str:
        """An access token for an assertion of its own (RFC 7523, SMART backend services)."""
        address = f"https://localhost:{self._port}/fhir/token"
        now = int(time.time())
        claims = {"iss": self.name, "sub": self.name, "aud": address, "jti": str(uuid.uuid4()), "exp": now + 120, "iat": now}
        form = {
            "grant_type": "client_credentials",
            "scope": "system/*.c",
            "client_assertion_type": _ASSERTION,
            "client_assertion": _signed(claims, self._certs),
        }
        status, body = self._ask("/fhir/token", urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"})
        if status != 200:
            raise MeridianError(f"{self.name} gets no token: {status}")
        return str(json.loads(body)["access_token"])

    def upload(self, items: Sequence[Item]) -> dict[int, str]:
        """What became of each line, by its number."""
        lines = b"\n".join(item.body for item in items) + b"\n"
        _, body = self._ask(self._where(), lines, {"Content-Type": _NDJSON})
        found = [{one["url"]: one for one in json.loads(line)["extension"]} for line in body.splitlines()]
        return {int(one[_SEQUENCE]["valueDecimal"]): one[_RESULT]["valueCode"] for one in found if _SEQUENCE in one}

    def break_off(self, items: Sequence[Item]) -> None:
        """Half of what the upload has announced, and then nothing more."""
        lines = b"\n".join(item.body for item in items) + b"\n"
        connection = self._connection()
        connection.putrequest("POST", self._where())
        connection.putheader("Content-Type", _NDJSON)
        connection.putheader("Content-Length", str(len(lines)))
        connection.endheaders()
        connection.send(lines[: len(lines) // 2])
        connection.close()

    def _where(self) -> str:
        return f"/fhir/$upload?device={self.name}&first=1"

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self._port, context=self._tls, timeout=60)

    def _ask(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def make_key(folder: Path) -> bytes:
    """A new key for assertions, which stays in `folder`; gives the public half as PEM. `KEY_ID` of it is set when it is registered."""
    key = generate_private_key(SECP384R1())
    (folder / KEY).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _signed(claims: dict[str, Any], folder: Path) -> str:
    """JWS compact serialization with ES384 (RFC 7515, RFC 7518 clause 3.4)."""
    key = load_pem_private_key((folder / KEY).read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    header = {"alg": "ES384", "typ": "JWT", "kid": (folder / KEY_ID).read_text()}
    signed = ".".join(_segment(json.dumps(part).encode()) for part in (header, claims))
    r, s = decode_dss_signature(key.sign(signed.encode(), ECDSA(hashes.SHA384())))
    return f"{signed}.{_segment(r.to_bytes(48, 'big') + s.to_bytes(48, 'big'))}"


def _segment(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
