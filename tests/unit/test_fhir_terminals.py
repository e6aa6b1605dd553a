"""What a terminal may ask of the FHIR server beyond JSON writes: XML, compressed answers, messages, its own resources, /metadata."""

import gzip
import json

from fhir.resources.R4B import get_fhir_model_class
from twisted.internet.defer import Deferred

from engine import http_source
from engine.formats.fhir_r4.structure import faults
from engine.formats.fhir_r4.xml import from_xml
from engine.formats.fhir_r4.xml_writing import to_xml
from engine.http_answers import Sender
from engine.message import FHIR_JSON, FHIR_XML, Judgement, Verdict, as_received
from tests.support.fhir import SYSTEM, bundle, entry, identified
from tests.unit.test_fhir_source import PATIENT, FhirSourceCase

XML = {"Content_Type": "application/fhir+xml"}
PATIENT_XML = b'<Patient xmlns="http://hl7.org/fhir"><!-- he --><active value="true"/></Patient>'


def message(header_id="m1", event="admit", system="urn:events", **more):
    """A message Bundle about a patient."""
    coding = {"system": system, "code": event} if system else {"code": event}
    header = {"resourceType": "MessageHeader", "id": header_id, "eventCoding": coding, "source": {"endpoint": "urn:ward"}}
    entries = [{"fullUrl": f"urn:uuid:{header_id}", "resource": header}, {"resource": identified("Patient", "P")}]
    return {"resourceType": "Bundle", "type": "message", "entry": entries, **more}


class XmlTests(FhirSourceCase):
    """application/fhir+xml, in and out."""

    def refused_in_xml(self, status, answer):
        self.assertEqual((answer.start[1], answer.headers["content-type"]), (str(status), "application/fhir+xml; charset=utf-8"))
        return json.loads(from_xml(answer.body))["issue"]

    def test_a_create_in_xml_is_answered_in_xml(self):
        """Where the client does not say otherwise; what is kept is JSON, and what was sent stays with it byte for byte."""
        answer = self.ask("POST", "/Patient", PATIENT_XML, **XML)
        self.assertEqual((answer.start[1], answer.headers["content-type"]), ("201", "application/fhir+xml; charset=utf-8"))
        self.assertIn(b'<active value="true"/>', answer.body)
        (envelope,) = self.intake.envelopes
        self.assertEqual(envelope.content_type, FHIR_JSON)
        self.assertEqual(json.loads(envelope.body)["entry"][0]["resource"], {"resourceType": "Patient", "active": True})
        self.assertEqual(as_received(envelope), PATIENT_XML)
        self.assertEqual(envelope.facts["request.content_type"], FHIR_XML)

    def test_the_client_chooses_the_form_of_the_answer(self):
        """Accept with its weights, _format before it."""
        for chosen, path, accept in (
            ("json", "/Patient", "application/fhir+json"),
            ("xml", "/Patient", "application/fhir+xml;q=0.9, application/fhir+json;q=0.5"),
            ("json", "/Patient", "application/fhir+xml;q=0.1, application/fhir+json;q=0.5"),
            ("json", "/Patient?_format=json", "application/fhir+xml"),
            ("xml", "/Patient?_format=application/fhir%2Bxml", "*/*"),
            ("xml", "/Patient", "*/*"),
        ):
            answer = self.ask("POST", path, PATIENT_XML, Accept=accept, **XML)
            self.assertEqual(answer.headers["content-type"], f"application/fhir+{chosen}; charset=utf-8")

    def test_a_transaction_in_xml(self):
        body = to_xml(bundle(entry("POST", "Patient", identified("Patient", "A"))))
        answer = self.ask("POST", "", body, **XML)
        self.assertEqual(json.loads(from_xml(answer.body))["type"], "transaction-response")
        self.assertEqual(self.intake.envelopes[0].message_type, "Bundle transaction")

    def test_reads_and_metadata_in_xml(self):
        self.ask("POST", "/Patient", PATIENT_XML, **XML)
        for path in ("/Patient/n1", "/Patient", "/Patient/n1/_history", "/metadata"):
            answer = self.ask("GET", path, Accept="application/fhir+xml")
            self.assertEqual(answer.start[1], "200")
            self.assertEqual(faults(json.loads(from_xml(answer.body))), [])
        self.refused_in_xml(404, self.ask("GET", "/Patient/none", Accept="application/fhir+xml"))

    def test_what_is_wrong_in_xml_is_said_in_xml_and_kept(self):
        """As it came, with its own content type, under the judgement that the sender hears."""
        for body, place in (
            (b"<Patient", None),
            (b'<!DOCTYPE a><Patient xmlns="http://hl7.org/fhir"/>', None),
            (b'<Patient xmlns="http://hl7.org/fhir"><shoe value="1"/></Patient>', "Patient.shoe"),
            (b'<Patient xmlns="http://hl7.org/fhir"><active value="1"/></Patient>', "Patient.active"),
        ):
            (issue,) = self.refused_in_xml(400, self.ask("POST", "/Patient", body, **XML))
            self.assertEqual(issue.get("expression"), place and [place])
            envelope, invalid = self.intake.envelopes[-1], self.intake.invalid[-1]
            self.assertEqual((envelope.body, envelope.content_type, invalid.verdict), (body, FHIR_XML, Verdict.INVALID))

    def test_structure_is_checked_as_in_json(self):
        body = b'<Patient xmlns="http://hl7.org/fhir"><birthDate value="2024-02-30"/></Patient>'
        (issue,) = self.refused_in_xml(422, self.ask("POST", "/Patient", body, **XML))
        self.assertEqual(issue["expression"], ["Patient.birthDate"])

    def test_gb18030_is_read(self):
        """XML says its own character set."""
        text = '<?xml version="1.0" encoding="GB18030"?><Patient xmlns="http://hl7.org/fhir"><name><text value="钱伟"/></name></Patient>'
        self.assertEqual(self.ask("POST", "/Patient", text.encode("gb18030"), **XML).start[1], "201")
        self.assertIn("钱伟".encode(), self.intake.envelopes[0].body)


