"""An instrument that takes orders over loopback; its mood the test decides. Shares no line with adapters.astm."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

reactor: Any = _reactor
_FRAME = re.compile(rb"\x02(\d[^\x03\x17]*[\x03\x17])([0-9A-F]{2})\r\n")


class Taking(Factory):
    """Listens on a port of its own; `mode` is take, refuse, hang up or hold. `taken` are the third fields of the headers."""

    noisy = False

    def __init__(self) -> None:
        self.mode = "take"
        self.taken: list[str] = []
        self.lines: set[_Line] = set()
        self._held: list[tuple[_Line, str]] = []
        self._awaited: list[Deferred[None]] = []
        self._listening = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    def buildProtocol(self, addr: Any) -> _Line:
        return _Line(self)

    def received(self) -> Deferred[None]:
        """Fires when the next message is here."""
        awaited: Deferred[None] = Deferred()
        self._awaited.append(awaited)
        return awaited

    def message(self, line: _Line, control_id: str) -> None:
        if self.mode == "hang up":
            line.transport.loseConnection()
        elif self.mode == "refuse":
            line.transport.write(b"\x15")
        elif self.mode == "hold":
            self._held.append((line, control_id))
        else:
            self._take(line, control_id)
        awaited, self._awaited = self._awaited, []
        for one in awaited:
            one.callback(None)

    def _take(self, line: _Line, control_id: str) -> None:
        self.taken.append(control_id)
        line.transport.write(b"\x06")

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

    def __init__(self, taking: Taking) -> None:
        self._taking, self._buffer, self._control_id = taking, b"", ""
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._taking.lines.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self._taking.lines.discard(self)
        self.ended.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            if self._buffer[:1] in b"\x05\x04":
                if self._buffer[:1] == b"\x05":
                    self.transport.write(b"\x06")
                self._buffer = self._buffer[1:]
            elif (found := _FRAME.match(self._buffer)) is not None:
                self._buffer = self._buffer[found.end() :]
                self._frame(found[1], found[2])
            else:
                return

    def _frame(self, counted: bytes, checksum: bytes) -> None:
        assert b"%02X" % (sum(counted) % 256) == checksum
        if counted[1:2] == b"H":
            self._control_id = counted.split(b"|")[2].decode().rstrip("\r\x03")
        if counted[1:2] == b"L":
            self._taking.message(self, self._control_id)
        else:
            self.transport.write(b"\x06")
