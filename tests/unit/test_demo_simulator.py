"""The simulator's sender: one at a time, in time, and again until it is answered."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from engine.demo.morning import ACCEPTED, BROKEN, Item
from engine.demo.simulator import Answer, Report, Sender, acknowledgment_code


@implementer(IStreamClientEndpoint)
class Lines:
    """An endpoint whose connections the test holds in its hand; refuses the first `refuse` of them."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse = refuse
        self.protocols: list[Any] = []
        self.transports: list[StringTransport] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.refuse:
            self.refuse -= 1
            return fail(ConnectionRefusedError())
        protocol, transport = factory.buildProtocol(None), StringTransport()
        self.protocols.append(protocol)
        self.transports.append(transport)
        protocol.makeConnection(transport)
        return succeed(protocol)


def item(at: float, control_id: str, expect: str = ACCEPTED) -> Item:
    return Item(at, b"MSH|" + control_id.encode() + b"\r", "ADT^A01", "", expect, "HIS", control_id)


def ack(code: bytes = b"AA") -> bytes:
    return b"\x0bMSH|^~\\&|\rMSA|" + code + b"|1\r\x1c\r"


class SenderTests(SynchronousTestCase):
    """`Sender` over connections in memory, on a clock the test turns."""

    def setUp(self) -> None:
        self.clock, self.lines = Clock(), Lines()

    def sender(self, *items: Item, **more: Any) -> Sender:
        return Sender(items, self.lines, reactor=self.clock, answer_within=10, pause=1, **more)

    def test_next_only_after_the_answer(self) -> None:
        """One message is under way at a time; answers are kept with code, latency and attempts."""
        done = self.sender(item(0, "a"), item(1, "b")).run()
        self.assertEqual(self.lines.transports[0].value(), b"\x0bMSH|a\r\x1c\r")
        self.clock.advance(0.25)
        self.lines.protocols[0].dataReceived(ack())
        self.assertEqual(self.lines.transports[0].value().count(b"\x0b"), 2)
        self.lines.protocols[0].dataReceived(ack(b"AE"))
        answers = self.successResultOf(done)
        self.assertEqual([(one.code, one.latency, one.attempts) for one in answers], [("AA", 0.25, 1), ("AE", 0.0, 1)])
        self.assertTrue(self.lines.transports[0].disconnecting)

    def test_answers_in_pieces(self) -> None:
        """An acknowledgment may arrive one byte at a time."""
        done = self.sender(item(0, "a")).run()
        for index in range(len(ack())):
            self.lines.protocols[0].dataReceived(ack()[index : index + 1])
        self.assertEqual(self.successResultOf(done)[0].code, "AA")

    def test_paced(self) -> None:
        """An item goes out at its time, scaled by the pace."""
        self.sender(item(100, "a"), pace=0.1).run()
        self.clock.advance(9.9)
        self.assertEqual(self.lines.transports, [])
        self.clock.advance(0.1)
        self.assertEqual(self.lines.transports[0].value(), b"\x0bMSH|a\r\x1c\r")

    def test_again_after_a_refused_connection(self) -> None:
        """While nobody listens it tries again, after a pause each."""
        self.lines.refuse = 2
        done = self.sender(item(0, "a")).run()
        self.clock.pump([1, 1])
        self.lines.protocols[0].dataReceived(ack())
        self.assertEqual(self.successResultOf(done)[0].attempts, 3)

    def test_again_after_a_lost_connection(self) -> None:
        """A connection that goes before the answer came: the same bytes on a new one."""
        done = self.sender(item(0, "a")).run()
        self.lines.protocols[0].connectionLost(Failure(ConnectionDone()))
        self.clock.advance(1)
        self.assertEqual(self.lines.transports[1].value(), self.lines.transports[0].value())
        self.lines.protocols[1].dataReceived(ack())
        self.assertEqual(self.successResultOf(done)[0].attempts, 2)

    def test_again_after_silence(self) -> None:
        """No answer in time: that connection is given up, so that a late answer cannot count for another message."""
        done = self.sender(item(0, "a"), item(0, "b")).run()
        self.clock.advance(10)
        self.assertTrue(self.lines.transports[0].disconnected)
        self.clock.advance(1)
        self.lines.protocols[1].dataReceived(ack())
        self.lines.protocols[1].dataReceived(ack(b"AR"))
        self.assertEqual([one.code for one in self.successResultOf(done)], ["AA", "AR"])

    def test_gives_up_in_the_end(self) -> None:
        """After so many attempts an item counts as unanswered, and the next one has its turn."""
        self.lines.refuse = 2
        done = self.sender(item(0, "a"), item(0, "b"), most_attempts=2).run()
        self.clock.advance(1)
        self.lines.protocols[0].dataReceived(ack())
        self.assertEqual([one.code for one in self.successResultOf(done)], ["", "AA"])


class ReportTests(SynchronousTestCase):
    """What is expected of the answers."""

    def test_names_what_was_not_as_expected(self) -> None:
        """An accepted item answered AE, a broken one answered AA, and silence are told apart."""
        answers = [
            Answer(item(0, "fine"), "AA", 0.1, 1),
            Answer(item(0, "refused"), "AE", 0.1, 2),
            Answer(item(0, "taken", BROKEN), "AA", 0.1, 1),
            Answer(item(0, "rightly", BROKEN), "AR", 0.1, 1),
            Answer(item(0, "silence"), "", 0.0, 3),
        ]
        report = Report.of(answers)
        self.assertEqual(report.unexpected, ("refused", "taken"))
        self.assertEqual(report.unanswered, ("silence",))
        self.assertEqual((report.sent, report.repeated, report.codes["AA"]), (5, 2, 2))

    def test_code_of_an_answer_without_msa(self) -> None:
        """An answer that is no acknowledgment has no code."""
        self.assertEqual(acknowledgment_code(b"MSH|^~\\&|\rERR|1\r"), "")
        self.assertEqual(acknowledgment_code(b"MSH#\rMSA#CA#7\r"), "CA")
