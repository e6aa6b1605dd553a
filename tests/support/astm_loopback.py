"""An instrument that takes orders over loopback; its mood the test decides. Shares no line with adapters.astm."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from tests.support.mllp_loopback import Receiver

_FRAME = re.compile(rb"\x02(\d[^\x03\x17]*[\x03\x17])([0-9A-F]{2})\r\n")


class Taking(Receiver):
    """`taken` are the third fields of the headers."""

    def buildProtocol(self, addr: Any) -> Any:
        return _Line(self)


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

    def take(self, control_id: str) -> None:
        self.transport.write(b"\x06")

    def refuse(self, control_id: str) -> None:
        self.transport.write(b"\x15")

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
