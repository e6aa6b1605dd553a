"""The HTTP source over a socket: what it takes, from whom, what it reads of it, and what senders hear."""

from __future__ import annotations

import gzip
import json
import socket
import tempfile
import time
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from engine.http_answers import kept_form
from engine.message import ACCEPTED, FHIR_JSON, FORM, HL7V2, JSON, XML, Ack, BodyRef, Envelope, Judgement, Verdict
from tests.support.certs import Trust
from tests.support.dicomweb import context
from tests.support.plain_http import Said, faults_of, hub_signature, reactor, send, source
from tests.support.waiting import until

HL7 = b"MSH|^~\\&|LAB|H|X|Y|20260101||ADT^A01|77|P|2.5\rPID|1||P-1~P-2\r"


class HttpSourceTests(TestCase):
    """Against an intake that commits at once; `verdict` is what it says, `relayed` what a destination has answered."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name in ("secret", "next", "password"):
            (self.folder / name).write_text(f"the-{name}")
        self.kept: list[tuple[Envelope, Judgement | None]] = []
        self.verdict, self.relayed = ACCEPTED, b""
        self.audited: list[tuple[str, dict[str, Any]]] = []
        self.unspooled: list[BodyRef] = []
        self.tls: Any = None

    def intake(self, envelope: Envelope, reply: Any, invalid: Judgement | None = None) -> Deferred[Ack]:
        self.kept.append((envelope, invalid))
        judgement = invalid or self.verdict
        return succeed(Ack(judgement, self.relayed or reply(judgement), len(self.kept)))

    def start(self, **options: Any) -> Deferred[None]:
        made = replace(
            context(self.folder, reactor),
            audit=lambda event, **facts: self.audited.append((event, facts)),
            unspool=self.unspooled.append,
            tls=self.tls,
        )
        self.source = source(self.folder, made, **options)
        self.addCleanup(self.source.stop)
        started: Deferred[None] = self.source.start(self.intake)
        return started

    def post(
        self, body: Any = b'{"id": 1}', kind: str = "application/json", path: str = "/in", method: str = "POST", **headers: str
    ) -> Any:
        fields = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return deferToThread(send, self.source.port, body, path, method, fields)

    def envelope(self) -> Envelope:
        return self.kept[-1][0]

    # --- what is taken ---------------------------------------------------------------------------

    @inlineCallbacks
    def test_each_kind_of_content(self):  # type: ignore[no-untyped-def]
        """Its own content type, its facts from where the channel says, whatever the format."""
        places = {"type": ["${Order/@type}", "${kind}"], "control_id": ["${Order/Id}", "${id}"], "patient": "${Order/Patient}"}
        yield self.start(content=["json", "fhir", "xml", "hl7v2", "form", "text"], **places)
        cases = [
            (b'{"id": "9", "kind": "new"}', "application/json", JSON, "new", "9"),
            (b'{"id": "9", "kind": "new"}', "application/vnd.lab+json; charset=utf-8", JSON, "new", "9"),
            (b'{"id": "9", "resourceType": "Patient"}', "application/fhir+json", FHIR_JSON, "", "9"),
            (b"<Order type='new'><Id>9</Id><Patient>P</Patient></Order>", "text/xml", XML, "new", "9"),
            ("<Order type='new'><Id>9</Id><Patient>张</Patient></Order>".encode("gb18030"), "text/xml; charset=gb18030", XML, "new", "9"),
            (HL7, "application/hl7-v2", HL7V2, "ADT^A01", "77"),
            (b"id=9&kind=new%20one", "application/x-www-form-urlencoded", FORM, "new one", "9"),
            (b"anything", "text/plain", "text/plain", "", ""),
        ]
        for body, kind, content_type, message_type, control_id in cases:
            said = yield self.post(body, kind)
            self.assertIn(said.status, (200, 202), said)
            found = self.envelope()
            self.assertEqual((found.body, found.content_type), (body, content_type))
            self.assertEqual((found.message_type, found.control_id), (message_type, control_id))
        self.assertEqual(self.kept[4][0].facts["charset"], "gb18030")
        self.assertEqual(self.kept[4][0].patient_ids, ("张",))
        self.assertEqual(self.kept[5][0].patient_ids, ("P-1", "P-2"))

    @inlineCallbacks
    def test_what_is_not_taken(self):  # type: ignore[no-untyped-def]
        """Said before the body is read, as a problem, with what would be taken; and nothing is kept."""
        yield self.start(most_body="1KB")
        for kind, more, status, words in (
            ("multipart/form-data; boundary=b", {}, 415, "send each file by itself"),
            ("text/html", {}, 415, "application/json"),
            ("", {}, 415, "must say what is sent"),
            ("application/json; charset=gbk", {}, 415, "UTF-8"),
            ("application/json", {"Content_Encoding": "br"}, 415, "gzip"),
            ("application/json", {"path": "/out"}, 404, "path"),
            ("application/json", {"path": "/in/x"}, 404, "path"),
            ("application/json", {"method": "DELETE"}, 405, "POST, PUT"),
            ("application/json", {"method": "GET", "body": b""}, 405, "POST, PUT"),
            ("application/json", {"body": b"x" * 2000}, 413, "larger"),
            ("application/json", {"body": b""}, 400, "no body"),
        ):
            said: Said = yield self.post(kind=kind, **more)
            self.assertEqual(said.status, status, said)
            self.assertEqual(said.headers["Content-Type"], "application/problem+json")
            self.assertIn(words, said.json["detail"])
            self.assertEqual(said.json["status"], status)
        self.assertEqual(self.kept, [])

    @inlineCallbacks
    def test_gzip_and_its_bombs(self):  # type: ignore[no-untyped-def]
        """Undone on the way in; what unfolds into too much is refused, and leaves nothing in the spool."""
        yield self.start(most_body="10MB")
        body = b'{"text": "%b"}' % (b"ab" * 100_000)
        said = yield self.post(gzip.compress(body), Content_Encoding="gzip")
        self.assertEqual(said.status, 202)
        self.assertIsInstance(self.envelope().body, BodyRef)
        said = yield self.post(gzip.compress(bytes(9 << 20)), Content_Encoding="gzip")
        self.assertEqual(said.status, 413)
        said = yield self.post(gzip.compress(body)[:-9], Content_Encoding="gzip")
        self.assertEqual(said.status, 400)
        self.assertEqual(len(self.kept), 1)
        self.assertEqual(len(list((self.folder / "spool").iterdir())), 1)

    @inlineCallbacks
    def test_content_that_is_not_what_it_says(self):  # type: ignore[no-untyped-def]
        """Kept as invalid, answered 400, with the place and nothing of the content; or taken, where nobody looks."""
        yield self.start(content=["json", "xml", "hl7v2"], control_id="${id}")
        for body, kind, words in ((b'{"id": "secret"', "application/json", "not JSON"), (b'{"a":1,"a":2}', "application/json", "twice"),
                                  (b"<a><secret></a>", "text/xml", "well-formed"), (b"<!DOCTYPE a><a/>", "text/xml", "document type")):  # fmt: skip
            said: Said = yield self.post(body, kind, Idempotency_Key="k")
            self.assertEqual(said.status, 400)
            self.assertIn(words, said.json["detail"])
            self.assertNotIn(b"secret", said.body)
            self.assertEqual(self.kept[-1][1].verdict, Verdict.INVALID)
            self.assertEqual(self.envelope().control_id, "k")
        said = yield self.post(b"no hl7", "application/hl7-v2")
        self.assertEqual((said.status, said.headers["Content-Type"]), (400, "application/hl7-v2"))
        self.assertIn(b"\rMSA|A", said.body)
        yield self.source.stop()
        yield self.start(check=False)
        said = yield self.post(b"{")
        self.assertEqual(said.status, 202)

    @inlineCallbacks
    def test_facts_out_of_the_request(self):  # type: ignore[no-untyped-def]
        """Header fields, the query, the path below the base, several joined, the first of several; never more than a line."""
        yield self.start(
            below=True,
            type=["${header.X-Event} ${action}"],
            control_id=["${header.X-Delivery}", "${query.id}"],
            sender="${request.path}",
            patient=["${patient.no}", "${patients[1].no}", '${"a.b"}'],
        )
        body = json.dumps({"action": "opened\nX: 1", "patient": {"no": "1"}, "patients": [{"no": "2"}, {"no": "3"}], "a.b": 1}).encode()
        yield self.post(body, path="/in/lab/one?id=%E5%BC%A0&id=2", X_Event="order")
        found = self.envelope()
        self.assertEqual((found.message_type, found.control_id, found.sender), ("order opened X: 1", "张", "lab/one"))
        self.assertEqual(found.patient_ids, ("1", "3"))
        yield self.post(json.dumps({"action": "x" * 10_000}).encode())
        self.assertEqual(len(self.envelope().message_type), 500)

    @inlineCallbacks
    def test_big_bodies_go_to_the_spool(self):  # type: ignore[no-untyped-def]
        """In chunks, unaltered; facts are read of those up to 16 MB; one that is cut off leaves nothing."""
        yield self.start(content=["json", "any"], control_id="${id}", most_body="1GB")
        pieces = [b'{"id": "7", "text": "', *[b"x" * 65536] * 32, b'"}']
        said = yield self.post(iter(pieces))
        self.assertEqual(said.status, 202)
        found = self.envelope()
        self.assertEqual((found.control_id, found.body.size), ("7", sum(map(len, pieces))))  # type: ignore[union-attr]
        said = yield self.post(bytes(range(256)) * (80 << 10), "application/pdf")
        self.assertEqual((said.status, self.envelope().content_type), (202, "application/pdf"))
        kept = len(list((self.folder / "spool").iterdir()))
        yield deferToThread(self._cut_off)
        yield deferToThread(until, lambda: len(list((self.folder / "spool").iterdir())) == kept)

    def _cut_off(self) -> None:
        with socket.create_connection(("127.0.0.1", self.source.port)) as line:
            line.sendall(
                b"POST /in HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n" + b"x" * 300_000
            )

    # --- who may post ----------------------------------------------------------------------------

    @inlineCallbacks
    def test_tokens(self):  # type: ignore[no-untyped-def]
        """Any of a party's, as Bearer or in a field of their own; all else 401 before a byte of the body, audited, never with the token."""
        tokens = [{"secret": "file:secret", "party": "lab"}, {"secret": "file:next", "party": "lab"}]
        yield self.start(credentials={"tokens": tokens})
        for token in ("the-secret", "the-next"):
            said = yield self.post(Authorization=f"bearer {token}")
            self.assertEqual(said.status, 202)
            self.assertEqual(self.envelope().peer, "urn:meridian:party:lab")
        for shown in (
            "",
            "Bearer",
            "Bearer the-secret2",
            "Bearer the-secret, Bearer the-next",
            "Basic dGhlLXNlY3JldA==",
            "Basic !",
            "the-secret",
        ):
            said = yield self.post(Authorization=shown)
            self.assertEqual(said.status, 401, shown)
            self.assertIn("Bearer", said.headers["WWW-Authenticate"])
        said = yield self.post(path="/in?access_token=the-secret")
        self.assertEqual(said.status, 401)
        self.assertEqual(len(self.kept), 2)
        self.assertEqual({event for event, _ in self.audited}, {"http.refused"})
        self.assertNotIn("the-", str(self.audited))

    @inlineCallbacks
    def test_an_api_key_and_a_password(self):  # type: ignore[no-untyped-def]
        """Either will do; the key is not taken as a bearer token."""
        basic = [{"user": "lab:1"[:3], "password": "file:password", "party": "laboratory"}]
        yield self.start(credentials={"tokens": ["file:secret"], "token_header": "X-API-Key", "basic": basic})
        said = yield self.post(X_API_Key="the-secret")
        self.assertEqual((said.status, self.envelope().peer), (202, ""))
        said = yield self.post(Authorization="Basic " + b64encode(b"lab:the-password").decode())
        self.assertEqual((said.status, self.envelope().peer), (202, "urn:meridian:party:laboratory"))
        for headers in (
            {"Authorization": "Bearer the-secret"},
            {"X_API_Key": "the-password"},
            {"Authorization": "Basic " + b64encode(b"lab:").decode()},
        ):
            said = yield self.post(**headers)
            self.assertEqual(said.status, 401)
            self.assertIn("Basic", said.headers["WWW-Authenticate"])

    @inlineCallbacks
    def test_a_signature_is_verified_before_anything_is_kept(self):  # type: ignore[no-untyped-def]
        """Of small and of big bodies, compressed ones as they were sent; an altered one leaves nothing behind."""
        yield self.start(
            credentials={"signature": {"scheme": "github", "secrets": ["file:secret", "file:next"], "party": "hub"}}, control_id="${id}"
        )
        big = b'{"id": 1, "text": "%b"}' % (b"x" * 400_000)
        zipped = gzip.compress(big)
        for body, more in ((b'{"id": 1}', {}), (big, {}), (zipped, {"Content_Encoding": "gzip"})):
            said = yield self.post(body, X_Hub_Signature_256=hub_signature("the-next", body), **more)
            self.assertEqual(said.status, 202, said)
            self.assertEqual(self.envelope().peer, "urn:meridian:party:hub")
        kept = list((self.folder / "spool").iterdir())
        for body, mac in ((b'{"id": 2}', hub_signature("the-next", b'{"id": 1}')), (big + b" ", hub_signature("the-next", big)),
                          (big, hub_signature("wrong", big)), (big, "")):  # fmt: skip
            said = yield self.post(body, X_Hub_Signature_256=mac)
            self.assertEqual(said.status, 401)
        self.assertEqual(len(self.kept), 3)
        self.assertEqual(list((self.folder / "spool").iterdir()), kept)

    @inlineCallbacks
    def test_what_is_signed_tells_a_repetition(self):  # type: ignore[no-untyped-def]
        """A request that was caught and is sent again under another delivery identifier has the same key; with a signed identifier, that."""
        yield self.start(credentials={"signature": {"scheme": "github", "secrets": "file:secret"}})
        for number in ("1", "2"):
            yield self.post(X_Hub_Signature_256=hub_signature("the-secret", b'{"id": 1}'), Idempotency_Key=number, X_GitHub_Delivery=number)
        first, second = (envelope.idempotency_key for envelope, _ in self.kept)
        self.assertEqual(first, second)
        yield self.post(b'{"id": 2}', X_Hub_Signature_256=hub_signature("the-secret", b'{"id": 2}'), Idempotency_Key="1")
        self.assertNotEqual(self.envelope().idempotency_key, first)

    @inlineCallbacks
    def test_all_proofs_must_be_of_one_party(self):  # type: ignore[no-untyped-def]
        """A certificate and a token of two parties: 403; of one: that one."""
        trust = Trust(self.folder, reactor)
        self.tls = trust.provider("node")
        client = trust.issue("lab")
        tokens = [{"secret": "file:secret", "party": "lab"}, {"secret": "file:next", "party": "other"}]
        yield self.start(tls={"client_auth": "optional"}, credentials={"tokens": tokens})

        def curl(token: str, *more: str) -> str:
            import subprocess

            command = ["curl", "-s", "--cacert", str(client / "ca.pem"), *more, "-H", f"Authorization: Bearer {token}"]
            command += ["--json", "{}", "-o", "-", "-w", "%{http_code}", f"https://localhost:{self.source.port}/in"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

        own = ("--cert", str(client / "node.pem"), "--key", str(client / "node.key"))
        said = yield deferToThread(curl, "the-secret", *own)
        self.assertEqual((said[-3:], self.envelope().peer), ("202", "urn:meridian:party:lab"))
        said = yield deferToThread(curl, "the-next", *own)
        self.assertEqual(said[-3:], "403")
        said = yield deferToThread(curl, "the-next")
        self.assertEqual((said[-3:], self.envelope().peer), ("202", "urn:meridian:party:other"))

    @inlineCallbacks
    def test_a_secret_that_is_not_there(self):  # type: ignore[no-untyped-def]
        """The source does not start; and a token that is replaced is known soon."""
        from engine.errors import ConfigError

        yield self.assertFailure(self.start(credentials={"tokens": "file:none"}), ConfigError)

    # --- the same again --------------------------------------------------------------------------

    @inlineCallbacks
    def test_idempotency_keys(self):  # type: ignore[no-untyped-def]
        """Quoted or bare, of the party that shows it; the content, method and path make the digest; required where the channel says."""
        yield self.start(idempotency_required=True, below=True)
        yield self.post(Idempotency_Key='"8e03978e"')
        yield self.post(Idempotency_Key="8e03978e")
        yield self.post(Idempotency_Key="8e03978e", path="/in/elsewhere")
        quoted, bare, elsewhere = (envelope for envelope, _ in self.kept)
        self.assertEqual((quoted.idempotency_key, quoted.content_digest), (bare.idempotency_key, bare.content_digest))
        self.assertTrue(quoted.idempotency_key.endswith("|8e03978e"))
        self.assertNotEqual(bare.content_digest, elsewhere.content_digest)
        for more in ({}, {"Idempotency_Key": '""'}, {"Idempotency_Key": "k" * 256}):
            said = yield self.post(**more)
            self.assertEqual(said.status, 400)
            self.assertIn("idempotency key", said.json["detail"])
        self.assertEqual(len(self.kept), 3)

    @inlineCallbacks
    def test_a_declared_key(self):  # type: ignore[no-untyped-def]
        """Out of the content, or the content's digest where there is nothing else."""
        yield self.start(idempotency=["${event.id}", "${request.digest}"])
        yield self.post(b'{"event": {"id": "e1"}}', Idempotency_Key="x")
        self.assertTrue(self.envelope().idempotency_key.endswith("|e1"))
        yield self.post(b"{}")
        yield self.post(b"{}")
        self.assertEqual(self.kept[1][0].idempotency_key, self.kept[2][0].idempotency_key)

    # --- what is answered ------------------------------------------------------------------------

    @inlineCallbacks
    def test_answers(self):  # type: ignore[no-untyped-def]
        """A status, and a body out of a template; a verdict that is none is a problem, with Retry-After where it may be sent again."""
        body = {"taken": True, "id": "${message.control_id}", "list": [1, "${message.key}"]}
        yield self.start(answer={"status": 200, "body": body}, control_id="${id}")
        said = yield self.post(b'{"id": "\\"7"}', Idempotency_Key="k")
        self.assertEqual((said.status, said.headers["Content-Type"]), (200, "application/json"))
        self.assertEqual(said.json, {"taken": True, "id": '"7', "list": [1, "k"]})
        for verdict, status in ((Verdict.REFUSED, 403), (Verdict.INVALID, 422), (Verdict.UNAVAILABLE, 503)):
            self.verdict = Judgement(verdict, "not now", "207", "a.b")
            said = yield self.post()
            self.assertEqual((said.status, said.json["detail"], said.json["location"]), (status, "not now", "a.b"))
            self.assertEqual(said.headers["Retry-After"], "5" if status == 503 else None)

    @inlineCallbacks
    def test_senders_that_switch_off_what_refuses(self):  # type: ignore[no-untyped-def]
        """What the channel does not want can be answered 200; what is at fault is not."""
        yield self.start(answer={"refused": 200, "body": "ok"})
        self.verdict = Judgement(Verdict.REFUSED, "not for this channel")
        said = yield self.post()
        self.assertEqual((said.status, said.json), (200, {"accepted": False, "detail": "not for this channel"}))
        said = yield self.post(b"{")
        self.assertEqual(said.status, 400)

    @inlineCallbacks
    def test_the_answer_of_a_destination(self):  # type: ignore[no-untyped-def]
        """One over HTTP with its status and type, without its cookies; another's content as it is, in the type that it looks like."""
        yield self.start()
        self.relayed = kept_form(201, {"Content-Type": "text/csv", "Location": "/a/1", "Set-Cookie": "s=1"}, b"a,b")
        said = yield self.post()
        self.assertEqual(
            (said.status, said.headers["Content-Type"], said.headers["Location"], said.body), (201, "text/csv", "/a/1", b"a,b")
        )
        self.assertIsNone(said.headers["Set-Cookie"])
        for relayed, kind in ((b"MSH|^~\\&|", "application/hl7-v2"), (b'{"a": 1}', "application/json"), (b"<a/>", "application/xml")):
            self.relayed = relayed
            said = yield self.post()
            self.assertEqual((said.status, said.headers["Content-Type"], said.body), (202, kind, relayed))

    @inlineCallbacks
    def test_stale_and_slow(self):  # type: ignore[no-untyped-def]
        """A signed time that is too old is refused without the body; what comes too slowly hears 408."""
        signature = {"secrets": "file:secret", "signed": "timestamp.body", "timestamp_header": "X-Time"}
        yield self.start(credentials={"signature": signature}, receive_within="300ms")
        said = yield self.post(X_Time=str(int(time.time()) - 3600), X_Signature="00" * 32)
        self.assertEqual(said.status, 401)
        said = yield deferToThread(self._slowly)
        self.assertIn(b" 408 ", said)

    def _slowly(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self.source.port), timeout=60) as line:
            line.sendall(b"POST /in HTTP/1.1\r\n")
            return line.recv(4096)


def test_what_a_channel_file_cannot_say() -> None:
    """Each with what would be right."""
    for said, words in (
        ({"credentials": {"tokens": "env:A"}}, "credentials would go unencrypted"),
        ({"credentials": {}}, "needs tokens, basic or signature"),
        ({"credentials": {"tokens": "secret"}}, "never written here"),
        ({"content": "jsn"}, "did you mean 'json'"),
        ({"content": []}, "content: at least one"),
        ({"type": "${header.X"}, "not closed"),
        ({"type": "${request.pth}"}, "did you mean 'request.path'"),
        ({"control_id": "${a..b}"}, "is not a path such as data.order.no"),
        ({"content": "xml", "patient": "${a.b[0]}"}, "is not a path such as Order/id"),
        ({"answer": {"body": {"id": "${message.patient_id}"}}}, "an answer cannot say ${message.patient_id}"),
        ({"answer": {"status": 302}}, "200 to 299"),
        ({"base": "in here"}, "is not the path of a URL"),
        ({"base": "https://clinic.example/in"}, "what stands behind the host"),
        ({"base": "/in/../out"}, "without . and .."),
    ):
        assert words in faults_of("source", {"listen": 80, **said}), (said, faults_of("source", {"listen": 80, **said}))
