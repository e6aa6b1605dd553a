"""The polling source against the contract of sources. Its sender is a table: a row is answered by the status that is written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.database import adapter
from engine.contracts import Rehearsing, Source
from engine.message import Judgement, Verdict
from tests.contracts.source_contract import UNAVAILABLE, HeldIntake, SourceContract
from tests.support.databases import engine_of, own_database, written
from tests.support.fhir import context
from tests.support.waiting import until

STATUS = {"column": "state", "new": ["N"], "claimed": "P", "claimed_at": "at", "done": "D", "failed": "E"}


class DatabaseSourceTests(SourceContract, TestCase):
    """PostgreSQL, by status."""

    timeout = 60

    def setUp(self) -> Deferred[None]:
        self._database = own_database("postgresql")
        url = self._database.__enter__()
        self.url, self.engine = url, engine_of(url)
        self._execute("CREATE TABLE orders (id varchar(10) PRIMARY KEY, state char(1), at timestamp)")
        return super().setUp()

    @inlineCallbacks
    def tearDown(self) -> Any:
        yield super().tearDown()
        self.engine.dispose()
        self._database.__exit__(None, None, None)

    def _execute(self, statement: str, *values: Any) -> Any:
        with self.engine.connect() as connection:
            result = connection.exec_driver_sql(statement, tuple(values))
            return result.scalar() if result.returns_rows else None

    def make_source(self, table: str = "orders") -> Any:
        options = adapter.source_options.defaults(
            connection=written(self.url), name="lis", table=table, status=STATUS, poll="20ms", retry_most="50ms"
        )
        made = context(Path(self.mktemp()), reactor, name="lis")
        object.__setattr__(made, "checkpoints", lambda: succeed({}))
        return adapter.source(options, made)

    def same_port(self) -> Any:
        """What cannot be had here is the table."""
        return self.make_source("nothing")

    def send(self, control_id: str) -> Deferred[bytes]:
        """Fires with the state that the row ends in, N again where the store did not take it."""
        self._execute("INSERT INTO orders VALUES (%s, 'N', NULL)", control_id)

        def answered() -> bytes:
            state = ""

            def written_back() -> bool:
                nonlocal state
                state = (
                    self._execute(
                        "SELECT state FROM orders WHERE id = %s AND (state IN ('D', 'E') OR (state = 'N' AND at IS NOT NULL))", control_id
                    )
                    or ""
                )
                return bool(state)

            until(written_back, seconds=30)
            return state.encode()

        return deferToThread(answered)

    def is_positive(self, answer: bytes) -> bool:
        return answer == b"D"

    test_connections_do_not_wait_for_each_other = None
    """There are none: what is new while a page is under way comes with the next."""

    @inlineCallbacks
    def test_what_is_not_accepted_is_not_answered_positively(self) -> Any:
        """Refused rows are failed; what the store cannot take is free again, and comes again."""
        answer = self.send("0")
        yield self.intake.arrived(1)
        self.intake.release(0, Judgement(Verdict.REFUSED, "not for this channel", "200"))
        self.assertEqual((yield answer), b"E")
        answer = self.send("1")
        yield self.intake.arrived(2)
        self.intake.release(1, UNAVAILABLE)
        yield self.intake.arrived(3)
        self.intake.release(2)
        yield answer
        self.assertEqual([one.control_id for one in self.intake.kept], ["0", "1", "1"])

    def test_it_is_a_source(self) -> None:
        self.assertIsInstance(self.source, Source)
        self.assertIsInstance(adapter, Rehearsing)

    def test_a_rehearsal_is_what_the_source_makes_of_it(self) -> Any:
        """The same message from the bytes of its record; of what is none an invalid one."""
        self._execute("INSERT INTO orders VALUES ('7', 'N', NULL)")
        options = adapter.source_options.defaults(connection=written(self.url), table="orders", status=STATUS)
        return self.intake.arrived(1).addCallback(lambda _: self._rehearsed(options))

    def _rehearsed(self, options: Any) -> None:
        real = self.intake.kept[0]
        tried, judgement = adapter.rehearse(options, real.body, "")
        self.assertIsNone(judgement)
        for name in ("body", "content_type", "message_type", "control_id", "sender", "facts", "patient_ids"):
            self.assertEqual(getattr(tried, name), getattr(real, name))
        self.assertEqual(adapter.rehearse(options, b"{", "")[1].verdict, Verdict.INVALID)
        self.intake.release(0)


class AwayTests(TestCase):
    """A database that is not there."""

    timeout = 60

    @inlineCallbacks
    def test_it_is_no_reason_not_to_start(self) -> Any:
        """It is said, waited for longer and longer, and stops at once when it is told to."""
        options = adapter.source_options.defaults(
            connection={"url": "postgresql://postgres@127.0.0.1:9/x", "connect_timeout": "1s"}, table="t", watermark="c", poll="10ms"
        )
        made = context(Path(self.mktemp()), reactor, name="lis")
        object.__setattr__(made, "checkpoints", lambda: succeed({}))
        source = adapter.source(options, made)
        with pytest.MonkeyPatch.context() as patch:
            said: list[str] = []
            failed: Deferred[None] = Deferred()

            def error(text: str, extra: dict[str, str]) -> None:
                said.append(f"{text}: {extra['reason']}")
                failed.callback(None)

            patch.setattr(made.log, "error", error)
            yield source.start(lambda *_: succeed(None))
            yield failed
            self.assertIn("out of reach", said[0])
            self.assertGreaterEqual(source.pause(), 0.5)
            yield source.stop()


class AlarmTests(TestCase):
    """A table that is suddenly empty, as behind a failover."""

    timeout = 60

    @inlineCallbacks
    def test_it_is_said_once_until_the_rows_are_back(self) -> Any:
        """Audited, a metric that stays up, nothing handed in; then it goes on by itself."""
        folder = Path(self.mktemp())
        folder.mkdir()
        engine = engine_of(f"sqlite:///{folder / 'lis.db'}")

        def run(statement: str) -> None:
            with engine.connect() as connection:
                connection.exec_driver_sql(statement)

        run("CREATE TABLE result (id integer PRIMARY KEY)")
        run("INSERT INTO result VALUES (1)")
        events: list[str] = []
        awaited: dict[str, Deferred[None]] = {name: Deferred() for name in ("database.stopped", "database.resumed")}

        def audit(event: str, **facts: Any) -> None:
            events.append(event)
            awaited[event].callback(None)

        made = context(folder, reactor, name="lis", audit=audit)
        object.__setattr__(made, "checkpoints", lambda: succeed({}))
        options = adapter.source_options.defaults(
            connection="sqlite:///lis.db", table="result", watermark="id", poll="10ms", retry_most="20ms"
        )
        source, intake = adapter.source(options, made), HeldIntake()
        yield source.start(intake)
        yield intake.arrived(1)
        intake.release(0)
        run("DELETE FROM result")
        yield awaited["database.stopped"]
        stopped = made.metrics.gauge("meridian_database_stopped", "", channel="lis")
        self.assertEqual(stopped.value, 1)
        yield self._failures(source, source.failures + 3)
        self.assertEqual((events, len(intake.kept)), (["database.stopped"], 1))
        run("INSERT INTO result VALUES (1), (2)")
        yield intake.arrived(2)
        intake.release(1)
        yield awaited["database.resumed"]
        self.assertEqual(stopped.value, 0)
        self.assertEqual([one.control_id for one in intake.kept], ["1", "2"])
        yield source.stop()
        engine.dispose()

    @inlineCallbacks
    def _failures(self, source: Any, number: int) -> Any:
        """Rounds that have failed."""
        while source.failures < number:
            yield deferLater(reactor, 0.005, lambda: None)
