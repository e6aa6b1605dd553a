"""The bare Twisted MLLP echo: what the reactor alone can do, nothing kept. It speaks to its starter as engine.bench.sink does."""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO

from engine.bench.loopback import HOST
from engine.bench.sink import END, acknowledge

reactor: Any = _reactor


class Echo(Protocol):
    """Acknowledges each frame, and that is all."""

    transport: Any

    def __init__(self) -> None:
        self._buffer = b""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        *frames, self._buffer = (self._buffer + data).split(END)
        for frame in frames:
            self.transport.write(acknowledge(frame)[1])


class _Starter(Protocol):
    """Ends the process with its standard input."""

    def connectionLost(self, reason: Any = None) -> None:
        reactor.stop()


if __name__ == "__main__":
    port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface=HOST)
    StandardIO(_Starter())
    sys.stdout.write(json.dumps({"port": port.getHost().port}) + "\n")
    sys.stdout.flush()
    reactor.run()
