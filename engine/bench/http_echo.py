"""What the node's own HTTP server can do alone, nothing read, nothing kept: the limit for web services. It speaks to its starter as
engine.bench.sink does. ``python -m engine.bench.http_echo``
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO

from engine.bench.loopback import HOST
from engine.http1 import Message
from engine.http_answers import Answer, HttpRefusal, sentence
from engine.http_server import HttpServer, Limits

reactor: Any = _reactor
_CONTROL_ID: Final = re.compile(rb"B\d{11}")


class Echo:
    """engine.http_server.Site: AA to whatever comes, with its control id."""

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], connection: Any) -> None:
        return None

    def handle(self, message: Message, connection: Any) -> Deferred[Answer]:
        found = _CONTROL_ID.search(message.body)
        return succeed(Answer(200, [b'<answer typeCode="AA" extension="%b"/>' % (found[0] if found else b"")], "application/soap+xml"))

    def refused(self, refused: HttpRefusal, connection: Any) -> Answer:
        return sentence(refused.status, refused.text)


class _Starter(Protocol):
    """Ends the process with its standard input."""

    def connectionLost(self, reason: Any = None) -> None:
        reactor.stop()


if __name__ == "__main__":
    limits = Limits(receive_within=60, idle=300, connections=2000, most_body=1 << 20)
    port = reactor.listenTCP(0, HttpServer(Echo(), limits, reactor, lambda text: None), interface=HOST)
    StandardIO(_Starter())
    sys.stdout.write(json.dumps({"port": port.getHost().port}) + "\n")
    sys.stdout.flush()
    reactor.run()
