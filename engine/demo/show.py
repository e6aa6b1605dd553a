"""The demo from its beginning to its end: nodes up, a morning sent, everything delivered, ledgers closed."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from engine.demo import center, terminals
from engine.demo.analyzer import Analyzer, tubes
from engine.demo.instruments import BLOOD_GAS, COAGULATION, InstrumentLine
from engine.demo.modality import Archive, Department
from engine.demo.morning import ACCEPTED, DAY, OPENING, Item, morning
from engine.demo.nodes import LedgerReader, NodeProcess
from engine.demo.old_laboratory import CHANNEL as OLD_LABORATORY
from engine.demo.old_laboratory import OldLaboratory, known_as
from engine.demo.radiology import RIS, examinations, orders
from engine.demo.simulator import Answer, Receiver, Report, Sender, endpoint
from engine.demo.sites import HOSPITAL, PLATFORM, Landscape
from engine.demo.vendor import Platform, calls, inpatients
from engine.message import Status
from engine.observe import Metrics
from engine.store.contract import LedgerLine, Query
from engine.tls import CLIENT_TLS, TlsProvider

_POLL_SECONDS: Final = 0.25
_DRAIN_SECONDS: Final = 120.0

SOURCES: Final = {
    "intake": "fhir",
    "wards": "mllp",
    "hospital-platform": "soap",
    "old-laboratory": "database",
    "terminals": "fhir",
    "township-center": "file",
    "laboratory": "mllp",
    "coagulation": "astm",
    "blood-gas": "astm",
    "analyzer": "mllp",
    "work": "worklist",
    "radiology": "mllp",
    "modalities": "dicom",
    "studies": "dicom_archive",
    "examinations": "dicom_worklist",
}


@dataclass
class Outcome:
    """What the demo has shown. `missing` are control ids that are not exactly once on the platform; `ledgers` by node; `landed` are rows
    of the platform's tables."""

    ledgers: dict[str, list[LedgerLine]] = field(default_factory=dict)
    sent: Report | None = None
    missing: list[str] = field(default_factory=list)
    landed: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        closed = all(line.closes and not line.in_flight for lines in self.ledgers.values() for line in lines)
        heard = self.sent is not None and not self.sent.unanswered and not self.sent.unexpected
        return bool(self.ledgers) and closed and heard and not self.missing


