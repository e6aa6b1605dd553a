"""What of an instance's file is handed out without decoding it: metadata with the places of its bulk data (PS3.18 annex F.2.2), the
frames of its pixel data (PS3.5 clause 8.2 and annex A.4). Files only; no socket.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from adapters.dicom.archive.elements import Elements, Limits, Reader
from adapters.dicom.archive.header import IMPLICIT, Header, read_header
from adapters.dicom.web.faults import WebRefusal
from engine.http_answers import FilePiece

PIXEL_TAGS: Final = (0x7FE00010, 0x7FE00008, 0x7FE00009)
"""Pixel Data, Float Pixel Data, Double Float Pixel Data."""
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_ALL: Final = Limits(stop=0x7FE00011, header=64 << 20)
_HEADER: Final = Limits(stop=0x7FE00000, header=64 << 20)
_UNDEFINED: Final = 0xFFFFFFFF
_MOST_FRAGMENTS: Final = 1_000_000


class Placing(Reader):
    """A Reader that says where in the stream it has passed over a value: ``{"vr": "OW", "place": (offset, length)}``; the length is None
    for encapsulated pixel data, whose offset is that of its first item."""

    def _element(
        self, tag: int, raw_vr: bytes, length: int, charset: tuple[str, ...], explicit: bool, depth: int, found: Elements
    ) -> dict[str, Any] | None:
        offset = self._stream.tell()
        if depth == 0 and tag in PIXEL_TAGS and length != _UNDEFINED:  # however short
            self._skip(length)
            return {"vr": self._vr(tag, raw_vr, length, found), "place": (offset, length)}
        element = super()._element(tag, raw_vr, length, charset, explicit, depth, found)
        if element is not None or tag & 0xFFFF == 0:
            return element
        return {"vr": self._vr(tag, raw_vr, length, found), "place": (offset, None if length == _UNDEFINED else length)}


def placed_header(path: Path) -> Header:
    """The header of a file, with places instead of long values. Raises ParseError, OSError, WebRefusal 406 (deflated)."""
    with path.open("rb") as file:
        plain = read_header(file, Limits(stop=0x00080019))
        if plain.transfer_syntax == DEFLATED:
            raise WebRefusal(406, "the instance is deflated: it can be retrieved as it is, as application/dicom")
        file.seek(plain.offset)
        encoding = {"explicit": plain.transfer_syntax != IMPLICIT, "little": plain.transfer_syntax != BIG_ENDIAN}
        elements = Placing(file, **encoding, limits=_ALL).data_set()
    return Header(plain.sop_class, plain.sop_uid, plain.transfer_syntax, elements, plain.offset)


def metadata(path: Path, address: str) -> Elements:
    """The data set as DICOM JSON; what is long is at a bulk data address below that of the instance. Raises ParseError, OSError."""
    try:
        elements = placed_header(path).elements
    except WebRefusal:
        with path.open("rb") as file:
            elements = read_header(file, _HEADER).elements
    elements["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return dict(sorted(_addressed(elements, f"{address}/bulkdata").items()))


def _addressed(elements: Elements, address: str) -> Elements:
    return {name: _with_address(element, f"{address}/{name}") for name, element in elements.items()}


def _with_address(element: dict[str, Any], address: str) -> dict[str, Any]:
    if "place" in element:
        return {"vr": element["vr"], "BulkDataURI": address}
    if element["vr"] == "SQ" and "Value" in element:
        return {"vr": "SQ", "Value": [_addressed(item, f"{address}/{number}") for number, item in enumerate(element["Value"], 1)]}
    return element


def bulk_data(path: Path, steps: Sequence[str]) -> FilePiece:
    """The value at a bulk data address. Raises WebRefusal 404, ParseError, OSError."""
    element: Any = {"Value": [placed_header(path).elements]}
    for name, number in zip(steps[::2], ["1", *steps[1::2]], strict=False):
        items = element.get("Value", [])
        if not number.isascii() or not number.isdecimal() or not 0 < int(number[:9]) <= len(items) or len(steps) % 2 == 0:
            raise WebRefusal(404, "there is no such bulk data")
        item = items[int(number) - 1]
        element = item.get(name, {}) if isinstance(item, dict) else {}
    place = element.get("place")
    if place is None:
        raise WebRefusal(404, "there is no such bulk data")
    if place[1] is None:
        raise WebRefusal(406, "compressed pixel data is retrieved frame by frame")
    return FilePiece(path, *place)


# --- pixel data --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where the pixel data of a file are. `frames` counts them."""

    path: Path
    transfer_syntax: str
    elements: Elements
    offset: int
    length: int | None
    frames: int = 1

    def text(self, tag: str) -> str:
        """The first value of an element as text."""
        return str((self.elements.get(tag, {}).get("Value") or [""])[0])

    def number(self, tag: str, otherwise: int = 0) -> int:
        """The first value of an element as a whole number."""
        try:
            return int(self.text(tag) or otherwise)
        except ValueError:
            return otherwise

    @property
    def encapsulated(self) -> bool:
        return self.length is None

    @property
    def frame_bits(self) -> int:
        """How many bits one uncompressed frame has (PS3.3 C.7.6.3.1)."""
        samples = self.number("00280002", 1)
        bits = self.number("00280010") * self.number("00280011") * samples * self.number("00280100")
        return bits // 3 * 2 if self.text("00280004") == "YBR_FULL_422" and not self.encapsulated else bits


