"""Modality performed procedure steps: what may be created and set, and what follows (PS3.4 annex F.7.2, table F.7.2-1). Pure.

A step is created IN PROGRESS and set until it is COMPLETED or DISCONTINUED; then it is final. Its content is tag in hex -> values as text
or items, so that each message may come in a character set of its own (F.7.2.2.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from adapters.dicom.worklist.steps import COMPLETED, DISCONTINUED, IN_PROGRESS

SOP_CLASS: Final = "1.2.840.10008.3.1.2.3.3"
SUCCESS: Final = 0x0000
NO_SUCH_ATTRIBUTE: Final = 0x0105
INVALID_VALUE: Final = 0x0106
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_INSTANCE: Final = 0x0111
NO_SUCH_INSTANCE: Final = 0x0112
MISSING_ATTRIBUTE: Final = 0x0120
MISSING_VALUE: Final = 0x0121
NO_LONGER: Final = "Performed Procedure Step Object may no longer be updated"
NO_LONGER_ID: Final = 0xA710

Content: TypeAlias = dict[str, Any]

_CHARSET: Final = "00080005"
_STATUS: Final = "00400252"
_SCHEDULED: Final = "00400270"
_SERIES: Final = "00400340"
_END: Final = ("00400250", "00400251")
_START: Final = ("00400244", "00400245")
_REASON: Final = "00400281"
_FIRM: Final = ("00400253", "00400241", *_START, _STATUS, "00080060", _SCHEDULED)
"""Type 1 in an N-CREATE. What is of type 2 modalities leave out now and then; nothing here needs it, so it is not missed."""
_FIXED: Final = frozenset(
    (_SCHEDULED, "00100010", "00100020", "00100021", "00100030", "00100040", "00081120", "00400253", "00400241", "00400242", "00400243",
     *_START, "00080060", "00200010")
)  # fmt: skip
"""What no N-SET may change."""
_WRONG_ENTRY: Final = "110514"
"""DCM, Incorrect worklist entry selected (PS3.16 CID 9300): what was scheduled is still to be done (IHE RAD TF-2, RAD-7)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the modality hears: `status`, which `attributes` (tags in hex) are at fault, a `comment`, an `error_id`; and the step's
    `content` as it now is, None where nothing changed."""

    status: int
    attributes: tuple[str, ...] = ()
    comment: str = ""
    error_id: int = 0
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """An item of the Scheduled Step Attributes Sequence: which step was done."""

    study: str
    accession: str
    requested_id: str
    step_id: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One row of what the modality says it has made; a series that has nothing in it has no `sop`."""

    study: str
    series: str
    sop: str = ""
    sop_class: str = ""


def create(given: Content, existing: Content | None) -> Outcome:
    """N-CREATE (F.7.2.1)."""
    if existing is not None:
        return Outcome(DUPLICATE_INSTANCE, comment="there is a step with this SOP Instance UID")
    missing = tuple(tag for tag in _FIRM if tag not in given)
    if missing:
        return Outcome(MISSING_ATTRIBUTE, missing)
    empty = tuple(tag for tag in _FIRM if not _values(given, tag))
    if empty or not all(link.study for link in links(given)):
        return Outcome(MISSING_VALUE, empty or (_SCHEDULED,))
    if text(given, _STATUS) != IN_PROGRESS:
        return Outcome(INVALID_VALUE, (_STATUS,), "a step is created IN PROGRESS")
    return Outcome(SUCCESS, content={tag: one for tag, one in given.items() if tag != _CHARSET})


def change(given: Content, existing: Content | None) -> Outcome:
    """N-SET (F.7.2.2)."""
    if existing is None:
        return Outcome(NO_SUCH_INSTANCE, comment="there is no step with this SOP Instance UID")
    if text(existing, _STATUS) != IN_PROGRESS:
        return Outcome(PROCESSING_FAILURE, comment=NO_LONGER, error_id=NO_LONGER_ID)
    fixed = tuple(tag for tag in sorted(_FIXED & set(given)) if not _same(given[tag], existing.get(tag)))
    if fixed:
        return Outcome(NO_SUCH_ATTRIBUTE, fixed, "this attribute cannot be set")
    status = text(given, _STATUS) if _STATUS in given else IN_PROGRESS
    if status not in (IN_PROGRESS, COMPLETED, DISCONTINUED):
        return Outcome(INVALID_VALUE, (_STATUS,), "IN PROGRESS, COMPLETED or DISCONTINUED")
    content = existing | {tag: one for tag, one in given.items() if tag != _CHARSET and tag not in _FIXED}
    missing = tuple(_missing_at_end(content, status)) if status != IN_PROGRESS else ()
    if missing:
        return Outcome(MISSING_VALUE, missing, f"needed of a step that is {status}")
    return Outcome(SUCCESS, content=content)


def status_of(content: Content) -> str:
    return text(content, _STATUS)


def wrong_entry(content: Content) -> bool:
    """Whether it was discontinued because the wrong entry of the worklist had been selected."""
    return status_of(content) == DISCONTINUED and any(text(one, "00080100") == _WRONG_ENTRY for one in items(content, _REASON))


def links(content: Content) -> list[Link]:
    return [Link(*(text(one, tag) for tag in ("0020000D", "00080050", "00401001", "00400009"))) for one in items(content, _SCHEDULED)]


def instances(content: Content) -> list[Instance]:
    """Of each study of the step (a series is of all of them: they share the images), series and instances."""
    studies = list(dict.fromkeys(link.study for link in links(content)))
    return [one for study in studies for series in items(content, _SERIES) for one in _of_series(study, series)]


def moments(content: Content) -> tuple[str, str]:
    """Begin and end, YYYYMMDDHHMMSS; "" where there is none yet."""
    return _moment(content, _START), _moment(content, _END)


def station(content: Content) -> str:
    """Performed Station AE Title"""
    return text(content, "00400241")


def text(content: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute as text, "" where there is none."""
    values = _values(content, tag)
    return str(values[0]).strip() if values and not isinstance(values[0], dict) else ""


def items(content: Mapping[str, Any], tag: str) -> list[Content]:
    """The items of a sequence."""
    return [one for one in _values(content, tag) if isinstance(one, dict)]


def _missing_at_end(content: Content, status: str) -> Iterator[str]:
    """The requirements of the final state. A step that was broken off before anything was made has no series."""
    yield from (tag for tag in _END if not text(content, tag))
    series = items(content, _SERIES)
    if status == COMPLETED and not series:
        yield _SERIES
    if not all(text(one, "0020000E") for one in series):
        yield "0020000E"


def _of_series(study: str, series: Content) -> Iterator[Instance]:
    uid = text(series, "0020000E")
    if not uid:
        return
    yield Instance(study, uid)
    for sequence in ("00081140", "00400220"):  # Referenced Image, Referenced Non-Image Composite SOP Instance Sequence
        for one in items(series, sequence):
            if sop := text(one, "00081155"):
                yield Instance(study, uid, sop, text(one, "00081150"))


def _values(content: Mapping[str, Any], tag: str) -> list[Any]:
    return [one for one in content.get(tag, ()) if one != ""]


def _same(given: Any, existing: Any) -> bool:
    """Whether an N-SET repeats what is there; many modalities send everything again."""
    return list(given) == list(existing or ())


def _moment(content: Content, tags: tuple[str, str]) -> str:
    date, time = (text(content, tag).replace(":", "").replace(".", "") for tag in tags)
    return f"{date}{time[:6]:0<6}" if date else ""
