"""DICOM instances for tests, written by pydicom: images without pixels, structured reports from short descriptions."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom.data
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

STUDY = "1.2.826.0.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
FOLDER = Path(pydicom.data.__file__).parent


def bundled() -> list[Path]:
    """The DICOM files that come with pydicom, those in its character set folder too; nothing is downloaded."""
    return sorted(file for file in FOLDER.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc"))


def data_set(**attributes: Any) -> Dataset:
    """A data set by keywords; a list of data sets is a sequence."""
    made = Dataset()
    for name, value in attributes.items():
        sequence = isinstance(value, list) and value and isinstance(value[0], Dataset)
        setattr(made, name, Sequence(value) if sequence else value)
    return made


def image(number: int = 1, series: int = 1, **attributes: Any) -> Dataset:
    """One slice of the study."""
    facts: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": CT,
        "SOPInstanceUID": f"{STUDY}.{series}.{number}",
        "StudyDate": "20261126",
        "StudyTime": "081500",
        "AccessionNumber": "A100",
        "Modality": "CT",
        "InstitutionName": "COUNTY",
        "PatientName": "Wang^XiaoMing=王^小明",
        "PatientID": "P1",
        "IssuerOfPatientID": "HIS",
        "PatientBirthDate": "19800101",
        "PatientSex": "M",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": f"{STUDY}.{series}",
        "SeriesNumber": str(series),
        "InstanceNumber": str(number),
    }
    return data_set(**{**facts, **attributes})


def file(one: Dataset, syntax: str = ExplicitVRLittleEndian, ae_title: str = "CT1") -> bytes:
    """As a PS3.10 file that `ae_title` has sent."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = one.SOPClassUID
    meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.SourceApplicationEntityTitle = ae_title
    one.file_meta = meta
    out = BytesIO()
    one.save_as(out, enforce_file_format=True)
    return out.getvalue()


def study(*instances: Dataset) -> bytes:
    """As the DICOM JSON of a study, by pydicom's own writer."""
    return json.dumps([one.to_json_dict() for one in instances]).encode()


def code(value: str, scheme: str, meaning: str) -> Dataset:
    return data_set(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def item(relationship: str, kind: str, name: Dataset | None, *children: Dataset, **attributes: Any) -> Dataset:
    """A content item (PS3.3 clause C.17.3)."""
    made = data_set(RelationshipType=relationship, ValueType=kind, **attributes)
    if name is not None:
        made.ConceptNameCodeSequence = Sequence([name])
    if children:
        made.ContentSequence = Sequence(list(children))
    return made


def num(name: Dataset, value: str, unit: Dataset, *children: Dataset, relationship: str = "CONTAINS") -> Dataset:
    measured = data_set(NumericValue=value, MeasurementUnitsCodeSequence=[unit])
    return item(relationship, "NUM", name, *children, MeasuredValueSequence=[measured])


def coded(relationship: str, name: Dataset, value: Dataset, *children: Dataset) -> Dataset:
    return item(relationship, "CODE", name, *children, ConceptCodeSequence=[value])


def picture(relationship: str, uid: str, frames: list[int] | None = None) -> Dataset:
    reference = data_set(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=uid)
    if frames:
        reference.ReferencedFrameNumber = frames
    return item(relationship, "IMAGE", None, ReferencedSOPSequence=[reference])


def document(title: Dataset, *children: Dataset, sop_class: str = COMPREHENSIVE_SR, **attributes: Any) -> Dataset:
    """A structured report of the study."""
    facts: dict[str, Any] = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": f"{STUDY}.9.1",
        "Modality": "SR",
        "ContentDate": "20261126",
        "ContentTime": "093000",
        "CompletionFlag": "COMPLETE",
        "VerificationFlag": "VERIFIED",
        "ValueType": "CONTAINER",
        "ConceptNameCodeSequence": [title],
        "ContentSequence": list(children),
    }
    return image(1, 9, **{**facts, **attributes})
