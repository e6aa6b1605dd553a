"""The archive held to the contract of destinations, with a writer whose answers the test decides; and over its own process."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredList, fail, gatherResults, inlineCallbacks, succeed
from twisted.trial.unittest import TestCase

from adapters.dicom import archive_adapter
from adapters.dicom.archive.book import BESIDE, HAD, KEPT, Arrival, Outcome
from adapters.dicom.archive.destination import ArchiveDestination
from adapters.dicom.archive.index import Index
from adapters.dicom.archive.writer import WriterEnded
from engine.errors import PermanentDelivery, StoreFull, UncertainDelivery
from engine.message import DICOM, HL7V2, BodyRef, Parcel
from tests.contracts.destination_contract import DestinationContract
from tests.support.dicom_archive import context, instance

reactor: Any = _reactor


def parcel(number: int, body: bytes | BodyRef | None = None) -> Parcel:
    return Parcel(number, number, body or instance(number), DICOM, "CTImageStorage", str(number), f"k{number}")


class ScriptedWriter:
    """adapters.dicom.archive.destination.Writing; `mode` as in DestinationContract."""

    def __init__(self, mode: str = "take") -> None:
        self.mode = mode
        self.taken: list[str] = []
        self.groups: list[int] = []

    def open(self) -> Deferred[Any]:
        return succeed(None)

    def keep(self, group: Sequence[Arrival]) -> Deferred[list[Outcome]]:
        self.groups.append(len(group))
        if self.mode == "nowhere":
            return fail(StoreFull("the disk of the archive is full"))
        if self.mode == "hang up":
            return fail(WriterEnded("the archive's writer process ended"))
        if self.mode == "refuse":
            return succeed([Outcome("", fault="this is no DICOM file") for _ in group])
        self.taken += [str(_number(arrival)) for arrival in group]
        return succeed([Outcome(KEPT, "2.25.1") for _ in group])

    def retire(self, keep: int, most_bytes: int) -> Deferred[bool]:
        return succeed(False)

    def close(self) -> Deferred[Any]:
        return succeed(None)

    def stop(self) -> Deferred[Any]:
        return succeed(None)


def _number(arrival: Arrival) -> int:
    assert isinstance(arrival.body, bytes)
    return next(number for number in range(1, 200) if instance(number) == arrival.body)


class ArchiveDestinationTests(DestinationContract, TestCase):
    """Against a writer that does as it is told."""

    def start_peer(self) -> ScriptedWriter:
        return ScriptedWriter()

    def make(self, writer: ScriptedWriter | None = None) -> ArchiveDestination:
        folder = Path(self.mktemp())
        return ArchiveDestination(archive_adapter.destination_options.defaults(), context(reactor, folder), writer or self.peer)

    def make_nowhere(self) -> ArchiveDestination:
        return self.make(ScriptedWriter("nowhere"))

    def parcel(self, number: int, body: bytes | BodyRef | None = None) -> Parcel:
        return parcel(number, body)

    @inlineCallbacks
    def test_what_is_no_instance(self):  # type: ignore[no-untyped-def]
        """Was routed here by mistake."""
        wrong = Parcel(1, 1, b"MSH", HL7V2, "ADT^A01", "1", "k")
        yield self.assertFailure(self.destination.deliver(wrong), PermanentDelivery)

    @inlineCallbacks
    def test_what_else_comes_through_an_imaging_channel(self):  # type: ignore[no-untyped-def]
        """A procedure step is for the worklist: nothing is kept of it, and it is no dead letter."""
        step = Parcel(1, 1, instance(1), DICOM, "MPPS^CREATE", "1", "k")
        receipt = yield self.destination.deliver(step)
        self.assertEqual((receipt.reference, self.peer.taken), ("passed over: no instance", []))


class ArchiveProcessTests(TestCase):
    """The destination with the process that writes."""

    def setUp(self) -> Deferred[None]:
        self.folder = Path(self.mktemp())
        self.audited: list[Any] = []
        self.context = context(reactor, self.folder, "images/archive", self.audited)
        self.destination = ArchiveDestination(archive_adapter.destination_options.defaults(), self.context)
        self.index = Index(self.folder / "dicom")
        return self.destination.open()

    def tearDown(self) -> Deferred[None]:
        self.index.close()
        return self.destination.close()

    @inlineCallbacks
    def test_what_was_received_for_is_there(self):  # type: ignore[no-untyped-def]
        """Kept, had already, and beside another, which is counted and audited without a patient's data."""
        receipts = yield gatherResults([self.destination.deliver(parcel(number)) for number in range(1, 100)])
        self.assertEqual({receipt.reference for receipt in receipts}, {KEPT})
        self.assertEqual(len(self.index.instances("2.25.1")), 99)
        again = yield self.destination.deliver(parcel(1))
        other = yield self.destination.deliver(parcel(1, instance(1, Rows=7)))
        self.assertEqual((again.reference, other.reference), (HAD, BESIDE))
        facts = {"channel": "images/archive", "sop_uid": "2.25.1.1.1", "message_id": 1}
        self.assertEqual(self.audited, [("archive.conflict", facts)])

    @inlineCallbacks
    def test_the_writer_is_killed(self):  # type: ignore[no-untyped-def]
        """What was under way is uncertain and comes again; another process takes over, and nothing is there twice."""
        yield self.destination.deliver(parcel(1))
        under_way = [self.destination.deliver(parcel(number)) for number in range(2, 50)]
        os.kill(self.destination._writer._process.transport.pid, signal.SIGKILL)
        ends = yield DeferredList(under_way, consumeErrors=True)
        failures = [end for kept, end in ends if not kept]
        self.assertTrue(failures)
        for failure in failures:
            failure.trap(UncertainDelivery)
        yield gatherResults([self.destination.deliver(parcel(number)) for number in range(1, 50)])
        self.assertEqual(len(self.index.instances("2.25.1")), 49)
        self.assertEqual(len(list((self.folder / "dicom").glob("??/*"))), 49)
