"""The DICOMweb server held to the contract of sources."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from tests.contracts.source_contract import SourceContract
from tests.support.dicom_instances import instance
from tests.support.dicomweb import body, request, source

reactor: Any = _reactor


class Asking(Protocol):
    """Sends one request; `done` fires with what was answered."""

    transport: Any

    def __init__(self, wire: bytes) -> None:
        self._wire, self._heard = wire, b""
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self._wire)

    def dataReceived(self, data: bytes) -> None:
        self._heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(self._heard)


class StowSourceTests(SourceContract, TestCase):
    """Over loopback, small instances that stay in memory."""

    pixels = 512

    def make_source(self, port: int = 0) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return source(Path(folder.name), reactor, listen=f"127.0.0.1:{port}")

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def send(self, control_id: str) -> Deferred[bytes]:
        content = body(instance(int(control_id), pixels=self.pixels, SOPInstanceUID=control_id))
        asking = Asking(request("/dicom-web/studies", content, Connection="close"))
        connected = connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", self.source.port), asking)
        return connected.addCallback(lambda _: asking.done)  # type: ignore[no-any-return]

    def is_positive(self, answer: bytes) -> bool:
        head, _, text = answer.partition(b"\r\n\r\n")
        return head.startswith(b"HTTP/1.1 200 ") and "00081199" in json.loads(text)


class SpooledStowSourceTests(StowSourceTests):
    """The same with instances that go through the spool."""

    pixels = 131072
