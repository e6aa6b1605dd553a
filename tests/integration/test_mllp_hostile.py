"""Peers that nobody wishes for, over loopback: they read nothing, send without end, come in crowds, break off. The source stays
within its bounds, and serves the others."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from adapters.mllp import adapter
from adapters.mllp.framing import MllpFramer
from adapters.mllp.protocol import MllpConnection
from tests.contracts.source_contract import HeldIntake
from tests.support.certs import Trust
from tests.support.mllp import Intake, context, message, msa
from tests.support.mllp_loopback import send

reactor: Any = _reactor
MANY = 20_000
CROWD = 400
KERNEL = 65536
"""Bytes that the sockets' own buffers are asked to hold, so that a peer that does not read is felt soon."""


class Watched(MllpConnection):
    """Tells when the peer is felt not to read, and when it has closed its side; `most` bytes of answers waited at once."""

    most = 0

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self.deaf: Deferred[None] = Deferred()
        self.half_closed: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._wire = getattr(self.transport, "transport", self.transport)  # below TLS
        self._wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        waiting = len(self._wire.dataBuffer) - self._wire.offset + self._wire._tempDataLen
        self.most = max(self.most, waiting)

    def pauseProducing(self) -> None:
        super().pauseProducing()
        if not self.deaf.called:
            self.deaf.callback(None)

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if not self.half_closed.called:
            self.half_closed.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        self.gone.callback(None)


@implementer(IHandshakeListener)
class Peer(Protocol):
    """Sends and reads as the test says; `heard` counts answers, `all_heard` fires with the contents of the `wanted` ones."""

    transport: Any

    def __init__(self, wanted: int = 1) -> None:
        self.contents: list[bytes] = []
        self.wanted, self._framer = wanted, MllpFramer()
        self.all_heard: Deferred[list[bytes]] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.secure: Deferred[Peer] = Deferred()

    def handshakeCompleted(self) -> None:
        self.secure.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.contents += [frame.content for frame in self._framer.feed(data)]
        if len(self.contents) >= self.wanted and not self.all_heard.called:
            self.all_heard.callback(self.contents)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


