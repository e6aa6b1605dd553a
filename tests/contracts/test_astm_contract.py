"""ASTM held to the contracts of sources and destinations, over loopback."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from adapters.astm import adapter
from adapters.astm.link import ACK, ENQ, EOT, NAK
from engine.errors import PermanentDelivery, TransientDelivery
from engine.message import ASTM, BodyRef, Parcel, Verdict
from tests.contracts.destination_contract import DestinationContract
from tests.contracts.source_contract import HeldIntake, SourceContract
from tests.support.astm_instrument import RECORDS, content, frames
from tests.support.astm_loopback import Taking
from tests.support.mllp import context

reactor: Any = _reactor


class Sender(Protocol):
    """Sends ENQ and frames, each after the answer to the one before; `done` fires with the last answer once it has ended."""

    transport: Any

    def __init__(self, parts: list[bytes], *, vanish: bool = False) -> None:
        self._parts, self._vanish, self._last = [*parts], vanish, b""
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self._next()

    def _next(self) -> None:
        if not self._parts:
            if not self._vanish:
                self.transport.write(EOT)
            self.transport.loseConnection()
            return
        self.transport.write(self._parts.pop(0))

    def dataReceived(self, data: bytes) -> None:
        self._last = data[-1:]
        if self._last == NAK:
            self._parts = []
        self._next()

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(b"" if self._parts else self._last)


class AstmDestinationTests(DestinationContract, TestCase):
    """On a line of its own."""

    def start_peer(self) -> Taking:
        return Taking()

    def make(self, port: int | None = None) -> Any:
        return adapter.destination(adapter.destination_options.defaults(connect=f"127.0.0.1:{port or self.peer.port}"), context(reactor))

    def make_nowhere(self) -> Any:
        return self.make(1)

    def parcel(self, number: int, body: bytes | BodyRef | None = None) -> Parcel:
        return Parcel(number, number, body or content(f"H|\\^&|{number}", "O|1|S1", "L|1|N"), ASTM, "ASTM^O", str(number), f"k{number}")

    @inlineCallbacks
    def test_bytes_that_no_frame_can_carry(self):  # type: ignore[no-untyped-def]
        """Are refused before anything is sent."""
        error = yield self.assertFailure(self.destination.deliver(self.parcel(1, b"H|\x02\r")), PermanentDelivery)
        self.assertIn("control characters", str(error))


class AstmSharedLineTests(TestCase):
    """A destination on the line of a source."""

    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        self.shared = replace(context(reactor), name="chemistry")
        self.source = adapter.source(adapter.source_options.defaults(listen="127.0.0.1:0"), self.shared)
        yield self.source.start(HeldIntake())
        self.destination = self.to("chemistry")

    def tearDown(self) -> Any:
        return self.source.stop()

    def to(self, line: str) -> Any:
        return adapter.destination(adapter.destination_options.defaults(line=line), replace(self.shared, name="orders/chemistry"))

    @inlineCallbacks
    def test_it_is_sent_to_the_instrument_that_has_connected(self):  # type: ignore[no-untyped-def]
        instrument = OrderTaker()
        yield connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", self.source.port), instrument)
        while not self.source.connections:
            yield deferLater(reactor, 0.01)
        parcel = Parcel(1, 1, content("H|\\^&|7", "O|1|S1", "L|1|N"), ASTM, "ASTM^O", "7", "k")
        receipt = yield self.destination.deliver(parcel)
        self.assertIn("taken by 127.0.0.1:", receipt.reference)
        self.assertEqual(b"".join(instrument.heard).count(b"\x02"), 3)
        instrument.transport.loseConnection()

    @inlineCallbacks
    def test_nobody_is_connected(self):  # type: ignore[no-untyped-def]
        """Nothing is lost: it is tried again."""
        parcel = Parcel(1, 1, content(), ASTM, "ASTM^O", "7", "k")
        for destination, said in ((self.destination, "no instrument is connected"), (self.to("other"), "there is no channel other")):
            error = yield self.assertFailure(destination.deliver(parcel), TransientDelivery)
            self.assertIn(said, str(error))
            self.assertTrue(error.whole_destination)


class OrderTaker(Protocol):
    """Answers whatever comes with ACK, as long as it is no EOT."""

    transport: Any

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)
        if data != EOT:
            self.transport.write(ACK)


class AstmSourceTests(SourceContract, TestCase):
    """What an instrument hears of the last frame is the answer."""

    def make_source(self, port: int = 0) -> Any:
        return adapter.source(adapter.source_options.defaults(listen=f"127.0.0.1:{port}", charset="GBK"), context(reactor))

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def send(self, control_id: str) -> Deferred[bytes]:
        return self.transfer(content(RECORDS[0].replace("77", control_id), *RECORDS[1:], charset="gbk"))

    def transfer(self, message: bytes, **how: Any) -> Deferred[bytes]:
        sender = Sender([ENQ, *frames(message)], **how)
        connected = connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", self.source.port), sender)
        return connected.addCallback(lambda _: sender.done)  # type: ignore[no-any-return]

    def is_positive(self, answer: bytes) -> bool:
        return answer == ACK

    @inlineCallbacks
    def test_the_envelope_says_what_the_records_say(self):  # type: ignore[no-untyped-def]
        """Type, sender (H-5), patients (P-3, P-4), and the character set that the channel names."""
        answer = self.send("77")
        yield self.intake.arrived(1)
        envelope = self.intake.kept[0]
        self.assertEqual((envelope.content_type, envelope.message_type, envelope.sender), (ASTM, "ASTM^R", "cobas^6000"))
        self.assertEqual(envelope.patient_ids, ("P1", "L1"))
        self.assertEqual(envelope.facts, {"charset": "gbk"})
        self.assertEqual(envelope.body, content(charset="gbk"))
        self.intake.release(0)
        yield answer

    @inlineCallbacks
    def test_the_same_bytes_are_the_same_message(self):  # type: ignore[no-untyped-def]
        """An instrument that missed our last answer sends all again."""
        for number in range(2):
            answer = self.send("77")
            yield self.intake.arrived(number + 1)
            self.intake.release(number)
            yield answer
        first, second = self.intake.kept
        self.assertEqual(first.idempotency_key, second.idempotency_key)

    @inlineCallbacks
    def test_a_message_that_does_not_end_is_kept_as_invalid(self):  # type: ignore[no-untyped-def]
        """The line goes after the third record."""
        answer = self.transfer(content(*RECORDS[:3], charset="gbk"), vanish=True)
        yield self.intake.arrived(1)
        envelope = self.intake.kept[0]
        self.assertEqual((envelope.body, envelope.idempotency_key), (content(*RECORDS[:3], charset="gbk"), ""))
        self.intake.release(0)
        yield answer

    def test_each_character_set(self) -> None:
        """As the channel says it; names and comments of the records are read in it, and what is not of it is invalid."""
        for charset, name in (("GB18030", "王\u3400"), ("GBK", "王小明"), ("UTF-8", "王Ü"), ("Latin-1", "Müller")):
            options = adapter.source_options.defaults(listen="1", charset=charset)
            body = content("H|\\^&", f"P|1|{name}", charset=charset)
            envelope, fault = adapter.rehearse(options, body, "")
            self.assertEqual((envelope.patient_ids, envelope.body, fault), ((name,), body, None))

    def test_rehearsal_reads_a_file_of_records(self) -> None:
        """As an editor writes it; bytes that are not of the character set are at fault."""
        options = adapter.source_options.defaults(listen="1", charset="gb18030")
        envelope, fault = adapter.rehearse(options, content(charset="gb18030").replace(b"\r", b"\r\n"), "")
        self.assertEqual((envelope.control_id, fault), ("77", None))
        _, fault = adapter.rehearse(options, b"H|\\^&\rP|1||\xff\xff\r", "")
        self.assertIs(fault.verdict if fault else None, Verdict.INVALID)
