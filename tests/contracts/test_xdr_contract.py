"""The Document Source held to the contract of destinations, and to what ITI-41 asks of one."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lxml import etree
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase

from adapters.soap.xdr.destination import DocumentSource
from adapters.soap.xdr.options import DESTINATION
from engine.bench.loopback import free_port
from engine.errors import PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.formats import soap
from engine.formats.xds.reading import read_submission
from engine.message import CDA, FHIR_JSON, SOAP, BodyRef, Parcel
from tests.contracts.destination_contract import DestinationContract
from tests.support.fhir import context
from tests.support.xdr import SET_ID, SOURCE_ID, Doc, message, submission_set
from tests.support.xds_peer import XdsPeer

CODES = {
    "class": {"code": "18842-5", "scheme": "2.16.840.1.113883.6.1", "display": "Discharge summary"},
    "format": {"code": "urn:ihe:pcc:xphr:2007", "scheme": "1.3.6.1.4.1.19376.1.2.3", "display": "XPHR"},
    "facility": {"code": "HOSP", "scheme": "2.16.840.1.113883.5.111", "display": "Hospital"},
    "practice": {"code": "394802001", "scheme": "2.16.840.1.113883.6.96", "display": "General medicine"},
    "confidentiality": {"code": "N", "scheme": "2.16.840.1.113883.5.25", "display": "Normal"},
}
METADATA: dict[str, Any] = {
    "source_id": SOURCE_ID,
    "patient_domain": "1.2.156.10011.1",
    "institution": "County Hospital",
    "zone": "+08:00",
    "codes": CODES,
}
BUNDLE: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "fullUrl": "urn:uuid:1",
            "resource": {
                "resourceType": "DocumentReference",
                "status": "current",
                "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.156.10011.9.4000"},
                "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3", "display": "Progress note"}]},
                "subject": {"reference": "Patient/p"},
                "author": [{"reference": "#doctor"}],
                "contained": [{"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Wang", "given": ["Fang"]}]}],
                "date": "2026-11-20T18:30:00+08:00",
                "content": [{"attachment": {"contentType": "text/plain", "url": "urn:uuid:2", "title": "Note"}}],
                "context": {"period": {"start": "2026-11-18"}},
            },
        },
        {
            "fullUrl": "urn:uuid:2",
            "resource": {"resourceType": "Binary", "contentType": "text/plain", "data": base64.b64encode(b"Getting better.").decode()},
        },
        {
            "resource": {
                "resourceType": "Patient",
                "id": "p",
                "identifier": [{"system": "urn:oid:1.2.156.10011.1", "value": "P-4711"}, {"system": "urn:oid:1.2.156.1", "value": "88^7"}],
                "name": [{"family": "Li", "given": ["Xiaoming"]}],
                "gender": "male",
                "birthDate": "1980-01-01",
            }
        },
    ],
}
DOCUMENT = """<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.156.10011.9.5000" extension="D-1"/>
<code code="18842-5" codeSystem="2.16.840.1.113883.6.1" displayName="Discharge summary"/><title>Summary</title>
<effectiveTime value="20261120103000"/><languageCode code="zh-CN"/>
<recordTarget><patientRole><id root="1.2.156.10011.1" extension="P-4711"/><patient><name>Li Xiaoming</name>
<administrativeGenderCode code="1"/><birthTime value="19800101"/></patient></patientRole></recordTarget>
<author><time value="20261120"/><assignedAuthor><id root="1.2.156.10011.2" extension="D77"/><assignedPerson><name>Wang Fang</name></assignedPerson>
</assignedAuthor></author></ClinicalDocument>"""


def made(body: bytes | BodyRef, number: int = 1, content_type: str = SOAP, **said: Any) -> Parcel:
    key = f"key-{number}"
    return Parcel(number, number, body, content_type, "ITI-41", str(number), key, received_at=1_795_000_000_000_000, **said)


class XdrContract(DestinationContract, TestCase):
    timeout = 30

    def start_peer(self) -> XdsPeer:
        return XdsPeer()

    def make(self, **options: Any) -> DocumentSource:
        return self.to(self.peer.port, **options)

    def to(self, port: int, **options: Any) -> DocumentSource:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        settings = DESTINATION.defaults(url=f"http://127.0.0.1:{port}/xdr", timeout="5s", **options)
        given = replace(context(self.folder, reactor), body_file=lambda ref: self.folder / ref.digest)
        return DocumentSource(settings, given)

    def make_nowhere(self) -> DocumentSource:
        return self.to(free_port())

    def parcel(self, number: int, body: bytes | BodyRef | None = None) -> Parcel:
        unique_id = f"1.2.156.10011.9.{number}"
        return made(body or message([Doc(unique_id=f"{unique_id}.1")], submission_set(unique_id)), number)

    def in_store(self, body: bytes) -> BodyRef:
        digest = hashlib.sha256(body).hexdigest()
        (self.folder / digest).write_bytes(body)
        return BodyRef(digest, len(body))

    @inlineCallbacks
    def again(self, **options: Any):  # type: ignore[no-untyped-def]
        """The destination with metadata of its own."""
        yield self.destination.close()
        self.destination = self.make(**{**METADATA, **options})
        yield self.destination.open()

    def sent(self) -> Any:
        """What the peer was sent last, which it finds no fault with."""
        assert self.peer.rejected == []
        return read_submission(self.peer.requests[-1][1])

    @inlineCallbacks
    def test_a_kept_message_goes_on_as_it_came(self):  # type: ignore[no-untyped-def]
        """Metadata and documents to the byte, from memory and from a file; addressed to the recipient, with a message id of our own."""
        content = bytes(range(256)) * 100
        bodies = {SET_ID: message([Doc(content)]), "1.2.3": message([Doc(content, unique_id="1.2.3.4")], submission_set("1.2.3"))}
        for unique_id, body in ((SET_ID, bodies[SET_ID]), ("1.2.3", self.in_store(bodies["1.2.3"]))):
            receipt = yield self.destination.deliver(self.parcel(1, body))
            assert receipt.reference == unique_id
            _, payload, header = self.peer.requests[-1]
            assert header.findtext("{*}To") == f"http://127.0.0.1:{self.peer.port}/xdr"
            assert header.findtext("{*}MessageID") != "urn:uuid:11111111-2222-4333-8444-555555555555"
            original = soap.read(bodies[unique_id]).payload
            assert etree.tostring(payload, method="c14n", exclusive=True) == etree.tostring(original, method="c14n", exclusive=True)
        assert self.peer.documents == {Doc().unique_id: ("text/plain", content), "1.2.3.4": ("text/plain", content)}
        assert self.peer.rejected == []

    @inlineCallbacks
    def test_what_a_registry_response_means(self):  # type: ignore[no-untyped-def]
        """By its error codes (table 4.2.4.1-2)."""
        for codes, kind, whole in (
            (["XDSRepositoryBusy"], TransientDelivery, True),
            (["XDSRepositoryOutOfResources", "XDSRegistryBusy"], TransientDelivery, True),
            (["XDSRepositoryBusy", "XDSMissingDocument"], PermanentDelivery, False),
            (["XDSPatientIdDoesNotMatch"], PermanentDelivery, False),
            (["XDSDuplicateUniqueIdInRegistry"], PermanentDelivery, False),
        ):
            self.peer.errors = codes
            error = yield self.assertFailure(self.destination.deliver(self.parcel(1)), kind)
            assert error.whole_destination is whole
            assert codes[0] in error.text or codes[0].encode() in error.answer

    @inlineCallbacks
    def test_a_repetition_that_was_there_before_is_taken(self):  # type: ignore[no-untyped-def]
        """The first attempt's answer was lost: that the registry knows its identifier tells that it was taken."""
        self.peer.mode = "hang up"
        yield self.assertFailure(self.destination.deliver(self.parcel(1)), UncertainDelivery)
        self.peer.mode, self.peer.errors = "take", ["XDSDuplicateUniqueIdInRegistry"]
        receipt = yield self.destination.deliver(replace(self.parcel(1), attempt=2))
        assert "was there" in receipt.reference

    @inlineCallbacks
    def test_what_a_fault_or_a_status_means(self):  # type: ignore[no-untyped-def]
        for fault, status, kind in (
            ("Receiver", 0, TransientDelivery),
            ("Sender", 0, PermanentDelivery),
            ("MustUnderstand", 0, PermanentDelivery),
            ("", 503, TransientDelivery),
            ("", 403, TransientDelivery),
            ("", 404, PermanentDelivery),
            ("", 202, UncertainDelivery),
        ):
            self.peer.fault, self.peer.status = fault, status
            yield self.assertFailure(self.destination.deliver(self.parcel(1)), kind)

    @inlineCallbacks
    def test_a_bundle_becomes_a_submission(self):  # type: ignore[no-untyped-def]
        """With the metadata of its DocumentReference, the patient's identifiers, the site's codes; the same identifiers each time."""
        yield self.again()
        first = yield self.destination.deliver(made(json.dumps(BUNDLE).encode(), content_type=FHIR_JSON))
        second = yield self.destination.deliver(made(json.dumps(BUNDLE).encode(), content_type=FHIR_JSON, attempt=2))
        assert first.reference == second.reference
        submission = self.sent()
        entry = submission.entries[0]
        assert {
            name: entry.get(name) for name in ("uniqueId", "patientId", "sourcePatientId", "creationTime", "title", "serviceStartTime")
        } == {
            "uniqueId": "1.2.156.10011.9.4000",
            "patientId": "P-4711^^^&1.2.156.10011.1&ISO",
            "sourcePatientId": "88\\S\\7^^^&1.2.156.1&ISO",
            "creationTime": "20261120103000",
            "title": "Note",
            "serviceStartTime": "20261118",
        }
        assert entry.all("sourcePatientInfo")[1:] == ("PID-5|Li^Xiaoming", "PID-7|19800101", "PID-8|M")
        assert (entry.code("typeCode").scheme, entry.code("classCode").code) == ("2.16.840.1.113883.6.1", "18842-5")
        assert entry.authors[0].persons == ("^Wang^Fang",)
        assert entry.authors[-1].institutions == ("County Hospital",)
        assert submission.set.get("sourceId") == SOURCE_ID
        assert self.peer.documents["1.2.156.10011.9.4000"] == ("text/plain", b"Getting better.")

    @inlineCallbacks
    def test_identifiers_of_a_bundle(self):  # type: ignore[no-untyped-def]
        """An UUID is an OID of its own; an extension stands below its OID; without any, one that is the same each time."""
        yield self.again()
        for identifier, expected in (
            ({"system": "urn:ietf:rfc:3986", "value": "urn:uuid:00000000-0000-4000-8000-000000000001"}, "2.25.302240678275694148452353"),
            ({"system": "urn:oid:1.2.3", "value": "D-7"}, "1.2.3^D-7"),
            (None, "2.25."),
        ):
            bundle = json.loads(json.dumps(BUNDLE))
            bundle["entry"][0]["resource"]["masterIdentifier"] = identifier
            yield self.destination.deliver(made(json.dumps(bundle).encode(), content_type=FHIR_JSON))
            first = self.sent().entries[0].unique_id
            yield self.destination.deliver(made(json.dumps(bundle).encode(), content_type=FHIR_JSON))
            assert self.sent().entries[0].unique_id == first
            assert first.startswith(expected) if identifier is None else first == expected, first

    @inlineCallbacks
    def test_a_cda_document_becomes_a_submission(self):  # type: ignore[no-untyped-def]
        """With the metadata of its header; its time, which says no offset, by the site's."""
        yield self.again()
        yield self.destination.deliver(made(DOCUMENT.encode(), content_type=CDA))
        entry = self.sent().entries[0]
        assert entry.unique_id == "1.2.156.10011.9.5000^D-1"
        assert entry.get("creationTime") == "20261120023000"
        assert entry.authors[0].persons == ("D77^Wang Fang^^^^^^^&1.2.156.10011.2&ISO",)
        assert self.peer.documents[entry.unique_id] == ("text/xml", DOCUMENT.encode())

    @inlineCallbacks
    def test_what_no_submission_can_be_made_of(self):  # type: ignore[no-untyped-def]
        """Permanent, and it says what is missing."""
        no_patient = json.loads(json.dumps(BUNDLE))
        del no_patient["entry"][2]
        no_content = json.loads(json.dumps(BUNDLE))
        del no_content["entry"][1]
        yield self.again()
        for body, kind, word in (
            (b"{}", FHIR_JSON, "no FHIR Bundle"),
            (b'{"resourceType":"Bundle","entry":[]}', FHIR_JSON, "DocumentReference"),
            (json.dumps(no_patient).encode(), FHIR_JSON, "DocumentEntry.patientId"),
            (json.dumps(no_content).encode(), FHIR_JSON, "content"),
            (b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"DocumentReference","content":[7]}}]}', FHIR_JSON, "FHIR"),
            (b"<a/>", CDA, "cannot be read"),
            (b"MSH|", "application/hl7-v2+er7", "map it first"),
            (b"<a/>", SOAP, "no ITI-41"),
            (soap.envelope("1.2"), SOAP, "payload"),
        ):
            error = yield self.assertFailure(self.destination.deliver(made(body, content_type=kind)), PermanentDelivery)
            assert word in error.text, error.text
            assert "P-4711" not in error.text
        yield self.again(codes=None)
        error = yield self.assertFailure(self.destination.deliver(made(DOCUMENT.encode(), content_type=CDA)), PermanentDelivery)
        assert "DocumentEntry.formatCode" in error.text
        assert self.peer.requests == []

    @inlineCallbacks
    def test_a_file_that_is_gone(self):  # type: ignore[no-untyped-def]
        error = yield self.assertFailure(self.destination.deliver(self.parcel(1, BodyRef("0" * 64, 1 << 20))), PermanentDelivery)
        assert "read back" in error.text
