"""A data set -> the DICOM JSON model (PS3.18 annex F), without bulk data."""

from __future__ import annotations

from typing import Any, Final

from engine.formats.dicom.dataset import BULK, DataSet, Element

LONGEST: Final = 1024
"""Values of more bytes than this are left out, but text."""
_INTEGERS: Final = frozenset(("IS", "SL", "SS", "SV", "UL", "US", "UV"))
_FLOATS: Final = frozenset(("DS", "FD", "FL"))
_WRITINGS: Final = ("Alphabetic", "Ideographic", "Phonetic")


def model(data_set: DataSet) -> dict[str, Any]:
    """Text is Unicode, whatever the character set was; numbers that are none stay text. Group 2 is the file's, but Source AE Title."""
    found: dict[str, Any] = {}
    for tag, element in sorted(data_set.elements.items()):
        if (tag >> 16 == 2 and tag != 0x00020016) or element.vr in BULK or tag & 0xFFFF == 0:
            continue
        if element.vr in _INTEGERS | _FLOATS and len(element.raw) > LONGEST:
            continue
        found[f"{tag:08X}"] = _attribute(data_set, tag, element)
    if 0x00080005 in data_set.elements:
        found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return found


def _attribute(data_set: DataSet, tag: int, element: Element) -> dict[str, Any]:
    if element.vr == "SQ":
        items = [model(item) for item in element.items(data_set, tag)]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    values = [_value(element.vr, text) for text in element.values(data_set, tag)]
    return {"vr": element.vr, "Value": values} if any(value is not None for value in values) else {"vr": element.vr}


def _value(vr: str, text: str) -> Any:
    if not text:
        return None
    if vr == "PN":
        return {name: part for name, part in zip(_WRITINGS, text.split("="), strict=False) if part}
    if vr in _INTEGERS and text.lstrip("+-").isascii() and text.lstrip("+-").isdigit() and len(text) < 16:
        return int(text)
    return text
