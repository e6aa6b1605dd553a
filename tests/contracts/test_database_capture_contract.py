"""The source `database_capture` held to the contract of sources, where a log has what a listening source has.

A log has no sender that waits: what a sender would hear is here that the database may let go of the change (the slot's confirmed LSN).
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.trial.unittest import TestCase

from adapters.database.capture import adapter
from adapters.database.capture.pgoutput import lsn_of
from engine.errors import ConfigError
from tests.contracts.source_contract import REFUSED, UNAVAILABLE, HeldIntake
from tests.support.capture import own_server
from tests.support.databases import OwnServer, engine_of, written
from tests.support.fhir import context
from tests.support.waiting import until


class CaptureSourceTests(TestCase):
    """Against a real PostgreSQL, over the reactor."""

    own: ClassVar[OwnServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.own = own_server("postgresql").__enter__()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.own.__exit__()

    def setUp(self) -> Deferred[None]:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.engine = engine_of(self.own.url)
        self.run_sql("DROP TABLE IF EXISTS item", "CREATE TABLE item (id integer PRIMARY KEY, note text)")
        self.intake = HeldIntake()
        self.source = self.make_source("item")
        return self.source.start(self.intake)

    def tearDown(self) -> Deferred[None]:
        return self.source.stop().addCallback(lambda _: self.gone())  # type: ignore[no-any-return]

    def gone(self) -> None:
        """The server notices a little later that nobody reads any more."""
        until(lambda: not self.run_sql("SELECT 1 FROM pg_replication_slots WHERE active"), "the walsender to end")
        self.run_sql(f"SELECT pg_drop_replication_slot('{self.slot}')")
        self.engine.dispose()

    def run_sql(self, *statements: str) -> list[Any]:
        with self.engine.connect() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
            return list(result) if result.returns_rows else []

    def make_source(self, *tables: str) -> Any:
        self.slot = f"s{self.id().rpartition('.')[2][:50]}"
        options = {"connection": {"url": written(self.own.url)}, "tables": list(tables), "slot": self.slot, "retry_most": "500ms"}
        made = replace(context(self.folder, reactor, name="lis"), checkpoints=lambda: succeed({}))
        return adapter.source(adapter.source_options.defaults(**options), made)  # type: ignore[union-attr]

    def confirmed(self) -> int:
        return lsn_of(self.run_sql(f"SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{self.slot}'")[0][0])

    @inlineCallbacks
    def test_the_slot_waits_for_the_commit(self):  # type: ignore[no-untyped-def]
        """And an envelope has its facts."""
        self.run_sql("INSERT INTO item VALUES (77, 'a')")
        yield self.intake.arrived(1)
        envelope = self.intake.kept[0]
        commit = lsn_of(envelope.facts["position"].rpartition("/")[0])
        self.assertEqual((envelope.control_id, envelope.message_type, envelope.sender), ("77", "item", "lis"))
        self.assertIn("127.0.0.1:", envelope.remote)
        self.assertTrue(envelope.received_at and envelope.idempotency_key and envelope.content_digest and envelope.checkpoint)
        self.assertLessEqual(self.confirmed(), commit)
        self.intake.release(0)
        self.run_sql("INSERT INTO item VALUES (78, 'a')")
        yield self.intake.arrived(2)
        until(lambda: self.confirmed() > commit, "the confirmation of what is kept")
        self.intake.release(1)

    @inlineCallbacks
    def test_what_the_store_cannot_take_comes_again(self):  # type: ignore[no-untyped-def]
        """The same message; what is kept as refused is kept."""
        self.run_sql("INSERT INTO item VALUES (1, 'a')")
        yield self.intake.arrived(1)
        self.intake.release(0, UNAVAILABLE)
        yield self.intake.arrived(2)
        self.assertEqual(self.intake.kept[0].idempotency_key, self.intake.kept[1].idempotency_key)
        self.intake.release(1, REFUSED)
        self.run_sql("INSERT INTO item VALUES (2, 'a')")
        yield self.intake.arrived(3)
        self.assertEqual(self.intake.kept[2].control_id, "2")
        self.intake.release(2)
        self.flushLoggedErrors()

    @inlineCallbacks
    def test_a_row_waits_for_its_own_earlier_change(self):  # type: ignore[no-untyped-def]
        """Different rows of a transaction go in together, the last of a page when all others are kept."""
        self.run_sql("DO $$ BEGIN INSERT INTO item VALUES (1, 'a'), (2, 'a'); UPDATE item SET note = 'b'; END $$")
        yield self.intake.arrived(2)
        self.assertEqual([envelope.control_id for envelope in self.intake.kept], ["1", "2"])
        self.intake.release(0)
        self.assertEqual(len(self.intake.kept), 2)
        self.intake.release(1)
        yield self.intake.arrived(3)
        self.assertEqual(self.intake.kept[2].facts["change"], "update")
        self.intake.release(2)
        yield self.intake.arrived(4)
        self.intake.release(3)

    @inlineCallbacks
    def test_stop_waits_for_what_was_handed_in(self):  # type: ignore[no-untyped-def]
        """And the intake hears of nothing new."""
        self.run_sql("INSERT INTO item VALUES (1, 'a')")
        yield self.intake.arrived(1)
        self.intake.closed = True
        stopped = self.source.stop()
        self.assertNoResult(stopped)
        self.intake.release(0)
        yield stopped
        self.assertEqual(self.intake.after_close, 0)
        self.source = self.make_source("item")
        yield self.source.start(HeldIntake())

    @inlineCallbacks
    def test_a_table_that_cannot_be_captured(self):  # type: ignore[no-untyped-def]
        """A ConfigError, which the operator can act on."""
        refused = self.make_source("nothing")
        yield self.assertFailure(refused.start(self.intake), ConfigError)
        yield refused.stop()
