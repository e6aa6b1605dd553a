"""Foreign FHIR clients as terminals: fhirclient, fhir-kit-client with messages, curl with XML over mutual TLS; and a foreign validator,
@medplum/core, over everything that the server answers."""

import importlib.util
import json
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread

from engine.formats.fhir_r4.xml import from_xml
from tests.interop.test_fhir_clients import CurlCase, ServerCase
from tests.support.fhir import RepositoryIntake, bundle, context, entry, identified, source
from tests.support.peers import ForeignPeer, node_script, require

VALIDATOR = Path(__file__).parent / "fhir_peers" / "validator.mjs"

FHIRCLIENT = """
import sys
from fhirclient import client
from fhirclient.models.humanname import HumanName
from fhirclient.models.identifier import Identifier
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
smart = client.FHIRClient(settings={"app_id": "terminal", "api_base": sys.argv[1]})
smart.prepare()
patient = Patient({"active": True, "birthDate": "1980-01-01"})
patient.identifier = [Identifier({"system": "urn:s", "value": "7"})]
patient.name = [HumanName({"text": "钱伟"})]
made = patient.create(smart.server)
again = Patient.read(made["id"], smart.server)
assert again.name[0].text == "钱伟" and again.meta.versionId == "1", again.as_json()
again.active = False
assert again.update(smart.server)["meta"]["versionId"] == "2"
result = Observation({"status": "final", "code": {"text": "glucose"}, "subject": {"reference": "Patient/" + made["id"]}})
result.create(smart.server)
found = Observation.where({"patient": made["id"]}).perform_resources(smart.server)
assert [one.code.text for one in found] == ["glucose"], found
again.delete()
try:
    Patient.read(made["id"], smart.server)
    raise SystemExit("a deleted resource was read")
except Exception as error:
    assert "410" in str(error), error
print("done")
"""

MESSAGING = """
import { Client } from 'fhir-kit-client';
const client = new Client({ baseUrl: process.argv[2] });
const check = (right, what) => { if (!right) { throw new Error(what); } };
const header = { resourceType: 'MessageHeader', id: 'm-1', eventUri: 'urn:events:admit', source: { endpoint: 'urn:ward' } };
const message = { resourceType: 'Bundle', type: 'message', entry: [{ resource: header }, { resource: { resourceType: 'Patient' } }] };
const answer = await client.operation({ name: 'process-message', input: message });
const said = answer.entry[0].resource.response;
check(answer.type === 'message' && said.code === 'ok' && said.identifier === 'm-1', JSON.stringify(answer));
const statement = await client.capabilityStatement();
check(statement.messaging[0].endpoint[0].address === `${process.argv[2]}/$process-message`, 'metadata');
console.log('done');
"""


class FhirclientTests(ServerCase):
    @inlineCallbacks
    def test_fhirclient_creates_reads_updates_searches_and_deletes(self):
        """SMART's own Python client, which starts with /metadata."""
        require(importlib.util.find_spec("fhirclient") is not None, "fhirclient is not installed")
        self.assertIn("done", (yield self.run_peer(sys.executable, "-c", FHIRCLIENT, self.url)))


class MessagingTests(ServerCase):
    """A channel that takes messages and answers at the commit."""

    @inlineCallbacks
    def setUp(self):
        yield super().setUp()
        yield self.source.stop()
        self.source = source({"listen": "127.0.0.1:0", "messages": True}, context(self.folder, reactor))
        yield self.source.start(RepositoryIntake())
        self.url = f"http://localhost:{self.source.port}/fhir"

    @inlineCallbacks
    def test_fhir_kit_client_sends_a_message(self):
        script = self.folder / "peer.mjs"
        script.write_text(MESSAGING)
        self.assertIn("done", (yield self.run_peer(*node_script(script, "fhir-kit-client", self.folder), self.url)))


