"""What the source makes of a PS3.10 file, without an association: for a channel's tests."""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from adapters.dicom.instances import HEAD, envelope, read_file_facts
from adapters.dicom.recorded import MPPS
from adapters.dicom.upper.negotiation import EXPLICIT_BE
from engine.message import DICOM, Envelope, Judgement, Verdict

_UNREADABLE: Final = Judgement(Verdict.INVALID, "this is no DICOM file", "100")
_SCHEDULED: Final = 0x00400270
"""Scheduled Step Attributes Sequence: an N-CREATE has it, an N-SET never."""


def rehearse(body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
    """An instance as by C-STORE; the data set of a performed procedure step as by N-CREATE or N-SET."""
    facts = read_file_facts(body[: 2 * HEAD])
    digest = hashlib.sha256(body[facts.meta_length :]).digest()
    if facts.sop_class != MPPS:
        made = envelope(body, facts, received_at=0, content_digest=digest, calling=facts.source, called="", peer=peer, remote="")
        return made, None if facts.meta_length else _UNREADABLE
    tag = struct.pack(">HH" if facts.transfer_syntax == EXPLICIT_BE else "<HH", _SCHEDULED >> 16, _SCHEDULED & 0xFFFF)
    kind = "MPPS^CREATE" if tag in body[facts.meta_length :] else "MPPS^SET"
    patients = (facts.patient_id,) if facts.patient_id else ()
    told = {"ae_title": facts.source, "sop_class": facts.sop_class, "transfer_syntax": facts.transfer_syntax, "modality": facts.modality}
    said = {name: text for name, text in told.items() if text}
    return Envelope(body, DICOM, kind, facts.sop_instance, facts.source, peer, "", 0, patients, "", digest, said), None
