"""Imaging orders as HL7 v2, queries of a worklist and performed procedure steps as data sets, for tests."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from adapters.dicom.worklist import orders
from adapters.dicom.worklist.orders import Site, Word

STUDY = "1.2.826.0.1.3680043.8.498.1"


def segment(name: str, **fields: str) -> str:
    """A segment with its fields by number: f3="…"."""
    found = {int(key[1:]): text for key, text in fields.items()}
    return "|".join((name, *(found.get(place, "") for place in range(1, max(found) + 1))))


PID = "PID|1||P1^^^HIS^MR||Wang^Xiaoming^^^^^L^A~王^小明^^^^^L^I||19800101|M"
PV1 = segment("PV1", f1="1", f2="I", f3="3W^301^2^ANPING", f8="D7^Referring^Ruth", f15="B6", f16="VIP", f19="V100")
AL1 = "AL1|1|DA|^Iodine"
ORC = "ORC|NW|O1^HIS|F1^RIS||||^^^20261124093000^^S||20261124080000|||D1^Lee^Kim"
OBR = segment(
    "OBR", f1="1", f2="O1^HIS", f3="F1^RIS", f4="CTCHEST^CT of the chest^L^CHEST-1^Chest, routine^L", f12="^Walking", f13="Pacemaker",
    f16="D1^Lee^Kim", f18="A1001", f19="R1001", f20="S1001", f24="CT", f27="^^^20261124093000^^S", f30="WALK", f31="^Cough", f34="T1&Tech&Tom",
    f36="20261124093000", f44="CTCHEST^CT of the chest^L",
)  # fmt: skip
ZDS = f"ZDS|{STUDY}^RIS^Application^DICOM"
SITE = Site("anping")


def hl7(kind: str, *segments: str, number: str = "1") -> bytes:
    """A message in UTF-8."""
    head = f"MSH|^~\\&|HIS|ANPING|MERIDIAN|ANPING|20261124080000||{kind}|{number}|P|2.5.1||||||UNICODE UTF-8"
    return "\r".join((head, *segments, "")).encode()


def order(control: str = "NW", status: str = "") -> bytes:
    """ORM^O01 as IHE's RAD-4 has it."""
    return hl7("ORM^O01", PID, PV1, AL1, ORC.replace("ORC|NW", f"ORC|{control}").replace("F1^RIS||||", f"F1^RIS||{status}||"), OBR, ZDS)


def read(kind: str, *segments: str, site: Site = SITE) -> list[Word]:
    return orders.read(hl7(kind, *segments), "utf-8", site, "20261124081500")


def encoded(content: Dataset, *, implicit: bool = True) -> bytes:
    """A data set's bytes, Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, content)
    return buffer.getvalue()


def decoded(raw: bytes, *, implicit: bool = True) -> Dataset:
    return read_dataset(BytesIO(raw), implicit, True)


def keys(step: dict[str, Any] | None = None, **top: Any) -> Dataset:
    """A query: by keyword, `step` inside the Scheduled Procedure Step Sequence."""
    found = _of(top)
    if step is not None:
        found.ScheduledProcedureStepSequence = [_of(step)]
    return found


def _of(elements: dict[str, Any]) -> Dataset:
    found = Dataset()
    for keyword, value in elements.items():
        setattr(found, keyword, value)
    return found


# fmt: off
def begun(study: str = STUDY, step: str = "S1001", **more: Any) -> Dataset:
    """An N-CREATE's data set."""
    content = _of(
        {
            "ScheduledStepAttributesSequence": [
                _of({
                    "StudyInstanceUID": study, "ReferencedStudySequence": [], "AccessionNumber": "A1001", "RequestedProcedureID": "R1001",
                    "RequestedProcedureDescription": "", "ScheduledProcedureStepID": step, "ScheduledProcedureStepDescription": "",
                    "ScheduledProtocolCodeSequence": [],
                })
            ],
            "PatientName": "Wang^Xiaoming", "PatientID": "P1", "PatientBirthDate": "19800101", "PatientSex": "M", "ReferencedPatientSequence": [],
            "PerformedProcedureStepID": "PPS1", "PerformedStationAETitle": "CT1", "PerformedStationName": "", "PerformedLocation": "",
            "PerformedProcedureStepStartDate": "20261124", "PerformedProcedureStepStartTime": "093100",
            "PerformedProcedureStepStatus": "IN PROGRESS", "PerformedProcedureStepDescription": "", "PerformedProcedureTypeDescription": "",
            "ProcedureCodeSequence": [], "PerformedProcedureStepEndDate": "", "PerformedProcedureStepEndTime": "", "Modality": "CT", "StudyID": "",
            "PerformedProtocolCodeSequence": [], "PerformedSeriesSequence": [],
        }
    )
    for keyword, value in more.items():
        setattr(content, keyword, value)
    return content


def ended(status: str = "COMPLETED", series: str = "1.2.3.4", sops: tuple[str, ...] = ("1.2.3.4.1", "1.2.3.4.2"), **more: Any) -> Dataset:
    """The data set of the N-SET that ends a step."""
    images = [_of({"ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "ReferencedSOPInstanceUID": sop}) for sop in sops]
    made = _of(
        {
            "PerformingPhysicianName": "", "ProtocolName": "CHEST", "OperatorsName": "", "SeriesInstanceUID": series, "SeriesDescription": "",
            "RetrieveAETitle": "", "ReferencedImageSequence": images, "ReferencedNonImageCompositeSOPInstanceSequence": [],
        }
    )
    content = _of(
        {
            "PerformedProcedureStepStatus": status, "PerformedProcedureStepEndDate": "20261124", "PerformedProcedureStepEndTime": "094500",
            "PerformedSeriesSequence": [made] if series else [],
        }
    )
    for keyword, value in more.items():
        setattr(content, keyword, value)
    return content


# fmt: on
def as_file(uid: str, content: Dataset) -> bytes:
    """As the listener hands an N-CREATE or N-SET to its channel: a PS3.10 file."""
    content.file_meta = FileMetaDataset()
    content.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.3.1.2.3.3"
    content.file_meta.MediaStorageSOPInstanceUID = uid
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, content, enforce_file_format=True)
    return buffer.getvalue()


IMPLICIT = str(ImplicitVRLittleEndian)
