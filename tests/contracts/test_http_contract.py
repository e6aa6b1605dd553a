"""The HTTP source held to the contract of sources: JSON in memory, JSON in the spool, HL7 v2, and signed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.contracts.source_contract import SourceContract
from tests.support.plain_http import hub_signature, send, source

HL7 = "MSH|^~\\&|LAB|H|X|Y|20260101||ADT^A01|{}|P|2.5\rPID|1||P-1\r"


class JsonSourceTests(SourceContract, TestCase):
    """Small messages, which stay in memory."""

    OPTIONS: ClassVar[dict[str, Any]] = {"control_id": "${id}"}

    def make_source(self, port: int = 0) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name, "secret").write_text("shared")
        return source(Path(folder.name), listen=f"127.0.0.1:{port}", **self.OPTIONS)

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def send(self, control_id: str) -> Deferred[bytes]:
        def now() -> bytes:
            said = send(self.source.port, *self.request(control_id))
            return b"%d %b" % (said.status, said.body)

        return deferToThread(now)

    def request(self, control_id: str) -> tuple[Any, ...]:
        return b'{"id": "%b"}' % control_id.encode(), "/in", "POST", {"Idempotency-Key": f'"key-{control_id}"'}

    def is_positive(self, answer: bytes) -> bool:
        return answer.startswith(b"20")


class SpooledSourceTests(JsonSourceTests):
    """Big enough for the spool, and read in a thread."""

    def request(self, control_id: str) -> tuple[Any, ...]:
        body = b'{"id": "%b", "text": "%b"}' % (control_id.encode(), b"x" * 300_000)
        return body, "/in", "PUT", {"Idempotency-Key": f"key-{control_id}"}


class Hl7OverHttpTests(JsonSourceTests):
    """Its facts, its key and its answer are those of HL7 v2."""

    OPTIONS: ClassVar[dict[str, Any]] = {"content": ["hl7v2", "json"]}

    def request(self, control_id: str) -> tuple[Any, ...]:
        return HL7.format(control_id).encode(), "/in", "POST", {"Content-Type": "application/hl7-v2; charset=utf-8"}

    def is_positive(self, answer: bytes) -> bool:
        return answer.startswith(b"200 ") and b"\rMSA|AA|" in answer


class SignedSourceTests(JsonSourceTests):
    """By a webhook's signature over the body."""

    OPTIONS: ClassVar[dict[str, Any]] = {
        "control_id": "${id}",
        "credentials": {"signature": {"scheme": "github", "secrets": "file:secret"}},
    }

    def request(self, control_id: str) -> tuple[Any, ...]:
        body = b'{"id": "%b"}' % control_id.encode()
        return body, "/in", "POST", {"X-Hub-Signature-256": hub_signature("shared", body)}
