"""The worklist's service, destination and source, with threads but without a network."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, succeed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.dicom.upper import dimse
from adapters.dicom.upper.dimse import Command, Field
from adapters.dicom.worklist import adapter
from adapters.dicom.worklist.book import Book
from adapters.dicom.worklist.options import DESTINATION, QUERY, SOURCE
from adapters.dicom.worklist.service import WorklistService
from engine.errors import PermanentDelivery, TransientDelivery
from engine.formats import hl7v2
from engine.message import ACCEPTED, DICOM, HL7V2, Ack, BodyRef, Judgement, Parcel, Verdict
from tests.support.fhir import context
from tests.support.imaging import IMPLICIT, ORC, PID, as_file, begun, encoded, ended, hl7, keys, order, segment

UID = "1.2.826.0.1.3680043.8.498.7"


def parcel(number: int, body: bytes | BodyRef, kind: str, content_type: str = DICOM) -> Parcel:
    return Parcel(number, number, body, content_type, kind, str(number), "")


class Asked:
    """adapters.dicom.upper.exchange.Request, as far as a service looks; `done` fires with the final status."""

    def __init__(self, **command: Any) -> None:
        self.command = Command({"CommandField": int(Field.C_FIND), "CommandDataSetType": 1, **command})
        self.context = SimpleNamespace(transfer_syntax=IMPLICIT)
        self.parties = SimpleNamespace(calling="CT1", called="MERIDIAN", peer="", remote="127.0.0.1:9")
        self.cancelled = False
        self.said: list[tuple[int, str, dict[str, Any]]] = []
        self.matches: list[bytes] = []
        self.done: Deferred[int] = Deferred()
        self.cancel_after = -1

    def respond(self, status: int, comment: str = "", data: bytes = b"", **elements: Any) -> None:
        self.said.append((int(status), comment, elements))
        if dimse.is_pending(status):
            self.matches.append(data)
            self.cancelled = len(self.matches) == self.cancel_after
        else:
            self.done.callback(int(status))

    def writable(self) -> Deferred[None]:
        return succeed(None)


class Folder(TestCase):
    """A data folder, and what is audited; `unaudited` is why nothing may be handed out."""

    def setUp(self) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        self.audited: list[tuple[str, dict[str, Any]]] = []
        self.unaudited = ""
        made = context(self.data, reactor, audit=lambda event, **facts: self.audited.append((event, facts)))
        self.context = replace(made, unaudited=lambda: self.unaudited)

    def destination(self, **options: Any) -> Any:
        made = adapter.destination(DESTINATION.defaults(report=True, **options), self.context)
        self.addCleanup(made.close)
        return made


class ServiceTests(Folder):
    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        super().setUp()
        self.service = WorklistService(QUERY.defaults(most=3), SimpleNamespace(context=self.context, run=deferToThread))  # type: ignore[arg-type]
        self.kept = self.destination()
        yield self.kept.open()

    @inlineCallbacks
    def order(self, count: int):  # type: ignore[no-untyped-def]
        groups = [segment("OBR", f1=str(n), f4="CT^CT^L", f19=f"R{n}", f20=f"S{n}", f24="CT") for n in range(count)]
        body = hl7("ORM^O01", PID, *(part for one in groups for part in (ORC, one)))
        yield self.kept.deliver(parcel(1, body, "ORM^O01", HL7V2))

    def ask(self, identifier: bytes, cancel_after: int = -1, **command: Any) -> Asked:
        request = Asked(**command)
        request.cancel_after = cancel_after
        sink = self.service.begin(request)  # type: ignore[arg-type]
        if sink is not None:
            sink.write(memoryview(identifier))
            sink.end()
        return request

    @inlineCallbacks
    def test_matches_and_then_success(self):  # type: ignore[no-untyped-def]
        """And it is audited before, without a name."""
        yield self.order(2)
        request = self.ask(encoded(keys({"Modality": "CT"}, PatientName="")))
        status = yield request.done
        self.assertEqual((status, len(request.matches)), (0, 2))
        ((event, facts),) = self.audited
        self.assertEqual((event, facts["steps"], facts["ae_title"]), ("worklist.queried", 2, "CT1"))

    @inlineCallbacks
    def test_more_than_may_be_told(self):  # type: ignore[no-untyped-def]
        """A700H after the most; the technologist knows that there is more."""
        yield self.order(5)
        request = self.ask(encoded(keys({"Modality": "CT"})))
        status = yield request.done
        self.assertEqual((status, len(request.matches)), (0xA700, 3))

    @inlineCallbacks
    def test_a_cancelled_query(self):  # type: ignore[no-untyped-def]
        yield self.order(3)
        request = self.ask(encoded(keys({"Modality": ""})), cancel_after=1)
        status = yield request.done
        self.assertEqual((status, len(request.matches)), (0xFE00, 1))

    @inlineCallbacks
    def test_queries_that_are_none(self):  # type: ignore[no-untyped-def]
        """C000H; A900H without an identifier; 0211H for another operation."""
        unreadable = self.ask(b"\x08\x00\x05")
        empty = self.ask(b"", CommandDataSetType=dimse.NO_DATA_SET)
        other = self.ask(b"", CommandField=int(Field.C_MOVE))
        statuses = yield gatherResults([one.done for one in (unreadable, empty, other)])
        self.assertEqual(statuses, [0xC000, 0xA900, 0x0211])

    @inlineCallbacks
    def test_a_date_that_is_none(self):  # type: ignore[no-untyped-def]
        raw = encoded(keys({"ScheduledProcedureStepStartDate": "20261124"})).replace(b"20261124", b"tomorrow")
        request = self.ask(raw)
        self.assertEqual((yield request.done), 0xA900)
        self.assertEqual(request.said[0][2], {"OffendingElement": (0x00400002,)})

    @inlineCallbacks
    def test_what_cannot_be_audited_is_not_told(self):  # type: ignore[no-untyped-def]
        yield self.order(1)
        self.unaudited = "disk full"
        request = self.ask(encoded(keys(PatientName="")))
        self.assertEqual(((yield request.done), request.matches), (0xA700, []))

    @inlineCallbacks
    def test_before_the_first_order(self):  # type: ignore[no-untyped-def]
        """There is no file yet, and nothing to do."""
        options = QUERY.defaults(file="none.db")
        self.service = WorklistService(options, SimpleNamespace(context=self.context, run=deferToThread))  # type: ignore[arg-type]
        request = self.ask(encoded(keys(PatientName="")))
        self.assertEqual(((yield request.done), request.matches), (0, []))


class DestinationTests(Folder):
    @inlineCallbacks
    def test_the_same_parcel_once_more_gets_the_same_answer(self):  # type: ignore[no-untyped-def]
        """The node died after the step was kept and before its receipt was: no second N-CREATE, so no 0111H."""
        destination = self.destination()
        yield destination.open()
        first = yield destination.deliver(parcel(7, as_file(UID, begun()), "MPPS^CREATE"))
        again = yield destination.deliver(parcel(7, as_file(UID, begun()), "MPPS^CREATE"))
        self.assertEqual(first, again)
        self.assertEqual(dimse.read_answer(again.answer), ({"Status": 0}, b""))
        error = yield self.assertFailure(destination.deliver(parcel(8, as_file(UID, begun()), "MPPS^CREATE")), PermanentDelivery)
        repeated = yield self.assertFailure(destination.deliver(parcel(8, as_file(UID, begun()), "MPPS^CREATE")), PermanentDelivery)
        self.assertEqual(dimse.read_answer(error.answer)[0]["Status"], 0x0111)
        self.assertEqual(repeated.answer, error.answer)

    @inlineCallbacks
    def test_a_refusal_says_which_attributes(self):  # type: ignore[no-untyped-def]
        """(0000,1005); and once a step is final, error ID A710H (F.7.2.2.4)."""
        destination = self.destination()
        yield destination.open()
        yield destination.deliver(parcel(1, as_file(UID, begun()), "MPPS^CREATE"))
        missing = ended(PerformedProcedureStepEndDate="")
        error = yield self.assertFailure(destination.deliver(parcel(2, as_file(UID, missing), "MPPS^SET")), PermanentDelivery)
        told, _ = dimse.read_answer(error.answer)
        self.assertEqual((told["Status"], told["AttributeIdentifierList"]), (0x0121, (0x00400250,)))
        yield destination.deliver(parcel(3, as_file(UID, ended()), "MPPS^SET"))
        late = yield self.assertFailure(destination.deliver(parcel(4, as_file(UID, ended()), "MPPS^SET")), PermanentDelivery)
        self.assertEqual(dimse.read_answer(late.answer)[0]["ErrorID"], 0xA710)

    @inlineCallbacks
    def test_what_it_does_not_take(self):  # type: ignore[no-untyped-def]
        """Permanent, by name, without a patient's name."""
        destination = self.destination()
        yield destination.open()
        bodies = [
            parcel(1, BodyRef("00", 99), "ORM^O01", HL7V2),
            parcel(2, hl7("ADT^A01", PID), "ADT^A01", HL7V2),
            parcel(3, hl7("ORM^O01", PID, "ORC|NW", "OBR|1"), "ORM^O01", HL7V2),
            parcel(4, b"hello", "MPPS^SET"),
            parcel(5, b"hello", "ORM^O01", HL7V2),
        ]
        errors = yield gatherResults([self.assertFailure(destination.deliver(one), PermanentDelivery) for one in bodies])
        self.assertEqual(errors[2].location, "ORC-2")
        self.assertNotIn("Wang", "".join(map(str, errors)))

    @inlineCallbacks
    def test_a_file_that_cannot_be_used(self):  # type: ignore[no-untyped-def]
        """Tried again, and the queue pauses."""
        destination = self.destination()
        yield destination.open()
        yield deferToThread(destination._book._database.execute, "drop table steps")
        error = yield self.assertFailure(destination.deliver(parcel(1, order(), "ORM^O01", HL7V2)), TransientDelivery)
        self.assertTrue(error.whole_destination)


