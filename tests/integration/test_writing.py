"""engine.writing on real sockets."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from engine.writing import write_now

reactor: Any = _reactor


class Reader(Protocol):
    """Reads nothing until told to, then all; `ended` fires with it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(bytes(self.received))


class Writer(Protocol):
    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


class WriteNowTests(TestCase):
    timeout = 60

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        self.reader = Reader()
        self.port = reactor.listenTCP(0, Factory.forProtocol(lambda: self.reader), interface="127.0.0.1")
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        self.writer: Any = yield connectProtocol(endpoint, Writer())

    @inlineCallbacks
    def tearDown(self) -> Generator[Deferred[Any], Any, None]:
        yield self.writer.ended
        yield self.port.stopListening()

    @inlineCallbacks
    def test_order_is_kept_also_when_the_peer_does_not_read(self) -> Generator[Deferred[Any], Any, None]:
        """Far more than the sockets' buffers take, in pieces, at once and the usual way."""
        pieces = [bytes([number]) * 200_000 for number in range(1, 60)]
        for index, piece in enumerate(pieces):
            if index % 5 == 3:
                self.writer.transport.write(piece)
            else:
                write_now(self.writer.transport, piece)
        self.writer.transport.loseConnection()
        self.reader.transport.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual((yield self.reader.ended), b"".join(pieces))

    @inlineCallbacks
    def test_a_small_answer_is_on_its_way_when_the_call_returns(self) -> Generator[Deferred[Any], Any, None]:
        write_now(self.writer.transport, b"answer")
        self.assertEqual(self.writer.transport.dataBuffer, b"")
        self.writer.transport.loseConnection()
        self.reader.transport.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual((yield self.reader.ended), b"answer")

    @inlineCallbacks
    def test_after_the_end_nothing_is_written_and_nothing_raised(self) -> Generator[Deferred[Any], Any, None]:
        self.writer.transport.abortConnection()
        yield self.writer.ended
        write_now(self.writer.transport, b"late")
        self.reader.transport.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual((yield self.reader.ended), b"")


def test_other_transports_are_written_to_as_usual() -> None:
    transport = StringTransport()
    write_now(transport, b"data")
    assert transport.value() == b"data"
