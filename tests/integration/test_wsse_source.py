"""A source that asks for signatures, over loopback: a message that the store could not take is not held to be a replay afterwards; the
same message from many connections at once is taken once."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.soap.security import SECURITY, verifier
from engine.formats.soap import read
from engine.message import ACCEPTED, Judgement, Verdict
from tests.integration.test_wsse_node import by_us, by_zeep, now
from tests.support.dicomweb import AnsweringIntake
from tests.support.soap import Said, context, post, source
from tests.support.wsse import Signers
from tests.support.wsse import context as with_certs

reactor: Any = _reactor
UNAVAILABLE = Judgement(Verdict.UNAVAILABLE, "the disk is full", "207")


class Intake(AnsweringIntake):
    """Takes nothing until it is told to."""

    judgement = UNAVAILABLE

    def __call__(self, envelope: Any, reply: Any, invalid: Judgement | None = None) -> Any:
        self.judgements = {envelope.control_id.rpartition(".")[2]: self.judgement}
        return super().__call__(envelope, reply, invalid)


class SignedSourceTests(TestCase):
    security: dict[str, Any] = {"replay": "refuse"}  # noqa: RUF012

    @inlineCallbacks
    def setUp(self) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.signers = Signers(self.folder)
        self.lab = self.signers.curve("lab")
        self.intake = Intake()
        certs = with_certs(self.folder, self.signers.authority.folder)
        self.made = replace(context(self.folder, reactor), tls=certs.tls, clock=now)
        self.source = source(self.folder, reactor, self.made, security=self.security)
        yield self.source.start(self.intake)
        self.addCleanup(self.source.stop)

    def send(self, message: bytes) -> Any:
        return deferToThread(post, self.source.port, message)

    @inlineCallbacks
    def test_what_was_not_kept_may_come_again(self) -> Any:
        """And what was kept may not, as this site wants it."""
        message = by_us(self.lab)
        for judgement, status in ((UNAVAILABLE, 503), (UNAVAILABLE, 503), (ACCEPTED, 200), (ACCEPTED, 500)):
            self.intake.judgement = judgement
            said: Said = yield self.send(message)
            self.assertEqual(said.status, status)
        self.assertTrue(said.fault.subcode.endswith("}FailedCheck"))
        self.assertEqual(len(self.intake.kept), 3)

    @inlineCallbacks
    def test_at_once_from_many_connections(self) -> Any:
        """It has no id: only one of them is handed to the engine."""
        self.intake.judgement = ACCEPTED
        message = by_zeep(self.lab)
        answers: list[Said] = yield gatherResults([self.send(message) for _ in range(8)])
        self.assertEqual(sorted(said.status for said in answers), [200] + [500] * 7)
        self.assertEqual(len(self.intake.kept), 1)


class RepeatedSourceTests(SignedSourceTests):
    """Where the very same bytes are answered again."""

    security: dict[str, Any] = {}  # noqa: RUF012

    @inlineCallbacks
    def test_what_was_not_kept_may_come_again(self) -> Any:
        """Any number of times; what it is told apart by is the engine's matter."""
        message = by_us(self.lab)
        for judgement, status in ((UNAVAILABLE, 503), (ACCEPTED, 200), (ACCEPTED, 200)):
            self.intake.judgement = judgement
            said: Said = yield self.send(message)
            self.assertEqual(said.status, status)

    @inlineCallbacks
    def test_the_node_ended_before_the_commit(self) -> Any:
        """The message was remembered and not kept; its sender heard nothing, and says it again."""
        message = by_us(self.lab)
        self.intake.judgement = ACCEPTED
        before = verifier(SECURITY.defaults(), self.made)
        assert before is not None
        before.verify(read(message), now(), digest=sha256(message).digest())
        before.close()
        said: Said = yield self.send(message)
        self.assertEqual(said.status, 200)
        self.assertEqual([envelope.body for envelope in self.intake.kept], [message])
