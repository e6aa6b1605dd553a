"""Strict validation with hl7apy, where a channel asks for it: about 170 messages/s, so never on the hot path.

hl7apy's own faults are mended here, so that it refuses no message that the standard allows: it takes every member of a choice for
required (ORM_O01), cannot count a segment that a structure names twice (the PIDs of ADT_A24), knows a structure by its own event
only, and takes the truncation character from version 2.7 on. What it passes in
silence is checked here: a segment that has no place, and the data type of OBX-5. Its texts quote values: none of them is passed on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from engine.errors import ValidationError
from engine.formats.hl7v2.message import NULL, Message, Segment, decode

# HL7 table 0354: the events whose message structure has another event's name.
_STRUCTURES: Final = {
    "ADT_A01": "A04 A08 A13",
    "ADT_A05": "A14 A28 A31",
    "ADT_A06": "A07",
    "ADT_A09": "A10 A11",
    "ADT_A21": "A22 A23 A25 A26 A27 A29 A32 A33",
    "ADT_A30": "A34 A35 A36 A46 A47 A48 A49",
    "ADT_A39": "A40 A41 A42",
    "ADT_A43": "A44",
    "ADT_A50": "A51",
    "ADT_A52": "A53",
    "ADT_A54": "A55",
    "ADT_A61": "A62",
    "MDM_T01": "T03 T05 T07 T09 T11",
    "MDM_T02": "T04 T06 T08 T10",
    "REF_I12": "I13 I14 I15",
    "SIU_S12": "S13 S14 S15 S16 S17 S18 S19 S20 S21 S22 S23 S24 S26",
}
_STRUCTURE_OF: Final = {f"{name[:3]}_{event}": name for name, events in _STRUCTURES.items() for event in events.split()}
_KINDS: Final = {
    "UnsupportedVersion": ("this version of HL7 v2 is not known", "203"),
    "InvalidName": ("an element has no place here", "100"),
    "ChildNotFound": ("an element has no place in its parent", "100"),
    "ChildNotValid": ("an element has no place in its parent", "100"),
    "OperationNotAllowed": ("the message structure is not known in this version", "200"),
    "MaxChildLimitReached": ("an element occurs more often than allowed", "100"),
    "MaxLengthReached": ("a value is longer than allowed", "102"),
    "ValueError": ("a value is not of its data type", "102"),
    "InvalidEncodingChars": ("the delimiters are not those of the standard", "102"),
}
_DATE: Final = r"\d{4}(?:\d\d(?:\d\d)?)?"
_TIME: Final = r"\d\d(?:\d\d(?:\d\d(?:\.\d{1,4})?)?)?"
_ZONE: Final = r"(?:[+-]\d{4})?"
_RESULTS: Final = {
    "NM": re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)", re.ASCII),
    "DT": re.compile(_DATE, re.ASCII),
    "TM": re.compile(_TIME + _ZONE, re.ASCII),
    **dict.fromkeys(("TS", "DTM"), re.compile(rf"{_DATE}(?:(?<=\d{{8}}){_TIME})?{_ZONE}", re.ASCII)),
}
# Only names out of the standard's tables are taken from hl7apy's texts; the rest may be payload.
_ELEMENTS: Final = (
    re.compile(r"Missing required child (?:\w+\.)?(?P<child>\w+)$"),
    re.compile(r"Cannot add <(?P<kind>\w+) (?P<child>\w+).*max limit \(\d+\) reached for <\w+ (?P<parent>\w+)", re.DOTALL),
    re.compile(r"(?:Child limit exceeded|Datatype \w+ is not correct for) (?:\w+\.)?(?P<child>\w+)"),
    re.compile(r"Invalid name for \w+: (?P<child>\w+_\d+)$"),
)


def validate(body: bytes, *, level: str = "strict", charset: str | None = None) -> None:
    """Check structure, cardinality, required fields and data types against the standard's own version of the message.

    `level` is ``strict`` or ``tolerant`` (unknown elements pass). Raises ParseError where it cannot be read, ValidationError with the
    location and a table 0357 code where it does not conform. Z segments are no fault.
    """
    from hl7apy.consts import VALIDATION_LEVEL
    from hl7apy.exceptions import HL7apyException
    from hl7apy.parser import parse_message

    message = decode(body, charset=charset)
    strictness = VALIDATION_LEVEL.STRICT if level == "strict" else VALIDATION_LEVEL.TOLERANT
    version = message.get("MSH-12.1") or ""
    try:
        structures = _mended(version)
    except HL7apyException as error:
        raise _fault(error, message, version) from None
    text = "\r".join(_prepared(message, structures))
    try:
        parsed = parse_message(text, validation_level=strictness, find_groups=True)
        if level == "strict":
            _check_nothing_dropped(message, parsed)
        parsed.validate()
    except (HL7apyException, ValueError) as error:
        raise _fault(error, message, version) from None
    except (KeyError, IndexError, AttributeError, TypeError):  # hl7apy's own slips on input that it does not foresee
        raise ValidationError("hl7apy cannot work on this message", location=_culprit(message, version), hl7_code="207") from None
    _check_results(message)


@cache
def _mended(version: str) -> frozenset[str]:
    """Make hl7apy's tables of a version as the standard has them; gives the names of its message structures."""
    from hl7apy import load_library

    library = load_library(version)
    for kind, children in library.GROUPS.values():
        for child in children if kind == "choice" else ():
            child[2] = (0, child[2][1])
    for name, (kind, children) in library.MESSAGES.items():
        times = Counter(child[0] for child in children)
        if max(times.values(), default=1) > 1:
            library.MESSAGES[name] = (kind, tuple((*child[:2], _together(child[2], times[child[0]]), *child[3:]) for child in children))
    return frozenset(library.MESSAGES)


