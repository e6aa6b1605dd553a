"""A vendor's platform that calls HIPMessageServer (WS/T 846) over mutual TLS, built on zeep: it knows the endpoint by its ?wsdl only.

It tells of some of the morning's inpatients what the hospital's HL7 v2 messages tell too, and registers their laboratory reports.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from engine.demo import interactions
from engine.demo.interactions import Inpatient
from engine.demo.morning import ACCEPTED, BROKEN, DAY, DUPLICATE, OPENING, Item
from engine.demo.simulator import Answer
from engine.demo.writing import HIS

NAME: Final = "county-vendor"
_MOST: Final = 4
"""How many of the morning's inpatients this platform has to do with."""
_HL7: Final = "urn:hl7-org:v3"
_DELAY: Final = 300.0


def inpatients(items: Sequence[Item]) -> list[Inpatient]:
    """Who the morning's admissions are about, from the words of the hospital information system."""
    found: list[Inpatient] = []
    for item in items:
        if item.kind == "ADT^A01" and item.system == HIS.name and len(found) < _MOST:
            lines = {line.split("|")[0]: line.split("|") for line in item.body.decode(HIS.codec).split("\r") if line}
            found.append(_inpatient(lines, datetime.combine(DAY, OPENING) + timedelta(seconds=item.at_seconds)))
    return found


def _inpatient(lines: dict[str, list[str]], admitted: datetime) -> Inpatient:
    pid, visit = lines["PID"], lines["PV1"][19].split("^")[0]
    local, national = (number.split("^")[0] for number in pid[3].split("~")[:2])
    diagnosis = lines["DG1"][3].split("^") if "DG1" in lines else ["Z00.0", "一般检查"]
    family, given = pid[5].split("^")[:2]
    phone = pid[13].split("^")[0]
    return Inpatient(
        local, national, family + given, pid[8], pid[7], phone, visit, f"ZY{visit[1:]}", (diagnosis[0], diagnosis[1]), admitted
    )


def calls(people: Sequence[Inpatient], seed: int) -> list[tuple[str, Item]]:
    """(action, message), in the order in which they are sent: person, encounter, order, document of each; and what goes wrong."""
    chance = random.Random(seed)  # noqa: S311  # a story, not a secret
    made = [call for number, one in enumerate(people, 1) for call in _story(one, number, chance)]
    if len(people) < 2:
        return made
    action, first = made[0]
    again = Item(first.at_seconds, first.body, first.kind, "the same person again", DUPLICATE, NAME, first.control_id)
    half = first.body[: len(first.body) * 2 // 3]
    cut = Item(first.at_seconds, half, "", "a message that was cut off", BROKEN, NAME)
    return [*made, (action, again), (action, cut), _mistaken(people[0], people[1], chance)]


def _story(somebody: Inpatient, number: int, chance: random.Random) -> Iterator[tuple[str, Item]]:
    at, placer = somebody.admitted + timedelta(seconds=_DELAY), f"Z{DAY:%y%m%d}{number:04d}"
    document_id, glucose = _unique(chance).replace("-", ""), f"{chance.uniform(3.9, 11):.1f}"
    document = interactions.encoded(interactions.report(somebody, document_id, at, placer, glucose))
    for service in interactions.ROOTS:
        more = {"placer": placer, "document_id": document_id, "document": document}
        yield service, _item(service, somebody, at, _unique(chance), ACCEPTED, more)


def _mistaken(somebody: Inpatient, other: Inpatient, chance: random.Random) -> tuple[str, Item]:
    """A document of `other` that is registered for `somebody`."""
    at, document_id = somebody.admitted + timedelta(seconds=2 * _DELAY), _unique(chance).replace("-", "")
    document = interactions.encoded(interactions.report(other, document_id, at, "Z0", "5.1"))
    more = {"document_id": document_id, "document": document}
    return "DocumentRegister", _item("DocumentRegister", somebody, at, _unique(chance), BROKEN, more)


def _unique(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _item(service: str, somebody: Inpatient, at: datetime, control_id: str, expect: str, more: Mapping[str, str]) -> Item:
    body = interactions.message(service, control_id, somebody, at, **more).encode()
    seconds = (at - datetime.combine(DAY, OPENING)).total_seconds()
    return Item(seconds, body, service, f"{service} by the hospital's platform", expect, NAME, control_id)


class Platform:
    """Calls in a thread of its own, one after the other. `answers` grows while it runs."""

    def __init__(self, called: Sequence[tuple[str, Item]], port: int, certs: Path) -> None:
        self._calls, self._wsdl, self._certs = called, f"https://localhost:{port}/hip?wsdl", certs
        self.answers: list[Answer] = []

    @property
    def items(self) -> list[Item]:
        return [item for _, item in self._calls]

    def run(self) -> None:
        """Read the WSDL, call, note what is answered."""
        client = self._client()
        for action, item in self._calls:
            began = time.monotonic()
            answer = client.service.HIPMessageServer(action, item.body.decode())
            self.answers.append(Answer(item, acknowledged(answer), time.monotonic() - began, 1))

    def _client(self) -> Any:
        import requests
        import zeep

        session = requests.Session()
        session.trust_env = False
        session.verify, session.cert = str(self._certs / "ca.pem"), (str(self._certs / "node.pem"), str(self._certs / "node.key"))
        transport = zeep.Transport(session=session, timeout=30, operation_timeout=30)  # type: ignore[no-untyped-call]
        return zeep.Client(self._wsdl, transport=transport)  # type: ignore[no-untyped-call]


def acknowledged(answer: str) -> str:
    """typeCode of the acknowledgement in MCCI_IN000002UV01 (AA or AE)."""
    from lxml import etree

    found = etree.fromstring(answer.encode(), etree.XMLParser(resolve_entities=False)).find(f"{{{_HL7}}}acknowledgement")
    return str(found.get("typeCode")) if found is not None else ""