class UncheckedTests(FhirSourceCase):
    """`validate: none`: what R4 has not is taken as it came."""

    options = {"validate": "none"}  # noqa: RUF012

    def test_it_cannot_be_said_in_xml(self):
        """406, and JSON still gives it."""
        self.assertEqual(self.ask("POST", "/Patient", b'{"resourceType":"Patient","shoe":42}').start[1], "201")
        self.refused(406, self.ask("GET", "/Patient/n1", Accept="application/fhir+xml"))
        self.refused(406, self.ask("GET", "/Patient", Accept="application/fhir+xml"))
        self.assertEqual(json.loads(self.ask("GET", "/Patient/n1").body)["shoe"], 42)

    def test_a_write_that_is_done_is_never_answered_as_refused(self):
        """The answer is JSON where it cannot be XML: 406 would make the client send again."""
        answer = self.ask("POST", "/Patient", b'{"resourceType":"Patient","shoe":42}', Accept="application/fhir+xml")
        self.assertEqual((answer.start[1], answer.headers["content-type"]), ("201", "application/fhir+json; charset=utf-8"))
        self.assertEqual(len(self.intake.envelopes), 1)


class CompressionTests(FhirSourceCase):
    def test_answers_are_compressed_where_the_client_takes_it_and_it_is_worth_it(self):
        answer = self.ask("GET", "/metadata", Accept_Encoding="br, gzip")
        self.assertEqual(answer.headers["content-encoding"], "gzip")
        self.assertEqual(json.loads(gzip.decompress(answer.body))["resourceType"], "CapabilityStatement")
        self.assertNotIn("content-encoding", self.ask("GET", "/metadata").headers)
        self.assertNotIn("content-encoding", self.ask("GET", "/metadata", Accept_Encoding="gzip;q=0, identity").headers)
        self.assertNotIn("content-encoding", self.ask("GET", "/Patient/none", Accept_Encoding="gzip").headers)