def find_pixels(path: Path) -> Pixels:
    """Raises WebRefusal 404 where there are none, ParseError, OSError."""
    header = placed_header(path)
    for tag in PIXEL_TAGS:
        place = header.elements.get(f"{tag:08X}", {}).get("place")
        if place is not None:
            found = Pixels(path, header.transfer_syntax, header.elements, *place)
            return replace(found, frames=max(1, found.number("00280008", 1)))
    raise WebRefusal(404, "the instance has no pixel data")


def frames_of(pixels: Pixels, wanted: Sequence[int]) -> list[list[FilePiece]]:
    """The bytes of each frame as they lie in the file: uncompressed, or one compressed bit stream. Raises WebRefusal 404, 406, ParseError,
    OSError."""
    if any(number > pixels.frames for number in wanted):
        raise WebRefusal(404, f"the instance has {pixels.frames} frames")
    if pixels.length is not None:
        return [[_native(pixels, pixels.length, number)] for number in wanted]
    fragments = list(_fragments(pixels))
    return [_encapsulated(pixels, fragments, number) for number in wanted]


def _native(pixels: Pixels, length: int, number: int) -> FilePiece:
    size, rest = divmod(pixels.frame_bits, 8)
    if rest and pixels.frames > 1:
        raise WebRefusal(406, "the frames of this instance do not begin at a byte")
    size += bool(rest)
    if not size or number * size > length:
        raise WebRefusal(404, "the pixel data is shorter than its description says")
    return FilePiece(pixels.path, pixels.offset + (number - 1) * size, size)


def _fragments(pixels: Pixels) -> Iterator[FilePiece]:
    """The items of encapsulated pixel data, the Basic Offset Table first (PS3.5 A.4)."""
    with pixels.path.open("rb") as file:
        at = pixels.offset
        for _ in range(_MOST_FRAGMENTS):
            file.seek(at)
            head = file.read(8)
            if head[:4] != b"\xfe\xff\x00\xe0" or len(head) < 8:
                return
            length = int.from_bytes(head[4:], "little")
            yield FilePiece(pixels.path, at + 8, length)
            at += 8 + length


def _encapsulated(pixels: Pixels, items: list[FilePiece], number: int) -> list[FilePiece]:
    table, fragments = (items[0], items[1:]) if items else (None, [])
    if pixels.frames == 1:
        return fragments
    if len(fragments) == pixels.frames:
        return [fragments[number - 1]]
    offsets = _offsets(table) if table is not None else ()
    if len(offsets) != pixels.frames or not fragments:
        raise WebRefusal(406, "the file does not say where its frames begin")
    start = fragments[0].offset  # offsets are those of items, counted from the first fragment's
    bounds = [*(start + offset for offset in offsets), fragments[-1].offset + 1]
    return [fragment for fragment in fragments if bounds[number - 1] <= fragment.offset < bounds[number]]


def _offsets(table: FilePiece) -> tuple[int, ...]:
    with table.path.open("rb") as file:
        file.seek(table.offset)
        raw = file.read(min(table.length, 4 * _MOST_FRAGMENTS))
    return struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
