"""MLLP held to the contracts of framers, sources and destinations."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from adapters.mllp import adapter
from adapters.mllp.framing import END, START, MllpFramer
from engine.message import HL7V2, BodyRef, Parcel
from tests.contracts.destination_contract import DestinationContract
from tests.contracts.framer_contract import FramerContract
from tests.contracts.source_contract import SourceContract
from tests.support.mllp import context, message, msa
from tests.support.mllp_loopback import Receiver, send


class MllpFramerTests(FramerContract, SynchronousTestCase):
    """Release 1 and 2 frame alike."""

    cannot_be_wrapped: ClassVar[list[bytes]] = [b"a" + START, b"a" + END + b"b"]

    def make(self) -> MllpFramer:
        return MllpFramer()

    def payload(self, frame: Any) -> bytes:
        content: bytes = frame.content
        return content


class MllpSourceTests(SourceContract, TestCase):
    """Over loopback."""

    def make_source(self, port: int = 0) -> Any:
        return adapter.source(adapter.source_options.defaults(listen=f"127.0.0.1:{port}"), context(reactor))

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def send(self, control_id: str) -> Deferred[bytes]:
        return send(self.source.port, MllpFramer().wrap(message(control_id))).addCallback(b"".join)

    def is_positive(self, answer: bytes) -> bool:
        return bool(answer) and msa(answer).startswith("AA|")


class MllpDestinationTests(DestinationContract, TestCase):
    """Over loopback, with one message in flight."""

    options: ClassVar[dict[str, Any]] = {}

    def start_peer(self) -> Receiver:
        return Receiver()

    def make(self, port: int | None = None) -> Any:
        connect = f"127.0.0.1:{port or self.peer.port}"
        return adapter.destination(adapter.destination_options.defaults(connect=connect, **self.options), context(reactor))

    def make_nowhere(self) -> Any:
        return self.make(1)

    def parcel(self, number: int, body: bytes | BodyRef | None = None) -> Parcel:
        return Parcel(number, number, body or message(str(number)), HL7V2, "ADT^A01", str(number), f"k{number}")


class MllpDestinationManyTests(MllpDestinationTests):
    """With two connections, and sixteen in flight on each."""

    options: ClassVar[dict[str, Any]] = {"connections": 2, "in_flight": 16}


class MllpDestinationOneEachTests(MllpDestinationTests):
    """With a new connection for each message."""

    options: ClassVar[dict[str, Any]] = {"connections": 3, "keep_open": False}