def _together(cardinality: tuple[int, int], times: int) -> tuple[int, int]:
    """How often a segment may come in all, that stands `times` times in a structure."""
    least, most = cardinality
    return (least * times, most if most < 0 else most * times)


def _prepared(message: Message, structures: frozenset[str]) -> Iterator[str]:
    """The segments as hl7apy takes them: no Z segments, no truncation character, the event that names the structure."""
    separators = message.separators
    f, c = separators.field, separators.component
    for index, segment in enumerate(message.segments):
        if segment.name.startswith("Z"):
            continue
        fields = list(segment.fields)
        if index == 0:
            fields[2] = fields[2][:4]
            parts = separators.components(fields[9])
            structure = _STRUCTURE_OF.get("_".join(parts), "")
            if structure in structures:  # a version before 2.3.1 has no MSH-9.3, so the event is given that names the structure
                fields[9] = structure.replace("_", c)
            yield f.join([fields[0], *fields[2:]])
        else:
            yield f.join(fields)


def _check_nothing_dropped(message: Message, parsed: Any) -> None:
    """hl7apy leaves out in silence a segment that has no place in the structure."""
    given = Counter(segment.name for segment in message.segments if not segment.name.startswith("Z"))
    given.subtract(_segment_names(parsed))
    for name, left in given.items():
        if left > 0:
            raise ValidationError(f"a segment {name} has no place where it stands", location=name, hl7_code="100")


def _segment_names(element: Any) -> Iterator[str]:
    for child in element.children:
        if child.classname == "Segment":
            yield child.name
        else:
            yield from _segment_names(child)


def _check_results(message: Message) -> None:
    """OBX-5 by the data type in OBX-2, which hl7apy does not look at."""
    separators = message.separators
    for index, segment in enumerate(message.all("OBX"), 1):
        pattern = _RESULTS.get(segment.field(2))
        for value in segment.repetitions(5) if pattern else ():
            first = separators.components(value)[0]
            if pattern and first not in ("", NULL) and not pattern.fullmatch(first):
                text = f"the result is not of the data type in OBX-2 ({segment.field(2)})"
                raise ValidationError(text, location=f"OBX[{index}]-5", hl7_code="102")


def _fault(error: Exception, message: Message, version: str) -> ValidationError:
    kind, said = type(error).__name__, str(error)
    text, code = _KINDS.get(kind, ("the message does not conform", "102"))
    if "Missing required child" in said:
        text, code = "a required element is missing", "101"
    found = next((match for match in (pattern.search(said) for pattern in _ELEMENTS) if match), None)
    if found is None:
        location = _culprit(message, version) if kind in ("ValueError", "MaxLengthReached") else "MSH-9" if code == "200" else ""
        location = "MSH-12" if code == "203" else location
        return ValidationError(f"{text} ({kind})", location=location, hl7_code=code)
    names = found.groupdict()
    # A component without a name is shown by its data type: then its parent says where it is.
    element = names["parent"] if names.get("kind") in ("Component", "SubComponent") else names["child"]
    inside = " in " + names["parent"] if names.get("parent") not in (None, element) else ""
    return ValidationError(f"{text} ({kind}: {element}{inside})", location=_path(element, message, version), hl7_code=code)


def _path(element: str, message: Message, version: str) -> str:
    """``PID_3`` as ``PID-3``; segments and groups keep their names; a part of a data type (``CE_7``) is sought in the message."""
    name, _, number = element.partition("_")
    if not number.isdigit():
        return element
    return f"{name}-{number}" if message.first(name) else _culprit(message, version)


def _culprit(message: Message, version: str) -> str:
    """The first field that hl7apy refuses by itself, as a path; "" where none is to be found."""
    characters = _characters(message)
    seen: Counter[str] = Counter()
    for segment in message.segments:
        seen[segment.name] += 1
        if segment.is_header or segment.name.startswith("Z"):
            continue
        for number in range(1, len(segment.fields)):
            if segment.fields[number] and not _takes(segment, number, version, characters):
                return f"{segment.name}[{seen[segment.name]}]-{number}"
    return ""


def _characters(message: Message) -> dict[str, Any]:
    separators = message.separators
    return {
        "FIELD": separators.field,
        "COMPONENT": separators.component,
        "REPETITION": separators.repetition,
        "ESCAPE": separators.escape,
        "SUBCOMPONENT": separators.subcomponent,
        "SEGMENT": "\r",
        "GROUP": "\r",
    }


def _takes(segment: Segment, number: int, version: str, characters: dict[str, Any]) -> bool:
    """Whether hl7apy takes a segment in which only this field (and the type in OBX-2) has a value."""
    from hl7apy.consts import VALIDATION_LEVEL
    from hl7apy.exceptions import HL7apyException
    from hl7apy.parser import parse_segment

    kept = {number, 2} if segment.name == "OBX" else {number}
    fields = [segment.name, *(segment.fields[at] if at in kept else "" for at in range(1, number + 1))]
    try:
        parse_segment(characters["FIELD"].join(fields), version, characters, VALIDATION_LEVEL.STRICT)
    except (HL7apyException, ValueError, KeyError, IndexError, AttributeError, TypeError):
        return False
    return True
