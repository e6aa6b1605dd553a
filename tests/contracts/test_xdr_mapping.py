"""xdr-to-fhir held to the contract of mappings."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase

from fhir.resources.R4B.bundle import Bundle
from lxml import etree

from engine.errors import MappingError
from engine.formats import soap
from engine.formats.xds.reading import read_submission
from engine.message import Excerpt
from tests.contracts.mapping_contract import MappingContract
from tests.support.xdr import CONTENT_TYPE, Doc, in_envelope, kept, member, message, mtom, named, request, slot, submission_set
from tests.unit.test_xdr_recipient import CDA

FORMAT = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
TYPE = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
RPLC = "urn:ihe:iti:2007:AssociationType:RPLC"
BEFORE = "urn:uuid:aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
BODY_CDA = CDA.replace(
    "</ClinicalDocument>",
    "<component><structuredBody><component><section><title>Course</title><text>Well.</text></section></component></structuredBody></component></ClinicalDocument>",
)
LETTER = Doc(CDA.encode(), mime="text/xml")
SCAN = Doc(b"%PDF-1.4 scan", "Document02", "1.2.156.10011.9.2001^S", "application/pdf", title="Scan")
FOLDER = (
    '<rim:RegistryPackage id="Folder01">'
    + slot("lastUpdateTime", "20261120110000")
    + named("Stay")
    + '<rim:Classification id="fn" classifiedObject="Folder01" classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"/>'
    '<rim:ExternalIdentifier id="fu" registryObject="Folder01" identificationScheme="urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a" value="1.2.3.77"/>'
    "</rim:RegistryPackage>" + member("Document01", 21, "", "Folder01")
)
RICH = Doc(
    b"<report>not CDA</report>",
    "urn:uuid:00000000-1111-4222-8333-444444444444",
    "1.2.3.9",
    "text/xml",
    said={
        "legalAuthenticator": "D78^Zhao^Min",
        "serviceStopTime": "20261120",
        "urn:ihe:iti:xds:2013:referenceIdList": "ACC-1^^^&amp;1.2.156.4&amp;ISO^urn:ihe:iti:xds:2013:accession",
        "urn:example:own": "ours",
        "repositoryUniqueId": "1.2.156.10011.77",
    },
    coded={FORMAT: ("OWN", "our formats", "Our format"), "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4": ("X", "urn:oid:1.2.9", "Event")},
)
BODIES = [
    message([LETTER]),
    message([LETTER, SCAN], more=FOLDER),
    message([RICH], more=member(BEFORE, 9, "", RICH.id, RPLC) + member(BEFORE, 10, "Reference")),
    kept(CONTENT_TYPE, mtom(in_envelope(request([Doc(said={"hash": "zz"}), SCAN], documents="")), {})),
    message([Doc(b"<ClinicalDocument", mime="text/xml")], submission_set(time="20261120")),
    message([Doc(CDA.replace("9.2000", "9.2001").encode(), mime="text/xml")]),
]


def resources(body: bytes, kind: str, mapper: Any) -> list[dict[str, Any]]:
    bundle = json.loads(mapper.map(body).body)
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


class XdrMappingTests(MappingContract, TestCase):
    """A CDA document; a scan in a folder; everything that metadata may say; metadata alone; XML that is none."""

    mapping = "xdr-to-fhir"
    bodies: ClassVar[list[bytes]] = BODIES
    unsupported: ClassVar[list[tuple[bytes, str]]] = [
        (in_envelope("<Li xmlns='urn:other'>P-4711</Li>"), "200"),
        (b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>', "200"),
    ]
    undecodable: ClassVar[list[bytes]] = [
        b"",
        b"P-4711",
        BODIES[0][:-30],
        in_envelope("<x:ProvideAndRegisterDocumentSetRequest xmlns:x='urn:ihe:iti:xds-b:2007'/>"),
    ]
    lacking: ClassVar[list[tuple[bytes, str]]] = [
        (message([Doc()], the_set=""), "SubmissionSet"),
        (message([Doc(unique_id="")]), "DocumentEntry[1].uniqueId"),
        (message([Doc(patient="P-4712^^^&1.2.156.10011.1&ISO")]), "DocumentEntry[1].patientId"),
        (
            message([Doc(CDA.replace("P-4711", "P-4712").encode(), mime="text/xml")]),
            "DocumentEntry[1]/ClinicalDocument/recordTarget/patientRole/id",
        ),
    ]
    secrets: ClassVar[list[str]] = ["P-4711", "P-4712", "Xiaoming", "19800101"]
    overlay: ClassVar[tuple[str, str]] = ("xdr-to-fhir/systems.csv", "scheme,uri\n1.3.6.1.4.1.19376.1.2.3,urn:ours:formats\n")
    before, after = b"http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode", b"urn:ours:formats"
    bad_overlay: ClassVar[tuple[str, str]] = ("xdr-to-fhir/systems.csv", "scheme,uri\n# ours\nours,formats\n")
    bad_line = 3

    def resolves(self, body: bytes, source: str) -> bool:
        """`DocumentEntry[1].typeCode`: the first entry has one; `DocumentEntry[1]/ClinicalDocument/id`: its document has that."""
        read = soap.read(body)
        submission = read_submission(read.payload)
        objects = {one.path: one for one in submission.described()} | {one.path: one for one in submission.associations}
        if "/" in source:
            path, _, inner = source.partition("/")
            if path not in objects:
                return False
            element = etree.fromstring(bytes(read.content_of(submission.contents[objects[path].id]).content))
            return inner.startswith(etree.QName(element).localname)
        path, _, attribute = source.partition(".")
        one = objects.get(path)
        return one is not None and (not attribute or attribute in one.extra or bool(one.all(attribute)))

    def test_the_gender_is_that_of_table_0001(self) -> None:
        """O is other, and not unknown."""
        made = json.loads(self.mapper.map(message([SCAN]).replace(b"PID-8|M", b"PID-8|O")).body)
        (patient,) = [one["resource"] for one in made["entry"] if one["resource"]["resourceType"] == "Patient"]
        assert patient["gender"] == "other"

    def test_the_submission_set_is_a_list_of_its_documents(self) -> None:
        """With what MHD says of one; a document that was there before is a member by its UUID."""
        (found,) = resources(BODIES[2], "List", self.mapper)
        assert found["identifier"] == [{"use": "usual", "system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.156.10011.9.1000"}]
        assert found["code"]["coding"][0]["code"] == "submissionset"
        assert found["extension"][0]["valueIdentifier"]["value"] == "urn:oid:1.2.156.10011.9"
        assert found["date"] == "2026-11-20T11:00:00+00:00"
        assert [entry["item"].get("identifier", {}).get("value") for entry in found["entry"]] == [None, BEFORE]

    def test_a_folder_is_a_list_too(self) -> None:
        folder, the_set = resources(BODIES[1], "List", self.mapper)
        assert (folder["code"]["coding"][0]["code"], folder["title"], len(folder["entry"])) == ("folder", "Stay", 1)
        assert len(the_set["entry"]) == 2

    def test_an_entry_is_a_document_reference(self) -> None:
        """With the mapping of metadata attributes of MHD."""
        (found,) = resources(BODIES[2], "DocumentReference", self.mapper)
        assert found["masterIdentifier"] == {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.9"}
        assert {"system": "urn:ietf:rfc:3986", "value": RICH.id} in found["identifier"]
        assert found["relatesTo"] == [
            {"code": "replaces", "target": {"type": "DocumentReference", "identifier": {"system": "urn:ietf:rfc:3986", "value": BEFORE}}}
        ]
        assert found["type"]["coding"][0] == {"system": "http://loinc.org", "code": "18842-5", "display": "Discharge summary"}
        assert found["securityLabel"][0]["coding"][0]["code"] == "N"
        assert found["date"] == "2026-11-20T10:30:00+00:00"
        assert found["context"]["period"] == {"start": "2026-11-18T09:00:00+00:00", "end": "2026-11-20"}
        assert found["context"]["facilityType"]["coding"][0]["code"] == "HOSP"
        assert found["context"]["practiceSetting"]["coding"][0]["system"] == "http://snomed.info/sct"
        assert found["context"]["related"][0]["identifier"]["value"] == "ACC-1"
        assert "authenticator" in found
        content = found["content"][0]
        assert content["format"]["system"].startswith("urn:meridian:codes:")
        assert content["attachment"]["hash"] == base64.b64encode(hashlib.sha1(RICH.content, usedforsecurity=False).digest()).decode()
        assert len(found["author"]) == 2
        assert self.mapper.map(BODIES[2]).unmapped >= 1

    def test_the_patient_is_the_one_of_hl7_v2(self) -> None:
        """By the OID of who gives out the number; with what the metadata says of the person."""
        (found,) = resources(BODIES[2], "Patient", self.mapper)
        assert found["identifier"][0]["system"] == "urn:oid:1.2.156.10011.1"
        assert found["name"][0]["family"] == "Li"
        assert (found["gender"], found["birthDate"]) == ("male", "1980-01-01")
        assert self.mapper.map(BODIES[2]).order_keys[0] == "urn:oid:1.2.156.10011.1|P-4711"

    def test_a_cda_document_is_mapped_as_one(self) -> None:
        """By cda-to-fhir; the entry and the document are one DocumentReference."""
        (found,) = resources(BODIES[0], "DocumentReference", self.mapper)
        assert found["masterIdentifier"] == {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.156.10011.9.2000"}
        assert found["content"][0]["format"]["code"] == "urn:ihe:iti:xds-sd:text:2008"
        assert found["context"]["practiceSetting"]["coding"][0]["code"] == "394802001"
        (composition,) = resources(message([Doc(BODY_CDA.encode(), mime="text/xml")]), "Composition", self.mapper)
        assert composition["section"][0]["title"] == "Course"

    def test_a_document_with_another_id_than_its_entry(self) -> None:
        """Many senders have it so: both are identifiers, and it is flagged."""
        body = message([Doc(CDA.replace("9.2000", "9.2001").encode(), mime="text/xml")])
        (found,) = resources(body, "DocumentReference", self.mapper)
        assert found["masterIdentifier"]["value"] == "urn:oid:1.2.156.10011.9.2001"
        assert found["identifier"][0]["value"] == "urn:oid:1.2.156.10011.9.2000"
        assert [tag["code"] for tag in found["meta"]["tag"]] == ["envelope-id"]
        assert self.mapper.map(body).unmapped == 1

    def test_the_bundles_are_fhir(self) -> None:
        """By the models of FHIR R4B, which has these resources as R4 has them."""
        for body in (*BODIES, message([Doc(BODY_CDA.encode(), mime="text/xml")])):
            Bundle.model_validate_json(self.mapper.map(body).body)

    def test_small_documents_go_along_and_others_by_their_digest(self) -> None:
        """Nothing of a big one is in the Bundle, whether the message lies in memory or in a file."""
        (binary,) = resources(BODIES[2], "Binary", self.mapper)
        assert base64.b64decode(binary["data"]) == RICH.content
        content = b"\x89PNG" + bytes(3 << 20)
        body = message([Doc(content, mime="image/png")])
        rendition = self.mapper.map(body)
        assert len(rendition.body) < 20_000
        (found,) = resources(body, "DocumentReference", self.mapper)
        assert found["content"][0]["attachment"]["url"] == f"urn:sha256:{hashlib.sha256(content).hexdigest()}"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "body"
            file.write_bytes(body)
            excerpt = Excerpt(body[:1000], hashlib.sha256(body).hexdigest(), file)
            assert self.mapper.map(excerpt).body == rendition.body

    def test_metadata_alone(self) -> None:
        """A Document Consumer may be asked for that; size and hash are those of the entry."""
        first, second = resources(BODIES[3], "DocumentReference", self.mapper)
        assert "hash" not in first["content"][0]["attachment"]
        assert second["content"][0]["attachment"]["size"] == len(SCAN.content)
        assert "url" not in second["content"][0]["attachment"]

    def test_what_cannot_be_read_is_kept_and_flagged(self) -> None:
        (found,) = resources(BODIES[4], "DocumentReference", self.mapper)
        assert found["meta"]["tag"][0]["code"] == "unreadable"

    def test_a_document_of_another_patient_is_refused(self) -> None:
        for body, _ in self.lacking[2:]:
            assert isinstance(self.refusal(body), MappingError)
