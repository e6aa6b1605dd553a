"""The hospital platform's endpoint held to the contract of sources: each style, with its own version of SOAP."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.soap.hip import adapter
from adapters.soap.hip.options import SOURCE
from adapters.soap.hip.style import style_of
from tests.contracts.source_contract import SourceContract
from tests.support import hip
from tests.support.dicomweb import context
from tests.support.soap import envelope, post

reactor: Any = _reactor


class HipSourceTests(SourceContract, TestCase):
    """As the standard has it."""

    style = "standard"

    def make_source(self, port: int = 0) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        options = SOURCE.defaults(listen=f"127.0.0.1:{port}", style=self.style)
        return adapter.source(options, context(Path(folder.name), reactor))

    def same_port(self) -> Any:
        return self.make_source(self.source.port)

    def send(self, control_id: str) -> Deferred[bytes]:
        style = style_of(SOURCE.defaults(listen=1, style=self.style))
        version = style.versions[0]
        names = (style.action_parameter, style.message_parameter)
        text = hip.call("PatientInfoMerge", hip.merge(message_id=control_id), style.namespace, names, style.qualified)
        kind = {"1.1": "text/xml", "1.2": "application/soap+xml"}[version]

        def now() -> bytes:
            said = post(self.source.port, envelope(text, version), kind, path="/hip")
            return b"%d %b" % (said.status, said.body)

        return deferToThread(now)

    def is_positive(self, answer: bytes) -> bool:
        return answer.startswith(b"200 ") and b'typeCode="AA"' in answer


class HipEnsembleSourceTests(HipSourceTests):
    style = "ensemble"


class HipRpcSourceTests(HipSourceTests):
    style = "rpc"
