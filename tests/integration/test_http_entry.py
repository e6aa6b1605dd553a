"""Who of the registry may post over plain HTTP: by certificate, by token, by what is signed; what it may post, and how often."""

from __future__ import annotations

import http.client
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from engine.entry.authorization_server import ASSERTION_TYPE
from engine.message import BodyRef, Verdict
from engine.parties import Kind, Party, Snapshot
from tests.support.dicomweb import AnsweringIntake, context
from tests.support.entry import device, signed
from tests.support.plain_http import HttpPeer, Said, faults_of, hub_signature, reactor, send, source

COURIER = Party("courier", Kind.DEVICE, may_send=("sample.*",))
URL = "https://clinic.example/in"


class HttpEntryTests(TestCase):
    """Against an intake that commits at once; `now` is the time, which a test moves on."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name in ("secret", "next"):
            (self.folder / name).write_text(f"the-{name}")
        self.intake = AnsweringIntake()
        self.audited: list[tuple[str, dict[str, Any]]] = []
        self.unspooled: list[BodyRef] = []
        self.register(COURIER)

    def register(self, *parties: Party) -> None:
        self.snapshot = Snapshot(parties)

    def start(self, **options: Any) -> Deferred[None]:
        made = replace(
            context(self.folder, reactor),
            audit=lambda event, **facts: self.audited.append((event, facts)),
            unspool=self.unspooled.append,
            parties=lambda: self.snapshot,
        )
        self.source = source(self.folder, made, **{"type": "${kind}", "patient": "${patient}", "public_url": URL, **options})
        self.addCleanup(self.source.stop)
        started: Deferred[None] = self.source.start(self.intake)
        return started

    def post(self, body: bytes = b'{"kind": "sample.taken"}', **headers: str) -> Any:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return deferToThread(send, self.source.port, body, "/in", "POST", fields)

    def signed(self, body: bytes = b'{"kind": "sample.taken"}', secret: str = "the-secret") -> Any:
        return self.post(body, X_Hub_Signature_256=hub_signature(secret, body))

    def reasons(self) -> list[str]:
        return [facts["reason"] for event, facts in self.audited if event == "http.refused"]

    # --- tokens ----------------------------------------------------------------------------------

    @inlineCallbacks
    def test_a_token_of_our_own(self):  # type: ignore[no-untyped-def]
        """Asked for by a signed assertion; without it 401, once in the audit; in the token's name, and no longer once its party is disabled."""
        self.register(device(may_send=("sample.*",)))
        yield self.start(auth={"tokens": {}})
        token = yield deferToThread(self._token)
        said = yield self.post(Authorization=f"Bearer {token}")
        self.assertEqual(said.status, 202)
        self.assertEqual(self.intake.kept[-1].peer, "urn:meridian:party:terminal-7")
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic eDp5"}):
            said = yield self.post(**headers)
            self.assertIn(said.status, (400, 401))
            self.assertEqual(said.headers["Content-Type"], "application/problem+json")
            self.assertIn("Bearer", said.headers["WWW-Authenticate"])
        self.assertEqual(len(self.reasons()), 3)
        self.register(device(may_send=("sample.*",), disabled_at=1))
        said = yield self.post(Authorization=f"Bearer {token}")
        self.assertEqual(said.status, 401)
        self.assertEqual(len(self.intake.kept), 1)
        self.assertNotIn(token, str(self.audited))

    def _token(self) -> str:
        claims = {"iss": "terminal-7", "sub": "terminal-7", "aud": f"{URL}/token", "jti": "1"}
        assertion = signed({**claims, "exp": self.source._context.clock() // 1_000_000 + 200})
        form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        line = http.client.HTTPConnection("127.0.0.1", self.source.port, timeout=60)
        try:
            line.request("POST", "/in/token", urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
            said = json.loads(line.getresponse().read())
        finally:
            line.close()
        return str(said["access_token"])

    @inlineCallbacks
    def test_a_token_of_another_server(self):  # type: ignore[no-untyped-def]
        """Its scope is asked for where the channel names one (RFC 6750 clause 3.1); big bodies wait until the server has answered."""
        server = HttpPeer()
        self.addCleanup(server.stop)
        granted = {"active": True, "client_id": "courier", "scope": "orders.read"}
        server.answers = lambda _: (200, json.dumps(granted).encode(), {})
        outside = {"url": f"http://127.0.0.1:{server.port}/", "auth": {"bearer": "file:secret"}}
        yield self.start(auth={"introspection": outside}, scope="samples.write")
        said = yield self.post(Authorization="Bearer t1")
        self.assertEqual(said.status, 403)
        self.assertIn('error="insufficient_scope", scope="samples.write"', said.headers["WWW-Authenticate"])
        granted["scope"] = "samples.write orders.read"
        big = b'{"kind": "sample.taken", "text": "%b"}' % (b"x" * 400_000)
        said = yield self.post(big, Authorization="Bearer t2")
        self.assertEqual(said.status, 202)
        self.assertEqual((self.intake.kept[0].peer, self.intake.kept[0].body.size), ("urn:meridian:party:courier", len(big)))

    # --- shared secrets --------------------------------------------------------------------------

    @inlineCallbacks
    def test_a_webhook_is_of_a_registered_party(self):  # type: ignore[no-untyped-def]
        """A right signature without anything else; one that is not registered, or disabled, leaves nothing behind."""
        yield self.start(auth={}, credentials={"signature": {"scheme": "github", "secrets": "file:secret", "party": "courier"}})
        said = yield self.signed()
        self.assertEqual((said.status, self.intake.kept[0].peer), (202, "urn:meridian:party:courier"))
        said = yield self.signed(secret="wrong")
        self.assertEqual(said.status, 401)
        big = b'{"kind": "sample.taken", "text": "%b"}' % (b"x" * 400_000)
        for parties in ((), (replace(COURIER, disabled_at=1),), (replace(COURIER, channels=("elsewhere",)),)):
            self.register(*parties)
            said = yield self.signed(big)
            self.assertEqual(said.status, 403)
        self.assertEqual((len(self.intake.kept), len(self.unspooled)), (1, 3))
        self.assertEqual(len(self.reasons()), 4)

    @inlineCallbacks
    def test_who_only_says_to_be_a_party_uses_up_nothing_of_it(self):  # type: ignore[no-untyped-def]
        """A signature that is not right does not count as a request of the party whose it should be; right ones do, and hear 429."""
        self.register(replace(COURIER, requests_per_minute=2))
        yield self.start(auth={}, credentials={"signature": {"scheme": "github", "secrets": "file:secret", "party": "courier"}})
        for secret, status in (
            ("wrong", 401),
            ("wrong", 401),
            ("wrong", 401),
            ("the-secret", 202),
            ("the-secret", 202),
            ("the-secret", 429),
        ):
            said = yield self.signed(secret=secret)
            self.assertEqual(said.status, status)
        self.assertGreater(int(said.headers["Retry-After"]), 0)
        self.assertEqual(len(self.intake.kept), 2)

    @inlineCallbacks
    def test_a_password_is_of_a_registered_party(self):  # type: ignore[no-untyped-def]
        """Refused before its body is read once the party is disabled."""
        credentials = {"basic": [{"user": "lab", "password": "file:secret", "party": "courier"}], "tokens": []}
        yield self.start(auth={}, credentials=credentials)
        said = yield self.post(Authorization="Basic bGFiOnRoZS1zZWNyZXQ=")
        self.assertEqual(said.status, 202)
        self.register(replace(COURIER, disabled_at=1))
        said = yield self.post(Authorization="Basic bGFiOnRoZS1zZWNyZXQ=")
        self.assertEqual((said.status, said.json["detail"]), (403, "the party, or one that it belongs to, has been disabled"))

    # --- what it may -----------------------------------------------------------------------------

    @inlineCallbacks
    def test_what_a_party_may_post(self):  # type: ignore[no-untyped-def]
        """Its types of messages, of its own patients where it has some; what is refused is kept, with its reason."""
        yield self.start(auth={}, credentials={"tokens": [{"secret": "file:secret", "party": "courier"}]})
        own = replace(COURIER, patients=("urn:clinic|7",))
        cases: list[tuple[Party, dict[str, str], int]] = [
            (COURIER, {"kind": "sample.taken", "patient": "8"}, 202),
            (COURIER, {"kind": "order.made"}, 403),
            (COURIER, {}, 403),
            (own, {"kind": "sample.taken", "patient": "urn:clinic|7"}, 202),
            (own, {"kind": "sample.taken", "patient": "7"}, 403),
            (own, {"kind": "sample.taken"}, 403),
        ]
        for party, content, status in cases:
            self.register(party)
            said: Said = yield self.post(json.dumps(content).encode(), Authorization="Bearer the-secret")
            self.assertEqual(said.status, status, content)
        verdicts = [Verdict.ACCEPTED if one is None else one.verdict for one in self.intake.invalid]
        self.assertEqual([one is Verdict.ACCEPTED for one in verdicts], [status == 202 for _, _, status in cases])
        self.assertEqual(len(self.reasons()), 4)
        self.assertNotIn("urn:clinic|7", str(self.audited))


def test_what_a_channel_file_cannot_say() -> None:
    """Each with what would be right."""
    outside = {"introspection": {"url": "https://as.example/i", "auth": {"bearer": "env:A"}}}
    basic = {"basic": [{"user": "a", "password": "env:A", "party": "a"}]}
    for said, words in (
        ({"listen": 80, "auth": {"tokens": {}}, "public_url": URL}, "auth needs tls"),
        ({"listen": "127.0.0.1:80", "auth": {}}, "nobody could enter"),
        ({"listen": "127.0.0.1:80", "auth": outside, "credentials": basic}, "both want the Authorization field"),
        ({"listen": "127.0.0.1:80", "auth": outside, "credentials": {"tokens": "env:A"}}, "both want the Authorization field"),
        ({"listen": "127.0.0.1:80", "auth": {}, "credentials": {"tokens": "env:A"}}, "say for each of the credentials whose they are"),
        ({"listen": "127.0.0.1:80", "scope": "a"}, "it needs auth.introspection"),
        ({"listen": "127.0.0.1:80", "auth": {}, "credentials": basic}, ""),
        ({"listen": 80, "tls_at_proxy": True, "auth": {}, "credentials": basic}, ""),
        ({"listen": 80, "tls_at_proxy": True, "auth": {"tokens": {}}, "public_url": URL}, ""),
        ({"listen": "127.0.0.1:80", "auth": outside, "scope": "a", "credentials": {"token_header": "X-Key", **basic, "basic": [],
          "tokens": [{"secret": "env:A", "party": "a"}]}}, ""),
    ):  # fmt: skip
        found = faults_of("source", said)
        assert (words in found) if words else not found, (said, found)
