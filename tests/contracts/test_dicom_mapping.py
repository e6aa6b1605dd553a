"""dicom-to-fhir held to the contract of mappings."""

from __future__ import annotations

from typing import ClassVar
from unittest import TestCase

from pydicom.uid import DeflatedExplicitVRLittleEndian

from engine.formats.dicom import DataSet, read
from engine.formats.dicom.dictionary import keyword_of
from tests.contracts.mapping_contract import MappingContract
from tests.support.dicom_studies import FOLDER, STUDY, code, coded, data_set, document, file, image, item, num, picture, study

MM = code("mm", "UCUM", "millimeter")
REPORT = document(
    code("126000", "DCM", "Imaging Measurement Report"),
    item("HAS OBS CONTEXT", "PNAME", code("121008", "DCM", "Person Observer Name"), PersonName="Li^Wei=李^伟"),
    item(
        "CONTAINS",
        "CONTAINER",
        code("125007", "DCM", "Measurement Group"),
        item("HAS OBS CONTEXT", "TEXT", code("112039", "DCM", "Tracking Identifier"), TextValue="nodule 1"),
        coded("CONTAINS", code("121071", "DCM", "Finding"), code("27925004", "SCT", "Nodule")),
        num(code("103339001", "SCT", "Long Axis"), "12.50", MM, picture("INFERRED FROM", f"{STUDY}.1.1", [1, 2])),
    ),
    item("CONTAINS", "TEXT", code("121077", "DCM", "Conclusion"), TextValue="stable"),
)
RICH = image(
    3,
    1,
    StationName="CT-A",
    Manufacturer="MAKER",
    OperatorsName="Zhao^Min",
    BodyPartExamined="CHEST",
    Laterality="R",
    ReferringPhysicianName="Sun^Li",
    RequestAttributesSequence=[data_set(RequestedProcedureID="R1", ReasonForTheRequestedProcedure="cough", AccessionNumber="A100")],
)


class DicomMappingTests(MappingContract, TestCase):
    """Images, a study, reports; implicit, deflated and big endian; names in three writings."""

    mapping = "dicom-to-fhir"
    bodies: ClassVar[list[bytes]] = [
        file(RICH),
        study(image(1), image(2), RICH, REPORT),
        file(REPORT),
        file(image(), DeflatedExplicitVRLittleEndian),
        *(
            (FOLDER / name).read_bytes()
            for name in (
                "charset_files/chrH32.dcm",
                "test_files/MR_small_bigendian.dcm",
                "test_files/MR_small_implicit.dcm",
                "test_files/test-SR.dcm",
                "test_files/rtplan.dcm",
                "test_files/liver_1frame.dcm",
                "test_files/examples_ybr_color.dcm",
            )
        ),
    ]
    unsupported: ClassVar[list[tuple[bytes, str]]] = [
        ((FOLDER / "test_files/dicomdirtests/DICOMDIR").read_bytes(), "200"),
        (file(image(SOPClassUID="1.2.840.10008.3.1.2.3.3")), "200"),
    ]
    undecodable: ClassVar[list[bytes]] = [
        b"",
        b"[]",
        b"[{}]",
        b"{",
        b'[{"PatientID": "P1"}]',
        b"MSH|^~\\&|HIS|COUNTY|M|C|20261126||ADT^A01|1|P|2.5\rPID|1||P1||Wang\r",
        file(image())[:-7],
        (FOLDER / "test_files/rtplan_truncated.dcm").read_bytes(),
    ]
    lacking: ClassVar[list[tuple[bytes, str]]] = [
        (file(image(StudyInstanceUID="")), "StudyInstanceUID"),
        (study(image(1), image(2, 7)).replace(b'"1.2.826.0.1.1.7"', b'"P1.2"'), "[2].SeriesInstanceUID"),
        (study(image(1), image(2, PatientID="P2")), "[2].PatientID"),
        (study(image(1), image(2, StudyInstanceUID="1.2.3")), "[2].StudyInstanceUID"),
    ]
    secrets: ClassVar[list[str]] = ["王", "Wang", "XiaoMing", "P1", "P2", "19800101", "1.2.3"]
    overlay: ClassVar[tuple[str, str]] = (
        "dicom-to-fhir/attributes/Patient.csv",
        "id,source,target,map,codes,when\nPatientSex,PatientSex,gender,=other,,\n",
    )
    before, after = b'"gender":"male"', b'"gender":"other"'
    bad_overlay: ClassVar[tuple[str, str]] = (
        "dicom-to-fhir/attributes/Patient.csv",
        "id,source,target,map,codes,when\n# ours\nPatientSex,PatientSecks,gender,code,sex,\n",
    )
    bad_line = 3

    def resolves(self, body: bytes, source: str) -> bool:
        """`[2].SeriesNumber`: the second data set has a value (or items) there."""
        return source in set().union(*(self._places(one) for one in read(body).data_sets))

    def _places(self, one: DataSet) -> set[str]:
        found = set()
        for tag, element in one.elements.items():
            items = element.items(one, tag)
            if items or not element.empty:
                found.add(one.path + keyword_of(tag))
            found = found.union(*(self._places(item) for item in items))
        return found
