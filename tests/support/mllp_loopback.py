"""MLLP over loopback: a receiver whose mood the test decides, and a sender of single messages."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol

from adapters.mllp.framing import MllpFramer
from engine.formats.hl7v2 import read_header

reactor: Any = _reactor


def acknowledgment(code: str, control_id: str) -> bytes:
    """As a receiver of another make would word it."""
    return f"MSH|^~\\&|PLAT|CITY|LAB|HOSP|20261123||ACK|R{control_id}|P|2.5\rMSA|{code}|{control_id}\r".encode()


class Receiver(Factory):
    """Listens on a port of its own; `mode` is take, refuse, hang up or hold. Receivers of other protocols build lines of their own."""

    noisy = False

    def __init__(self, tls: Any = None) -> None:
        self.mode = "take"
        self.taken: list[str] = []
        self.lines: set[Any] = set()
        self._held: list[tuple[Any, str]] = []
        self._awaited: list[Deferred[None]] = []
        listen = reactor.listenTCP if tls is None else reactor.listenSSL
        self._listening = listen(0, self, *([] if tls is None else [tls]), interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    def buildProtocol(self, addr: Any) -> Any:
        return _Line(self)

    def received(self) -> Deferred[None]:
        """Fires when the next message is here."""
        awaited: Deferred[None] = Deferred()
        self._awaited.append(awaited)
        return awaited

    def message(self, line: Any, control_id: str) -> None:
        if self.mode == "hang up":
            line.transport.loseConnection()
        elif self.mode == "refuse":
            line.refuse(control_id)
        elif self.mode == "hold":
            self._held.append((line, control_id))
        else:
            self._take(line, control_id)
        awaited, self._awaited = self._awaited, []
        for one in awaited:
            one.callback(None)

    def _take(self, line: Any, control_id: str) -> None:
        self.taken.append(control_id)
        line.take(control_id)

    def release(self) -> None:
        held, self._held = self._held, []
        for line, control_id in held:
            self._take(line, control_id)

    def stop(self) -> Deferred[None]:
        gone: Deferred[None] = self._listening.stopListening()
        for line in list(self.lines):
            line.transport.abortConnection()
            gone.addCallback(lambda _, line=line: line.ended)
        return gone


class _Line(Protocol):
    transport: Any

    def __init__(self, receiver: Receiver) -> None:
        self._receiver, self._framer = receiver, MllpFramer()
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._receiver.lines.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self._receiver.lines.discard(self)
        self.ended.callback(None)

    def take(self, control_id: str) -> None:
        self.transport.write(self._framer.wrap(acknowledgment("AA", control_id)))

    def refuse(self, control_id: str) -> None:
        self.transport.write(self._framer.wrap(acknowledgment("AE", control_id)))

    def dataReceived(self, data: bytes) -> None:
        for frame in self._framer.feed(data):
            self._receiver.message(self, read_header(frame.content).control_id)


class Sender(Protocol):
    """Sends bytes, gathers `wanted` frames, closes; `done` fires with their contents, fewer where the connection ended first."""

    transport: Any

    def __init__(self, stream: bytes, wanted: int = 1) -> None:
        self._stream, self._wanted, self._framer = stream, wanted, MllpFramer()
        self._contents: list[bytes] = []
        self.done: Deferred[list[bytes]] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self._stream)

    def dataReceived(self, data: bytes) -> None:
        self._contents += [frame.content for frame in self._framer.feed(data)]
        if len(self._contents) >= self._wanted:
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(self._contents)


def send(port: int, stream: bytes, wanted: int = 1, tls: Any = None) -> Deferred[list[bytes]]:
    """Send `stream` to a local port over a connection of its own."""
    endpoint: Any = HostnameEndpoint(reactor, "localhost" if tls is not None else "127.0.0.1", port)
    sender = Sender(stream, wanted)
    connected = connectProtocol(endpoint if tls is None else wrapClientTLS(tls, endpoint), sender)
    return connected.addCallback(lambda _: sender.done)
