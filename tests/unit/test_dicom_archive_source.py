"""The source `dicom_archive`: from an archive's changes to messages."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from twisted.internet import reactor as _reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from adapters.dicom import archive_adapter
from adapters.dicom.archive import source as archive_source
from adapters.dicom.archive.completion import Steps
from adapters.dicom.archive.steps import PerformedSteps
from engine.errors import ConfigError
from engine.message import DICOM_JSON, BodyRef, Judgement, Verdict
from engine.store.bodies import Bodies
from tests.contracts.source_contract import UNAVAILABLE, HeldIntake
from tests.support.dicom_archive import Archive, context, instance

reactor: Any = _reactor
MICRO = 1_000_000


class StudySourceTests(TestCase):
    """With the clock of the archive, which the test turns; only the polling is real."""

    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        self.folder = Path(self.mktemp())
        self.archive = Archive(self.folder / "dicom")
        self.intake = HeldIntake()
        self.source = self.make()
        yield self.source.start(self.intake)

    @inlineCallbacks
    def tearDown(self):  # type: ignore[no-untyped-def]
        yield self.source.stop()
        self.archive.close()

    def make(self, **options: Any) -> Any:
        given = {"settle": "10s", "quiet": "60s", "poll": "10ms", **options}
        self.spooled = Bodies(self.folder / "bodies")
        self.spooled.open()
        ambient = replace(context(reactor, self.folder), clock=lambda: self.archive.now, spool=self.spooled.spool)
        return archive_adapter.source(archive_adapter.source_options.defaults(**given), ambient)

    def later(self, seconds: float) -> None:
        self.archive.now += int(seconds * MICRO)

    @inlineCallbacks
    def test_changed_and_complete(self):  # type: ignore[no-untyped-def]
        """The message has every instance's header, in versions; one that comes late reopens the study."""
        self.archive.keep(instance(1), instance(2))
        self.later(10)
        yield self.intake.arrived(1)
        first = self.intake.kept[0]
        self.assertEqual((first.message_type, first.control_id, first.content_type), ("STUDY^CHANGED", "2.25.1.1", DICOM_JSON))
        self.assertEqual((first.patient_ids, first.facts["study_uid"], first.facts["instances"]), (("P1",), "2.25.1", "2"))
        self.assertEqual([one["00080018"]["Value"] for one in orjson.loads(first.body)], [["2.25.1.1.1"], ["2.25.1.1.2"]])
        self.intake.release(0)
        self.later(60)
        yield self.intake.arrived(2)
        self.assertEqual((self.intake.kept[1].message_type, self.intake.kept[1].control_id), ("STUDY^COMPLETE", "2.25.1.2"))
        self.assertEqual(self.intake.kept[1].facts["by"], "quiet")
        self.intake.release(1)
        self.later(1000)
        self.archive.keep(instance(3))
        self.later(60)
        yield self.intake.arrived(3)
        self.assertEqual((self.intake.kept[2].message_type, self.intake.kept[2].facts["instances"]), ("STUDY^COMPLETE", "3"))
        self.intake.release(2)

    @inlineCallbacks
    def test_what_the_store_could_not_take_comes_again(self):  # type: ignore[no-untyped-def]
        """The same version with the same key and content; also after a restart."""
        self.archive.keep(instance())
        self.later(60)
        yield self.intake.arrived(1)
        self.intake.release(0, UNAVAILABLE)
        yield self.intake.arrived(2)
        self.archive.keep(instance(2))
        self.intake.release(1, UNAVAILABLE)
        yield self.source.stop()
        self.source, self.intake = self.make(), HeldIntake()
        yield self.source.start(self.intake)
        yield self.intake.arrived(1)
        again = self.intake.kept[0]
        self.assertEqual((again.control_id, again.facts["instances"]), ("2.25.1.1", "1"))
        self.intake.release(0)
        self.later(60)
        yield self.intake.arrived(2)
        self.assertEqual((self.intake.kept[1].control_id, self.intake.kept[1].facts["instances"]), ("2.25.1.2", "2"))
        self.assertNotEqual(self.intake.kept[1].idempotency_key, again.idempotency_key)
        self.intake.release(1)

    @inlineCallbacks
    def test_what_the_channel_refuses_is_not_said_again(self):  # type: ignore[no-untyped-def]
        """It is kept with its reason; the next version comes as usual."""
        self.archive.keep(instance())
        self.later(10)
        yield self.intake.arrived(1)
        self.intake.release(0, Judgement(Verdict.REFUSED, "no"))
        self.later(60)
        yield self.intake.arrived(2)
        self.assertEqual(self.intake.kept[1].message_type, "STUDY^COMPLETE")
        self.intake.release(1)

    @inlineCallbacks
    def test_a_big_study_is_not_held_in_memory(self):  # type: ignore[no-untyped-def]
        """Its message is put together in the store."""
        self.patch(archive_source, "_IN_MEMORY", 3000)
        self.archive.keep(*[instance(number) for number in range(1, 40)])
        self.later(60)
        yield self.intake.arrived(1)
        body = self.intake.kept[0].body
        self.assertIsInstance(body, BodyRef)
        listed = orjson.loads(self.spooled.read(body))
        self.assertEqual(len(listed), 39)
        self.assertEqual(listed[0]["00020016"]["Value"], ["CT1"])
        self.assertLess(len(listed[1]), len(listed[0]) / 2)
        self.intake.release(0)

    @inlineCallbacks
    def test_procedure_steps_complete_a_study(self):  # type: ignore[no-untyped-def]
        """As the worklist of this node has them: in progress it waits, ended it is complete as soon as all it names is here."""
        yield self.source.stop()
        worklist = sqlite3.connect(self.folder / "worklist.db", isolation_level=None)
        worklist.execute("create table mpps (uid text primary key, study text, status text, content blob, changed integer)")
        worklist.execute(
            "create table performed (mpps text, study text, series text, sop text, sop_class text, status text, ended integer)"
        )
        worklist.execute("insert into mpps values ('2.25.9', '2.25.1', 'IN PROGRESS', x'', 0)")
        self.source, self.intake = self.make(worklist="worklist.db", overdue="1h"), HeldIntake()
        yield self.source.start(self.intake)
        self.archive.keep(instance(1))
        self.later(90)
        yield self.intake.arrived(1)
        self.assertEqual(self.intake.kept[0].message_type, "STUDY^CHANGED")
        self.intake.release(0)
        worklist.execute("update mpps set status = 'COMPLETED'")
        worklist.executemany(
            "insert into performed values ('2.25.9', '2.25.1', '2.25.1.1', ?, '', 'COMPLETED', 0)", [("2.25.1.1.1",), ("2.25.1.1.2",)]
        )
        self.archive.keep(instance(2))
        while len(self.intake.kept) < 2:
            self.later(1)
            yield deferLater(reactor, 0.02)
        self.assertEqual((self.intake.kept[1].message_type, self.intake.kept[1].facts["by"]), ("STUDY^COMPLETE", "mpps"))
        self.intake.release(1)
        worklist.close()

    @inlineCallbacks
    def test_an_archive_that_cannot_be_opened(self):  # type: ignore[no-untyped-def]
        """A ConfigError, which the operator can act on."""
        (self.folder / "broken").mkdir()
        (self.folder / "broken" / "archive.db").write_bytes(b"this is no database" * 100)
        other = self.make(folder="broken")
        yield self.assertFailure(other.start(HeldIntake()), ConfigError)
        yield other.stop()


class StepsTests(TestCase):
    def test_a_worklist_that_is_not_there(self) -> None:
        self.assertEqual(PerformedSteps(Path("/nowhere/worklist.db")).of("1.2", ()), Steps())
