"""Names of HL7 v2 (XPN clause 2.A.88, XCN clause 2.A.86) as the component groups of a DICOM PN (PS3.5 clause 6.2.1.2). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from adapters.dicom.worklist.steps import Name

_LONGEST: Final = 64
_FORBIDDEN: Final = re.compile(r"[\\^=\x00-\x1f\x7f]")
_KANA: Final = re.compile(r"[\u3040-\u30ff\uff66-\uff9f]")
_IDEOGRAPHS: Final = re.compile(r"[\u2e80-\u2fdf\u3005-\u3007\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_CODES: Final = {"A": "alphabetic", "I": "ideographic", "P": "phonetic"}
"""XPN-8, XCN-15: name representation code (table 0465)."""

Part = Callable[[int], str]
"""Gives a component as text."""


def person(repetitions: Sequence[Part]) -> Name:
    """PID-5: each repetition is a spelling of the name. The first of each kind counts; what says no kind is taken by its script."""
    return _grouped([(_dicom([part(number) for number in (1, 2, 3, 5, 4)]), part(8)) for part in repetitions])


def provider(repetitions: Sequence[Part]) -> Name:
    """XCN: who ordered, who refers. Without a name the number is better than nothing."""
    return _grouped([(_dicom([part(number) for number in (2, 3, 4, 6, 5)]) or _dicom([part(1)]), part(15)) for part in repetitions])


def script(text: str) -> str:
    """Of which component group a spelling is."""
    if _IDEOGRAPHS.search(text):
        return "ideographic"
    return "phonetic" if _KANA.search(text) else "alphabetic"


def _dicom(components: Sequence[str]) -> str:
    """family^given^middle^prefix^suffix."""
    return "^".join(_FORBIDDEN.sub(" ", component).strip() for component in components).rstrip("^")[:_LONGEST]


def _grouped(spellings: Sequence[tuple[str, str]]) -> Name:
    groups: dict[str, str] = {}
    for text, code in spellings:
        if text:
            groups.setdefault(_CODES.get(code.upper()) or script(text), text)
    return Name(**groups)
