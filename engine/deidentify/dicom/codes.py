"""How a data set says that it is de-identified (PS3.15 §E.1.1, PS3.3 C.12.1, PS3.16 CID 7050)."""

from __future__ import annotations

from typing import Any, Final

from engine.deidentify import policy as p

_BASIC: Final = "113100", "Basic Application Confidentiality Profile"
_CODES: Final = {
    p.GRAPHICS: ("113103", "Clean Graphics Option"),
    p.STRUCTURE: ("113104", "Clean Structured Content Option"),
    p.DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    "keep": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "shift": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    p.CHARACTERISTICS: ("113108", "Retain Patient Characteristics Option"),
    p.DEVICE: ("113109", "Retain Device Identity Option"),
    p.UIDS: ("113110", "Retain UIDs Option"),
    "private": ("113111", "Retain Safe Private Option"),
    p.INSTITUTION: ("113112", "Retain Institution Identity Option"),
}
_TEMPORAL: Final = {"keep": "UNMODIFIED", "shift": "MODIFIED", "remove": "REMOVED"}
WRITTEN: Final = frozenset((0x00120062, 0x00120063, 0x00120064, 0x00280303))


def declare(dataset: Any, policy: p.Policy, dates: str) -> None:
    """Write (0012,0062), (0012,0063), (0012,0064) and (0028,0303)."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    wanted = {*policy.options, dates, *(["private"] if policy.private else [])}
    codes = [_BASIC, *(code for name, code in _CODES.items() if name in wanted)]
    items = []
    for value, meaning in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [f"DCM {value}" for value, _ in codes]
    dataset.DeidentificationMethodCodeSequence = Sequence(items)
    dataset.LongitudinalTemporalInformationModified = _TEMPORAL[dates]
