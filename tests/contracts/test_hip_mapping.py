"""hip-to-fhir held to the contract of mappings."""

from __future__ import annotations

import base64
import re
from typing import Any, ClassVar
from unittest import TestCase

from lxml import etree

from engine.formats.hip import call_of
from engine.formats.soap import read
from tests.contracts.mapping_contract import MappingContract
from tests.support.hip_files import MAPPED, called, in_cdata, sample
from tests.support.soap import envelope

_STEP = re.compile(r"(@?[A-Za-z][\w.]*)(?:\[(\d+)\])?")


def within(element: Any, steps: list[str]) -> bool:
    """Whether ``a/b[2]/@c`` is there below `element`."""
    for number, step in enumerate(steps):
        match = _STEP.fullmatch(step)
        assert match, step
        if match[1].startswith("@"):
            return bool(element.get(match[1][1:], "").strip()) and number == len(steps) - 1
        found = element.findall(f"{{*}}{match[1]}")
        if len(found) < int(match[2] or 1):
            return False
        element = found[int(match[2] or 1) - 1]
    return True


def root_of(body: bytes) -> Any:
    return call_of(read(body)).element if b"Envelope" in body[:200] else etree.fromstring(body)


class HipMappingTests(MappingContract, TestCase):
    """A message of every service that changes something, bare and in a SOAP call."""

    mapping = "hip-to-fhir"
    bodies: ClassVar[list[bytes]] = [called("PatientInfoRegister"), *map(called, MAPPED), *map(sample, MAPPED), in_cdata("OrderInfoAdd")]
    unsupported: ClassVar[list[tuple[bytes, str]]] = [
        (b"<PRPA_IN201305UV02 xmlns='urn:hl7-org:v3'/>", "200"),
        (
            envelope("<HIPMessageServer><action>InPatientInfoQuery</action><message>&lt;PRPA_IN900300UV/&gt;</message></HIPMessageServer>"),
            "200",
        ),
        (b"<QUMT_IN020030UV01 xmlns='urn:hl7-org:v3'/>", "200"),
        (b"<MCCI_IN000002UV01 xmlns='urn:hl7-org:v3'/>", "200"),
        (b"<ClinicalDocument xmlns='urn:hl7-org:v3'/>", "200"),
    ]
    undecodable: ClassVar[list[bytes]] = [
        b"",
        b"MSH|^~\\&|HIS|COUNTY|M|C|20261126||ADT^A01|1|P|2.5\rPID|1||1001||Wang\r",
        sample("OrderInfoAdd")[:-20],
        envelope("<HIPMessageServer><action>OrderInfoAdd</action></HIPMessageServer>"),
        b"<!DOCTYPE a [<!ENTITY b '1001'>]><a>&b;</a>",
        sample("DocumentRegister", ("//originalText/@value", "???1001")),
    ]
    lacking: ClassVar[list[tuple[bytes, str]]] = [
        (sample("PatientInfoMerge", ("//priorRegisteredRole/id", None)), "priorRegisteredRole/id"),
        (sample("PatientInfoMerge", ("//priorRegisteredRole/id/item/@extension", "1001")), "patient/id"),
        (sample("PatientInfoRegister", ("//patient/id", None), ("//patientPerson/id", None), ("//asOtherIDs", None)), "patient/id"),
        (sample("InPatientInfoAdd", ("//encounterEvent/id", None)), "encounterEvent/id"),
        (sample("InPatientInfoAdd", ("//encounterEvent/code", None)), "PRPA_IN400001UV"),
        (sample("OrderInfoAdd", ("//placerGroup/component2", None)), "POOR_IN200901UV"),
        (sample("OutPatientAppointStatusInfoAdd", ("//encounterAppointment", None)), "PRPA_IN410001UV"),
        (sample("OrganizationInfoRegister", ("//registrationRequest/subject1/assignedEntity/id", None)), "assignedEntity"),
        (sample("ProviderInfoRegister", ("//healthCareProvider/id", None), ("//healthCarePrincipalPerson/id", None)), "healthCareProvider"),
        (sample("TerminologyRegister", ("//valueSet/id", None)), "valueSet"),
        (
            sample("DocumentRegister", ("//storageCode", None)),
            "controlActProcess/subject/clinicalDocument/storageCode/originalText",
        ),
    ]
    secrets: ClassVar[list[str]] = ["1001", "王小明", "13800138000", "110101199003070716", "1990", "4001"]
    overlay: ClassVar[tuple[str, str]] = (
        "hip-to-fhir/elements/Patient.csv",
        "id,source,target,map,codes,when\ngender,patientPerson/administrativeGenderCode,gender,=other,,\n",
    )
    before, after = b'"gender":"male"', b'"gender":"other"'
    bad_overlay: ClassVar[tuple[str, str]] = (
        "hip-to-fhir/elements/Patient.csv",
        "id,source,target,map,codes,when\n# ours\ngender,patientPerson/administrativeGenderCode,gender,kode,gender,\n",
    )
    bad_line = 3

    def resolves(self, body: bytes, source: str) -> bool:
        """A path from the root of the message; below ``originalText`` one in the document that stands there."""
        root = root_of(body)
        outer, inner, rest = source.partition("/ClinicalDocument")
        name, *steps = outer.split("/")
        if name != etree.QName(root).localname or not within(root, steps):
            return False
        if not inner:
            return True
        text = root.find("{*}controlActProcess/{*}subject/{*}clinicalDocument/{*}storageCode/{*}originalText").get("value")
        return within(etree.fromstring(base64.b64decode(text)), [step for step in rest.split("/") if step])
