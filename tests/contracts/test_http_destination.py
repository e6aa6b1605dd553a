"""The HTTP destination held to the contract of destinations, against Python's own HTTP server."""

import hashlib
import hmac
import json
import tempfile
from base64 import b64decode, urlsafe_b64decode
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from adapters.http import adapter
from engine.errors import ConfigError, PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.http_answers import read_kept
from engine.message import FHIR_JSON, HL7V2, JSON, Parcel
from tests.contracts.destination_contract import DestinationContract
from tests.support.dicom_instances import Folder, context
from tests.support.plain_http import HttpPeer, parsed, reactor

HL7 = b"MSH|^~\\&|LAB|H|X|Y|20260101||ORU^R01|7|P|2.5||||||UNICODE UTF-8\rPID|1||P/1?&^^^H||M\xc3\xbcller^A\rOBX|1|NM|K^^L||4.50|mmol/L\r"


class HttpDestinationTests(DestinationContract, TestCase):
    def start_peer(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        for name in ("token", "secret"):
            (self.data / name).write_text(f"the-{name}")
        return HttpPeer()

    def make(self, **options):
        return self.to(self.peer.port, options)

    def make_nowhere(self):
        return self.to(1, {})

    def to(self, number, options):
        node = {"url": f"http://127.0.0.1:{number}/results", "headers": {"X-Control-Id": "${message.control_id}"}, **options}
        return adapter.destination(parsed(self.data, "destination", node), context(self.data, reactor))

    def parcel(self, number, body=None, **more):
        parcel = Parcel(number, number, HL7 if body is None else body, HL7V2, "ORU^R01", str(number), f"key-{number}", "P/1?&")
        return replace(parcel, **more)

    @inlineCallbacks
    def again(self, **options):
        """Another destination, with other options."""
        yield self.destination.close()
        self.destination = self.make(**options)
        yield self.destination.open()

    @inlineCallbacks
    def fails(self, kind, status=500, said=b"{}", fields=None, **options):
        yield self.again(**options)
        self.peer.answers = lambda _: (status, said, fields or {})
        error = yield self.assertFailure(self.destination.deliver(self.parcel(1)), kind)
        return error

    # --- what is said ----------------------------------------------------------------------------

    @inlineCallbacks
    def test_the_content_as_it_is(self):
        """Its bytes, its content type, and the same idempotency key at every attempt."""
        for attempt in (1, 2):
            yield self.destination.deliver(self.parcel(1, attempt=attempt))
        for asked in self.peer.requests:
            self.assertEqual((asked.method, asked.target, asked.body), ("POST", "/results", HL7))
            self.assertEqual(asked.headers["content-type"], HL7V2)
            self.assertEqual(asked.headers["idempotency-key"], "key-1")

    @inlineCallbacks
    def test_values_are_encoded_in_the_address(self):
        """None of them becomes a segment, a parameter, another host, or a line of the header."""
        url = f"http://127.0.0.1:{self.peer.port}/p/${{PID-3.1}}/r?id=${{message.control_id}}&name=${{PID-5.1}}#x"
        yield self.again(url=url, headers={"X-Who": "${message.control_id}"}, method="PUT")
        yield self.destination.deliver(self.parcel(1, control_id="a\r\nX-Evil: 1"))
        yield self.destination.deliver(self.parcel(2, HL7.replace(b"P/1?&", b"..")))
        first, dots = self.peer.requests
        self.assertEqual(first.target, "/p/P%2F1%3F%26/r?id=a%0D%0AX-Evil%3A%201&name=M%C3%BCller")
        self.assertEqual(first.headers["x-who"], "a X-Evil: 1")
        self.assertNotIn("x-evil", first.headers)
        self.assertIn("/p/%2E%2E/r", dots.target)

    @inlineCallbacks
    def test_a_header_that_cannot_say_it(self):
        """A name in Chinese is in no header field: a dead letter, which says which field."""
        yield self.again(headers={"X-Name": "${message.patient_id}"})
        error = yield self.assertFailure(self.destination.deliver(self.parcel(1, order_key="张三")), PermanentDelivery)
        self.assertEqual(error.location, "X-Name")
        self.assertEqual(self.peer.requests, [])

    @inlineCallbacks
    def test_json_is_escaped_and_typed(self):
        """Quotes stay in their text, digits stay as they were, what the message does not have is null."""
        body = {"json": {"id": "${message.control_id}", "value": {"number": "${OBX[1]-5}"}, "ok": True, "none": "${PID-40}", "n": 1.50,
                         "list": ["${PID-5.1}", "x ${PID-40}"], "raw": "${content.base64}"}}  # fmt: skip
        yield self.again(body=body)
        yield self.destination.deliver(self.parcel(1, control_id='"}, "evil": "\\'))
        said = self.peer.requests[0]
        self.assertEqual(said.headers["content-type"], "application/json")
        self.assertIn(b'"value":4.50,', said.body)
        read = json.loads(said.body)
        self.assertEqual((read["id"], read["none"], read["list"]), ('"}, "evil": "\\', None, ["Müller", "x "]))
        self.assertEqual(b64decode(read["raw"]), HL7)
        self.assertNotIn("evil", read)
        error = yield self.fails(PermanentDelivery, body={"json": {"value": {"number": "${PID-5.1}"}}})
        self.assertNotIn("Müller", str(error))

    @inlineCallbacks
    def test_forms_and_text(self):
        """A form's values are encoded; what looks into JSON content reads it by path."""
        yield self.again(body={"form": {"no": "${order.no}", "gone": "${order.gone}"}})
        yield self.destination.deliver(self.parcel(1, b'{"order": {"no": "A&b=1"}}', content_type=JSON))
        yield self.again(body={"text": "order ${order.no}"})
        yield self.destination.deliver(self.parcel(2, b'{"order": {"no": "A1"}}', content_type=JSON))
        form, text = self.peer.requests
        self.assertEqual((form.body, form.headers["content-type"]), (b"no=A%26b%3D1", "application/x-www-form-urlencoded"))
        self.assertEqual(text.body, b"order A1")

    @inlineCallbacks
    def test_big_content_goes_from_its_file(self):
        """Never in memory, signed too; where it is gone, that is said."""
        folder = Folder(self.data / "bodies")
        big = folder.keep(bytes(range(256)) * (80 << 10))
        for options in ({}, {"signature": {"scheme": "github", "secret": "file:secret"}}):
            yield self.again(**options, timeout="20s")
            yield self.destination.deliver(self.parcel(1, big, content_type="application/octet-stream"))
        plain, signed = self.peer.requests
        self.assertEqual([plain.body.hex(), signed.body.hex()], [big.digest] * 2)
        mac = hmac.new(b"the-secret", bytes(range(256)) * (80 << 10), hashlib.sha256).hexdigest()
        self.assertEqual(signed.headers["x-hub-signature-256"], f"sha256={mac}")
        yield self.again()
        gone = yield self.assertFailure(self.destination.deliver(self.parcel(1, replace(big, digest="0" * 64))), PermanentDelivery)
        self.assertIn("read back", gone.text)

    @inlineCallbacks
    def test_credentials(self):
        """A token, a password, a key in a field of its own; a file is read anew, and a secret that is gone holds the destination up."""
        yield self.again(auth={"bearer": "file:token"}, secret_headers={"X-API-Key": "file:secret"})
        yield self.destination.deliver(self.parcel(1))
        asked = self.peer.requests[0]
        self.assertEqual((asked.headers["authorization"], asked.headers["x-api-key"]), ("Bearer the-token", "the-secret"))
        (self.data / "secret").write_text("another")
        yield self.destination.deliver(self.parcel(2))
        self.assertEqual(self.peer.requests[1].headers["x-api-key"], "another")
        (self.data / "secret").unlink()
        error = yield self.assertFailure(self.destination.deliver(self.parcel(3)), TransientDelivery)
        self.assertTrue(error.whole_destination)
        (self.data / "secret").write_text("back")
        yield self.again(auth={"basic": {"user": "lab", "password": "file:secret"}})
        yield self.destination.deliver(self.parcel(4))
        self.assertEqual(b64decode(self.peer.requests[-1].headers["authorization"].removeprefix("Basic ")), b"lab:back")

    @inlineCallbacks
    def test_a_secret_that_is_not_there(self):
        """Then the destination does not open."""
        for options in ({"secret_headers": {"X-Key": "file:none"}}, {"signature": {"secret": "file:none"}}):
            destination = self.make(**options)
            yield self.assertFailure(destination.open(), ConfigError)
            yield destination.close()

    # --- what is answered ------------------------------------------------------------------------

    @inlineCallbacks
    def test_statuses_mean_what_the_site_says(self):
        """What it does not say, means what it means for every destination."""
        for status, kind in ((500, TransientDelivery), (429, TransientDelivery), (404, PermanentDelivery), (422, PermanentDelivery)):
            yield self.fails(kind, status)
        yield self.fails(TransientDelivery, 404, retry_on=[404, "409-410"])
        yield self.fails(PermanentDelivery, 501, permanent_on=[501])
        yield self.fails(PermanentDelivery, 202, success_on=[200], permanent_on=["201-299"])
        error = yield self.fails(TransientDelivery, 423, fields={"Retry-After": "7"}, retry_on=[423])
        self.assertEqual((error.retry_after, error.whole_destination), (7.0, False))
        error = yield self.fails(TransientDelivery, 403)
        self.assertTrue(error.whole_destination)
        yield self.again(success_on=["200-299", 409])
        self.peer.answers = lambda _: (409, b"known", {})
        receipt = yield self.destination.deliver(self.parcel(1))
        self.assertEqual(receipt.reference, "409")

    @inlineCallbacks
    def test_no_server_puts_us_off_for_years(self):
        """Retry-After is a wish: a day at most, whatever the server's clock says; what is neither seconds nor a date is none."""
        day = 86400.0
        for said, seconds in (
            ("999999999", day),
            ("9" * 4000, day),
            ("Fri, 31 Dec 9999 23:59:59 GMT", day),
            ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
            ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
            ("Mon, 01 Jan 2024 00:00:00 +999999999999999999999", None),
            ("soon", None),
        ):
            error = yield self.fails(TransientDelivery, 503, fields={"Retry-After": said})
            self.assertEqual((error.retry_after, error.whole_destination), (seconds, True), said[:60])

    @inlineCallbacks
    def test_a_redirect_is_not_followed(self):
        """Least of all with credentials: nobody is asked but the server that the channel names."""
        elsewhere = HttpPeer()
        self.addCleanup(elsewhere.stop)
        location = {"Location": f"http://127.0.0.1:{elsewhere.port}/"}
        for status in (301, 302, 303, 307, 308):
            error = yield self.fails(PermanentDelivery, status, fields=location, auth={"bearer": "file:token"})
            self.assertIn("redirect", error.text)
        self.assertEqual(elsewhere.requests, [])

    @inlineCallbacks
    def test_the_body_says_whether_it_was_accepted(self):
        """JSON or XML, by a path; what cannot be found is uncertain; its values are in no text."""
        wanted = {"path": "result.code", "accepted": ["0"], "transient": ["BUSY"]}
        kind = {"Content-Type": "application/json"}
        yield self.again(accepted_when=wanted)
        self.peer.answers = lambda _: (200, b'{"result": {"code": 0}}', kind)
        yield self.destination.deliver(self.parcel(1))
        yield self.fails(TransientDelivery, 200, b'{"result": {"code": "BUSY"}}', kind, accepted_when=wanted)
        error = yield self.fails(PermanentDelivery, 200, '{"result": {"code": "张三 is unknown"}}'.encode(), kind, accepted_when=wanted)
        self.assertNotIn("张三", str(error))
        self.assertIn("张三".encode(), error.answer)
        for body in (b"<html>", b"{}", b""):
            yield self.fails(UncertainDelivery, 200, body, kind, accepted_when=wanted)
        xml = {"path": "Reply/@code", "accepted": ["AA"]}
        yield self.fails(PermanentDelivery, 200, b"<Reply code='AE'/>", {"Content-Type": "text/xml"}, accepted_when=xml)

    @inlineCallbacks
    def test_the_answer_is_the_receipts(self):
        """With status and type, for a channel that hands it back; where a Location is given, it is the reference."""
        self.peer.answers = lambda _: (201, b'{"id": 9}', {"Content-Type": "application/json", "Location": "/results/9"})
        receipt = yield self.destination.deliver(self.parcel(1))
        self.assertEqual(receipt.reference, "/results/9")
        status, headers, body = read_kept(receipt.answer)
        self.assertEqual((status, headers["content-type"], body), (201, "application/json", b'{"id": 9}'))

    # --- OAuth 2.0 -------------------------------------------------------------------------------

    def authorizing(self, **more):
        """An authorization server beside the peer."""
        server = HttpPeer()
        self.addCleanup(server.stop)
        tokens = iter(range(1, 100))
        said = {"token_type": "Bearer", "expires_in": 3600, **more}
        server.answers = lambda _: (
            200,
            json.dumps({"access_token": f"t{next(tokens)}", **said}).encode(),
            {"Content-Type": "application/json"},
        )
        secret = {"client_id": "lab one", "client_secret": "file:secret", "scope": "results.write"}
        return server, {"oauth2": {"token_url": f"http://127.0.0.1:{server.port}/token", **secret}}

    @inlineCallbacks
    def test_one_token_for_many_requests_and_a_new_one_after_401(self):
        """RFC 6749 clause 4.4: asked for once however many wait, form-encoded before Basic, forgotten when it is refused."""
        server, auth = self.authorizing()
        yield self.again(auth=auth)
        yield gatherResults([self.destination.deliver(self.parcel(number)) for number in range(1, 9)])
        self.assertEqual({asked.headers["authorization"] for asked in self.peer.requests}, {"Bearer t1"})
        (asked,) = server.requests
        self.assertEqual(asked.body, b"grant_type=client_credentials&scope=results.write")
        self.assertEqual(b64decode(asked.headers["authorization"].removeprefix("Basic ")), b"lab+one:the-secret")
        self.peer.answers = lambda _: (401, b"", {})
        yield self.assertFailure(self.destination.deliver(self.parcel(1)), TransientDelivery)
        self.peer.answers = lambda _: (200, b"", {})
        yield self.destination.deliver(self.parcel(1))
        self.assertEqual(self.peer.requests[-1].headers["authorization"], "Bearer t2")

    @inlineCallbacks
    def test_no_token_is_no_fault_of_a_message(self):
        """Refused, unreadable or out of reach: the destination waits, nothing is sent, and no secret is said."""
        server, auth = self.authorizing()
        yield self.again(auth=auth)
        for status, body in ((401, b'{"error": "invalid_client"}'), (200, b"<html>"), (200, b'{"access_token": "a b\\n"}'), (500, b"")):
            server.answers = lambda _, status=status, body=body: (status, body, {})
            error = yield self.assertFailure(self.destination.deliver(self.parcel(1)), TransientDelivery)
            self.assertTrue(error.whole_destination)
            self.assertIn("no access token", error.text)
            self.assertNotIn("the-secret", error.text)
        self.assertEqual(self.peer.requests, [])

    @inlineCallbacks
    def test_a_private_key_says_who_we_are(self):
        """private_key_jwt (RFC 7523 clause 3): signed by RS384 or ES384, for the token endpoint, short-lived, with another jti each time."""
        keys = {"RS384": rsa.generate_private_key(65537, 2048), "ES384": ec.generate_private_key(ec.SECP384R1())}
        for algorithm, key in keys.items():
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (self.data / "key.pem").write_bytes(pem)
            server, auth = self.authorizing()
            url = auth["oauth2"]["token_url"]
            yield self.again(auth={"oauth2": {"token_url": url, "client_id": "lab", "private_key": "key.pem", "key_id": "k1"}})
            yield self.destination.deliver(self.parcel(1))
            self.peer.answers = lambda _: (401, b"", {})
            yield self.assertFailure(self.destination.deliver(self.parcel(1)), TransientDelivery)
            self.peer.answers = lambda _: (200, b"", {})
            yield self.destination.deliver(self.parcel(1))
            claims = [self.claims_of(asked, key, algorithm) for asked in server.requests]
            self.assertEqual([(one["iss"], one["sub"], one["aud"]) for one in claims], [("lab", "lab", url)] * 2)
            self.assertEqual({one["exp"] - one["iat"] for one in claims}, {240})
            self.assertNotEqual(claims[0]["jti"], claims[1]["jti"])
        weak = rsa.generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for unusable in (b"no key", weak):
            (self.data / "key.pem").write_bytes(unusable)
            destination = self.make(auth={"oauth2": {"token_url": url, "client_id": "lab", "private_key": "key.pem"}})
            yield self.assertFailure(destination.open(), ConfigError)
            yield destination.close()

    def claims_of(self, asked, key, algorithm):
        """Of an assertion whose signature is right, by cryptography's own verification (RFC 7518 clauses 3.3, 3.4)."""
        form = dict(parse_qsl(asked.body.decode()))
        self.assertEqual(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        head, claims, mac = form["client_assertion"].split(".")
        signature, text = self.part(mac), f"{head}.{claims}".encode()
        self.assertEqual(json.loads(self.part(head)), {"alg": algorithm, "typ": "JWT", "kid": "k1"})
        if algorithm == "RS384":
            key.public_key().verify(signature, text, padding.PKCS1v15(), hashes.SHA384())
        else:
            r, s = (int.from_bytes(half, "big") for half in (signature[:48], signature[48:]))
            key.public_key().verify(encode_dss_signature(r, s), text, ec.ECDSA(hashes.SHA384()))
        return json.loads(self.part(claims))

    @staticmethod
    def part(text):
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))

    @inlineCallbacks
    def test_fhir_goes_as_well(self):
        """Any content type: a Bundle to a server that is no FHIR server."""
        yield self.again(gzip=True, content_type="application/json")
        yield self.destination.deliver(self.parcel(1, b'{"resourceType":"Bundle"}', content_type=FHIR_JSON))
        self.assertEqual(self.peer.requests[0].headers["content-encoding"], "gzip")
        self.assertEqual(self.peer.requests[0].headers["content-type"], "application/json")
