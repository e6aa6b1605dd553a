"""The `dicom` source held to the contract of sources, with our requestor as the sender."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import TestCase

from adapters.dicom import adapter
from adapters.dicom.upper.negotiation import EXPLICIT_LE
from adapters.dicom.upper.requestor import Proposal, Requestor, associate
from tests.contracts.source_contract import SourceContract
from tests.support.dicom import CT, MemorySpool, context, data_set, store_request


class DicomSourceTests(SourceContract, TestCase):
    """Over loopback, with instances small enough for a row."""

    pixels = 64

    def make_source(self, port: int = 0) -> Any:
        made = context(reactor, spool=MemorySpool)
        return adapter.source(adapter.source_options.defaults(listen=f"127.0.0.1:{port}"), made)

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def send(self, control_id: str) -> Deferred[bytes]:
        """The response's status as four hex digits."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.source.port)
        done = associate(reactor, endpoint, Proposal("A", "B", [(CT, [EXPLICIT_LE])]))
        return done.addCallback(self._store, control_id)  # type: ignore[return-value]

    def _store(self, association: Requestor, control_id: str) -> Deferred[bytes]:
        def heard(response: Any) -> Deferred[bytes]:
            return association.release().addCallback(lambda _: b"%04X" % response.status)

        content = data_set(control_id, pixels=bytes(self.pixels))
        return association.request(store_request(control_id), content).addCallback(heard)  # type: ignore[return-value]

    def is_positive(self, answer: bytes) -> bool:
        return answer == b"0000"


class LargeInstanceTests(DicomSourceTests):
    """With instances that go through a spool, in threads."""

    pixels = 3_000_000
