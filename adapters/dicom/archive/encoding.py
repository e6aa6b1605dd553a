"""DICOM JSON as a data set (PS3.5 clause 7): what goes out as identifier of a response. The reverse of `elements`. Pure."""

from __future__ import annotations

import base64
import struct
from typing import Any, Final

from adapters.dicom.archive.charset import encode
from adapters.dicom.archive.elements import Elements

_LONG: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_BINARY: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_TEXT: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_CHARACTER_SET: Final = "00080005"
_MOST_SHORT: Final = 65534


def encode_elements(elements: Elements, charset: tuple[str, ...], *, explicit: bool, little: bool = True) -> bytes:
    """The data set; (0008,0005) in it is left out where `charset` is the default repertoire. Raises UnicodeError where `charset` does not
    have the text."""
    named = {_CHARACTER_SET: {"vr": "CS", "Value": list(charset)}} if any(charset) and charset != ("ISO_IR 6",) else {}
    return _data_set({**{tag: one for tag, one in elements.items() if tag != _CHARACTER_SET}, **named}, charset, explicit, little)


def _data_set(elements: Elements, charset: tuple[str, ...], explicit: bool, little: bool) -> bytes:
    return b"".join(_element(int(tag, 16), elements[tag], charset, explicit, little) for tag in sorted(elements))


def _element(tag: int, element: dict[str, Any], charset: tuple[str, ...], explicit: bool, little: bool) -> bytes:
    vr, order = str(element["vr"]), "<" if little else ">"
    raw = _sequence(element, charset, explicit, little) if vr == "SQ" else _value(element, charset, order)
    if len(raw) % 2:
        raw += b"\0" if vr in _BINARY or vr == "UI" else b" "
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack(order + "I", len(raw)) + raw
    if vr in _LONG:
        return head + vr.encode() + b"\0\0" + struct.pack(order + "I", len(raw)) + raw
    if len(raw) > _MOST_SHORT:
        raw = b""  # such a value cannot be said in explicit VR
    return head + vr.encode() + struct.pack(order + "H", len(raw)) + raw


def _sequence(element: dict[str, Any], charset: tuple[str, ...], explicit: bool, little: bool) -> bytes:
    order = "<" if little else ">"
    items = [_data_set(item, charset, explicit, little) for item in element.get("Value", ())]
    return b"".join(struct.pack(order + "HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)


def _value(element: dict[str, Any], charset: tuple[str, ...], order: str) -> bytes:
    vr, values = element["vr"], element.get("Value", ())
    if vr in _BINARY:
        return base64.b64decode(element.get("InlineBinary", ""))
    if vr in _NUMBERS:
        known = [value for value in values if value is not None]
        return struct.pack(f"{order}{len(known)}{_NUMBERS[vr]}", *known)
    if vr == "AT":
        return b"".join(struct.pack(order + "HH", int(value[:4], 16), int(value[4:], 16)) for value in values)
    text = "\\".join(_text(vr, value) for value in values)
    return encode(text, charset) if vr in _TEXT else text.encode("ascii", "replace")


def _text(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if vr == "PN":
        return "=".join(value.get(name, "") for name in _GROUPS).rstrip("=")
    if vr == "DS" and isinstance(value, float):
        return decimal_string(value)
    return str(value)


def decimal_string(value: float) -> str:
    """DS has 16 characters at most (PS3.5 6.2)."""
    text = repr(value).removesuffix(".0")
    digits = 16
    while len(text) > 16 and digits:
        digits -= 1
        text = f"{value:.{digits}g}"
    return text