class SourceTests(Folder):
    """The intake keeps a message, or has no room: then it comes again."""

    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        super().setUp()
        self.room = True
        self.heard: list[Any] = []
        self.awaited: list[tuple[int, Deferred[None]]] = []
        destination = self.destination()
        yield destination.open()
        yield destination.deliver(parcel(1, order(), "ORM^O01", HL7V2))
        yield destination.deliver(parcel(2, as_file(UID, begun()), "MPPS^CREATE"))
        yield destination.deliver(parcel(3, as_file(UID, ended()), "MPPS^SET"))

    def intake(self, envelope, reply, invalid=None):  # type: ignore[no-untyped-def]
        self.heard.append(envelope)
        for count, awaited in self.awaited:
            if count == len(self.heard):
                reactor.callLater(0, awaited.callback, None)
        unavailable = Judgement(Verdict.UNAVAILABLE, "full")
        return succeed(Ack(ACCEPTED, b"", len(self.heard)) if self.room else Ack(unavailable, b""))

    def after(self, count: int) -> Deferred[None]:
        awaited: Deferred[None] = Deferred()
        self.awaited.append((count, awaited))
        return awaited

    def left(self) -> int:
        book = Book(self.data / "dicom-worklist.db")
        book.open()
        count = len(book.changes(10))
        book.close()
        return count

    @inlineCallbacks
    def test_each_change_is_told_once(self):  # type: ignore[no-untyped-def]
        """In its order, under a key of its own, and taken off when it is kept."""
        source = adapter.source(SOURCE.defaults(poll="10ms", sender="RIS|H", receiver="HIS|H"), self.context)
        both = self.after(2)
        yield source.start(self.intake)
        yield both
        yield source.stop()
        messages = [hl7v2.decode(one.body) for one in self.heard]
        self.assertEqual([one.get("ORC-5") for one in messages], ["IP", "CM"])
        self.assertEqual({(one.get("MSH-3"), one.get("MSH-4"), one.get("MSH-5")) for one in messages}, {("RIS", "H", "HIS")})
        self.assertEqual(len({one.idempotency_key for one in self.heard}), 2)
        self.assertEqual({(one.message_type, one.patient_ids) for one in self.heard}, {("ORM^O01", self.heard[0].patient_ids)})
        self.assertEqual(self.left(), 0)

    @inlineCallbacks
    def test_without_room_it_comes_again(self):  # type: ignore[no-untyped-def]
        """The same bytes and the same key, so that it is the same message."""
        self.room = False
        source = adapter.source(SOURCE.defaults(poll="10ms", format="OMG^O19"), self.context)
        twice = self.after(4)
        yield source.start(self.intake)
        yield twice
        yield source.stop()
        first, _, again = self.heard[:3]
        self.assertEqual((first.body, first.idempotency_key), (again.body, again.idempotency_key))
        self.assertEqual((first.message_type, self.left()), ("OMG^O19", 2))
