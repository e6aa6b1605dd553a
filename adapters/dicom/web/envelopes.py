"""An instance that was stored as an envelope: pure, no socket."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import Final

from pydicom.uid import UID

from adapters.dicom.archive.elements import Limits
from adapters.dicom.archive.header import Header, read_header
from engine.errors import ParseError
from engine.message import DICOM, BodyRef, Envelope, Judgement, Verdict

_UNREAD: Final = Header("", "", "", {}, 0)
_LIMITS: Final = Limits(stop=0x0020000F)
"""What an envelope says stands before (0020,000F)."""
_UID: Final = re.compile(r"[0-9.]{1,64}")
_FACTS: Final = {"modality": "00080060", "study_uid": "0020000D", "series_uid": "0020000E", "accession_number": "00080050"}


@dataclass(frozen=True, slots=True)
class Arrived:
    """What is known of an instance without its body; `fault` says what keeps it from being taken."""

    header: Header = _UNREAD
    digest: bytes = b""
    fault: Judgement | None = None

    @property
    def study(self) -> str:
        """Study Instance UID, "" where none can be read that is one."""
        return _uid(self.header.text("0020000D"))

    @property
    def series(self) -> str:
        """Series Instance UID, likewise."""
        return _uid(self.header.text("0020000E"))


def arrived(first: bytes, digest: bytes) -> Arrived:
    """`first` are the first bytes of a file, `digest` is that of its data set."""
    try:
        header = read_header(io.BytesIO(first), _LIMITS)
    except ParseError as error:
        return Arrived(digest=digest, fault=unreadable(error))
    if not _uid(header.sop_uid):
        return Arrived(digest=digest, fault=Judgement(Verdict.INVALID, "this is no SOP Instance UID (PS3.5 9.1)", "101", "(0008,0018)"))
    return Arrived(header, digest)


def unreadable(error: ParseError) -> Judgement:
    """The judgement on what is no instance."""
    return Judgement(Verdict.INVALID, error.text, error.hl7_code, error.location)


def of_study(instance: Arrived, study: str) -> Arrived:
    """With a fault where a request for one study brings an instance of another (PS3.18 10.5.2)."""
    if not study or instance.fault is not None or instance.study == study:
        return instance
    return replace(instance, fault=Judgement(Verdict.REFUSED, "the instance is of another study than the request", "204", "(0020,000D)"))


def envelope(body: bytes | BodyRef, instance: Arrived, *, peer: str, remote: str, received_at: int) -> Envelope:
    """The same instance is the same message whoever sends it: its key is its UID, what is compared is its data set."""
    header = instance.header
    facts = {name: header.text(tag) for name, tag in _FACTS.items()}
    facts |= {"sop_class": header.sop_class, "transfer_syntax": header.transfer_syntax}
    patient = header.text("00100020")
    return Envelope(
        body=body,
        content_type=DICOM,
        message_type=UID(header.sop_class).keyword or header.sop_class,
        control_id=header.sop_uid,
        sender="",
        peer=peer,
        remote=remote,
        received_at=received_at,
        patient_ids=(patient,) if patient else (),
        idempotency_key=header.sop_uid,
        content_digest=instance.digest,
        facts={name: value for name, value in facts.items() if value},
    )


def _uid(text: str) -> str:
    return text if _UID.fullmatch(text) else ""
