"""De-identification by content type: bytes in, bytes out, or from file to file."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from engine.deidentify import fhir, hl7v2
from engine.deidentify.policy import Policy
from engine.errors import ConfigError, Quarantined
from engine.message import DICOM, FHIR_JSON, HL7V2

CONTENT: Final = (HL7V2, FHIR_JSON, DICOM)
"""What can be de-identified. Anything else does not leave."""


def deidentify(body: bytes, content_type: str, policy: Policy) -> tuple[bytes, str]:
    """The content as it may leave, and its SOP Instance UID where it is a DICOM instance. Raises MessageError kinds."""
    if content_type == HL7V2:
        return hl7v2.deidentify(body, policy), ""
    if content_type == FHIR_JSON:
        return fhir.deidentify(body, policy), ""
    out = BytesIO()
    uid = deidentify_file(BytesIO(body), out.write, content_type, policy)
    return out.getvalue(), uid


def deidentify_file(file: BinaryIO, write: Callable[[bytes], object], content_type: str, policy: Policy, folder: Path | None = None) -> str:
    """A content that is too big for memory: only DICOM instances may be so. Gives the SOP Instance UID. Raises MessageError kinds."""
    if content_type != DICOM:
        raise Quarantined(f"content of the type {content_type or 'unknown'} cannot be de-identified")
    try:
        import pydicom  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("DICOM needs the package 'pydicom': pip install 'meridian[dicom]'") from None
    from engine.deidentify.dicom import instance

    return instance.deidentify(file, write, policy, folder).sop_instance_uid
