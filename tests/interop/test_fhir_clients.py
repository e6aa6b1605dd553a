"""Foreign FHIR clients against the server: curl with client certificates, fhirpy, fhir-kit-client."""

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.support.certs import Trust
from tests.support.fhir import SYSTEM, RepositoryIntake, bundle, context, entry, identified, repository_destination, source
from tests.support.peers import node_script, require

FHIRPY = """
import json, sys
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound
client = SyncFHIRClient(sys.argv[1])
patient = client.resource("Patient", identifier=[{"system": "urn:s", "value": "1"}], active=True)
patient.create()
assert patient["id"] and patient["meta"]["versionId"] == "1", patient
patient["active"] = False
patient.save()
assert patient["meta"]["versionId"] == "2", patient
found = client.resources("Patient").search(identifier="urn:s|1").fetch_all()
assert [one["id"] for one in found] == [patient["id"]]
assert client.reference("Patient", patient["id"]).to_resource()["active"] is False
again, created = client.resources("Patient").search(identifier="urn:s|1").get_or_create(client.resource("Patient", identifier=patient["identifier"]))
assert not created and again["id"] == patient["id"]
for number in range(7):
    client.resource("Observation", status="final", code={"text": str(number)}, subject=patient.to_reference()).create()
assert len(client.resources("Observation").search(patient=patient["id"]).limit(3).fetch_all()) == 7
try:
    client.resources("Patient").search(shoe="42").fetch()
    raise SystemExit("an unknown parameter was taken")
except OperationOutcome:
    pass
patient.delete()
try:
    client.reference("Patient", patient["id"]).to_resource()
    raise SystemExit("a deleted resource was read")
except (ResourceNotFound, OperationOutcome):
    pass
print("done")
"""

FHIR_KIT = """
import { Client } from 'fhir-kit-client';
const client = new Client({ baseUrl: process.argv[2] });
const check = (right, what) => { if (!right) { throw new Error(what); } };
const statement = await client.capabilityStatement();
check(statement.fhirVersion === '4.0.1', 'metadata');
const made = await client.create({ resourceType: 'Patient', body: { resourceType: 'Patient', active: true, identifier: [{ value: 'k' }] } });
check(made.id && made.meta.versionId === '1', 'create');
const changed = await client.update({ resourceType: 'Patient', id: made.id, body: { ...made, active: false } });
check(changed.meta.versionId === '2', 'update');
check((await client.read({ resourceType: 'Patient', id: made.id })).active === false, 'read');
check((await client.vread({ resourceType: 'Patient', id: made.id, version: '1' })).active === true, 'vread');
check((await client.history({ resourceType: 'Patient', id: made.id })).total === 2, 'history');
check((await client.search({ resourceType: 'Patient', searchParams: { identifier: 'k' } })).entry.length === 1, 'search');
const entry = [{ fullUrl: 'urn:uuid:1', resource: { resourceType: 'Patient' }, request: { method: 'POST', url: 'Patient' } }];
const done = await client.transaction({ body: { resourceType: 'Bundle', type: 'transaction', entry } });
check(done.type === 'transaction-response' && done.entry[0].response.status.startsWith('201'), 'transaction');
const batch = await client.batch({ body: { resourceType: 'Bundle', type: 'batch', entry: [{ request: { method: 'GET', url: 'Patient/none' } }] } });
check(batch.entry[0].response.status.startsWith('404'), 'batch');
await client.delete({ resourceType: 'Patient', id: made.id });
const gone = await client.read({ resourceType: 'Patient', id: made.id }).catch((error) => error);
check(gone.response.status === 410 && gone.response.data.resourceType === 'OperationOutcome', 'gone');
console.log('done');
"""


class ServerCase(TestCase):
    """A server whose channel answers from its repository."""

    tls = None

    @inlineCallbacks
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.trust = Trust(self.folder / "trust", reactor)
        made = context(self.folder, reactor, tls=self.trust.provider("province"))
        self.repository = repository_destination(made)
        yield self.repository.open()
        options = {"listen": "127.0.0.1:0", "repository": "fhir-repository.db", **({} if self.tls is None else {"tls": self.tls})}
        self.source = source(options, made)
        yield self.source.start(RepositoryIntake(self.repository))
        self.url = f"{'http' if self.tls is None else 'https'}://localhost:{self.source.port}/fhir"

    @inlineCallbacks
    def tearDown(self):
        yield self.source.stop()
        yield self.repository.close()

    @inlineCallbacks
    def run_peer(self, program, *arguments):
        output, errors, code = yield getProcessOutputAndValue(program, arguments, env=dict(os.environ), path=str(self.folder))
        self.assertEqual(code, 0, errors.decode()[-2000:])
        return output.decode()


