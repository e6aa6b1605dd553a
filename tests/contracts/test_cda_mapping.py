"""cda-to-fhir held to the contract of mappings."""

from __future__ import annotations

import re
from typing import ClassVar
from unittest import TestCase

from lxml import etree

from tests.contracts.mapping_contract import MappingContract
from tests.support import cda

LAB = cda.laboratory_report()
CCD = cda.continuity_of_care()


class CdaMappingTests(MappingContract, TestCase):
    """Both families; a scan; a document that its sender left almost empty."""

    mapping = "cda-to-fhir"
    bodies: ClassVar[list[bytes]] = [
        LAB,
        CCD,
        cda.clinic_record(),
        cda.prescription(),
        cda.vital_signs(),
        cda.discharge_summary(),
        cda.scanned(),
        cda.wst("C0099", "没有的文档", ids=""),
        cda.ccd(),
        b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.3"/></ClinicalDocument>',
    ]
    unsupported: ClassVar[list[tuple[bytes, str]]] = [
        (b"<Patient xmlns='http://hl7.org/fhir'><name value='Bell'/></Patient>", "200"),
        (b"<hl7:ControlAct xmlns:hl7='urn:hl7-org:v3'/>", "200"),
    ]
    undecodable: ClassVar[list[bytes]] = [
        b"",
        b"MSH|^~\\&|HIS|COUNTY|M|C|20261126||ADT^A01|1|P|2.5\rPID|1||MRN-77||Bell\r",
        CCD[:-9],
        b"<!DOCTYPE ClinicalDocument SYSTEM 'http://x/y.dtd'>" + CCD[39:],
        b'<!DOCTYPE a [<!ENTITY b "Bell">]><ClinicalDocument>&b;</ClinicalDocument>',
        CCD.replace(b"UTF-8", b"EBCDIC"),
    ]
    lacking: ClassVar[list[tuple[bytes, str]]] = [
        (CCD.replace(b'<id root="11110000-aaaa-4bbb-8ccc-000000000001"/>', b""), "ClinicalDocument/id"),
        (CCD.replace(b'<id root="11110000-aaaa-4bbb-8ccc-000000000001"/>', b'<id nullFlavor="NI"/>'), "ClinicalDocument/id"),
    ]
    secrets: ClassVar[list[str]] = ["Bell", "Ada", "MRN-77", "19700501", "赵一鸣"]
    overlay: ClassVar[tuple[str, str]] = (
        "cda-to-fhir/documents.csv",
        "code,title,category,display,medication,report\nC0007,检验报告,26436-6,Laboratory studies,statement,LAB\n",
    )
    before, after = b'"11502-2"', b'"26436-6"'
    bad_overlay: ClassVar[tuple[str, str]] = (
        "cda-to-fhir/elements.csv",
        "element,role,to,display,unit\n# ours\nDE04.50.130.00,observasion,19146-0,Laboratory comment,\n",
    )
    bad_line = 3

    def resolves(self, body: bytes, source: str) -> bool:
        """`ClinicalDocument/component/structuredBody/component[2]/section`: an element of the document."""
        element = etree.fromstring(body, etree.XMLParser(remove_comments=True))
        name, *steps = source.split("/")
        if name != "ClinicalDocument":
            return False
        for step in steps:
            match = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", step)
            found = [one for one in element if match is not None and etree.QName(one).localname == match[1]]
            number = int(match[2] or 1) if match is not None else 0
            if not 0 < number <= len(found) or (match is not None and match[2] is None and len(found) != 1):
                return False
            element = found[number - 1]
        return True
