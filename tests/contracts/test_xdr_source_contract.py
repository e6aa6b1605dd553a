"""The Document Recipient held to the contract of sources, over MTOM: with a document that stays in memory, and with one in the spool."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.soap.xdr import adapter
from engine.message import Envelope
from tests.contracts.source_contract import HeldIntake, SourceContract
from tests.support.dicomweb import context
from tests.support.soap import post
from tests.support.xdr import CONTENT_TYPE, Doc, packed, submission_set

reactor: Any = _reactor
ROOT = "1.2.156.10011.9"


class Numbered(HeldIntake):
    """The suite's control ids are numbers; a submission set's are OIDs, of which the last one is that."""

    def __call__(self, envelope: Envelope, reply: Any, invalid: Any = None) -> Any:
        return super().__call__(replace(envelope, control_id=envelope.control_id.rpartition(".")[2]), reply, invalid)


class RecipientTests(SourceContract, TestCase):
    content = b"Discharged in good health."

    def setUp(self) -> Deferred[None]:
        self.intake = Numbered()
        self.source = self.make_source()
        return self.source.start(self.intake)  # type: ignore[no-any-return]

    def make_source(self, port: int = 0) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        assert adapter.source_options is not None
        settings = adapter.source_options.defaults(listen=f"127.0.0.1:{port}")
        return adapter.source(settings, context(Path(folder.name), reactor))

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def send(self, control_id: str) -> Deferred[bytes]:
        doc = Doc(self.content, unique_id=f"{ROOT}.{control_id}.1")
        body = packed([doc], submission_set(f"{ROOT}.{control_id}"))

        def now() -> bytes:
            said = post(self.source.port, body, CONTENT_TYPE, "/xdr")
            return b"%d %b" % (said.status, said.body)

        return deferToThread(now)

    def is_positive(self, answer: bytes) -> bool:
        return answer.startswith(b"200 ") and b"ResponseStatusType:Success" in answer


class BigDocumentTests(RecipientTests):
    """Through the spool."""

    content = bytes(range(256)) * 4096
