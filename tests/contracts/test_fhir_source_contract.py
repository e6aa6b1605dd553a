"""The FHIR server held to the contract of sources, in each of the forms in which it takes messages."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.trial.unittest import TestCase

from engine.formats.fhir_r4.xml_writing import to_xml
from tests.contracts.source_contract import SourceContract
from tests.contracts.test_dicomweb_contract import Asking
from tests.support.fhir import context, source

reactor: Any = _reactor


class TransactionSourceTests(SourceContract, TestCase):
    """A transaction in JSON."""

    path, media = "", "application/fhir+json"

    def make_source(self, port: int = 0) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return source({"listen": f"127.0.0.1:{port}", "messages": True}, context(Path(folder.name), reactor))

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def body(self, control_id: str) -> bytes:
        entry = {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}
        return json.dumps({"resourceType": "Bundle", "type": "transaction", "identifier": {"value": control_id}, "entry": [entry]}).encode()

    def send(self, control_id: str) -> Deferred[bytes]:
        body = self.body(control_id)
        head = f"POST /fhir{self.path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {self.media}\r\n"
        key = f"Idempotency-Key: {control_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        asking = Asking(f"{head}{key}".encode() + body)
        connected = connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", self.source.port), asking)
        return connected.addCallback(lambda _: asking.done)  # type: ignore[no-any-return]

    def is_positive(self, answer: bytes) -> bool:
        return answer.startswith(b"HTTP/1.1 20")


class XmlSourceTests(TransactionSourceTests):
    """The same in XML, which is converted off the reactor thread."""

    media = "application/fhir+xml"

    def body(self, control_id: str) -> bytes:
        return to_xml(super().body(control_id))


class MessageSourceTests(TransactionSourceTests):
    """A message: the answer is one, too."""

    path = "/$process-message"

    def body(self, control_id: str) -> bytes:
        header = {"resourceType": "MessageHeader", "id": control_id, "eventUri": "urn:e", "source": {"endpoint": "urn:s"}}
        content = {"resourceType": "Bundle", "type": "message", "identifier": {"value": control_id}, "entry": [{"resource": header}]}
        return json.dumps(content).encode()

    def is_positive(self, answer: bytes) -> bool:
        head, _, body = answer.partition(b"\r\n\r\n")
        code = json.loads(body)["entry"][0]["resource"]["response"]["code"]
        return head.startswith(b"HTTP/1.1 200 ") and code == "ok"
