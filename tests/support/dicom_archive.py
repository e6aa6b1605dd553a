"""Archives for tests: instances made up or bundled with pydicom, a book on a clock, a context with a folder of its own."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from adapters.dicom.archive.book import Arrival, Book, Outcome
from engine.contracts import Context
from tests.support.mllp import context as mllp_context

CT = "1.2.840.10008.5.1.4.1.1.2"
BUNDLED = Path(pydicom.__file__).parent / "data"
CHARSET_FILES = sorted((BUNDLED / "charset_files").glob("*.dcm"))
TEST_FILES = sorted((BUNDLED / "test_files").glob("*.dcm"))


def data_set(number: int = 1, series: str = "1", study: str = "1", **attributes: Any) -> Dataset:
    """An instance ``2.25.<study>.<series>.<number>``; `attributes` by keyword, None leaves one out."""
    found = Dataset()
    given: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": CT,
        "SOPInstanceUID": f"2.25.{study}.{series}.{number}",
        "StudyInstanceUID": f"2.25.{study}",
        "SeriesInstanceUID": f"2.25.{study}.{series}",
        "PatientID": "P1",
        "PatientName": "Doe^Jo",
        "Modality": "CT",
        "StudyDate": "20261126",
        "StudyTime": "0815",
        "AccessionNumber": f"A{study}",
        "InstanceNumber": str(number),
        "SeriesNumber": series,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in {**given, **attributes}.items():
            if value is not None:
                setattr(found, keyword, value)
    return found


def as_file(found: Dataset, sender: str = "CT1") -> bytes:
    """PS3.10, Explicit VR Little Endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = found.SOPClassUID, found.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.SourceApplicationEntityTitle = sender
    found.file_meta = meta
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(target, found, enforce_file_format=True)
    return target.getvalue()


def instance(number: int = 1, series: str = "1", study: str = "1", sender: str = "CT1", **attributes: Any) -> bytes:
    return as_file(data_set(number, series, study, **attributes), sender)


class Archive:
    """A book on a clock that the test turns (microseconds)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 1_000_000
        self.book = Book(folder, lambda: self.now)
        self.book.open()

    def keep(self, *bodies: bytes | Path) -> list[Outcome]:
        return self.book.keep([Arrival(body) if isinstance(body, bytes) else Arrival(body.read_bytes()) for body in bodies])

    def close(self) -> None:
        self.book.close()


def context(reactor: Any, folder: Path, name: str = "images", audited: list[Any] | None = None) -> Context:
    return replace(mllp_context(reactor, audited=audited), name=name, site=folder, data=folder)