class StoppingTests(FhirSourceCase):
    def test_what_is_still_looked_into_is_not_handed_in_after_the_stop(self):
        """503, to be sent again; the intake hears of nothing new."""
        waiting = []
        self.patch(http_source, "deferToThreadPool", lambda *work: waiting.append((Deferred(), *work[2:])) or waiting[-1][0])
        transport = self.connect()
        head = f"POST /fhir/Patient HTTP/1.1\r\nContent-Type: application/fhir+xml\r\nContent-Length: {len(PATIENT_XML)}\r\n\r\n"
        self.assertEqual(self.send(head.encode() + PATIENT_XML, transport), [])
        stopped = self.source.stop()
        ((converted, function, *arguments),) = waiting
        converted.callback(function(*arguments))
        self.reactor.advance(0)
        self.successResultOf(stopped)
        (answer,) = self.answers(transport)
        self.assertEqual((answer.start[1], answer.headers["retry-after"]), ("503", "5"))
        self.assertEqual(self.intake.envelopes, [])


class StructureTests(FhirSourceCase):
    """What is refused by rule, in a channel that says nothing of validation."""

    def test_the_element_and_what_would_be_right(self):
        """Kept as invalid, 422, all faults at once."""
        body = {
            "resourceType": "Observation",
            "status": "done",
            "effectiveDateTime": "yesterday",
            "valueQuantity": {"value": "1.5"},
            "shoe": 1,
        }
        issues = self.refused(422, self.ask("POST", "/Observation", json.dumps(body).encode()))
        self.assertEqual(
            {issue["expression"][0] for issue in issues},
            {"Observation.status", "Observation.effective", "Observation.value.value", "Observation.shoe", "Observation.code"},
        )
        self.assertIn("preliminary", next(issue for issue in issues if issue["code"] == "code-invalid")["diagnostics"])
        self.assertEqual(self.intake.invalid[-1].verdict, Verdict.INVALID)

    def test_an_element_that_comes_twice_is_named(self):
        (issue,) = self.refused(400, self.ask("POST", "/Patient", b'{"resourceType":"Patient","name":[{"family":"a","family":"b"}]}'))
        self.assertEqual(issue["expression"], ["Patient.name[0].family"])

    def test_ten_thousand_levels(self):
        """Refused by rule, in JSON and in XML."""
        self.refused(400, self.ask("POST", "/Patient", b'{"resourceType":"Patient","a":' + b"[" * 10_000 + b"]" * 10_000 + b"}"))
        deep = b'<Patient xmlns="http://hl7.org/fhir">' + b"<contained>" * 10_000 + b"</contained>" * 10_000 + b"</Patient>"
        self.assertEqual(self.ask("POST", "/Patient", deep, **XML).start[1], "400")

    def test_large_resources_are_checked_off_the_reactor_thread(self):
        """And by the same rules."""
        names = [{"family": "x" * 100}] * 600
        body = json.dumps({"resourceType": "Patient", "name": [*names, {"family": 7}]}).encode()
        (issue,) = self.refused(422, self.ask("POST", "/Patient", body))
        self.assertEqual(issue["expression"], ["Patient.name[600].family"])

    def test_patch_is_said_not_to_be_offered(self):
        (issue,) = self.refused(405, self.ask("PATCH", "/Patient/a", b"[]", Content_Type="application/json-patch+json"))
        self.assertIn("patch is not offered", issue["diagnostics"])


class MessageCase(FhirSourceCase):
    """A channel that takes messages."""

    options = {"messages": True}  # noqa: RUF012

    def post(self, content, **headers):
        return self.ask("POST", "/$process-message", json.dumps(content).encode(), **headers)

    def response(self, answer):
        """The header of the answering message, which the R4 model takes, and the OperationOutcome in it."""
        get_fhir_model_class("Bundle").model_validate_json(answer.body)
        content = json.loads(answer.body)
        self.assertEqual(faults(content), [])
        self.assertEqual(content["type"], "message")
        resources = [one["resource"] for one in content["entry"]]
        details = next((one for one in resources if one["resourceType"] == "OperationOutcome"), None)
        return resources[0], details


