"""The identifiers of C-FIND, C-MOVE and C-GET (PS3.4 C.4.1.1.3, C.4.2.1.4): what a request asks for, and how an answer is worded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from adapters.dicom.archive import levels
from adapters.dicom.archive.charset import DEFAULT, UNICODE, character_sets
from adapters.dicom.archive.elements import Elements, Limits, Reader
from adapters.dicom.archive.encoding import encode_elements
from adapters.dicom.archive.header import EXPLICIT, IMPLICIT, text_of
from adapters.dicom.archive.levels import Level
from engine.errors import ParseError, UnsupportedError

EXPLICIT_BE: Final = "1.2.840.10008.1.2.2"
TRANSFER_SYNTAXES: Final = (IMPLICIT, EXPLICIT, EXPLICIT_BE)

PATIENT_ROOT: Final = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
STUDY_ROOT: Final = (Level.STUDY, Level.SERIES, Level.IMAGE)
_LIMITS: Final = Limits(value=256 << 10, text=64 << 10, header=1 << 20, elements=2000, depth=8, stop=1 << 32)
_AVAILABILITY: Final = levels.tag("InstanceAvailability")
_RETRIEVE_AE: Final = levels.tag("RetrieveAETitle")
_OURS: Final = frozenset((_AVAILABILITY, _RETRIEVE_AE, levels.LEVEL, levels.CHARACTER_SET, levels.tag("TimezoneOffsetFromUTC")))


@dataclass(frozen=True, slots=True)
class Question:
    """What a C-FIND asks: `keys` without level and character set. `warned`: some of them are not supported for matching and answering at
    this level, which the answers are to say (FF01H)."""

    level: Level
    keys: Elements
    charset: tuple[str, ...]
    warned: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a C-MOVE or C-GET asks for: lists of unique keys, () for any."""

    level: Level
    patient_id: tuple[str, ...] = ()
    study_uid: tuple[str, ...] = ()
    series_uid: tuple[str, ...] = ()
    sop_uid: tuple[str, ...] = ()


def read(data: bytes, transfer_syntax: str) -> Elements:
    """Raises ParseError."""
    reader = Reader(BytesIO(data), explicit=transfer_syntax != IMPLICIT, little=transfer_syntax != EXPLICIT_BE, limits=_LIMITS)
    return reader.data_set()


def question(data: bytes, transfer_syntax: str, model: tuple[Level, ...]) -> Question:
    """Raises ParseError, and UnsupportedError for an identifier that does not fit the model (A900H)."""
    keys = read(data, transfer_syntax)
    level = _level(keys, model)
    _unique_above(keys, level, model)
    named = keys.get(levels.CHARACTER_SET, {}).get("Value")
    charset = character_sets("\\".join(value or "" for value in named).encode("ascii", "replace")) if named else DEFAULT
    asked = {tag: key for tag, key in keys.items() if tag not in _OURS or tag in (_AVAILABILITY, _RETRIEVE_AE)}
    unsupported = {} if level is Level.IMAGE else {tag for tag in asked if tag not in levels.known(level) and tag not in _OURS}
    wanted = {tag: key for tag, key in asked.items() if tag not in unsupported and tag not in _OURS}
    return Question(level, {**wanted, **_asked_empty(asked)}, charset, bool(unsupported))


def _asked_empty(asked: Elements) -> Elements:
    """What we say of ourselves is not matched."""
    return {tag: {"vr": asked[tag]["vr"]} for tag in (_AVAILABILITY, _RETRIEVE_AE) if tag in asked}


def wanted(data: bytes, transfer_syntax: str, model: tuple[Level, ...]) -> Wanted:
    """Raises ParseError, UnsupportedError."""
    keys = read(data, transfer_syntax)
    level = _level(keys, model)
    _unique_above(keys, level, model)
    asked = {one: _list_of(keys, levels.UNIQUE[one]) for one in levels.above(level) if one in model or one is Level.PATIENT}
    if not asked[level]:
        raise UnsupportedError(f"the unique key of the level {level} is missing", location=levels.UNIQUE[level])
    named = (asked.get(one, ()) for one in levels.LEVELS)
    return Wanted(level, *named)


def _level(keys: Elements, model: tuple[Level, ...]) -> Level:
    name = text_of(keys, levels.LEVEL)
    if name not in model:
        raise UnsupportedError("there is no such Query/Retrieve Level in this information model", location=levels.LEVEL)
    return Level(name)


def _unique_above(keys: Elements, level: Level, model: tuple[Level, ...]) -> None:
    """Of each level above there must be exactly one (C.4.1.2.1, hierarchical)."""
    for one in model[: model.index(level)]:
        values = _list_of(keys, levels.UNIQUE[one])
        if len(values) != 1 or any("*" in value or "?" in value for value in values):
            raise UnsupportedError(f"the unique key of the level {one} must have one value", location=levels.UNIQUE[one])


def _list_of(keys: Elements, tag: str) -> tuple[str, ...]:
    return tuple(str(value) for value in keys.get(tag, {}).get("Value", ()) if value is not None)


# --- answers ---------------------------------------------------------------------------------------


def answer(found: Elements, asked: Question, ae_title: str, transfer_syntax: str) -> bytes:
    """One match as a response's identifier: what was asked for, the unique keys, and where it can be retrieved."""
    ours: Mapping[str, dict[str, Any]] = {
        levels.LEVEL: {"vr": "CS", "Value": [str(asked.level)]},
        _RETRIEVE_AE: {"vr": "AE", "Value": [ae_title]},
        **({_AVAILABILITY: {"vr": "CS", "Value": ["ONLINE"]}} if _AVAILABILITY in asked.keys else {}),
    }
    unique = {levels.UNIQUE[one] for one in levels.above(asked.level)}
    said = {tag: _narrowed(found[tag], asked.keys.get(tag)) for tag in unique | asked.keys.keys() if tag in found}
    empty = {tag: {"vr": key["vr"]} for tag, key in asked.keys.items() if tag not in found}
    return worded({**empty, **said, **ours}, asked.charset, transfer_syntax)


def _narrowed(element: dict[str, Any], key: dict[str, Any] | None) -> dict[str, Any]:
    """Of a sequence's items only what the key's item names (C.2.2.2.6)."""
    if element["vr"] != "SQ" or key is None or not key.get("Value"):
        return element
    names = key["Value"][0]
    items = [{tag: item.get(tag) or {"vr": names[tag]["vr"]} for tag in names} if names else item for item in element.get("Value", ())]
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def worded(elements: Elements, charset: tuple[str, ...], transfer_syntax: str) -> bytes:
    """In the character set of the request; in Unicode where that does not have it."""
    how = {"explicit": transfer_syntax != IMPLICIT, "little": transfer_syntax != EXPLICIT_BE}
    try:
        return encode_elements(elements, charset, **how)
    except UnicodeError:
        return encode_elements(elements, UNICODE, **how)


def failed_list(uids: list[str], transfer_syntax: str) -> bytes:
    """Failed SOP Instance UID List (0008,0058), b"" for none."""
    return worded({levels.tag("FailedSOPInstanceUIDList"): {"vr": "UI", "Value": list(uids)}}, DEFAULT, transfer_syntax) if uids else b""


__all__ = ["ParseError", "Question", "Wanted", "answer", "failed_list", "question", "read", "wanted", "worded"]
