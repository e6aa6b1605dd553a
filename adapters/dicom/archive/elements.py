"""Data sets as DICOM JSON (PS3.5 clause 7 -> PS3.18 annex F), read in one pass from a stream; what is long is skipped, not read.

A data set is a dict: tag as eight hex digits -> ``{"vr": "LO", "Value": [...]}``; an element without a value has no ``Value``. Left out
are values longer than `Limits.value` bytes (`Limits.text` for text that may be long), group lengths, and everything from `Limits.stop` on.

Peers are not trusted: depth, number of elements and bytes read are bounded. Nothing here warns or fails because of a value: what cannot be
read as its VR is left out.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from pydicom.datadict import dictionary_VR

from adapters.dicom.archive.charset import DEFAULT, character_sets, decode
from engine.errors import ParseError

Elements = dict[str, dict[str, Any]]

_LONG: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""VRs whose length has 32 bits (PS3.5 7.1.2)."""
_TEXT: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
"""VRs that the Specific Character Set concerns."""
_WHOLE: Final = frozenset(("LT", "ST", "UT", "UR"))
"""VRs that have one value, whatever is in it."""
_LENGTHY: Final = frozenset(("LT", "ST", "UC", "UT", "UR"))
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_AMBIGUOUS: Final = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_CHARACTER_SET: Final = 0x00080005
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")


@dataclass(frozen=True, slots=True)
class Limits:
    """`header` bytes are read at most, `elements` elements, sequences `depth` deep. The default `stop` leaves out per-frame functional
    groups, waveforms, overlays' and pixel data."""

    value: int = 1 << 10
    text: int = 64 << 10
    header: int = 16 << 20
    elements: int = 200_000
    depth: int = 24
    stop: int = 0x52009230


class Truncated(ParseError):
    """The data set ends within an element."""


class Reader:
    """Reads one data set. `explicit` and `little` are those of the transfer syntax."""

    def __init__(self, stream: BinaryIO, *, explicit: bool, little: bool, limits: Limits = Limits()) -> None:
        self._stream, self._limits = stream, limits
        self._explicit, self._little = explicit, little
        self._read_bytes = self._elements = 0

    def data_set(self) -> Elements:
        """All up to the stop. A data set that is cut short gives what was whole. Raises ParseError where a limit is passed."""
        found: Elements = {}
        with suppress(Truncated):
            self._into(found, DEFAULT, self._explicit, 0, lambda: False)
        return found

    # --- the stream ------------------------------------------------------------------------------

    def _take(self, length: int) -> bytes:
        self._read_bytes += length
        if self._read_bytes > self._limits.header:
            raise ParseError(f"the header of the data set is longer than {self._limits.header} bytes")
        data = self._stream.read(length)
        if len(data) < length:
            raise Truncated("the data set ends within an element")
        return data

    def _head(self, explicit: bool) -> tuple[int, bytes, int]:
        """Tag, VR (b"" where it is implicit), length."""
        order = "<" if self._little else ">"
        group, element, rest = struct.unpack(order + "HH4s", self._take(8))
        tag = group << 16 | element
        if not explicit or group == 0xFFFE:
            return tag, b"", struct.unpack(order + "I", rest)[0]
        vr = rest[:2]
        if vr in _LONG:
            return tag, vr, struct.unpack(order + "I", self._take(4))[0]
        if not vr.isalpha():  # some writers fall back to implicit VR within sequences
            return tag, b"", struct.unpack(order + "I", rest)[0]
        return tag, vr, struct.unpack(order + "H", rest[2:])[0]

    # --- data sets, sequences ----------------------------------------------------------------------

    def _into(self, found: Elements, charset: tuple[str, ...], explicit: bool, depth: int, ended: Callable[[], bool]) -> None:
        """Elements up to an item's end, the stop (in the data set itself), or where `ended`."""
        if depth > self._limits.depth:
            raise ParseError(f"sequences are nested deeper than {self._limits.depth}")
        while not ended():
            try:
                tag, vr, length = self._head(explicit)
            except Truncated:
                return
            if tag == _ITEM_END or (depth == 0 and tag >= self._limits.stop):
                return
            self._elements += 1
            if self._elements > self._limits.elements:
                raise ParseError(f"the data set has more than {self._limits.elements} elements")
            if tag == _CHARACTER_SET and length != _UNDEFINED and length <= self._limits.value:
                raw = self._take(length)
                charset = character_sets(raw)
                found["00080005"] = _element("CS", raw, charset, self._little)
                continue
            element = self._element(tag, vr, length, charset, explicit, depth, found)
            if element is not None:
                found[f"{tag:08X}"] = element

    def _element(
        self, tag: int, raw_vr: bytes, length: int, charset: tuple[str, ...], explicit: bool, depth: int, found: Elements
    ) -> dict[str, Any] | None:
        vr = self._vr(tag, raw_vr, length, found)
        if vr == "SQ" or length == _UNDEFINED:
            return self._sequence(vr, length, charset, explicit and raw_vr != b"UN", depth)
        if length > (self._limits.text if vr in _LENGTHY else self._limits.value) or tag & 0xFFFF == 0 or tag & 0xFF013000 == 0x60003000:
            self._skip(length)
            return None
        little = self._little or (raw_vr == b"UN" and vr != "UN")
        return _element(vr, self._take(length), charset, little)

    def _vr(self, tag: int, raw: bytes, length: int, found: Elements) -> str:
        if raw and raw != b"UN":
            return raw.decode("ascii", "replace")
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            return "LO" if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF else "SQ" if length == _UNDEFINED else "UN"
        if vr == "US or SS" and found.get("00280103", {}).get("Value") == [1]:
            return "SS"
        return _AMBIGUOUS.get(vr, vr)

    def _sequence(self, vr: str, length: int, charset: tuple[str, ...], explicit: bool, depth: int) -> dict[str, Any] | None:
        """Items up to the sequence's end; fragments (encapsulated pixel data of an icon) are passed over."""
        items: list[Elements] = []
        end = self._stream.tell() + length if length != _UNDEFINED else None
        while end is None or self._stream.tell() < end:
            tag, _, item_length = self._head(explicit)
            if tag != _ITEM:
                break
            if vr != "SQ":
                self._skip(item_length)
                continue
            items.append(self._item(item_length, charset, explicit, depth))
        if vr != "SQ":
            return None
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}

    def _item(self, length: int, charset: tuple[str, ...], explicit: bool, depth: int) -> Elements:
        item: Elements = {}
        end = self._stream.tell() + length
        self._into(item, charset, explicit, depth + 1, (lambda: False) if length == _UNDEFINED else lambda: self._stream.tell() >= end)
        return item

    def _skip(self, length: int) -> None:
        """Past a value. Beyond the stream's end the next head finds nothing."""
        self._stream.seek(length, 1)


