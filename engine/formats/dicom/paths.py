"""Paths into data sets: ``Modality``, ``(0010,0020)``, ``RequestAttributesSequence[1].ScheduledProcedureStepID``, ``ImageType[3]``.

Items and values are counted from 1; of a sequence without a number the first item is meant, of a value all of them. In a list of data
sets (DICOM JSON) ``[2].Modality`` is that of the second.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from typing import Final, NamedTuple

from pydicom.datadict import keyword_dict

from engine.formats.dicom.dictionary import tag_of

_STEP: Final = re.compile(r"(?:([A-Za-z][A-Za-z0-9]*)|\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?)(?:\[(\d{1,5})\])?")
_LIST: Final = re.compile(r"\[(\d{1,6})\]\.")


class Step(NamedTuple):
    """A tag, and which value or item; 0 where the path does not say."""

    tag: int
    number: int


class Path(NamedTuple):
    """A parsed path; `instance` is which data set of a list."""

    instance: int
    steps: tuple[Step, ...]


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """Raises ValueError for what can never be a path."""
    first = _LIST.match(text)
    rest = text[first.end() :] if first else text
    found = []
    for word in rest.split("."):
        match = _STEP.fullmatch(word)
        if match is None or match[4] == "0" or (first and first[1] == "0"):
            raise ValueError(f"{text!r} is not a path such as Modality, (0010,0020) or RequestAttributesSequence[1].RequestedProcedureID")
        found.append(Step(_tag(match), int(match[4] or 0)))
    return Path(int(first[1]) if first else 1, tuple(found))


def _tag(match: re.Match[str]) -> int:
    if not match[1]:
        return int(match[2] + match[3], 16)
    tag = tag_of(match[1])
    if tag is None and re.fullmatch(r"[0-9A-Fa-f]{8}", match[1]):
        return int(match[1], 16)
    if tag is None:
        nearest = get_close_matches(match[1], keyword_dict, 1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{match[1]!r} is no keyword of DICOM's data dictionary{hint}")
    return tag