class XmlOverTlsTests(CurlCase):
    """curl with XML, whose party reads back what it sent; another party does not."""

    XML = ("-H", "Content-Type: application/fhir+xml")
    tls = {"client_auth": "required", "allow": ["county", "city"]}  # noqa: RUF012

    @inlineCallbacks
    def test_xml_is_taken_and_read_back_by_its_sender_only(self):
        body = '<Patient xmlns="http://hl7.org/fhir"><id value="p"/><active value="true"/><birthDate value="1980-01-01"/></Patient>'
        status, answer = yield self.curl("county", *self.XML, "-X", "PUT", "-d", body, f"{self.url}/Patient/p")
        self.assertEqual(status, "201", answer)
        status, answer = yield self.curl("county", "-H", "Accept: application/fhir+xml", "--compressed", f"{self.url}/Patient/p")
        self.assertEqual((status, json.loads(from_xml(answer.encode()))["birthDate"]), ("200", "1980-01-01"))
        status, answer = yield self.curl("city", f"{self.url}/Patient/p")
        self.assertEqual((status, json.loads(answer)["resourceType"]), ("404", "OperationOutcome"))

    @inlineCallbacks
    def test_what_is_wrong_is_said_in_xml(self):
        body = '<Patient xmlns="http://hl7.org/fhir"><shoe value="42"/></Patient>'
        status, answer = yield self.curl("county", *self.XML, "-d", body, f"{self.url}/Patient")
        self.assertEqual((status, json.loads(from_xml(answer.encode()))["issue"][0]["expression"]), ("400", ["Patient.shoe"]))


class ValidatedAnswersTests(ServerCase):
    """What the server answers, before a validator of other people's."""

    @inlineCallbacks
    def test_every_kind_of_answer_is_valid_r4(self):
        """Resources, outcomes, search sets, histories, the statement: by structure, invariants and the targets of references."""
        require(importlib.util.find_spec("requests") is not None, "requests is not installed")
        answers = yield deferToThread(self.collect)
        folder = self.folder / "bundles"
        folder.mkdir()
        for number, answer in enumerate(answers):
            parts = [one["resource"] for one in answer.get("entry", ()) if "resource" in one]
            whole = {"entry": [{"fullUrl": f"urn:uuid:{number}", "resource": one} for one in (_alone(answer), *parts)]}
            (folder / f"{number}.json").write_text(json.dumps(whole))
        issues, counted = yield deferToThread(self.validate, folder)
        self.assertEqual(issues, [])
        self.assertGreater(counted["resources"], len(answers))

    def collect(self):
        import requests

        json_body = {"Content-Type": "application/fhir+json"}
        whole = bundle(*(entry("POST", "Patient", identified("Patient", str(number))) for number in range(3)), entry("GET", "Patient"))
        with requests.Session() as session:
            heard = [
                session.post(self.url, whole, headers=json_body),
                session.post(f"{self.url}/Patient", b'{"resourceType":"Patient","shoe":1,"gender":"x"}', headers=json_body),
                session.post(f"{self.url}/Patient", b"{", headers=json_body),
                session.put(f"{self.url}/Patient/a", b'{"resourceType":"Patient","id":"a","active":true}', headers=json_body),
                session.put(f"{self.url}/Patient/a", b'{"resourceType":"Patient","id":"a"}', headers={**json_body, "If-Match": 'W/"9"'}),
                *(session.get(f"{self.url}/{path}") for path in ("metadata", "Patient", "Patient/a", "Patient/a/_history", "Patient/none")),
                session.patch(f"{self.url}/Patient/a", b"[]"),
            ]
        return [one.json() for one in heard]

    def validate(self, folder):
        with ForeignPeer(node_script(VALIDATOR, "@medplum/core", self.folder), folder=str(folder)) as peer:
            *issues, counted = peer.all_heard()
        return issues, counted


def _alone(answer):
    """A Bundle with something plain in the place of each resource, which is validated by itself."""
    if answer["resourceType"] != "Bundle":
        return answer
    plain = {"resourceType": "Basic", "code": {"text": "x"}}
    return {**answer, "entry": [{**one, "resource": plain} if "resource" in one else one for one in answer["entry"]]}
