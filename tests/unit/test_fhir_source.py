"""The FHIR server without sockets: every answer it gives, and what reaches the intake."""

import gzip
import json
import tempfile
from pathlib import Path

from fhir.resources.R4B import get_fhir_model_class
from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from engine import http_source
from engine.http1 import HttpFramer
from engine.http_answers import Sender
from engine.message import FHIR_JSON, Ack, Judgement, Verdict
from tests.support.fhir import (
    SYSTEM,
    DirectWriter,
    RepositoryIntake,
    bundle,
    context,
    entry,
    identified,
    open_repository,
    source,
)

PATIENT = b'{"resourceType":"Patient","active":true}'


class Transport(StringTransport):
    aborted = False

    def abortConnection(self):
        self.aborted = True
        super().abortConnection()


class FhirSourceCase(SynchronousTestCase):
    """A source on a reactor that is moved by hand, its channel answering from the repository."""

    options = {}  # noqa: RUF012
    keeps = True

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.reactor = MemoryReactorClock()
        self.patch(http_source, "deferToThreadPool", lambda _reactor, _pool, function, *arguments: maybeDeferred(function, *arguments))
        self.audited = []
        made = self.context = context(Path(folder.name), self.reactor, audit=lambda event, **facts: self.audited.append((event, facts)))
        self.intake = RepositoryIntake()
        if self.keeps:
            self.repository = open_repository(Path(folder.name) / "fhir-repository.db", reads_all=self.options.get("reads") == "all")
            self.intake.to = self.destination(made)
        options = {"listen": "127.0.0.1:8080", **({"repository": "fhir-repository.db"} if self.keeps else {}), **self.options}
        self.source = source(options, made)
        self.successResultOf(self.source.start(self.intake))
        self.server = self.reactor.tcpServers[0][1]
        self.addCleanup(self.finish)

    def destination(self, made):
        from adapters.fhir import repository_adapter
        from adapters.fhir.repository_destination import RepositoryDestination

        return RepositoryDestination(repository_adapter.destination_options.defaults(), made, DirectWriter(self.repository))

    def finish(self):
        if not self.server.stopping:
            self.source.stop()
        if self.keeps:
            self.repository.close()

    def connect(self):
        protocol = self.server.buildProtocol(None)
        transport = Transport(peerAddress=IPv4Address("TCP", "10.0.0.9", 4711))
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.addCleanup(protocol.connectionLost)
        return transport

    def send(self, wire, transport=None):
        """The answers to raw bytes."""
        transport = transport or self.connect()
        transport.clear()
        transport.protocol.dataReceived(wire)
        return self.answers(transport)

    def answers(self, transport):
        return HttpFramer(responses=True, most_body=1 << 24).feed(transport.value())

    def ask(self, method, path, body=b"", **headers):
        """The answer to one request; a body is FHIR JSON unless `headers` say otherwise."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body and "Content-Type" not in named:
            named["Content-Type"] = "application/fhir+json"
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        wire = f"{method} /fhir{path} HTTP/1.1\r\nHost: h:1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
        (message,) = self.send(wire)
        return message

    def refused(self, status, answer):
        """`answer` has that status, and an OperationOutcome that the R4 model takes."""
        self.assertEqual(answer.start[1], str(status))
        self.assertEqual(answer.headers["content-type"], "application/fhir+json; charset=utf-8")
        get_fhir_model_class("OperationOutcome").model_validate_json(answer.body)
        return json.loads(answer.body)["issue"]


class WriteTests(FhirSourceCase):
    """Creates, updates, deletes, Bundles, and what the sender hears."""

    def test_a_create_is_answered_with_the_resource(self):
        """201, Location, ETag, Last-Modified, and the resource as it now is (R4 3.1.0.8)."""
        answer = self.ask("POST", "/Patient", PATIENT)
        self.assertEqual(answer.start[1], "201")
        self.assertEqual(answer.headers["location"], "http://h:1/fhir/Patient/n1/_history/1")
        self.assertEqual(answer.headers["etag"], 'W/"1"')
        self.assertEqual(answer.headers["last-modified"], "Tue, 14 Nov 2023 22:13:20 GMT")
        self.assertEqual(json.loads(answer.body)["id"], "n1")

    def test_prefer_chooses_the_body(self):
        self.assertEqual(self.ask("POST", "/Patient", PATIENT, Prefer="return=minimal").body, b"")
        outcome = json.loads(self.ask("POST", "/Patient", PATIENT, Prefer="return=OperationOutcome").body)
        self.assertEqual(outcome["resourceType"], "OperationOutcome")

    def test_a_create_travels_with_its_bytes_and_headers(self):
        """The envelope is a one-entry transaction holding the resource byte for byte; conditions and url are facts too."""
        raw = b'{ "resourceType" : "Patient", "x": 1.50 }'
        self.ask("POST", "/Patient", raw, If_None_Exist="identifier=A", X_Request_Id="r1")
        (envelope,) = self.intake.envelopes
        self.assertIn(raw, envelope.body)
        request = json.loads(envelope.body)["entry"][0]["request"]
        self.assertEqual(request, {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=A"})
        self.assertEqual((envelope.message_type, envelope.content_type), ("Patient create", FHIR_JSON))
        self.assertEqual(envelope.facts["request.if_none_exist"], "identifier=A")
        self.assertEqual((envelope.facts["request.method"], envelope.facts["request.url"]), ("POST", "/fhir/Patient"))
        self.assertEqual((envelope.control_id, envelope.remote), ("r1", "10.0.0.9:4711"))

    def test_a_bundle_travels_as_it_came(self):
        body = json.dumps(
            {
                "resourceType": "Bundle",
                "type": "transaction",
                "identifier": {"value": "B-1"},
                "meta": {"source": "urn:lab"},
                "entry": [entry("POST", "Patient", identified("Patient", "P-1"))],
            },
            indent=1,
        ).encode()
        answer = self.ask("POST", "", body)
        (envelope,) = self.intake.envelopes
        self.assertEqual(envelope.body, body)
        self.assertEqual((envelope.message_type, envelope.control_id, envelope.sender), ("Bundle transaction", "B-1", "urn:lab"))
        self.assertEqual(envelope.patient_ids, ("P-1",))
        self.assertEqual(envelope.facts["bundle.type"], "transaction")
        self.assertEqual((answer.start[1], json.loads(answer.body)["type"]), ("200", "transaction-response"))

    def test_a_repeat_with_the_same_key_is_answered_the_same(self):
        """The key is prefixed by who sends, so that two senders cannot collide."""
        first = self.ask("POST", "/Patient", PATIENT, Idempotency_Key="k")
        again = self.ask("POST", "/Patient", PATIENT, Idempotency_Key="k")
        self.assertEqual((first.start, first.headers, first.body), (again.start, again.headers, again.body))
        self.assertEqual(self.intake.envelopes[0].idempotency_key, "10.0.0.9|k")

    def test_without_a_key_each_request_is_its_own(self):
        self.ask("POST", "/Patient", PATIENT)
        self.assertEqual(self.intake.envelopes[0].idempotency_key, "")

    def test_conditional_headers(self):
        """If-None-Exist 0, 1, many; If-Match right and wrong."""
        patient = json.dumps(identified("Patient", "A")).encode()
        condition = f"identifier={SYSTEM}|A"
        self.assertEqual(self.ask("POST", "/Patient", patient, If_None_Exist=condition).start[1], "201")
        self.assertEqual(self.ask("POST", "/Patient", patient, If_None_Exist=condition).start[1], "200")
        self.ask("POST", "/Patient", patient)
        self.refused(412, self.ask("POST", "/Patient", patient, If_None_Exist=condition))
        update = json.dumps(identified("Patient", "B", id="n1")).encode()
        self.refused(412, self.ask("PUT", "/Patient/n1", update, If_Match='W/"7"'))
        self.assertEqual(self.ask("PUT", "/Patient/n1", update, If_Match='W/"1"').headers["etag"], 'W/"2"')

    def test_conditional_update_and_delete(self):
        patient = json.dumps(identified("Patient", "A")).encode()
        self.assertEqual(self.ask("PUT", f"/Patient?identifier={SYSTEM}|A", patient).start[1], "201")
        self.assertEqual(self.ask("PUT", f"/Patient?identifier={SYSTEM}|A", patient).start[1], "200")
        self.assertEqual(self.ask("DELETE", f"/Patient?identifier={SYSTEM}|A").start[1], "204")
        self.refused(410, self.ask("GET", "/Patient/n1"))

    def test_what_the_sender_did_wrong_is_said_and_kept(self):
        """Each is quarantined through the intake as invalid, and answered 400 with an OperationOutcome."""
        wrong = [
            ("POST", "/Patient", b"garbage"),
            ("POST", "/Patient", b'{"resourceType":"Patient","active":true,"active":false}'),
            ("POST", "/Patient", b'{"resourceType":"Group"}'),
            ("POST", "/Patient", b"[1]"),
            ("POST", "/Patient", b"\xff\xfe"),
            ("POST", "/Patient", b'{"a":' * 5000 + b"1" + b"}" * 5000),
            ("PUT", "/Patient/a", b'{"resourceType":"Patient","id":"b"}'),
            ("PUT", "/Patient/a", b'{"resourceType":"Patient"}'),
            ("POST", "", b'{"resourceType":"Patient"}'),
            ("POST", "", b'{"resourceType":"Bundle","type":"collection"}'),
            ("POST", "", bundle({"resource": {}})),
        ]
        for method, path, body in wrong:
            self.refused(400, self.ask(method, path, body))
            self.assertEqual(self.intake.invalid[-1].verdict, Verdict.INVALID)
            self.assertIn(body, self.intake.envelopes[-1].body)
        self.assertEqual(len(self.intake.envelopes), len(wrong))

    def test_bad_conditions_are_refused_before_anything(self):
        self.refused(400, self.ask("POST", "/Patient", PATIENT, If_None_Exist="shoe=42"))
        self.refused(400, self.ask("PUT", "/Patient/a", b'{"resourceType":"Patient","id":"a"}', If_Match="7"))
        self.refused(412, self.ask("DELETE", "/Patient"))

    def test_what_is_no_message_never_reaches_the_intake(self):
        """Unknown places, methods and media are answered at once."""
        self.refused(404, self.ask("POST", "/Shoe", PATIENT))
        self.refused(404, self.ask("POST", "/Patient/a/b/c", PATIENT))
        self.refused(404, self.ask("GET", "/Patient/$everything"))
        self.assertIn("PUT", self.ask("PATCH", "/Patient/a", PATIENT).headers["allow"])
        self.refused(405, self.ask("BREW", "/Patient", PATIENT))
        self.refused(415, self.ask("POST", "/Patient", b"<Patient/>", Content_Type="application/soap+xml"))
        self.refused(415, self.ask("POST", "/Patient", PATIENT, Content_Type="application/fhir+json; charset=gbk"))
        self.refused(415, self.ask("POST", "/Patient", PATIENT, Content_Type="application/fhir+json; fhirVersion=5.0"))
        self.refused(415, self.ask("POST", "/Patient", PATIENT, Content_Encoding="br"))
        self.refused(406, self.ask("POST", "/Patient", PATIENT, Accept="text/html, application/pdf;q=0.9"))
        self.refused(406, self.ask("GET", "/Patient?_format=ttl"))
        self.refused(406, self.ask("GET", "/metadata", Accept="application/fhir+json; fhirVersion=5.0"))
        self.assertEqual(self.intake.envelopes, [])

    def test_verdicts_in_http_terms(self):
        """REFUSED 403, INVALID 422, UNAVAILABLE 503 with Retry-After."""
        for verdict, status in ((Verdict.REFUSED, 403), (Verdict.INVALID, 422), (Verdict.UNAVAILABLE, 503)):
            self.intake.judgement = Judgement(verdict, "the reason")
            answer = self.ask("POST", "/Patient", PATIENT)
            self.assertEqual(self.refused(status, answer)[0]["diagnostics"], "the reason")
            self.assertEqual("retry-after" in answer.headers, status == 503)

    def test_answers_are_counted_by_status(self):
        """No label has anything of a patient's."""
        self.ask("POST", "/Patient", PATIENT)
        self.ask("POST", "/Patient", b"garbage")
        counted = {
            sample.labels["status"]: sample.value
            for family in self.context.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "meridian_fhir_answers_total"
        }
        self.assertEqual(counted, {"201": 1, "400": 1})

    def test_gzip_is_taken_and_bounded(self):
        """A small body that inflates beyond the limit is refused without inflating it all."""
        self.assertEqual(self.ask("POST", "/Patient", gzip.compress(PATIENT), Content_Encoding="gzip").start[1], "201")
        self.refused(400, self.ask("POST", "/Patient", PATIENT, Content_Encoding="gzip"))
        self.refused(400, self.ask("POST", "/Patient", gzip.compress(PATIENT)[:-3], Content_Encoding="gzip"))
        self.refused(413, self.ask("POST", "/Patient", gzip.compress(b" " * (17 << 20)), Content_Encoding="gzip"))

    def test_another_protocols_answer_is_not_passed_on(self):
        """Where a destination that is no FHIR server answers, the sender still hears HTTP."""
        self.source._writes._intake = lambda envelope, reply, invalid=None: maybeDeferred(
            lambda: Ack(Judgement(Verdict.ACCEPTED), b"MSH|^~")
        )
        self.assertEqual(self.ask("POST", "/Patient", PATIENT).start[1], "202")


