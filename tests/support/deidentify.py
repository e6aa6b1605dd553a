"""Policies and data sets for the tests of de-identification."""

from __future__ import annotations

from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from engine.deidentify.dicom import instance
from engine.deidentify.policy import SPEC, Policy, policy_of

KEY = "0123456789abcdef" * 4
FILES = Path(pydicom.__file__).parent / "data"


def policy(key: str = KEY, **options: Any) -> Policy:
    """As a channel file says it."""
    return policy_of(SPEC.defaults(key="env:NONE", **options), key)


def image(**attributes: Any) -> Dataset:
    """A small CT image of a made-up patient."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.826.0.1.3680043.2.1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.2.2", "1.2.826.0.1.3680043.2.3"
    dataset.Modality, dataset.PatientName, dataset.PatientID, dataset.IssuerOfPatientID = "CT", "Quixote^Alonso", "MRN4711", "HIS"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.StudyDate, dataset.AccessionNumber = "19470131", "M", "20240301", "ACC00017"
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 2, 2, 8, 8, 7
    dataset.SamplesPerPixel, dataset.PixelRepresentation, dataset.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    dataset.PixelData = bytes((1, 2, 3, 4))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def file_of(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    out = BytesIO()
    dataset = deepcopy(dataset)
    dataset.file_meta = meta
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def cleaned_file(content: bytes, rules: Policy) -> bytes:
    out = BytesIO()
    instance.deidentify(BytesIO(content), out.write, rules)
    return out.getvalue()


def cleaned(dataset: Dataset, rules: Policy, syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    return pydicom.dcmread(BytesIO(cleaned_file(file_of(dataset, syntax), rules)))
