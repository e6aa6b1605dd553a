"""What a verdict means as a DIMSE status (PS3.7 annex C, PS3.4 annex B.2.3). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from adapters.dicom.upper import dimse
from adapters.dicom.upper.dimse import Field, Status
from engine.errors import LocalProtocolError
from engine.message import Verdict

if TYPE_CHECKING:
    from engine.message import Ack, Judgement

_STORE: Final = {
    Verdict.ACCEPTED: Status.SUCCESS,
    Verdict.REFUSED: Status.NOT_AUTHORIZED,
    Verdict.INVALID: Status.CANNOT_UNDERSTAND,
    Verdict.UNAVAILABLE: Status.OUT_OF_RESOURCES,
}
_OTHERS: Final = {**_STORE, Verdict.INVALID: Status.PROCESSING_FAILURE, Verdict.UNAVAILABLE: Status.RESOURCE_LIMITATION}
_REUSED_KEY: Final = "205"  # HL7 table 0357: duplicate key identifier


def status_of(field: int, judgement: Judgement) -> Status:
    """The status of a response to a request of that kind."""
    if judgement.verdict is Verdict.INVALID and judgement.hl7_code == _REUSED_KEY:
        return Status.DUPLICATE_SOP_INSTANCE
    return (_STORE if field == Field.C_STORE else _OTHERS)[judgement.verdict]


def answer_of(field: int, judgement: Judgement, invalid: Status | None = None) -> bytes:
    """The answer that is stored with the message, and given as `Ack.answer`. `invalid`: the status where the source itself has found the
    fault."""
    status = invalid if invalid is not None and judgement.verdict is Verdict.INVALID else status_of(field, judgement)
    return dimse.answer(status, judgement.reason if judgement.verdict is not Verdict.ACCEPTED else "")


def read_ack(field: int, ack: Ack) -> tuple[int, str, bytes, dict[str, Any]]:
    """Status, error comment, data set and further elements for `Request.respond`. A destination's answer is taken as it is; one that is no
    DIMSE answer is worded from the verdict."""
    try:
        elements, data = dimse.read_answer(ack.answer)
    except LocalProtocolError:
        elements, data = dimse.read_answer(answer_of(field, ack.judgement))
    status = int(elements.pop("Status", 0))
    return status, str(elements.pop("ErrorComment", "")), data, elements