class ReadTests(FhirSourceCase):
    """read, vread, search, history, metadata."""

    def setUp(self):
        super().setUp()
        for active in (True, False):
            self.repository.apply([("", bundle(entry("PUT", "Patient/a", identified("Patient", "A", id="a", active=active))))])

    def test_read(self):
        answer = self.ask("GET", "/Patient/a")
        self.assertEqual((answer.start[1], answer.headers["etag"]), ("200", 'W/"2"'))
        self.assertEqual(json.loads(answer.body)["active"], False)

    def test_conditional_read(self):
        """304 for the version that the client has (R4 3.1.0.1.5)."""
        answer = self.ask("GET", "/Patient/a", If_None_Match='W/"1", W/"2"')
        self.assertEqual((answer.start[1], answer.body), ("304", b""))

    def test_head_has_no_body(self):
        answers = self.send(b"HEAD /fhir/Patient/a HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual(answers, [])  # the length of a body is announced, and none comes

    def test_vread_and_history(self):
        self.assertEqual(json.loads(self.ask("GET", "/Patient/a/_history/1").body)["active"], True)
        self.assertEqual(json.loads(self.ask("GET", "/Patient/a/_history").body)["total"], 2)
        self.refused(404, self.ask("GET", "/Patient/a/_history/9"))
        self.refused(404, self.ask("GET", "/Patient/b/_history"))

    def test_search_by_get_and_post(self):
        by_get = json.loads(self.ask("GET", f"/Patient?identifier={SYSTEM}|A").body)
        form = f"identifier={SYSTEM}%7CA".encode()
        by_post = json.loads(self.ask("POST", "/Patient/_search", form, Content_Type="application/x-www-form-urlencoded").body)
        self.assertEqual(by_get["entry"], by_post["entry"])
        self.assertEqual(by_get["entry"][0]["fullUrl"], "http://h:1/fhir/Patient/a")
        get_fhir_model_class("Bundle").model_validate(by_get)

    def test_an_unknown_parameter_is_refused_unless_leniency_is_asked_for(self):
        self.refused(400, self.ask("GET", "/Patient?shoe=42"))
        self.assertEqual(self.ask("GET", "/Patient?shoe=42", Prefer="handling=lenient").start[1], "200")

    def test_every_read_is_audited_without_content(self):
        """Who read what; the value of an identifier searched for is not in it."""
        self.ask("GET", "/Patient/a")
        self.ask("GET", "/Patient?identifier=A")
        (first, second) = [facts for event, facts in self.audited if event == "fhir.read"]
        self.assertEqual((first["interaction"], first["resource"], first["remote"]), ("read", "Patient/a", "10.0.0.9:4711"))
        self.assertEqual((second["interaction"], second["resource"], second["parameters"]), ("search", "Patient", "identifier"))

    def test_the_capability_statement_is_valid_and_true(self):
        """Each parameter it names can be searched, and the R4 model takes it."""
        answer = self.ask("GET", "/metadata")
        statement = json.loads(answer.body)
        get_fhir_model_class("CapabilityStatement").model_validate(statement)
        self.assertEqual(statement["fhirVersion"], "4.0.1")
        resources = {resource["type"]: resource for resource in statement["rest"][0]["resource"]}
        for parameter in resources["Observation"]["searchParam"]:
            value = {"reference": "Patient/1", "token": "x", "date": "2024"}[parameter["type"]]
            self.assertEqual(self.ask("GET", f"/Observation?{parameter['name']}={value}").start[1], "200")


class ForwardingTests(FhirSourceCase):
    """A channel that answers at the commit, with no repository."""

    keeps = False

    def test_writes_are_answered_202(self):
        """Kept and to be delivered: that is all that is known (R4 has no other word for it)."""
        answer = self.ask("POST", "/Patient", PATIENT)
        self.assertEqual(self.refused(202, answer)[0]["severity"], "information")

    def test_nothing_can_be_read(self):
        self.refused(404, self.ask("GET", "/Patient/a"))
        statement = json.loads(self.ask("GET", "/metadata").body)
        self.assertNotIn({"code": "read"}, statement["rest"][0]["resource"][0]["interaction"])


class ValidationTests(FhirSourceCase):
    """`validate: fhir.resources`."""

    options = {"validate": "fhir.resources"}  # noqa: RUF012

    def test_what_the_model_refuses_is_422_with_its_places(self):
        """Kept as invalid, each issue with a FHIRPath and without the value."""
        body = bundle(entry("POST", "Patient", {"resourceType": "Patient", "birthDate": "19x", "shoe": 42}))
        issues = self.refused(422, self.ask("POST", "", body))
        places = {issue["expression"][0]: issue["code"] for issue in issues}
        self.assertEqual(places, {"Bundle.entry[0].resource.birthDate": "value", "Bundle.entry[0].resource.shoe": "structure"})
        self.assertNotIn("19x", json.dumps(issues))
        self.assertEqual(self.intake.invalid[-1].verdict, Verdict.INVALID)

    def test_what_it_takes_goes_on(self):
        self.assertEqual(self.ask("POST", "/Patient", PATIENT).start[1], "201")


class HostileTests(FhirSourceCase):
    """Clients that mean no good, or know no better."""

    options = {"most_body": "1KB", "receive_within": "10s", "idle": "60s", "connections": 2, "requests": 3, "requests_per_peer": 2}  # noqa: RUF012

    def test_an_oversize_body_is_refused_before_it_comes(self):
        transport = self.connect()
        (answer,) = self.send(b"POST /fhir/Patient HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n", transport)
        self.refused(413, answer)
        self.assertEqual(answer.headers["connection"], "close")

    def test_after_a_refusal_the_rest_is_dropped_for_a_moment(self):
        """The client can read the answer before the connection is cut."""
        transport = self.connect()
        self.send(b"POST /fhir/Patient HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n", transport)
        transport.protocol.dataReceived(b"x" * 100_000)
        self.assertFalse(transport.aborted)
        self.reactor.advance(5)
        self.assertTrue(transport.aborted)

    def test_a_body_that_dribbles_is_cut_off(self):
        """Every byte moves the idle timer, none moves the deadline."""
        transport = self.connect()
        transport.protocol.dataReceived(b"POST /fhir/Patient HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(9):
            self.reactor.advance(1)
            transport.protocol.dataReceived(b"x")
        self.assertEqual(transport.value(), b"")
        self.reactor.advance(2)
        self.refused(408, self.answers(transport)[0])
        self.assertEqual(self.intake.envelopes, [])

    def test_headers_that_dribble_are_cut_off(self):
        transport = self.connect()
        for byte in b"GET /fhir/Pat":
            transport.protocol.dataReceived(bytes([byte]))
            self.reactor.advance(1)
        self.refused(408, self.answers(transport)[0])

    def test_a_silent_connection_is_closed(self):
        transport = self.connect()
        self.reactor.advance(61)
        self.assertTrue(transport.disconnecting)

    def test_garbage_is_answered_in_http(self):
        (answer,) = self.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        self.refused(400, answer)

    def test_too_many_connections_are_turned_away(self):
        for _ in range(2):
            self.connect()
        self.refused(503, self.answers(self.connect())[0])

    def test_too_many_requests_of_one_peer_are_429_and_of_all_503(self):
        """With the others unanswered; both say when to come again."""
        self.intake.to._writer.held = True
        wire = b"POST /fhir/Patient HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(PATIENT), PATIENT)
        for _ in range(2):
            transport = self.connect()
            self.assertEqual(self.send(wire, transport), [])
            transport.protocol.connectionLost()
        (answer,) = self.send(wire)
        self.refused(429, answer)
        self.source._reception._admission.begun(Sender("someone else", "192.0.2.1:1"))
        (answer,) = self.send(wire)
        self.refused(503, answer)
        self.assertEqual(answer.headers["retry-after"], "1")
        self.source._reception._admission.ended(Sender("someone else", "192.0.2.1:1"))
        self.intake.to._writer.release()
        self.intake.to._writer.release()

    def test_pipelined_requests_are_answered_in_order(self):
        wires = b""
        for name in (b"a", b"b", b"c"):
            body = b'{"resourceType":"Patient","id":"%b"}' % name
            wires += b"PUT /fhir/Patient/%b HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
                name,
                len(body),
                body,
            )
        answers = self.send(wires)
        self.assertEqual([json.loads(answer.body)["id"] for answer in answers], ["a", "b", "c"])

    def test_a_client_that_waits_for_continue_hears_it(self):
        transport = self.connect()
        transport.protocol.dataReceived(
            b"POST /fhir/Patient HTTP/1.1\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\n"
        )
        self.assertEqual(transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        (answer,) = self.send(PATIENT, transport)
        self.assertEqual(answer.start[1], "201")

    def test_a_client_that_goes_away_is_not_answered(self):
        """What it sent is done all the same."""
        self.intake.to._writer.held = True
        transport = self.connect()
        self.send(b"POST /fhir/Patient HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n" + PATIENT, transport)
        transport.protocol.connectionLost()
        self.intake.to._writer.release()
        self.assertEqual(transport.value(), b"")
        self.assertEqual(self.source._reception._admission.under_way, 0)


class StopTests(FhirSourceCase):
    def test_what_was_handed_in_is_answered_and_nothing_more_is(self):
        """Stop: the intake is not called again, the last answers go out, then connections close."""
        self.intake.to._writer.held = True
        busy, idle = self.connect(), self.connect()
        wire = b"POST /fhir/Patient HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n" + PATIENT
        self.send(wire, busy)
        stopped = self.source.stop()
        self.assertTrue(idle.disconnecting)
        self.assertNoResult(stopped)
        self.intake.to._writer.release()
        self.reactor.advance(0)
        self.successResultOf(stopped)
        (answer,) = self.answers(busy)
        self.assertEqual((answer.start[1], answer.headers["connection"]), ("201", "close"))
        self.assertEqual(len(self.intake.envelopes), 1)
