"""Storage Commitment Push Model (PS3.4 annex J): what an N-ACTION asks and an N-EVENT-REPORT says, as data sets. Pure.

Action Information: Transaction UID (0008,1195), Referenced SOP Sequence (0008,1199). Event Information: the same, and Failed SOP Sequence
(0008,1198) with a Failure Reason (0008,1197) for each (J.3.3).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.dataset import Dataset

from adapters.dicom.forward.data_sets import decoded, encoded
from adapters.dicom.upper.negotiation import EXPLICIT_LE, IMPLICIT_LE
from engine.errors import ParseError

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
REQUEST_COMMITMENT: Final = 1
"""Action Type ID (J.3.2)."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event Type IDs (J.3.3)."""
SYNTAXES: Final = (EXPLICIT_LE, IMPLICIT_LE)

PROCESSING_FAILURE, NO_SUCH_INSTANCE, RESOURCE_LIMITATION = 0x0110, 0x0112, 0x0213
CLASS_NOT_SUPPORTED, CONFLICT, DUPLICATE_TRANSACTION = 0x0122, 0x0119, 0x0131
"""Failure reasons (PS3.3 C.14.1.1)."""
MOST_INSTANCES: Final = 50_000

Reference = tuple[str, str]
"""SOP class UID, SOP instance UID."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Of a request: `instances` are asked for. Of a report: they are committed, and `failed` are not."""

    transaction_uid: str
    instances: Sequence[Reference]
    failed: Sequence[tuple[Reference, int]] = field(default=())


def encode(notice: Notice, transfer_syntax: str) -> bytes:
    data_set = Dataset()
    data_set.TransactionUID = notice.transaction_uid
    if notice.instances or not notice.failed:
        data_set.ReferencedSOPSequence = [_item(one) for one in notice.instances]
    if notice.failed:
        data_set.FailedSOPSequence = [_item(one, reason) for one, reason in notice.failed]
    return encoded(data_set, transfer_syntax)


def _item(reference: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference
    if reason is not None:
        item.FailureReason = reason
    return item


def decode(content: bytes, transfer_syntax: str) -> Notice:
    """Raises ParseError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data_set = decoded(content, transfer_syntax)
            transaction = str(data_set.get("TransactionUID") or "")
            committed = [_reference(item) for item in data_set.get("ReferencedSOPSequence") or ()]
            failed = [
                (_reference(item), int(item.get("FailureReason") or PROCESSING_FAILURE)) for item in data_set.get("FailedSOPSequence") or ()
            ]
    except Exception:  # noqa: BLE001  pydicom raises whatever its parts raise
        raise ParseError("the data set cannot be read") from None
    if not transaction or len(committed) + len(failed) > MOST_INSTANCES or not all(uid for _, uid in committed):
        raise ParseError("no Transaction UID, an item without its UID, or too many items", location="(0008,1195)")
    return Notice(transaction, committed, failed)


def _reference(item: Dataset) -> Reference:
    return str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or "")
