"""ASTM held to the contract of sources, over loopback."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from adapters.astm import adapter
from adapters.astm.link import ACK, ENQ, EOT, NAK
from engine.message import ASTM, Verdict
from tests.contracts.source_contract import SourceContract
from tests.support.astm_instrument import RECORDS, content, frames
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

    def test_rehearsal_reads_a_file_of_records(self) -> None:
        """As an editor writes it; bytes that are not of the character set are at fault."""
        options = adapter.source_options.defaults(listen="1", charset="gb18030")
        envelope, fault = adapter.rehearse(options, content(charset="gb18030").replace(b"\r", b"\r\n"), "")
        self.assertEqual((envelope.control_id, fault), ("77", None))
        _, fault = adapter.rehearse(options, b"H|\\^&\rP|1||\xff\xff\r", "")
        self.assertIs(fault.verdict if fault else None, Verdict.INVALID)
