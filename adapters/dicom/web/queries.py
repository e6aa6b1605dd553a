"""A search transaction (PS3.18 clauses 8.3.4 and 10.6): query parameters as matching keys, results as DICOM JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from adapters.dicom.archive.elements import Elements, number, person_name
from adapters.dicom.archive.levels import AVAILABLE_SYNTAX, CHARACTER_SET, SERIES_UID, SOP_UID, STUDY_UID, Level, known, tag
from adapters.dicom.web.faults import WebRefusal
from adapters.dicom.web.targets import Target

FUZZY: Final = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
MORE: Final = "The number of results exceeded the maximum supported by the server. Additional results can be requested."
"""The words of PS3.18 8.3.4.5 and 8.3.4.4."""

LEVELS: Final = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.IMAGE}
_RETRIEVE_URL: Final = tag("RetrieveURL")
_AVAILABILITY: Final = tag("InstanceAvailability")
_NUMBERS: Final = frozenset({"IS", "DS", "US", "UL", "SS", "SL", "UV", "SV", "FL", "FD"})
_MOST_STEPS: Final = 5

_STUDY: Final = (
    "StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName TimezoneOffsetFromUTC PatientName PatientID "
    "IssuerOfPatientID PatientBirthDate PatientSex StudyInstanceUID StudyID StudyDescription NumberOfStudyRelatedSeries "
    "NumberOfStudyRelatedInstances"
)
_SERIES: Final = (
    "Modality TimezoneOffsetFromUTC SeriesDescription SeriesInstanceUID SeriesNumber NumberOfSeriesRelatedInstances BodyPartExamined "
    "PerformedProcedureStepStartDate PerformedProcedureStepStartTime RequestAttributesSequence"
)
_INSTANCE: Final = "SOPClassUID SOPInstanceUID InstanceNumber Rows Columns BitsAllocated NumberOfFrames TimezoneOffsetFromUTC"
_RETURNED: Final = {
    level: frozenset(map(tag, names.split())) for level, names in ((Level.STUDY, _STUDY), (Level.SERIES, _SERIES), (Level.IMAGE, _INSTANCE))
}
"""What is returned unasked (tables 10.6.3-3 to 10.6.3-5)."""


@dataclass(frozen=True, slots=True)
class Query:
    """`returned` None is everything that is known. `limit` -1: none was asked for."""

    level: Level
    keys: Elements
    returned: frozenset[str] | None
    limit: int
    offset: int
    warnings: tuple[str, ...]


def read_query(target: Target) -> Query:
    """Raises WebRefusal 400."""
    level = LEVELS[target.level]
    keys: Elements = {}
    included: set[str] = set()
    everything = False
    pages = {"limit": -1, "offset": 0}
    warnings: list[str] = []
    unsupported: list[str] = []
    for name, value in target.parameters:
        if name == "accept":
            continue
        if name in pages:
            pages[name] = _count(name, value)
        elif name == "includefield":
            everything = everything or value == "all"
            included |= {_path(one)[0] for one in value.split(",") if one not in ("all", "")}
        elif name == "fuzzymatching":
            warnings += [FUZZY] if value == "true" else []
        elif not _add_key(keys, level, _path(name), value):
            unsupported.append(name)
    if unsupported:
        warnings.append(f"The following query parameters are not supported: {', '.join(sorted(set(unsupported)))[:200]}")
    returned = None if everything else _returned(target, level) | included | frozenset(keys)
    return Query(level, {**keys, **_place(target)}, returned, pages["limit"], pages["offset"], tuple(warnings))


def _count(name: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise WebRefusal(400, f"{name} must be a number")
    return int(text)


def _path(text: str) -> list[str]:
    """Tags of an attribute named by keyword or tag, and of the sequences that it is in. Raises WebRefusal 400."""
    steps = text.split(".")
    if len(steps) > _MOST_STEPS:
        raise WebRefusal(400, "an attribute is too deep in sequences")
    return [_tag(step) for step in steps]


def _tag(text: str) -> str:
    if len(text) == 8 and all(digit in "0123456789abcdefABCDEF" for digit in text):
        return text.upper()
    found = tag_for_keyword(text)
    if found is None:
        raise WebRefusal(400, "a query parameter is neither a keyword nor a tag of an attribute")
    return f"{found:08X}"


def _add_key(keys: Elements, level: Level, path: list[str], value: str) -> bool:
    """Gives whether the attribute can be matched at this level."""
    if path[0] not in known(level) and level is not Level.IMAGE:
        return False
    at = keys
    for step in path[:-1]:
        at = at.setdefault(step, {"vr": "SQ", "Value": [{}]})["Value"][0]
    at[path[-1]] = _key(path[-1], value)
    return True


def _key(name: str, value: str) -> dict[str, Any]:
    """A matching key (8.3.4.1): "" is universal matching."""
    try:
        vr = dictionary_VR(int(name, 16))
    except KeyError:
        vr = "LO"
    vr = vr.split(" or ", maxsplit=1)[0]
    if value == "" or vr == "SQ":
        return {"vr": vr}
    if vr == "UI":
        return {"vr": vr, "Value": value.replace(",", "\\").split("\\")}
    if vr == "PN":
        found = person_name(value)
        return {"vr": vr, "Value": [found]} if found else {"vr": vr}
    return {"vr": vr, "Value": [number(value) if vr in _NUMBERS else value]}


def _place(target: Target) -> Elements:
    """What the path says."""
    uids = {STUDY_UID: target.study, SERIES_UID: target.series, SOP_UID: target.instance}
    return {name: {"vr": "UI", "Value": [uid]} for name, uid in uids.items() if uid}


def _returned(target: Target, level: Level) -> frozenset[str]:
    """The level's own attributes, and those of the levels above it that the path does not name (10.6.3.3)."""
    wanted = _RETURNED[level] | {STUDY_UID}
    if level is not Level.STUDY:
        wanted |= {SERIES_UID} | (frozenset() if target.study else _RETURNED[Level.STUDY])
    if level is Level.IMAGE and not target.series:
        wanted |= _RETURNED[Level.SERIES]
    return wanted


def result(query: Query, found: Elements, base: str) -> Mapping[str, Any]:
    """One match as it is returned; `base` is the address of the service."""
    shown = {name: element for name, element in found.items() if query.returned is None or name in query.returned}
    address = f"{base}/studies/{_first(found, STUDY_UID)}"
    if query.level is not Level.STUDY:
        address += f"/series/{_first(found, SERIES_UID)}"
    if query.level is Level.IMAGE:
        address += f"/instances/{_first(found, SOP_UID)}"
        shown.setdefault(AVAILABLE_SYNTAX, found.get(AVAILABLE_SYNTAX, {"vr": "UI"}))
    shown[CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    shown[_AVAILABILITY] = {"vr": "CS", "Value": ["ONLINE"]}
    shown[_RETRIEVE_URL] = {"vr": "UR", "Value": [address]}
    return dict(sorted(shown.items()))


def _first(found: Elements, name: str) -> str:
    return str((found.get(name, {}).get("Value") or [""])[0])
