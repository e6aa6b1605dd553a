"""MLLP without a network: a context, a connection on a StringTransport, an intake whose answers the test decides."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from adapters.mllp import adapter
from adapters.mllp.framing import MllpFramer
from engine.contracts import Context, Reply
from engine.message import ACCEPTED, Ack, Envelope, Judgement
from engine.observe import Metrics

HEAD = "MSH|^~\\&|LAB|HOSP|PLAT|CITY|20261123081500||"


def message(control_id: str = "1", kind: str = "ADT^A01", body: str = "PID|1||4711^^^H^MR||Doe^Jo", **fields: str) -> bytes:
    """An HL7 v2.5 message; `fields` may give msh15, msh16, msh18, version."""
    msh = [HEAD + kind, control_id, "P", fields.get("version", "2.5"), "", "", fields.get("msh15", ""), fields.get("msh16", ""), ""]
    return ("|".join([*msh, fields.get("msh18", "")]).rstrip("|") + "\r" + body + "\r").encode()


def context(reactor: Any, tls: Any = None, audited: list[Any] | None = None) -> Context:
    ids = iter(range(1, 1_000_000))
    return Context(
        name="c",
        reactor=reactor,
        site=Path("."),
        data=Path("."),
        clock=lambda: int(reactor.seconds() * 1e6),
        new_id=lambda: f"A{next(ids)}",
        log=logging.getLogger("test.mllp"),
        metrics=Metrics(),
        tls=tls,
        audit=lambda event, **facts: (audited if audited is not None else []).append((event, facts)),
    )


class Transport(StringTransport):
    """A StringTransport that knows TCP options and says when it was aborted."""

    aborted = False

    def setTcpNoDelay(self, on: bool) -> None: ...

    def setTcpKeepAlive(self, on: bool) -> None: ...

    def abortConnection(self) -> None:
        self.aborted = True


class Intake:
    """engine.contracts.Intake: keeps what comes; answers at once with `judgement`, or when the test says so."""

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.judgement: Judgement = ACCEPTED
        self.kept: list[Envelope] = []
        self.invalid: list[Judgement | None] = []
        self.waiting: list[tuple[Deferred[Ack], Reply, Judgement]] = []

    def __call__(self, envelope: Envelope, reply: Reply, invalid: Judgement | None = None) -> Deferred[Ack]:
        self.kept.append(envelope)
        self.invalid.append(invalid)
        done: Deferred[Ack] = Deferred()
        self.waiting.append((done, reply, invalid or self.judgement))
        if self.at_once:
            self.answer(len(self.waiting) - 1)
        return done

    def answer(self, index: int) -> None:
        done, reply, judgement = self.waiting[index]
        done.callback(Ack(judgement, reply(judgement), index + 1))


class Listening:
    """A source with one connection."""

    def __init__(self, at_once: bool = True, **options: Any) -> None:
        self.clock = Clock()
        self.audited: list[Any] = []
        settings = adapter.source_options.defaults(**{"listen": 2575, **options})
        self.source = adapter.source(settings, context(self.clock, audited=self.audited))
        self.intake = self.source.intake = Intake(at_once)
        self.connection, self.wire = self.connect()

    def connect(self, host: str = "10.0.0.9") -> tuple[Any, Transport]:
        connection = self.source.buildProtocol(None)
        wire = Transport(peerAddress=IPv4Address("TCP", host, 4444))
        connection.makeConnection(wire)
        return connection, wire

    def send(self, *contents: bytes) -> None:
        for content in contents:
            self.connection.dataReceived(MllpFramer().wrap(content))

    def heard(self) -> list[bytes]:
        """What the sender has been answered since the last time."""
        frames = MllpFramer().feed(self.wire.value())
        self.wire.clear()
        return [frame.content for frame in frames]

    def codes(self) -> list[str]:
        """MSA-1 and MSA-2 of each answer."""
        return [msa(answer) for answer in self.heard()]


def msa(answer: bytes) -> str:
    return answer.split(b"\rMSA|")[1].split(b"\r")[0].decode().rstrip("|")
