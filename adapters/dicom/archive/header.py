"""The header of a PS3.10 file: file meta information (clause 7.1) and the data set as DICOM JSON, without its bulk."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from adapters.dicom.archive.elements import Elements, Limits, Reader
from engine.errors import ParseError

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_META: Final = Limits(header=256 << 10, elements=200, depth=1)
_HEADER: Final = Limits()
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. `elements` is the data set; `offset` where it begins in the file; `source` the AE title of who sent
    it (0002,0016)."""

    sop_class: str
    sop_uid: str
    transfer_syntax: str
    elements: Elements
    offset: int
    source: str = ""

    def text(self, tag: str) -> str:
        """The first value of an element of the data set as text, "" where there is none."""
        return text_of(self.elements, tag)


def text_of(elements: Elements, tag: str) -> str:
    """The first value as text; of a person's name its first component group."""
    value = (elements.get(tag, {}).get("Value") or [None])[0]
    if isinstance(value, dict):
        return str(next(iter(value.values()), ""))
    return "" if value is None else str(value)


def read_header(file: BinaryIO, limits: Limits = _HEADER) -> Header:
    """The header of a file that is open at its beginning. Raises ParseError where it is no DICOM file or says no SOP instance."""
    if file.read(132)[128:] != b"DICM":
        raise ParseError("this is no DICOM file (PS3.10 7.1): DICM is missing")
    offset = meta_end(file)
    file.seek(132)
    meta = Reader(io.BytesIO(file.read(offset - 132)), explicit=True, little=True, limits=_META).data_set()
    transfer_syntax = text_of(meta, "00020010") or IMPLICIT
    stream: BinaryIO = file
    if transfer_syntax == _DEFLATED:
        stream = io.BytesIO(_inflated(file, limits.header))
    encoding = {"explicit": transfer_syntax != IMPLICIT, "little": transfer_syntax != _BIG_ENDIAN}
    elements = Reader(stream, **encoding, limits=limits).data_set()
    sop_class = text_of(elements, "00080016") or text_of(meta, "00020002")
    sop_uid = text_of(elements, "00080018") or text_of(meta, "00020003")
    if not sop_uid:
        raise ParseError("the file does not say which SOP instance it is")
    return Header(sop_class, sop_uid, transfer_syntax, elements, offset, text_of(meta, "00020016"))


def meta_end(file: BinaryIO) -> int:
    """Where the data set begins; the file is left there. The group length (0002,0000) is not trusted: some writers have it wrong.
    Raises ParseError."""
    position = file.seek(132)
    for _ in range(_META.elements):
        head = file.read(8)
        if head[:2] != b"\x02\x00":
            file.seek(position)
            return position
        length = int.from_bytes(head[6:8], "little")
        if head[4:6] in (b"OB", b"UN", b"UT"):
            length = int.from_bytes(file.read(4), "little")
        position = file.seek(length, 1)
        if position > _META.header:
            break
    raise ParseError("the file meta information is too long")


def data_set_digest(path: Path) -> bytes:
    """SHA-256 of the data set's bytes, whatever the file meta information says. Raises OSError, ParseError."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            raise ParseError("this is no DICOM file (PS3.10 7.1): DICM is missing")
        meta_end(file)
        digest = sha256()
        _in_blocks(file, digest.update)
        return digest.digest()


def _in_blocks(file: BinaryIO, take: Callable[[bytes], object]) -> None:
    while block := file.read(_BLOCK):
        take(block)


def _inflated(file: BinaryIO, most: int) -> bytes:
    """The beginning of a deflated data set (PS3.5 A.5), at most `most` bytes of it."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    found = bytearray()
    try:
        while len(found) < most and not inflater.eof and (block := inflater.unconsumed_tail or file.read(64 << 10)):
            found += inflater.decompress(block, most - len(found))
    except zlib.error as error:
        raise ParseError("the data set cannot be inflated (PS3.5 A.5)") from error
    return bytes(found)