# --- values ----------------------------------------------------------------------------------------


def _element(vr: str, raw: bytes, charset: tuple[str, ...], little: bool) -> dict[str, Any]:
    if vr in ("OB", "OD", "OF", "OL", "OV", "OW", "UN"):
        return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode()} if raw else {"vr": vr}
    values = _values(vr, raw, charset, little)
    return {"vr": vr, "Value": values} if any(value is not None for value in values) else {"vr": vr}


def _values(vr: str, raw: bytes, charset: tuple[str, ...], little: bool) -> list[Any]:
    if vr in _NUMBERS:
        code = _NUMBERS[vr]
        count = len(raw) // struct.calcsize(code)
        numbers = struct.unpack(f"{'<' if little else '>'}{count}{code}", raw[: count * struct.calcsize(code)])
        return [None if isinstance(number, float) and not math.isfinite(number) else number for number in numbers]
    if vr == "AT":
        parts = struct.unpack(f"{'<' if little else '>'}{len(raw) // 4 * 2}H", raw[: len(raw) // 4 * 4])
        return [f"{group:04X}{element:04X}" for group, element in zip(parts[::2], parts[1::2], strict=True)]
    text = decode(raw, charset) if vr in _TEXT else raw.decode("ascii", "replace")
    if vr in _WHOLE:
        return [text.rstrip(" \0") or None]
    return [_value(vr, part) for part in text.split("\\")]


def _value(vr: str, text: str) -> Any:
    if vr == "PN":
        return person_name(text)
    stripped = text.strip(" \0") if vr != "UC" else text.rstrip(" \0")
    if not stripped:
        return None
    return number(stripped) if vr in ("IS", "DS") else stripped


def number(text: str) -> int | float | str:
    """IS and DS as JSON numbers; what is none stays text (PS3.18 F.2.3.1 allows both)."""
    try:
        found = float(text)
    except ValueError:
        return text
    if not math.isfinite(found) or "_" in text:
        return text
    return int(text) if abs(found) < 1 << 53 and text.lstrip("+-").isdecimal() else found


def person_name(text: str) -> dict[str, str] | None:
    """The component groups of a person's name (PS3.5 6.2.1.1), without the trailing delimiters."""
    groups = [group.strip(" \0").rstrip("^ ") for group in text.split("=")]
    named = {name: group for name, group in zip(_GROUPS, groups, strict=False) if group}
    return named or None
