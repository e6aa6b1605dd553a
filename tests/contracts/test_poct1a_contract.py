"""POCT1-A held to the contracts of sources and mappings."""

from __future__ import annotations

import re
from typing import Any, ClassVar
from unittest import TestCase as PlainTestCase

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from adapters.poct1a import adapter
from tests.contracts.mapping_contract import MappingContract
from tests.contracts.source_contract import SourceContract
from tests.support.mllp import context
from tests.support.poct1a_device import CONTROL, SERVICE, hello, observations

reactor: Any = _reactor


class Asking(Protocol):
    """Says hello and sends one message; `done` fires with the answer to it, b"" where there is none."""

    transport: Any

    def __init__(self, message: bytes) -> None:
        self._message, self._heard = message, b""
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(hello())

    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        answers = re.findall(rb"<ACK\.R01>.*?</ACK\.R01>", self._heard)
        if len(answers) == 1 and self._message:
            message, self._message = self._message, b""
            self.transport.write(message)
        elif len(answers) == 2:
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback([*re.findall(rb"<ACK\.R01>.*?</ACK\.R01>", self._heard), b"", b""][1])


class Poct1aSourceTests(SourceContract, TestCase):
    """Over loopback."""

    def make_source(self, port: int = 0) -> Any:
        return adapter.source(adapter.source_options.defaults(listen=f"127.0.0.1:{port}"), context(reactor))

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def send(self, control_id: str) -> Deferred[bytes]:
        asking = Asking(observations(int(control_id), SERVICE.format(patient=f"P{control_id}", value="95")))
        connected = connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", self.source.port), asking)
        return connected.addCallback(lambda _: asking.done)  # type: ignore[no-any-return]

    def is_positive(self, answer: bytes) -> bool:
        return b'V="AA"' in answer


_OBS = observations(3, SERVICE.format(patient="P1", value="95"), CONTROL)


class Poct1aMappingTests(MappingContract, PlainTestCase):
    """A patient's glucose and a control."""

    mapping = "poct1a-to-fhir"
    bodies: ClassVar[list[bytes]] = [hello() + b"\n" + _OBS, hello() + observations(), hello() + observations(4, CONTROL, kind="OBS.R02")]
    unsupported: ClassVar[list[tuple[bytes, str]]] = [
        (hello() + b'<EVS.R01><HDR><HDR.control_id V="1"/></HDR></EVS.R01>', "200"),
        (observations(3, "<SVC/>"), "200"),
    ]
    undecodable: ClassVar[list[bytes]] = [b"", b"<OBS.R01>", b"{}", observations().replace("王".encode(), b"\xff")]
    lacking: ClassVar[list[tuple[bytes, str]]] = []
    secrets: ClassVar[list[str]] = ["王", "小明", "P1"]
    overlay: ClassVar[tuple[str, str]] = ("poct1a-to-fhir/instruments.csv", "sender,facility,authority,tests\nGlu-1,COUNTY,HIS,\n")
    before, after = b"urn:meridian:ns:unknown:MR", b"urn:meridian:ns:COUNTY:HIS"
    bad_overlay: ClassVar[tuple[str, str]] = ("poct1a-to-fhir/instruments.csv", "sender,facility,tests\n# ours\nGlu-1,COUNTY,kobas\n")
    bad_line = 3

    def resolves(self, body: bytes, source: str) -> bool:
        """`SVC[1]/OBS[1].value`: the last word is (the end of) an element's name in the message, or of the class of one."""
        word = re.sub(r"\[\d+\]", "", source).rpartition("/")[2]
        return f"<{word}".encode() in body or word in ("DEV.model_id", "HDR.control_id", "HDR")
