"""A source over engine.http_source that keeps whole bodies, on a wire in memory; a reader of what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import execute
from twisted.internet.task import Clock

from engine.contracts import Context
from engine.http1 import Message
from engine.http_answers import Answer, HttpRefusal, Sender, sentence
from engine.http_coding import decoder
from engine.http_server import Limits
from engine.http_source import Reception
from engine.http_uploads import Upload, WholeBody
from engine.message import BodyRef
from tests.support.dicomweb import context
from tests.support.mllp import Transport

MOST = 1 << 20


class KeepingDesk:
    """engine.http_source.Desk: a POST becomes a WholeBody for `take`, everything else is answered by `say`."""

    def __init__(self, made: Context) -> None:
        self.context = made
        self.reception: Any = None
        self.taken: list[bytes | BodyRef] = []
        self.take: Callable[[Any], Any] = lambda body: Answer(200, [b"taken"])
        self.say: Callable[[Message], Any] = lambda message: Answer(200, [message.start[1].encode()])
        self.make: Callable[[Mapping[str, str]], Upload] = self._whole
        self.first = b""

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], sender: Sender) -> Upload | None:
        return self.make(headers) if start[0] == "POST" else None

    def _whole(self, headers: Mapping[str, str]) -> Upload:
        return WholeBody(self.reception, self.context, decoder(headers, MOST), self._take, self.first)

    def _take(self, body: bytes | BodyRef) -> Any:
        self.taken.append(body)
        return self.take(body)

    def answer(self, message: Message, sender: Sender) -> Any:
        return self.say(message)

    def worded(self, refused: HttpRefusal) -> Answer:
        return sentence(refused.status, refused.text, refused.headers)


class Wire:
    """A desk behind a reception that does not listen; threads are run in place. Connections are in memory."""

    def __init__(self, data: Path, **options: Any) -> None:
        self.clock: Any = Clock()
        self.clock.listenTCP = lambda *_, **__: SimpleNamespace(stopListening=lambda: None)
        self.unspooled: list[BodyRef] = []
        made = replace(context(data, self.clock), unspool=self.unspooled.append)
        self.desk = KeepingDesk(made)
        given = {"listen": ("", 0), "tls": None, "base": "/", "public_url": None, "requests": 10, "requests_per_peer": 10, **options}
        limits = Limits(10, 60, 10, complete_within=given.pop("complete_within", 100))
        settings: Any = SimpleNamespace(**given)
        self.reception: Any = Reception(self.desk, settings, made, limits, name="keep", title="Keeping", threads=1)
        self.reception.in_thread = execute
        self.reception._pool = SimpleNamespace(start=lambda: None, stop=lambda: None, joined=True)
        self.desk.reception = self.reception
        self.reception.start()
        self.spool = data / "spool"

    def connect(self, host: str = "10.0.0.9") -> tuple[Any, Transport]:
        connection = self.reception._server.buildProtocol(None)
        transport = Transport(peerAddress=IPv4Address("TCP", host, 4444))
        connection.makeConnection(transport)
        return connection, transport

    def send(self, *chunks: bytes) -> list[tuple[int, bytes, str]]:
        """Everything that is answered to these bytes over a connection of their own."""
        connection, transport = self.connect()
        for chunk in chunks:
            connection.dataReceived(chunk)
        return answers(transport)

    def spooled(self) -> list[Path]:
        return list(self.spool.iterdir())

    def under_way(self) -> int:
        return self.reception._admission.under_way


def post(content: bytes, **headers: str) -> bytes:
    fields = {"Host": "here", "Content-Length": str(len(content))} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"POST / HTTP/1.1\r\n{lines}\r\n".encode() + content


def answers(transport: Transport) -> list[tuple[int, bytes, str]]:
    """Status, body and head of each answer; a pull producer is asked for all that it has."""
    while transport.producer is not None:
        transport.producer.resumeProducing()
    found, rest = [], transport.value().removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        size = int(length[1]) if length else 0
        found.append((int(head.split()[1]), rest[:size], head.decode()))
        rest = rest[size:]
    return found