class Show:
    """Runs both nodes and the simulator. `look` is called with the newest ledgers and the answers so far."""

    def __init__(
        self,
        landscape: Landscape,
        *,
        reactor: Any,
        clock: Callable[[], int],
        patients: int = 12,
        pace: float = 0.001,
        look: Callable[[dict[str, list[LedgerLine]], list[Answer]], None] = lambda ledgers, answers: None,
    ) -> None:
        self._landscape, self._reactor, self._clock = landscape, reactor, clock
        self._look, self._pace = look, pace
        self._examinations = examinations(2026)
        hospital = morning(2026, patients)
        self._items = [*hospital, *orders(self._examinations)]
        self._department = Department(self._examinations, landscape.ports["dicom"], pace)
        known = inpatients(hospital)
        self._vendor = Platform(calls(known, 2026), landscape.ports["hip"], landscape.vendor_certs)
        self._old_laboratory = OldLaboratory(landscape.old_laboratory, known, 2026)
        visits = terminals.visits(known, 2026)
        landscape.register(visits)
        self._fleet = terminals.Fleet(visits, landscape.ports["terminals"], landscape.terminals)
        host_key = landscape.host_key.with_suffix(".pub")
        self._center = center.Center(known, 2026, landscape.ports["sftp"], landscape.center_key, host_key)
        self._pacs = Archive(landscape.ports["pacs"])
        self._his = Receiver()
        folders = (landscape.platform, landscape.hospital)
        self._processes = [NodeProcess(folder, reactor) for folder in folders]
        self._readers = {folder.name: LedgerReader(folder, reactor, clock) for folder in folders}
        self._senders: list[Sender] = []
        where = endpoint(reactor, "127.0.0.1", landscape.ports["analyzer"])
        self._analyzer = Analyzer(tubes(hospital), where, reactor=reactor, opening=datetime.combine(DAY, OPENING), pace=pace)
        self.outcome = Outcome()

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """Both nodes up and ready."""
        self._analyzer.listen(self._landscape.ports["work"])
        self._his_port = self._reactor.listenTCP(self._landscape.ports["his"], self._his, interface="127.0.0.1")
        for process in self._processes:
            process.start()
        for process in self._processes:
            yield process.ready()
        for reader in self._readers.values():
            yield reader.open()

    @inlineCallbacks
    def play(self) -> Generator[Deferred[Any], Any, Outcome]:
        """Send the morning, wait until all of it has arrived, judge."""
        self._senders = [self._sender(name, tls) for name, tls in (("HIS", False), ("EMR", False), ("LIS", True))]
        coagulation = endpoint(self._reactor, "127.0.0.1", self._landscape.ports["coagulation"])
        self._senders += [self._instrument(COAGULATION.name, coagulation), self._instrument(BLOOD_GAS.name, self._landscape.cable)]
        radiology = endpoint(self._reactor, "127.0.0.1", self._landscape.ports["radiology"])
        self._senders.append(Sender(self._of(RIS.name), radiology, reactor=self._reactor, pace=self._pace))
        images = deferToThread(self._department.run)
        images.addCallback(lambda _: self._pacs.start())  # until now it was down, and its queue waits
        under_way: list[Deferred[Any]] = [
            *(sender.run() for sender in self._senders),
            self._analyzer.run(),
            deferToThread(self._vendor.run),
            deferToThread(self._fleet.run),
            deferToThread(self._center.run),
            self._rows(),
            images,
        ]
        sending = DeferredList(under_way, fireOnOneErrback=True)
        while not sending.called:
            yield self._look_on()
        yield sending
        self.outcome.sent = Report.of(self._answers())
        for _ in range(int(_DRAIN_SECONDS / _POLL_SECONDS)):
            yield self._look_on()
            in_flight = any(line.in_flight for lines in self.outcome.ledgers.values() for line in lines)
            if not in_flight and self._all_rows() and (yield self._studies_are_told_of()):
                break
        yield self._check_platform()
        yield self._check_rows()
        yield self._check_images()
        self._count_landed()
        return self.outcome

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """Stop the nodes gracefully, as SIGTERM does."""
        for reader in self._readers.values():
            yield reader.close()
        yield DeferredList([process.stop() for process in self._processes])
        yield self._analyzer.stop()
        yield self._his_port.stopListening()
        yield deferToThread(self._pacs.stop)

    def _sender(self, system: str, tls: bool) -> Sender:
        ports, creator = self._landscape.ports, None
        if tls:
            log, certs = logging.getLogger("meridian.demo"), self._landscape.laboratory_certs
            provider = TlsProvider(certs, reactor=self._reactor, log=log, metrics=Metrics(), audit=lambda event, **facts: None)
            creator = provider.client(CLIENT_TLS.defaults(peer=HOSPITAL), "localhost")
        where = endpoint(self._reactor, "localhost" if tls else "127.0.0.1", ports["mllp_tls" if tls else "mllp"], creator)
        return Sender(self._of(system), where, reactor=self._reactor, pace=self._pace)

    def _instrument(self, name: str, where: Any) -> Sender:
        return Sender(self._of(name), where, reactor=self._reactor, pace=self._pace, line=InstrumentLine, code=bytes.decode)

    def _of(self, system: str) -> list[Item]:
        return [item for item in self._items if item.system == system]

    def _answers(self) -> list[Answer]:
        of_systems = (answer for sender in self._senders for answer in sender.answers)
        return [*of_systems, *self._analyzer.answers, *self._department.answers, *self._vendor.answers, *self._fleet.answers]

    @inlineCallbacks
    def _look_on(self) -> Generator[Deferred[Any], Any, None]:
        for name, reader in self._readers.items():
            self.outcome.ledgers[name] = yield reader.read()
        self._look(self.outcome.ledgers, self._answers())
        yield deferLater(self._reactor, _POLL_SECONDS)

    @inlineCallbacks
    def _check_platform(self) -> Generator[Deferred[Any], Any, None]:
        """Each accepted message must be on the platform once, taken by its repository."""
        platform = self._readers[PLATFORM]
        for item in self.expected():
            found = yield platform.search(Query(control_id=item.control_id))
            if [line.status for line in found] != [Status.SENT]:
                self.outcome.missing.append(item.control_id)

    @inlineCallbacks
    def _rows(self) -> Generator[Deferred[Any], Any, None]:
        """The old laboratory's morning: what happens later does so when the rows that were there at first have been read."""
        yield deferToThread(self._old_laboratory.at_first)
        while self._received(OLD_LABORATORY) < self._old_laboratory.first_rows:
            yield deferLater(self._reactor, _POLL_SECONDS)
        yield deferToThread(self._old_laboratory.later)

    def _received(self, channel: str) -> int:
        lines = self.outcome.ledgers.get(HOSPITAL, [])
        return sum(line.received for line in lines if line.channel == channel and not line.destination)

    def _all_rows(self) -> bool:
        """Whether all rows of tables and files have been received."""
        tables, files = self._received(OLD_LABORATORY), self._received(center.CHANNEL)
        return tables == self._old_laboratory.all_rows and files == self._center.rows

    @inlineCallbacks
    def _check_rows(self) -> Generator[Deferred[Any], Any, None]:
        """Each version of each row must be on the platform once; what cannot be read is kept at the hospital."""
        expected = {known_as(number): versions for number, versions in self._old_laboratory.versions.items()}
        expected.update(dict.fromkeys(self._center.good, 1))
        for control_id, versions in expected.items():
            found = yield self._readers[PLATFORM].search(Query(control_id=control_id))
            if [line.status for line in found] != [Status.SENT] * versions:
                self.outcome.missing.append(control_id)
        if not self._all_rows():
            self.outcome.missing.append("a row of the old laboratory, or of the township center")

    def _count_landed(self) -> None:
        """What an analyst finds in the platform's tables; every message is among them once."""
        with closing(sqlite3.connect(f"file:{self._landscape.landed}?mode=ro", uri=True)) as tables:
            for name in ("landed_message", "patient", "observation"):
                self.outcome.landed[name] = tables.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608  # names of our own
        sent = sum(line.delivered for line in self.outcome.ledgers[PLATFORM] if line.destination == "tables")
        if self.outcome.landed["landed_message"] != sent:
            self.outcome.missing.append("a message in the platform's tables")

    @inlineCallbacks
    def _studies_are_told_of(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether the hospital has told of each study that it is complete."""
        told = yield self._readers[HOSPITAL].search(Query(channel="studies", message_type="STUDY^COMPLETE"))
        return len(told) == len(self._examinations)

    @inlineCallbacks
    def _check_images(self) -> Generator[Deferred[Any], Any, None]:
        """Each image must be in the PACS once, what became of each order at the HIS, and what was told of each study on the platform."""
        self.outcome.missing += [one for one in self._department.made if self._pacs.stored[one] != 1]
        if not (yield self._studies_are_told_of()):
            self.outcome.missing.append("a complete study")
        reports = yield self._readers[HOSPITAL].search(Query(channel="examinations"))
        self.outcome.missing += [one.control_id for one in reports if self._his.taken[one.control_id] != 1]
        yield self._check_studies()

    @inlineCallbacks
    def _check_studies(self) -> Generator[Deferred[Any], Any, None]:
        """The platform knows a study by its UID, which comes once for each version of it that was told of."""
        told = yield self._readers[HOSPITAL].search(Query(channel="studies"))
        for control_id, count in Counter(line.control_id.rpartition(".")[0] for line in told).items():
            found = yield self._readers[PLATFORM].search(Query(control_id=control_id))
            if [line.status for line in found] != [Status.SENT] * count:
                self.outcome.missing.append(control_id)

    def expected(self) -> list[Item]:
        """What must be on the platform: everything that was accepted; a duplicate is its original."""
        return [item for item in (*self._items, *self._analyzer.items, *self._vendor.items, *self._fleet.items) if item.expect == ACCEPTED]
