"""Sources over a list on disk: rounds, what is taken off, failures, stops."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.trial.unittest import TestCase

from engine.errors import ConfigError
from engine.message import ACCEPTED, Ack, Envelope
from engine.polling import PollingSource
from tests.support.fhir import context


class Scripted(PollingSource):
    """A list whose items, and errors, the test gives, a round each; `kept` fires with the item ``last``."""

    what: ClassVar[str] = "list"

    def __init__(self, folder: Path, rounds: list[Any]) -> None:
        super().__init__(context(folder, reactor), 0.001)
        self.rounds, self.left, self.closed = rounds, [], 0
        self.kept: Deferred[None] = Deferred()

    def open(self) -> None:
        if self.rounds and isinstance(self.rounds[0], sqlite3.Error):
            raise self.rounds[0]

    def close(self) -> None:
        self.closed += 1

    def listed(self) -> list[str]:
        found = self.rounds.pop(0) if self.rounds else []
        if isinstance(found, Exception):
            raise found
        return list(found)

    def hand_in(self, item: str) -> Deferred[Any]:
        return self.intake(Envelope(item.encode(), "text/plain"), lambda _: b"").addCallback(self._taken, item)

    def _taken(self, ack: Ack, item: str) -> None:
        self.left.append(item)
        if item == "last":
            self.kept.callback(None)


class PollingTests(TestCase):
    def make(self, rounds: list[Any]) -> Scripted:
        return Scripted(Path(self.mktemp()), rounds)

    @inlineCallbacks
    def test_rounds_go_on_after_failures(self) -> Any:
        """A locked file, and a bug, cost a round each and are logged; what stands there afterwards is handed in."""
        source = self.make([["one"], [], OSError("disk"), KeyError("a bug"), ["two", "last"]])
        with self.assertLogs("test.fhir", logging.ERROR) as logged:
            yield source.start(lambda envelope, reply, invalid=None: succeed(Ack(ACCEPTED, b"", 1)))
            yield source.kept
        yield source.stop()
        self.assertEqual(source.left, ["one", "two", "last"])
        self.assertEqual([record.getMessage() for record in logged.records], ["the list cannot be read", "unexpected failure at the list"])
        self.assertEqual(source.closed, 1)

    @inlineCallbacks
    def test_a_list_that_cannot_be_opened_keeps_the_node_from_starting(self) -> Any:
        """By a ConfigError that names it; a stop afterwards closes nothing."""
        source = self.make([sqlite3.OperationalError("unable to open database file")])
        error = yield self.assertFailure(source.start(lambda *_: succeed(None)), ConfigError)
        self.assertIn("cannot open the list", str(error))
        yield source.stop()
        self.assertEqual(source.closed, 0)

    @inlineCallbacks
    def test_a_stop_waits_for_what_was_handed_in(self) -> Any:
        """The list is closed when the round has ended, not before."""
        source = self.make([["last"]])
        handed: Deferred[None] = Deferred()
        answer: Deferred[Ack] = Deferred()

        def intake(envelope: Envelope, reply: Any, invalid: Any = None) -> Deferred[Ack]:
            handed.callback(None)
            return answer

        yield source.start(intake)
        yield handed
        stopped = source.stop()
        self.assertNoResult(stopped)
        answer.callback(Ack(ACCEPTED, b"", 1))
        yield stopped
        self.assertEqual((source.left, source.closed), (["last"], 1))