class MessageTests(MessageCase):
    """$process-message on a channel that answers at the commit."""

    keeps = False

    def test_a_message_is_answered_ok_after_the_commit(self):
        """The event is the message type; the Bundle travels as it came."""
        sent = message()
        answer = self.post(sent)
        header, _ = self.response(answer)
        self.assertEqual((answer.start[1], header["response"]["code"], header["response"]["identifier"]), ("200", "ok", "m1"))
        self.assertEqual(header["destination"], [{"endpoint": "urn:ward"}])
        self.assertEqual(header["eventCoding"], {"system": "urn:events", "code": "admit"})
        (envelope,) = self.intake.envelopes
        self.assertEqual((envelope.message_type, json.loads(envelope.body)), ("admit", sent))
        self.assertEqual((envelope.facts["message.header_id"], envelope.facts["bundle.type"]), ("m1", "message"))
        self.assertEqual(envelope.patient_ids, ("P",))

    def test_the_same_header_id_is_the_same_message(self):
        """Whatever Bundle.id, timestamp and meta say (R4 2.4.3.1); with other content it is not the same."""
        self.post(message(id="b1", timestamp="2024-05-01T08:30:00Z"))
        self.post(message(id="b2", timestamp="2024-05-01T08:31:00Z"))
        self.post(message(event="discharge"))
        first, second, other = self.intake.envelopes
        self.assertEqual(first.idempotency_key, "10.0.0.9|message m1")
        self.assertEqual((second.idempotency_key, second.content_digest), (first.idempotency_key, first.content_digest))
        self.assertNotEqual(other.content_digest, first.content_digest)

    def test_verdicts_as_response_codes(self):
        """fatal-error is not to be sent again, transient-error is; the reason is in an OperationOutcome, the status is HTTP's."""
        for verdict, status, code in (
            (Verdict.REFUSED, "403", "fatal-error"),
            (Verdict.INVALID, "422", "fatal-error"),
            (Verdict.UNAVAILABLE, "503", "transient-error"),
        ):
            self.intake.judgement = Judgement(verdict, "the reason", location="MSH-10")
            answer = self.post(message())
            header, details = self.response(answer)
            self.assertEqual((answer.start[1], header["response"]["code"]), (status, code))
            self.assertEqual(details["issue"][0]["diagnostics"], "the reason")
            self.assertEqual("retry-after" in answer.headers, status == "503")
            self.assertNotIn("expression", details["issue"][0])

    def test_faults_of_the_content_are_answered_in_a_message(self):
        sent = message()
        sent["entry"][1]["resource"]["birthDate"] = "yesterday"
        answer = self.post(sent)
        header, details = self.response(answer)
        self.assertEqual((answer.start[1], header["response"]["code"]), ("422", "fatal-error"))
        self.assertEqual(details["issue"][0]["expression"], ["Bundle.entry[1].resource.birthDate"])

    def test_what_has_no_header_to_answer_to(self):
        """An OperationOutcome that says where the header should be; kept as invalid."""
        headless = message()
        headless["entry"][0]["resource"].pop("id")
        eventless = message()
        eventless["entry"][0]["resource"].pop("eventCoding")
        for wrong, place in (
            (json.loads(PATIENT), "Bundle.type"),
            ({"resourceType": "Bundle", "type": "batch"}, "Bundle.type"),
            ({"resourceType": "Bundle", "type": "message"}, "Bundle.entry[0].resource"),
            ({"resourceType": "Bundle", "type": "message", "entry": [{"resource": json.loads(PATIENT)}]}, "Bundle.entry[0].resource"),
            (headless, "Bundle.entry[0].resource.id"),
            (eventless, "Bundle.entry[0].resource.event"),
        ):
            (issue,) = self.refused(400, self.post(wrong))
            self.assertEqual(issue["expression"], [place])
            self.assertEqual(self.intake.invalid[-1].verdict, Verdict.INVALID)

    def test_messages_in_xml(self):
        answer = self.ask("POST", "/$process-message", to_xml(json.dumps(message()).encode()), **XML)
        self.assertEqual(json.loads(from_xml(answer.body))["entry"][0]["resource"]["response"]["code"], "ok")

    def test_asynchronous_answers_are_not_offered(self):
        body = json.dumps(message()).encode()
        _, details = self.response(self.ask("POST", "/$process-message?async=true", body))
        self.assertIn("async", details["issue"][0]["diagnostics"])

    def test_it_is_offered(self):
        """In /metadata, with its address."""
        statement = json.loads(self.ask("GET", "/metadata").body)
        get_fhir_model_class("CapabilityStatement").model_validate(statement)
        self.assertEqual(statement["messaging"][0]["endpoint"][0]["address"], "http://h:1/fhir/$process-message")
        self.assertEqual([one["name"] for one in statement["rest"][0]["operation"]], ["upload", "process-message"])


