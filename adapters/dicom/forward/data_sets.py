"""Small data sets to bytes and back, in the transfer syntax of a presentation context. Pure."""

from __future__ import annotations

import io
import warnings

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from adapters.dicom.upper.negotiation import EXPLICIT_BE, IMPLICIT_LE


def encoded(data_set: Dataset, transfer_syntax: str) -> bytes:
    target = DicomBytesIO()
    target.is_implicit_VR, target.is_little_endian = transfer_syntax == IMPLICIT_LE, transfer_syntax != EXPLICIT_BE
    write_dataset(target, data_set)
    return target.getvalue()


def decoded(content: bytes, transfer_syntax: str) -> Dataset:
    """Raises whatever pydicom raises, now or when an element is looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_dataset(io.BytesIO(content), transfer_syntax == IMPLICIT_LE, transfer_syntax != EXPLICIT_BE)