class FhirpyTests(ServerCase):
    @inlineCallbacks
    def test_fhirpy_creates_reads_searches_pages_and_deletes(self):
        require(importlib.util.find_spec("fhirpy") is not None, "fhirpy is not installed")
        self.assertIn("done", (yield self.run_peer(sys.executable, "-c", FHIRPY, self.url)))


class FhirKitClientTests(ServerCase):
    @inlineCallbacks
    def test_fhir_kit_client_does_every_interaction(self):
        script = self.folder / "peer.mjs"
        script.write_text(FHIR_KIT)
        self.assertIn("done", (yield self.run_peer(*node_script(script, "fhir-kit-client", self.folder), self.url)))


class CurlCase(ServerCase):
    """curl, which speaks TLS by another stack's rules than ours."""

    tls = {"client_auth": "required", "allow": ["county"]}  # noqa: RUF012

    def curl(self, party, *arguments):
        """Status, then body; "000" where there was no answer."""
        program = shutil.which("curl")
        require(program is not None, "curl is not installed")
        folder = self.trust.folder / party if party else None
        if folder is not None and not folder.exists():
            self.trust.issue(party)
        shown = ["--cert", str(folder / "node.pem"), "--key", str(folder / "node.key")] if folder is not None else []
        authority = self.trust.folder / "province" / "ca.pem"
        form = ["-s", "-S", "-w", "\n%{http_code}", "--cacert", str(authority), *shown, *arguments]
        done = getProcessOutputAndValue(program, form, env=dict(os.environ))
        return done.addCallback(lambda result: result[0].decode().rpartition("\n")[::-2])


class CurlTests(CurlCase):
    """What curl sends, large bodies among it."""

    @inlineCallbacks
    def test_a_transaction_is_taken_and_read_back(self):
        body = self.folder / "bundle.json"
        body.write_bytes(bundle(entry("PUT", f"Patient?identifier={SYSTEM}|1", identified("Patient", "1"))))
        post = ["-H", "Content-Type: application/fhir+json", "-H", "Idempotency-Key: k1", "--data-binary", f"@{body}", self.url]
        status, answer = yield self.curl("county", *post)
        self.assertEqual((status, json.loads(answer)["type"]), ("200", "transaction-response"))
        again = yield self.curl("county", *post)
        self.assertEqual(again, (status, answer))
        status, found = yield self.curl("county", "-G", "--data-urlencode", f"identifier={SYSTEM}|1", f"{self.url}/Patient")
        self.assertEqual((status, json.loads(found)["total"]), ("200", 1))

    @inlineCallbacks
    def test_a_large_body_waits_for_continue_and_is_taken(self):
        """curl sends Expect: 100-continue above 1 MB."""
        body = self.folder / "large.json"
        body.write_text(json.dumps({"resourceType": "Binary", "contentType": "text/plain", "data": "QUFB" * 600_000}))
        status, _ = yield self.curl(
            "county", "-H", "Content-Type: application/fhir+json", "--data-binary", f"@{body}", f"{self.url}/Binary"
        )
        self.assertEqual(status, "201")

    @inlineCallbacks
    def test_a_body_beyond_the_limit_hears_413(self):
        body = self.folder / "huge.json"
        body.write_bytes(b" " * (17 << 20))
        status, answer = yield self.curl(
            "county", "-H", "Content-Type: application/fhir+json", "--data-binary", f"@{body}", f"{self.url}/Binary"
        )
        self.assertEqual((status, json.loads(answer)["resourceType"]), ("413", "OperationOutcome"))

    @inlineCallbacks
    def test_no_certificate_and_the_wrong_party_hear_nothing(self):
        for party in ("", "stranger"):
            status, answer = yield self.curl(party, f"{self.url}/metadata")
            self.assertEqual((status, answer), ("000", ""))