class AnsweredMessageTests(MessageCase):
    """$process-message on a channel whose destination answers."""

    def test_the_destinations_refusal_is_in_the_answer(self):
        """The repository applies no messages, and says so."""
        answer = self.post(message())
        header, details = self.response(answer)
        self.assertEqual((answer.start[1], header["response"]["code"]), ("422", "fatal-error"))
        self.assertIn("transaction and batch", details["issue"][0]["diagnostics"])


class NoMessageTests(FhirSourceCase):
    def test_messages_are_taken_where_the_channel_says_so(self):
        """404, and nothing of it in /metadata."""
        self.refused(404, self.ask("POST", "/$process-message", json.dumps(message()).encode()))
        statement = json.loads(self.ask("GET", "/metadata").body)
        self.assertNotIn("messaging", statement)
        self.assertEqual([one["name"] for one in statement["rest"][0]["operation"]], ["upload"])


class OwnReadsTests(FhirSourceCase):
    """`reads: own`, the default: each version belongs to the party that sent it."""

    def setUp(self):
        super().setUp()
        self.party = "urn:party:a"
        self.patch(self.source._reception, "_sender", lambda _: Sender(self.party, "10.0.0.9:1"))
        self.put("a", True)

    def put(self, party, active):
        self.party = f"urn:party:{party}"
        body = json.dumps(identified("Patient", "A", id="p", active=active)).encode()
        self.assertIn(self.ask("PUT", "/Patient/p", body).start[1], ("200", "201"))

    def statuses(self, party, *paths):
        self.party = f"urn:party:{party}"
        return [self.ask("GET", f"/Patient{path}").start[1] for path in paths]

    def total(self, party, path):
        self.party = f"urn:party:{party}"
        return json.loads(self.ask("GET", f"/Patient{path}").body)["total"]

    def test_the_sender_reads_back_what_it_sent(self):
        self.assertEqual(self.statuses("a", "/p", "/p/_history/1", "/p/_history"), ["200"] * 3)
        self.assertEqual((self.total("a", ""), self.total("a", "?_id=p"), self.total("a", f"?identifier={SYSTEM}|A")), (1, 1, 1))

    def test_others_hear_what_they_would_if_there_were_none(self):
        """The same words as for an id that was never used."""
        self.assertEqual(self.statuses("b", "/p", "/p/_history/1", "/p/_history"), ["404"] * 3)
        self.assertEqual((self.total("b", ""), self.total("b", f"?identifier={SYSTEM}|A")), (0, 0))
        self.assertEqual(self.ask("GET", "/Patient/p").body, self.ask("GET", "/Patient/q").body)

    def test_versions_have_their_own_senders(self):
        """Who sent the first does not see what another made of it, and still has its own."""
        self.put("b", False)
        self.assertEqual(self.statuses("a", "/p", "/p/_history/1", "/p/_history/2"), ["404", "200", "404"])
        self.assertEqual(self.statuses("b", "/p", "/p/_history/1", "/p/_history/2"), ["200", "404", "200"])
        self.assertEqual((self.total("a", "/p/_history"), self.total("b", "/p/_history")), (1, 1))

    def test_a_condition_that_matches_anothers_resource_shows_nothing_of_it(self):
        """The match counts, or there would be two of one patient; its content is not given back."""
        self.party = "urn:party:b"
        answer = self.ask("POST", "/Patient", json.dumps(identified("Patient", "A")).encode(), If_None_Exist=f"identifier={SYSTEM}|A")
        self.assertEqual((answer.start[1], answer.body), ("200", b""))

    def test_reads_within_a_bundle_are_no_way_around(self):
        self.party = "urn:party:b"
        answer = json.loads(self.ask("POST", "", bundle(entry("GET", "Patient/p"), entry("GET", "Patient"), kind="batch")).body)
        self.assertEqual(answer["entry"][0]["response"]["status"], "404 Not Found")
        self.assertEqual(answer["entry"][1]["resource"]["total"], 0)


