"""An instrument's line on a clock that the test advances; no network."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from adapters.astm import adapter
from adapters.astm.connection import AstmConnection
from adapters.astm.link import ACK, ENQ, EOT, frame
from engine.message import Verdict
from tests.support.astm_instrument import content, frames
from tests.support.mllp import Intake, Transport, context


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.source = adapter.source(adapter.source_options.defaults(listen="1"), context(self.clock))
        self.intake = self.source.intake = Intake(at_once=True)
        self.connection: AstmConnection = self.source._make("")
        self.wire = Transport(peerAddress=IPv4Address("TCP", "10.0.0.9", 4444))
        self.connection.makeConnection(self.wire)
        self.addCleanup(self.connection.connectionLost, Failure(ConnectionDone()))

    def hears(self, *data: bytes) -> bytes:
        """What the instrument hears of it."""
        self.wire.clear()
        for one in data:
            self.connection.dataReceived(one)
        return bytes(self.wire.value())

    def test_an_instrument_that_falls_silent_is_waited_for_thirty_seconds(self) -> None:
        """From its last byte on; then what is complete is taken, and the line is free for the next enquiry."""
        head = content("H|\\^&|1||X", "P|1|P1", "O|1|S1", "R|1|^^^GLU|5", "P|2|P2")
        self.assertEqual(self.hears(ENQ, *frames(head)), ACK * 6)
        self.clock.advance(29)
        self.hears(b"\x02")
        self.clock.advance(29)
        self.assertEqual(self.intake.kept, [])
        self.clock.advance(1)
        self.assertEqual([one.message_type for one in self.intake.kept], ["ASTM^R", ""])
        self.assertEqual([invalid and invalid.verdict for invalid in self.intake.invalid], [None, Verdict.INVALID])
        self.assertEqual(self.hears(ENQ, *frames(content()), EOT), ACK * 6)
        self.assertEqual(len(self.intake.kept), 3)

    def test_noise_does_not_fill_the_log(self) -> None:
        """Every fault is counted; of each kind a connection has one line in the log in a minute."""
        with self.assertLogs("test.mllp", "WARNING") as logged:
            for _ in range(100):
                self.hears(b"\xff" + ENQ, frame(3, b"x"))
            self.assertEqual(len(logged.records), 3)  # noise, a wrong number, an enquiry within a transfer
            self.clock.advance(60)
            self.hears(b"\xff")
            self.assertEqual(len(logged.records), 4)
        count = self.source._context.metrics.registry.get_sample_value
        self.assertEqual(count("meridian_astm_faults_total", {"channel": "c", "fault": "noise"}), 101)
