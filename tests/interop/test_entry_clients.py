"""Who may enter, by foreign software: openid-client and authlib as the clients, over real TLS; oidc-provider as the outside server."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from engine.bench.loopback import free_port
from engine.parties import Snapshot
from tests.support.certs import Trust
from tests.support.entry import device, jwk, private_key, private_pem
from tests.support.fhir import RepositoryIntake, context, source
from tests.support.peers import node_script, python_script, require

PEERS = Path(__file__).parent / "entry_peers"
OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
KEYS = {"ES384": "EC", "RS384": "RSA"}


class ClientTests(TestCase):
    """A FHIR source that takes certificates and tokens, and two registered devices."""

    @inlineCallbacks
    def setUp(self) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.trust = Trust(self.folder / "trust", reactor)
        self.trust.issue("terminal-7")
        self.trust.issue("other")
        keys = tuple(jwk(private_key(kind), name) for name, kind in KEYS.items())
        self.parties = Snapshot([device(keys=keys), device("other", keys=())])
        self.audited: list[tuple[str, dict[str, Any]]] = []
        made = replace(
            context(
                self.folder,
                reactor,
                tls=self.trust.provider("province"),
                audit=lambda event, **facts: self.audited.append((event, facts)),
                clock=lambda: int(reactor.seconds() * 1e6),  # type: ignore[attr-defined]
            ),
            parties=lambda: self.parties,
        )
        port = free_port()
        self.base = f"https://localhost:{port}/fhir"
        options = {"listen": f"127.0.0.1:{port}", "public_url": self.base, "tls": {"client_auth": "optional"}, "auth": {"tokens": {}}}
        self.intake = RepositoryIntake()
        self.source = source(options, made)
        yield self.source.start(self.intake)

    def tearDown(self) -> Any:
        return self.source.stop()

    @inlineCallbacks
    def run_peer(self, command: list[str], algorithm: str = "ES384", **asked: Any) -> Any:
        said = {
            "base": self.base,
            "client": "terminal-7",
            "scope": "system/Observation.c",
            "resource": OBSERVATION,
            "algorithm": algorithm,
            "kid": algorithm,
            "key": private_pem(private_key(KEYS[algorithm])).decode(),
            "ca": str(self.trust.folder / "province" / "ca.pem"),
            **asked,
        }
        done = yield getProcessOutputAndValue(command[0], [*command[1:], json.dumps(said)], env=dict(os.environ), path=str(self.folder))
        output, errors, code = done
        self.assertEqual(code, 0, errors.decode()[-2000:])
        return json.loads(output)

    def openid_client(self, **asked: Any) -> Any:
        return self.run_peer(node_script(PEERS / "client.mjs", "openid-client", self.folder), **asked)

    @inlineCallbacks
    def test_openid_client_has_a_token_and_enters(self) -> Any:
        """By both algorithms; what arrives carries the device."""
        for algorithm in KEYS:
            said = yield self.openid_client(algorithm=algorithm)
            self.assertEqual((said["scope"], said["lifetime"], said["status"]), ("system/Observation.c", 300, 202), said)
        self.assertEqual({one.peer for one in self.intake.envelopes}, {"urn:meridian:party:terminal-7"})

    @inlineCallbacks
    def test_a_bound_token_needs_its_certificate(self) -> Any:
        """RFC 8705: asked for with a certificate, it is refused without it and with another's."""
        own, others = str(self.trust.folder / "terminal-7"), str(self.trust.folder / "other")
        said = yield self.openid_client(certificate=own, shown=own)
        self.assertEqual(said["status"], 202, said)
        for shown in ("", others):
            said = yield self.openid_client(certificate=own, shown=shown)
            self.assertEqual((said["status"], said["said"]), (401, "invalid_token"), said)
        said = yield self.openid_client(certificate=others, shown=others)
        self.assertEqual(said["error"], "invalid_client", said)
        self.assertEqual(len(self.intake.envelopes), 1)

    @inlineCallbacks
    def test_openid_client_is_told_what_is_wrong(self) -> Any:
        """A key of nobody's, a scope that is not granted, a party that is disabled: OAuth's own errors, each audited."""
        said = yield self.openid_client(kid="unknown")
        self.assertEqual(said["error"], "invalid_client", said)
        said = yield self.openid_client(scope="system/Medication.c")
        self.assertEqual(said["error"], "invalid_scope", said)
        self.parties = Snapshot(replace(one, disabled_at=1) for one in self.parties.parties.values())
        said = yield self.openid_client()
        self.assertEqual(said["error"], "invalid_client", said)
        self.assertEqual([event for event, _ in self.audited], ["fhir.token_refused"] * 3)

    @inlineCallbacks
    def test_authlib_has_a_token_and_enters(self) -> Any:
        """Another library's idea of private_key_jwt."""
        require(importlib.util.find_spec("authlib") is not None, "authlib is not installed")
        said = yield self.run_peer(python_script(PEERS / "client.py"), "RS384")
        self.assertEqual(said, {"scope": "system/Observation.c", "lifetime": 300, "status": 202})
