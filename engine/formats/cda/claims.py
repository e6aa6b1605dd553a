"""The document against its envelope: whether it is the one, and about the patient, that the envelope says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from engine.formats.cda.elements import NO_CODE, NO_ID, Code, Id, is_no_number
from engine.formats.cda.header import ClinicalDocument


@dataclass(frozen=True, slots=True)
class Claimed:
    """What an envelope (XDS metadata, a HIP message) says of the document it carries; empty = says nothing. An Id without a root is
    compared by its extension. `time` is an HL7 time (TS); give UTC as +0000."""

    id: Id = NO_ID
    type: Code = NO_CODE
    title: str = ""
    time: str = ""
    patient_ids: tuple[Id, ...] = ()


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """`field` is id, patient, type, title, time; or patient-unproven: the two name the patient in no common domain. No values."""

    field: str

    @property
    def grave(self) -> bool:
        """Whether the document is another one, or another patient's, than its envelope says."""
        return self.field in ("id", "patient")


def cross_check(document: ClinicalDocument, claimed: Claimed) -> list[Discrepancy]:
    """Where the document contradicts its envelope."""
    differs = {
        "id": bool(claimed.id and document.id) and not _same_id(claimed.id, document.id),
        "type": not _same_code(claimed.type, document.code),
        "title": bool(claimed.title and document.title) and "".join(claimed.title.split()) != "".join(document.title.split()),
        "time": bool(claimed.time and document.effective_time) and not _same_time(claimed.time, document.effective_time),
    }
    found = [Discrepancy(name) for name, wrong in differs.items() if wrong]
    patient = _patient(claimed.patient_ids, document.patient_ids)
    return [*found, Discrepancy(patient)] if patient else found


def _key(one: Id) -> tuple[str, str]:
    return one.root.lower(), one.extension.strip().lower()


def _same_id(claimed: Id, own: Id) -> bool:
    """An OID or UUID alone may be told as root or as extension."""
    if _key(claimed) == _key(own):
        return True
    if claimed.root and claimed.extension:
        return False
    alone = (claimed.extension or claimed.root).strip().lower().removeprefix("urn:uuid:").removeprefix("urn:oid:")
    return alone in (own.extension.lower(), own.root.lower() if not own.extension else "")


def _same_code(claimed: Code, own: Code) -> bool:
    if not claimed.code or not own.code:
        return True
    return claimed.code == own.code and (not claimed.system or not own.system or claimed.system == own.system)


def _patient(claimed: tuple[Id, ...], own: tuple[Id, ...]) -> str:
    """In every domain that both name, one number must be common to both."""
    claimed, own = (tuple(one for one in ids if not is_no_number(one.extension)) for ids in (claimed, own))
    if not claimed:
        return ""
    proven = False
    for root in {one.root.lower() for one in claimed}:
        said = {one.extension.strip().lower() for one in claimed if one.root.lower() == root}
        there = {one.extension.strip().lower() for one in own if not root or one.root.lower() == root}
        if there and not said & there:
            return "patient"
        proven = proven or bool(said & there)
    return "" if proven else "patient-unproven"


_TIME: Final = re.compile(r"(\d{4,14})(?:\.\d+)?([+-]\d{4})?")
_ZONES: Final = 14 * 60
"""How far, in minutes, the time of a place may be from UTC."""


def _same_time(claimed: str, own: str) -> bool:
    """To the precision of the coarser one, minutes at most. Where only one of them has an offset from UTC, they may be 14 hours apart."""
    one, other = _TIME.fullmatch(claimed.strip()), _TIME.fullmatch(own.strip())
    if one is None or other is None:
        return claimed.strip() == own.strip()
    length = min(len(one[1]), len(other[1]), 12)
    if length < 8 or (length == 8 and one[2] == other[2]) or not (one[2] or other[2]):
        return one[1][:length] == other[1][:length]
    minutes = _minutes(one, length), _minutes(other, length)
    if None in minutes:
        return False
    apart = abs((minutes[0] or 0) - (minutes[1] or 0))
    return apart == 0 if one[2] and other[2] and length > 8 else apart <= _ZONES + (24 * 60 if length == 8 else 0)


def _minutes(match: re.Match[str], length: int) -> int | None:
    """Minutes since the year 1, UTC where there is an offset; None for a day or hour that does not exist."""
    digits, offset = match[1][:length].ljust(12, "0"), match[2] or "+0000"
    try:
        at = datetime.strptime(digits, "%Y%m%d%H%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    zone = int(offset[1:3]) * 60 + int(offset[3:5])
    return at.toordinal() * 24 * 60 + at.hour * 60 + at.minute - (-zone if offset[0] == "-" else zone)
