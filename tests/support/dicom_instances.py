"""What the tests of forwarding share: instances as files, parcels of them, a context with a folder of bodies."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from engine.contracts import Context
from engine.message import DICOM, BodyRef, Parcel
from tests.support.fhir import context as plain_context

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.826.0.1.3680043.9.9.1"


def instance(number: int, *, sop_class: str = CT, syntax: str = ExplicitVRLittleEndian, pixels: int = 512, **elements: Any) -> bytes:
    """A small CT image as a PS3.10 file; its SOP Instance UID ends with `number`."""
    data_set = Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class, uid(number)
    data_set.PatientID, data_set.PatientName = "P1", "Test^Patient"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    data_set.StudyDate, data_set.StudyTime, data_set.StudyID, data_set.AccessionNumber = "20260101", "101500", "1", "A1"
    data_set.Modality, data_set.SeriesNumber, data_set.InstanceNumber = "CT", 1, number % 1000000
    data_set.Rows, data_set.Columns, data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 16, pixels // 32, 16, 12, 11
    data_set.SamplesPerPixel, data_set.PixelRepresentation, data_set.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    data_set.PixelData = bytes(number % 251 for _ in range(16 * (pixels // 32) * 2))
    for name, value in elements.items():
        setattr(data_set, name, value)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.file_meta.MediaStorageSOPClassUID, data_set.file_meta.MediaStorageSOPInstanceUID = sop_class, uid(number)
    written = io.BytesIO()
    data_set.save_as(written, enforce_file_format=True, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=True)
    return written.getvalue()


def uid(number: int) -> str:
    return f"{STUDY}.1.{number}"


def new_uid() -> str:
    return str(generate_uid())


def parcel(number: int, body: bytes | BodyRef | None = None, **more: Any) -> Parcel:
    content = instance(number) if body is None else body
    return replace(Parcel(number, number, content, DICOM, "CTImageStorage", str(number), uid(number)), **more)


class Folder:
    """Bodies as files, as the store keeps them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def keep(self, content: bytes) -> BodyRef:
        digest = hashlib.sha256(content).hexdigest()
        (self.path / digest).write_bytes(content)
        return BodyRef(digest, len(content))

    def file(self, ref: BodyRef) -> Path:
        return self.path / ref.digest


def context(data: Path, reactor: Any, **more: Any) -> Context:
    """With a folder ``bodies`` for `body_file`."""
    return replace(plain_context(data, reactor, **more), body_file=Folder(data / "bodies").file)