class HostileTests(TestCase):
    timeout = 120

    tls: Any = None
    ward: Any = None

    def listen(self, intake: Any = None, **options: Any) -> Any:
        self.intake = Intake() if intake is None else intake
        self.audited: list[Any] = []
        self.watched: list[Watched] = []
        settings = adapter.source_options.defaults(**{"listen": "127.0.0.1:0", **options})
        self.source = adapter.source(settings, context(reactor, tls=self.tls, audited=self.audited))
        self.source.buildProtocol = self.build
        self.addCleanup(self.source.stop)
        return self.source.start(self.intake)

    def build(self, _: Any) -> Watched:
        self.watched.append(Watched(self.source))
        return self.watched[-1]

    def connect(self, wanted: int = 1) -> Deferred[Any]:
        endpoint: Any = HostnameEndpoint(reactor, "127.0.0.1" if self.tls is None else "localhost", self.source.port)
        connected = connectProtocol(endpoint if self.tls is None else wrapClientTLS(self.ward, endpoint), Peer(wanted))
        return connected if self.tls is None else connected.addCallback(lambda peer: peer.secure)

    @inlineCallbacks
    def end(self, *peers: Peer):  # type: ignore[no-untyped-def]
        for peer in peers:
            peer.transport.abortConnection()
            yield peer.lost

    @inlineCallbacks
    def served(self):  # type: ignore[no-untyped-def]
        """Somebody else is served as ever."""
        (answer,) = yield send(self.source.port, MllpFramer.wrap(message("other")), tls=self.ward)
        self.assertEqual(msa(answer), "AA|other")

    def test_who_never_reads_is_read_no_more(self) -> Deferred[None]:
        """Over plain TCP."""
        return self.never_reads()

    def test_who_never_reads_is_read_no_more_over_tls(self) -> Deferred[None]:
        """Where Twisted has a buffer of its own above TCP's."""
        trust = Trust(Path(self.mktemp()).resolve(), reactor)
        self.tls, self.ward = trust.provider("platform"), trust.provider("ward").client(None, "localhost")
        return self.never_reads(tls={})

    @inlineCallbacks
    def never_reads(self, **options):  # type: ignore[no-untyped-def]
        """Twenty thousand messages and no ear for an answer: what waits to be written is bounded. When it reads at last, it has an
        answer to each, in order."""
        yield self.listen(**options)
        peer = yield self.connect(MANY)
        getattr(peer.transport, "transport", peer.transport).socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
        peer.transport.pauseProducing()
        peer.transport.write(b"".join(MllpFramer.wrap(message(str(number))) for number in range(MANY)))
        yield self.watched[0].deaf
        self.assertLess(len(self.intake.kept), MANY)
        yield self.served()
        peer.transport.resumeProducing()
        contents = yield peer.all_heard
        self.assertEqual([msa(content) for content in contents], [f"AA|{number}" for number in range(MANY)])
        self.assertLess(self.watched[0].most, 1 << 20)
        yield self.end(peer)

    @inlineCallbacks
    def test_one_byte_at_a_time(self):  # type: ignore[no-untyped-def]
        """Each in a segment of its own."""
        yield self.listen()
        peer = yield self.connect()
        peer.transport.setTcpNoDelay(True)
        for byte in MllpFramer.wrap(message("1")):
            peer.transport.writeSomeData(bytes((byte,)))
        contents = yield peer.all_heard
        self.assertEqual([msa(content) for content in contents], ["AA|1"])
        yield self.end(peer)

    @inlineCallbacks
    def test_a_message_without_end(self):  # type: ignore[no-untyped-def]
        """Told why, read for a while, cut off; not more of it is held than one message may have, and what comes in one read."""
        yield self.listen(max_size="64KB")
        peer = yield self.connect()
        endless = Endless(peer.transport)
        peer.transport.write(b"\x0b" + message("1"))
        peer.transport.registerProducer(endless, False)
        (answer,) = yield peer.all_heard
        self.assertEqual(msa(answer), "AE|1")
        yield peer.lost
        self.assertLess(max(len(envelope.body) for envelope in self.intake.kept), 3 * 65536)
        yield self.served()

    @inlineCallbacks
    def test_more_connections_than_there_may_be(self):  # type: ignore[no-untyped-def]
        """Those beyond the limit are closed and audited; when the others have gone there is room again."""
        yield self.listen(connections=CROWD, connections_per_address=2 * CROWD)
        first, second = [], []
        for peers in (first, second):
            for _ in range(CROWD):
                peers.append((yield self.connect()))
        yield gatherResults([peer.lost for peer in second])
        self.assertEqual([event for event, _ in self.audited], ["mllp.refused"] * CROWD)
        for peer in first:
            peer.transport.write(MllpFramer.wrap(message("1")))
        yield gatherResults([peer.all_heard for peer in first])
        yield self.end(*first)
        yield gatherResults([watched.gone for watched in self.watched])
        yield self.served()

    @inlineCallbacks
    def test_a_reset_while_answers_are_written(self):  # type: ignore[no-untyped-def]
        """What was committed stays so; nobody else notices."""
        yield self.listen(HeldIntake(), in_flight=1000)
        peer = yield self.connect()
        peer.transport.write(b"".join(MllpFramer.wrap(message(str(number))) for number in range(100)))
        yield self.intake.arrived(100)
        for index in range(50):
            self.intake.release(index)
        peer.transport.abortConnection()  # unread answers: the kernel sends RST
        yield peer.lost
        for index in range(50, 100):
            self.intake.release(index)
        other = send(self.source.port, MllpFramer.wrap(message("other")))
        yield self.intake.arrived(101)
        self.intake.release(100)
        (answer,) = yield other
        self.assertEqual(msa(answer), "AA|other")

    @inlineCallbacks
    def test_who_closes_its_side_hears_its_answer(self):  # type: ignore[no-untyped-def]
        """As a script does that pipes a file into a socket: FIN comes before the commit."""
        yield self.listen(HeldIntake())
        peer = yield self.connect()
        peer.transport.write(MllpFramer.wrap(message("1")))
        peer.transport.loseWriteConnection()
        yield self.intake.arrived(1)
        yield self.watched[0].half_closed
        self.intake.release(0)
        (answer,) = yield peer.all_heard
        self.assertEqual(msa(answer), "AA|1")
        yield peer.lost

    @inlineCallbacks
    def test_who_says_nothing_is_cut_off(self):  # type: ignore[no-untyped-def]
        """A connection that is open and dead."""
        yield self.listen(idle="100ms")
        peer = yield self.connect()
        yield peer.lost
        yield self.served()


class Endless:
    """A pull producer of letters."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def resumeProducing(self) -> None:
        self._transport.write(b"x" * 65536)

    def stopProducing(self) -> None: ...
