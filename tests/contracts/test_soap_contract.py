"""The SOAP source held to the contract of sources, in both versions, alone and with attachments."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.contracts.source_contract import SourceContract
from tests.support.soap import addressed, envelope, in_parts, include, part, post, related, source

reactor: Any = _reactor


class SoapSourceTests(SourceContract, TestCase):
    """SOAP 1.1, small messages that stay in memory."""

    def make_source(self, port: int = 0) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return source(Path(folder.name), reactor, listen=f"127.0.0.1:{port}")

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def send(self, control_id: str) -> Deferred[bytes]:
        def now() -> bytes:
            said = post(self.source.port, *self.request(control_id))
            return b"%d %b" % (said.status, said.body)

        return deferToThread(now)

    def request(self, control_id: str) -> tuple[bytes, str]:
        return envelope(header=addressed(message_id=control_id)), "text/xml"

    def is_positive(self, answer: bytes) -> bool:
        return answer.startswith(b"200 ") and b"accepted" in answer


class Soap12SourceTests(SoapSourceTests):
    def request(self, control_id: str) -> tuple[bytes, str]:
        return envelope(version="1.2", header=addressed(message_id=control_id)), "application/soap+xml"


class MtomSourceTests(SoapSourceTests):
    """Big enough for the spool."""

    def request(self, control_id: str) -> tuple[bytes, str]:
        root = envelope(f"<Order>{include('cid:a')}</Order>", header=addressed(message_id=control_id))
        return in_parts(root, part(b"x" * 300_000, "a")), related()