class AllReadsTests(OwnReadsTests):
    """`reads: all`."""

    options = {"reads": "all"}  # noqa: RUF012

    def test_others_hear_what_they_would_if_there_were_none(self):
        """Nothing is hidden."""
        self.assertEqual(self.statuses("b", "/p", "/p/_history/1", "/p/_history"), ["200"] * 3)
        self.assertEqual(self.total("b", ""), 1)

    def test_versions_have_their_own_senders(self):
        self.put("b", False)
        self.assertEqual(self.statuses("a", "/p", "/p/_history/1", "/p/_history/2"), ["200"] * 3)

    def test_reads_within_a_bundle_are_no_way_around(self):
        """They see the same as other reads."""
        self.party = "urn:party:b"
        answer = json.loads(self.ask("POST", "", bundle(entry("GET", "Patient/p"), kind="batch")).body)
        self.assertEqual(answer["entry"][0]["resource"]["id"], "p")

    def test_a_condition_that_matches_anothers_resource_shows_nothing_of_it(self):
        self.party = "urn:party:b"
        answer = self.ask("POST", "/Patient", json.dumps(identified("Patient", "A")).encode(), If_None_Exist=f"identifier={SYSTEM}|A")
        self.assertEqual((answer.start[1], json.loads(answer.body)["id"]), ("200", "p"))


class MetadataTests(FhirSourceCase):
    """/metadata tells the truth about this channel."""

    def statement(self):
        statement = json.loads(self.ask("GET", "/metadata").body)
        get_fhir_model_class("CapabilityStatement").model_validate(statement)
        self.assertEqual(faults(statement), [])
        return statement

    def test_what_accept_refuses_is_not_offered(self):
        """The channel's own rules are asked, about this client."""
        self.patch(self.source, "_context", _with(self.context, lambda one: one.message_type in ("Patient create", "Bundle transaction")))
        rest = self.statement()["rest"][0]
        by_type = {one["type"]: [code["code"] for code in one["interaction"]] for one in rest["resource"]}
        self.assertEqual(by_type["Patient"], ["create", "read", "vread", "history-instance", "search-type"])
        self.assertEqual(by_type["Observation"], ["read", "vread", "history-instance", "search-type"])
        self.assertEqual(rest["interaction"], [{"code": "transaction"}])

    def test_conditions_are_promised_only_where_their_result_is_known(self):
        """A channel that answers at the commit hands them on."""
        kept = {one["type"]: one for one in self.statement()["rest"][0]["resource"]}["Patient"]
        self.assertEqual((kept["conditionalCreate"], kept["conditionalDelete"], kept["versioning"]), (False, "not-supported", "no-version"))
        self.patch(self.source, "_context", _with(self.context, lambda _: True, answered=True))
        told = {one["type"]: one for one in self.statement()["rest"][0]["resource"]}["Patient"]
        self.assertEqual((told["conditionalCreate"], told["conditionalDelete"], told["versioning"]), (True, "single", "versioned-update"))

    def test_patch_is_in_no_interaction(self):
        text = json.dumps(self.statement())
        self.assertNotIn('"patch"', text)
        self.assertIn("PATCH is not offered", text)


def _with(context, may_take, answered=False):
    from dataclasses import replace

    return replace(context, may_take=may_take, answered=answered)
