"""files-to-fhir held to the contract of mappings."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase

from fhir.resources.R4B.bundle import Bundle

from engine import registry
from engine.formats.files import labelled
from engine.message import Excerpt
from tests.contracts.mapping_contract import MappingContract

PDF = b"%PDF-1.7\nP4711\n%%EOF"


def labelled_file(content: bytes = PDF, name: str = "P4711_discharge.pdf", **facts: str) -> bytes:
    digests = hashlib.sha256(content).hexdigest(), hashlib.sha1(content).hexdigest()
    return labelled.head(labelled.Label(name, "application/pdf", len(content), *digests, facts)) + content


FULL = labelled_file(patient="P4711", type="discharge", date="20260131", title="Letter", encounter="V9", id="D7")


class FilesMappingTests(MappingContract, TestCase):
    """All that a name can say; a patient alone; a type that no table knows."""

    mapping = "files-to-fhir"
    bodies: ClassVar[list[bytes]] = [FULL, labelled_file(patient="P4711"), labelled_file(patient="P4711", type="novel", date="2026-01")]
    unsupported: ClassVar[list[tuple[bytes, str]]] = [(labelled_file(b"", patient="P4711"), "200")]
    undecodable: ClassVar[list[bytes]] = [b"", PDF, b'{"name":"P4711.pdf"}\n' + PDF]
    lacking: ClassVar[list[tuple[bytes, str]]] = [
        (labelled_file(), "facts.patient"),
        (labelled_file(patient="P4711", date="20261331"), "facts.date"),
    ]
    secrets: ClassVar[list[str]] = ["P4711", "20261331"]
    overlay: ClassVar[tuple[str, str]] = ("files-to-fhir/types.csv", "type,system,code,display\ndischarge,urn:ours,D1,Ours\n")
    before, after = b"18842-5", b"urn:ours"
    bad_overlay: ClassVar[tuple[str, str]] = ("files-to-fhir/types.csv", "type,system,code,display\n# ours\ndischarge,ours,1,x\n")
    bad_line = 3

    def resolves(self, body: bytes, source: str) -> bool:
        """A fact of the label, or the content."""
        return source == "content" or labelled.codec.decode(body).get(source) is not None

    def made(self, body: bytes) -> dict[str, dict[str, Any]]:
        bundle = json.loads(self.mapper.map(body).body)
        Bundle.model_validate(bundle)
        return {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}

    def test_a_document_reference_with_the_bytes(self) -> None:
        """Type, title, date, visit, whose; the bytes are in a Binary, their hash is SHA-1 (R4 clause 2.24.0.9)."""
        made = self.made(FULL)
        document = made["DocumentReference"]
        assert made["Patient"]["identifier"][0]["value"] == "P4711"
        assert document["type"]["coding"][0]["code"] == "18842-5"
        assert document["masterIdentifier"]["value"] == "D7"
        assert document["context"]["encounter"][0]["identifier"]["value"] == "V9"
        assert document["context"]["period"] == {"start": "2026-01-31"}
        attachment = document["content"][0]["attachment"]
        assert attachment["title"] == "Letter"
        assert attachment["size"] == len(PDF)
        assert attachment["hash"] == base64.b64encode(hashlib.sha1(PDF).digest()).decode()
        assert base64.b64decode(made["Binary"]["data"]) == PDF

    def test_an_unknown_type_is_said_and_counted(self) -> None:
        """As text, with a tag."""
        document = self.made(self.bodies[2])["DocumentReference"]
        assert document["type"] == {"text": "novel"}
        assert document["meta"]["tag"][0]["code"] == "unmapped-type"
        assert self.mapper.map(self.bodies[2]).unmapped == 1

    def test_a_big_file_is_named_by_its_digest(self) -> None:
        """Read from where it lies, without its label."""
        content = PDF + bytes(2 << 20)
        body = labelled_file(content, patient="P4711")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "body"
            file.write_bytes(body)
            made = self.made(Excerpt(body[:5000], "00", file))
        digest = hashlib.sha256(content).hexdigest()
        assert made["DocumentReference"]["content"][0]["attachment"]["url"] == f"urn:sha256:{digest}"
        assert made["DocumentReference"]["content"][0]["attachment"]["size"] == len(content)

    def test_the_patient_is_the_one_of_hl7_messages(self) -> None:
        """The same number of the same facility and authority is the same resource."""
        settings = "name,value\nfacility,ANPING\nauthority,HIS\nzone,+08:00\n"
        files = registry.mapping("files-to-fhir").compile(self.site("files-to-fhir/settings.csv", settings))
        adt = b"MSH|^~\\&|HIS|ANPING|X|Y|20260131||ADT^A01^ADT_A01|1|P|2.5\rPID|1||P4711^^^HIS^MR\rPV1|1|I\r"
        urls = []
        for bundle in (files.map(FULL).body, registry.mapping("hl7v2-to-fhir").compile(None).map(adt).body):
            (patient,) = [entry for entry in json.loads(bundle)["entry"] if entry["resource"]["resourceType"] == "Patient"]
            urls.append((patient["fullUrl"], patient["resource"]["identifier"][0]["system"]))
        assert urls[0] == urls[1]
