"""A chemistry analyzer that asks for its work (IHE LAW): it reads a tube's label, asks what to measure (LAB-27), is told (LAB-28), and
reports (LAB-29). As everything of the demo it shares no line with the adapters.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from engine.demo import writing as hl7
from engine.demo.laboratory import PANELS, Panel, measure
from engine.demo.morning import ACCEPTED, Item
from engine.demo.simulator import END, START, Answer, Sender
from engine.demo.writing import System

NAME: Final = "CHEM"
_SELF: Final = System(NAME, "UNICODE UTF-8", "utf-8", tls=False)
_ATTEMPTS: Final = 100
_PAUSE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Tube:
    """What stands in the analyzer's rack: its label, what was ordered for it, and when it came."""

    label: str
    panel: Panel
    at_seconds: float


def tubes(items: Sequence[Item]) -> list[Tube]:
    """The tubes of the morning's chemistry orders; a tube has the number of its order on it."""
    found = []
    for item in items:
        if item.kind in ("ORM^O01", "OML^O21"):
            text = item.body.decode("gb18030" if item.system == "HIS" else "utf-8")
            order = next(line.split("|") for line in text.split("\r") if line.startswith("OBR|"))
            panel = next(panel for panel in PANELS if panel.loinc == order[4].split("^")[0])
            if panel.section == "CH":
                found.append(Tube(order[2].split("^")[0], panel, item.at_seconds))
    return found


class Analyzer:
    """Works through its rack. `answers` grows while it runs: of queries, and of the results in `items`."""

    def __init__(self, rack: Sequence[Tube], where: Any, *, reactor: Any, opening: datetime, pace: float, seed: int = 7) -> None:
        self._rack, self._where, self._reactor, self._opening, self._pace = rack, where, reactor, opening, pace
        self._chance = random.Random(seed)  # noqa: S311  # a story, not a secret
        self._numbers = 0
        self._orders: dict[str, list[list[str]]] = {}
        self._port: Any = None
        self.items: list[Item] = []
        self.answers: list[Answer] = []

    def listen(self, port: int) -> None:
        """For work orders."""
        self._port = self._reactor.listenTCP(port, _Orders(self), interface="127.0.0.1")

    def stop(self) -> Deferred[Any]:
        return self._port.stopListening()  # type: ignore[no-any-return]

    def take(self, lines: list[list[str]]) -> None:
        """A work order has come."""
        label = next(line[3].split("^")[0] for line in lines if line[0] == "SAC")
        self._orders[label] = lines

    @inlineCallbacks
    def run(self) -> Generator[Deferred[Any], Any, None]:
        """Ask for each tube until there is work for it, measure, report."""
        began = self._reactor.seconds()
        for tube in self._rack:
            early = began + tube.at_seconds * self._pace - self._reactor.seconds()
            if early > 0:
                yield deferLater(self._reactor, early)
            for _ in range(_ATTEMPTS):
                lines = yield self._ask(tube)
                if any(line[0] == "OBR" for line in lines):
                    yield self._report(tube, lines)
                    break
                yield deferLater(self._reactor, _PAUSE)

    @inlineCallbacks
    def _ask(self, tube: Tube) -> Generator[Deferred[Any], Any, list[list[str]]]:
        """LAB-27, and the work order that follows; empty where none comes."""
        self._orders.pop(tube.label, None)
        query = ("QPD|WOS^Work Order Step^IHE_LABTF|T1|" + tube.label, "RCP|I||R")
        yield self._send("QBP^Q11^QBP_Q11", query, tube.at_seconds, "asks for its work")
        for _ in range(_ATTEMPTS):
            if tube.label in self._orders:
                return self._orders.pop(tube.label)
            yield deferLater(self._reactor, 0.02)
        return []

    @inlineCallbacks
    def _report(self, tube: Tube, lines: list[list[str]]) -> Generator[Deferred[Any], Any, None]:
        """LAB-29."""
        at = self._opening + timedelta(seconds=tube.at_seconds + 600)
        patient = next("|".join(line) for line in lines if line[0] == "PID")
        step = next(line[2] for line in lines if line[0] == "OBR")
        sex = patient.split("|")[8]
        panel = tube.panel
        results = [hl7.obx(number, measure(self._chance, one, sex), at) for number, one in enumerate(panel.analytes, 1)]
        specimen = f"SPM|1|{tube.label}^||{panel.tube}^HL70487|||||||P^^HL70369"
        order = f"OBR|1|{step}||{panel.loinc}^{panel.name}^LN|||{hl7.stamp(at)}"
        segments = (patient, specimen, f"SAC|||{tube.label}", order, "ORC|OK|||||CM", *results)
        answer = yield self._send("OUL^R22^OUL_R22", segments, tube.at_seconds + 600, f"measured by {NAME}")
        self.items.append(answer.item)

    @inlineCallbacks
    def _send(self, kind: str, segments: Sequence[str], at_seconds: float, note: str) -> Generator[Deferred[Any], Any, Answer]:
        self._numbers += 1
        control_id = f"{NAME}{self._numbers:06d}"
        body = hl7.message(_SELF, kind, control_id, self._opening + timedelta(seconds=at_seconds), segments)
        item = Item(at_seconds, body, "^".join(kind.split("^")[:2]), note, ACCEPTED, NAME, control_id)
        (answer,) = yield Sender([item], self._where, reactor=self._reactor).run()
        self.answers.append(answer)
        return answer  # type: ignore[no-any-return]


class _Orders(Factory):
    """Takes work orders (LAB-28), and answers each with ORL^O34."""

    noisy = False

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer

    def buildProtocol(self, addr: Any) -> Protocol:
        return _OrderLine(self._analyzer)


class _OrderLine(Protocol):
    transport: Any

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer, self._buffer = analyzer, b""

    def dataReceived(self, data: bytes) -> None:
        *messages, self._buffer = (self._buffer + data).split(END)
        for message in messages:
            lines = [line.split("|") for line in message.lstrip(START).decode().split("\r") if line]
            self._analyzer.take(lines)
            head = f"MSH|^~\\&|{NAME}|LAB|||20261123||ORL^O34^ORL_O34|R{lines[0][9]}|P|2.5.1"
            self.transport.write(START + f"{head}\rMSA|AA|{lines[0][9]}\r".encode() + END)
