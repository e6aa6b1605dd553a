"""One instance, from file to file: its header is de-identified, and its pixel data are copied as bytes.

    preamble zeros | file meta, made anew | header, cleaned and checked | group 7FE0, byte for byte

Nothing behind group 7FE0 leaves. Memory holds the header only, up to 64 MB; a deflated data set is inflated into a temporary file first.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from engine.deidentify.dicom.attributes import Cleaner, patient_issuer
from engine.deidentify.dicom.elements import PIXELS, Bounded, Deflating, Encoding, Write, copy_pixels, encoding_of, inflate, read_meta
from engine.deidentify.dicom.identity import gather, verify
from engine.deidentify.dicom.pictures import refuse_pictures
from engine.deidentify.policy import DEVICE, UIDS, Person, Policy
from engine.errors import Quarantined

MOST_HEADER: Final = 64 << 20
_IMPLEMENTATION: Final = "2.25.268012541839221306203146721926713904511"
_ADDRESSES: Final = ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle")


@dataclass(frozen=True, slots=True)
class Instance:
    """What an instance is called now."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    pseudonym: str


def deidentify(file: BinaryIO, write: Write, policy: Policy, folder: Path | None = None) -> Instance:
    """Read a PS3.10 file, write what may leave. `folder` is for the temporary file of a deflated data set.

    Raises Quarantined; what was written until then is to be thrown away.
    """
    with _quiet():
        try:
            return _deidentified(file, write, policy, folder)
        except Quarantined:
            raise
        except Exception as error:  # noqa: BLE001  # pydicom meets anything in a damaged file, and its messages quote what it met
            raise Quarantined(f"the data set cannot be read: {type(error).__name__}") from None


def _deidentified(file: BinaryIO, write: Write, policy: Policy, folder: Path | None) -> Instance:
    meta = _meta(read_meta(file))
    syntax = str(meta.get("TransferSyntaxUID", ""))
    if not syntax:
        raise Quarantined("the file meta information names no transfer syntax", location="TransferSyntaxUID")
    encoding = encoding_of(syntax)
    with _plain(file, encoding, folder) as plain:
        dataset = _header(plain, encoding)
        person, header = _cleaned(dataset, meta, policy, encoding)
        _write_meta(write, meta, dataset, policy)
        deflating = Deflating(write) if encoding.deflated else None
        body = deflating.write if deflating else write
        body(header)
        copy_pixels(plain, body, encoding)
        if deflating:
            deflating.finish()
    return Instance(str(dataset.get("SOPClassUID", "")), str(dataset.get("SOPInstanceUID", "")), syntax, person.pseudonym)


def _meta(raw: bytes) -> Any:
    from pydicom.filereader import read_dataset

    return read_dataset(BytesIO(raw), False, True)


@contextmanager
def _plain(file: BinaryIO, encoding: Encoding, folder: Path | None) -> Iterator[BinaryIO]:
    """The file at its data set, inflated where it is deflated."""
    if not encoding.deflated:
        yield file
        return
    with tempfile.TemporaryFile(dir=folder) as inflated:
        inflate(file, inflated.write)
        inflated.seek(0)
        yield cast("BinaryIO", inflated)


def _header(file: BinaryIO, encoding: Encoding) -> Any:
    from pydicom.filereader import read_dataset

    def at_pixels(tag: Any, vr: str | None, length: int) -> bool:
        return int(tag) >> 16 >= PIXELS

    return read_dataset(cast("Any", Bounded(file, MOST_HEADER)), encoding.implicit, encoding.little, stop_when=at_pixels)


def _cleaned(dataset: Any, meta: Any, policy: Policy, encoding: Encoding) -> tuple[Person, bytes]:
    refuse_pictures(dataset, str(meta.get("MediaStorageSOPClassUID", "")), policy)
    person = policy.person(patient_issuer(dataset, policy), str(dataset.get("PatientID", "") or ""))
    traces, codecs = gather(dataset)
    Cleaner(policy, person, traces).clean(dataset)
    header = _encoded(dataset, encoding)
    verify(header, encoding, traces, codecs, person.dates)
    return person, header


def _encoded(dataset: Any, encoding: Encoding) -> bytes:
    from pydicom.charset import default_encoding
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = encoding.implicit, encoding.little
    write_dataset(buffer, dataset, default_encoding)
    return bytes(buffer.getvalue())


def _write_meta(write: Write, meta: Any, dataset: Any, policy: Policy) -> None:
    """Made anew (PS3.10 §7.1): the preamble, the private information and who sent it are not to leave."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import UID

    made = FileMetaDataset()
    made.MediaStorageSOPClassUID = UID(str(meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID", "")))
    made.MediaStorageSOPInstanceUID = UID(_instance_uid(meta, dataset, policy))
    for keyword in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID"):
        if not made[keyword].value:
            raise Quarantined("the instance has no such UID", location=keyword)
    made.TransferSyntaxUID = meta.TransferSyntaxUID
    made.ImplementationClassUID = UID(_IMPLEMENTATION)
    for keyword in _ADDRESSES if policy.retains(DEVICE) else ():
        if keyword in meta:
            made[keyword] = meta[keyword]
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, made, enforce_standard=True)
    write(bytes(128) + b"DICM" + bytes(buffer.getvalue()))


def _instance_uid(meta: Any, dataset: Any, policy: Policy) -> str:
    """The data set's own, which is replaced already; where it has none, that of the file meta information."""
    old = str(meta.get("MediaStorageSOPInstanceUID", "") or "")
    return str(dataset.get("SOPInstanceUID", "") or "") or (policy.pseudonyms.uid(old) if old and not policy.retains(UIDS) else old)


@contextmanager
def _quiet() -> Iterator[None]:
    """pydicom's warnings quote values."""
    from pydicom.config import disable_value_validation

    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield
