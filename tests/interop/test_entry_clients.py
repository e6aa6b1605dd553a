"""Who may enter, by foreign software: openid-client and authlib as the clients, over real TLS; oidc-provider as the outside server."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from engine.bench.loopback import free_port
from engine.http_client import HttpClient
from engine.http_options import client_options
from engine.options import Spec
from engine.parties import Snapshot
from tests.support.certs import Trust
from tests.support.dicomweb import AnsweringIntake
from tests.support.entry import device, jwk, private_key, private_pem
from tests.support.fhir import RepositoryIntake, context, source
from tests.support.peers import ForeignPeer, node_script, python_script, require
from tests.support.plain_http import source as plain_source

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
        self.made = replace(
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
        listen = f"127.0.0.1:{port}"
        self.options = {"listen": listen, "public_url": self.base, "tls": {"client_auth": "optional"}, "auth": {"tokens": {}}}
        self.intake = RepositoryIntake()
        self.source = source(self.options, self.made)
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
    def test_openid_client_posts_to_a_plain_source(self) -> Any:
        """The same entrance before the source ``http``: what arrives carries the device, until it is disabled."""
        yield self.source.stop()
        options = {**self.options, "base": "/fhir", "below": True, "content": ["fhir"], "type": "${resourceType}"}
        self.source = plain_source(self.folder, self.made, **options)
        intake = AnsweringIntake()
        yield self.source.start(intake)
        own = str(self.trust.folder / "terminal-7")
        said = yield self.openid_client(certificate=own, shown=own)
        self.assertEqual(said["status"], 202, said)
        said = yield self.openid_client(certificate=own, shown="")
        self.assertEqual((said["status"], said["said"]), (401, "invalid_token"), said)
        ((peer, kind),) = ((one.peer, one.message_type) for one in intake.kept)
        self.assertEqual((peer, kind), ("urn:meridian:party:terminal-7", "Observation"))
        self.parties = Snapshot(replace(one, disabled_at=1) for one in self.parties.parties.values())
        said = yield self.openid_client()
        self.assertEqual(said["error"], "invalid_client", said)
        self.assertEqual([event for event, _ in self.audited], ["http.refused", "http.token_refused"])

    @inlineCallbacks
    def test_authlib_has_a_token_and_enters(self) -> Any:
        """Another library's idea of private_key_jwt."""
        require(importlib.util.find_spec("authlib") is not None, "authlib is not installed")
        said = yield self.run_peer(python_script(PEERS / "client.py"), "RS384")
        self.assertEqual(said, {"scope": "system/Observation.c", "lifetime": 300, "status": 202})


class IntrospectionTests(TestCase):
    """The tokens of oidc-provider, which a FHIR source asks about."""

    secret = "a secret of Meridian's own"

    @inlineCallbacks
    def setUp(self) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.audited: list[tuple[str, dict[str, Any]]] = []
        self.now = int(time.time() * 1e6)
        self.parties = Snapshot([device(keys=()), device("other", keys=(), disabled_at=1)])
        self.context = replace(
            context(
                self.folder,
                reactor,
                audit=lambda event, **facts: self.audited.append((event, facts)),
                clock=lambda: self.now,
            ),
            parties=lambda: self.parties,
        )
        (self.folder / "secret").write_text(self.secret)
        self.provider_port, port = free_port(), free_port()
        self.base = f"http://127.0.0.1:{port}/fhir"
        outside = {
            "url": f"http://127.0.0.1:{self.provider_port}/token/introspection",
            "auth": {"basic": {"user": "meridian", "password": f"file:{self.folder / 'secret'}"}},
            "timeout": "5s",
        }
        self.intake = RepositoryIntake()
        self.source = source({"listen": f"127.0.0.1:{port}", "auth": {"introspection": outside}}, self.context)
        yield self.source.start(self.intake)

    def tearDown(self) -> Any:
        return self.source.stop()

    def provider(self, secret: str = secret) -> ForeignPeer:
        script = node_script(PEERS / "provider.mjs", "oidc-provider", self.folder)
        return ForeignPeer(script, port=self.provider_port, clients=["terminal-7", "other", "stranger"], secret=secret)

    @inlineCallbacks
    def post(self, token: str, times: int = 1, size: int = 1) -> Any:
        """The statuses of as many requests, sent at once."""
        body = json.dumps({**OBSERVATION, "note": [{"text": "x" * max(size, 1)}]}).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"}
        client = HttpClient(Spec("client", "", client_options("", 16)).defaults(url=self.base), self.context)
        client.open()
        answers = yield gatherResults([client.request("POST", "/fhir/Observation", headers, body) for _ in range(times)])
        yield client.close()
        return [int(answer.start[1]) for answer in answers]

    @inlineCallbacks
    def test_a_token_of_the_outside_server(self) -> Any:
        """It opens while the server says that it is active; many requests ask once; a large body waits for the answer. Revoked, it opens
        for as long as the answer is believed, and not longer."""
        with self.provider() as provider:
            self.assertEqual(provider.heard(), {"port": self.provider_port})
            token = self.told(provider, client="terminal-7")["access_token"]
            self.assertEqual((yield self.post(token, 10, size=300_000)), [202] * 10)
            self.assertEqual(self.told(provider, count=True), {"questions": 1})
            self.assertEqual({one.peer for one in self.intake.envelopes}, {"urn:meridian:party:terminal-7"})
            self.assertEqual(self.told(provider, client="terminal-7", revoke=token), {"revoked": 200})
            self.assertEqual((yield self.post(token)), [202])
            self.now += 10_000_000
            self.assertEqual((yield self.post(token, size=300_000)), [401])
            self.assertEqual((yield self.post("invented")), [401])
            self.assertEqual((yield self.post(self.told(provider, client="other")["access_token"])), [401])
            self.assertEqual((yield self.post(self.told(provider, client="stranger")["access_token"])), [401])
        self.assertNotIn(token, json.dumps(self.audited))
        self.assertEqual([facts["status"] for _, facts in self.audited], ["401"] * len(self.audited))

    @inlineCallbacks
    def test_nobody_enters_while_the_server_does_not_answer(self) -> Any:
        """No server; then one that does not know us: 503 each time, and nothing is remembered of it."""
        self.assertEqual((yield self.post("any", size=300_000)), [503])
        with self.provider(secret="another") as provider:
            self.assertEqual(provider.heard(), {"port": self.provider_port})
            token = self.told(provider, client="terminal-7")["access_token"]
            self.assertEqual((yield self.post(token)), [503])
        with self.provider() as provider:
            provider.heard()
            token = self.told(provider, client="terminal-7")["access_token"]
            self.assertEqual((yield self.post(token)), [202])
        self.assertEqual(len(self.intake.envelopes), 1)

    @staticmethod
    def told(provider: ForeignPeer, **asked: Any) -> Any:
        provider._process.stdin.write(json.dumps(asked) + "\n")
        provider._process.stdin.flush()
        return provider.heard()
