"""What an authorization server may answer (RFC 7662 clause 2.2), and what is made of it: over a real connection to a server that says it."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks, maybeDeferred
from twisted.trial.unittest import TestCase

from engine.entry.introspection import MOST_ASKED, MOST_REMEMBERED, Introspection
from engine.entry.options import INTROSPECTION
from engine.http_answers import HttpRefusal
from engine.parties import Snapshot
from tests.support.entry import device
from tests.support.fhir import context


class Saying(BaseHTTPRequestHandler):
    """Answers what the test has put there; `heard` are the requests."""

    say: ClassVar[tuple[int, bytes]] = (200, b"")
    heard: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append((self.headers["Authorization"], body))
        status, content = self.say
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


class IntrospectionTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        secret = Path(folder.name) / "secret"
        secret.write_text("s2")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Saying)
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        Saying.heard.clear()
        self.now = int(time.time() * 1e6)
        options = INTROSPECTION.defaults(
            url=f"http://127.0.0.1:{self.server.server_port}/introspect?realm=ward",
            auth={"basic": {"user": "meridian", "password": f"file:{secret}"}},
            audience="https://ward.example",
        )
        made = context(Path(folder.name), reactor, clock=lambda: self.now)
        parties = Snapshot([device()])
        self.asking = Introspection(options, made, parties.standing)
        self.asking.open()
        self.addCleanup(self.asking.close)

    def find(self, token: str) -> Any:
        return maybeDeferred(self.asking.find, token)

    def active(self, **more: Any) -> bytes:
        seconds = self.now // 1_000_000
        said = {"active": True, "client_id": "terminal-7", "aud": "https://ward.example", "exp": seconds + 60, "scope": "a b", **more}
        return json.dumps({name: value for name, value in said.items() if value is not None}).encode()

    @inlineCallbacks
    def test_what_a_token_is_good_for(self) -> Any:
        """Who we are goes along, and the token in the body; what is known is asked for once, and again when it is not believed any more."""
        Saying.say = (200, self.active(cnf={"x5t#S256": "abc"}))
        for _ in range(2):
            grant = yield self.find("t+1")
            self.assertEqual((grant.party, grant.scopes, grant.certificate), ("terminal-7", frozenset({"a", "b"}), "abc"))
        self.assertEqual(Saying.heard, [("Basic bWVyaWRpYW46czI=", b"token=t%2B1&token_type_hint=access_token")])
        self.now += 10_000_000
        yield self.find("t+1")
        self.assertEqual(len(Saying.heard), 2)

    @inlineCallbacks
    def test_whose_it_is(self) -> Any:
        """By client_id, else by sub, where one is a registered party; for us, and not over."""
        taken = [
            {"client_id": "unknown", "sub": "terminal-7"},
            {"client_id": None, "sub": "urn:meridian:party:terminal-7"},
            {"aud": ["x", "https://ward.example"]},
            {"exp": None},
        ]
        refused: list[dict[str, Any]] = [
            {"active": False},
            {"client_id": "unknown"},
            {"client_id": ["terminal-7"]},
            {"aud": "https://other.example"},
            {"aud": None},
            {"exp": self.now // 1_000_000},
            {"exp": "tomorrow"},
            {"cnf": {"jkt": "a DPoP key"}},
            {"cnf": "abc"},
        ]
        for number, said in enumerate([*taken, *refused]):
            Saying.say = (200, self.active(**said))
            grant = yield self.find(f"token-{number}")
            self.assertEqual(grant is not None, said in taken, said)

    @inlineCallbacks
    def test_an_answer_that_is_none(self) -> Any:
        """Nobody is let in by it, and it is not remembered."""
        for say in (
            (401, b"{}"),
            (500, b""),
            (200, b"<html>"),
            (200, b"[]"),
            (200, b"{}"),
            (200, b'{"active": "yes"}'),
            (302, self.active()),
        ):
            Saying.say = say
            failure = yield self.assertFailure(self.find("t"), HttpRefusal)
            self.assertEqual(failure.status, 503)
        Saying.say = (200, self.active())
        self.assertIsNotNone((yield self.find("t")))

    @inlineCallbacks
    def test_what_is_asked_is_bounded(self) -> Any:
        """More invented tokens than may be asked about hear 503 at once; one that is asked about already waits with the others."""
        Saying.say = (200, self.active())
        self.asking._asked.update((str(number), []) for number in range(MOST_ASKED - 1))
        first, again = self.find("t"), self.find("t")
        with self.assertRaises(HttpRefusal) as caught:
            yield self.find("one more")
        self.assertEqual(caught.exception.status, 503)
        self.assertIsNotNone((yield first))
        self.assertIsNotNone((yield again))
        self.assertEqual(len(Saying.heard), 1)

    @inlineCallbacks
    def test_what_is_remembered_is_bounded(self) -> Any:
        """Somebody who invents tokens fills no memory."""
        self.asking._known.update((str(number), (self.now + 1, None)) for number in range(MOST_REMEMBERED))
        Saying.say = (200, self.active())
        yield self.find("t")
        self.assertEqual(len(self.asking._known), MOST_REMEMBERED)
        self.assertNotIn("0", self.asking._known)
