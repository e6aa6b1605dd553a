"""The file meta information of one instance (PS3.10 clause 7.1), and the digest of its data set. Pure.

The file meta information is always Explicit VR Little Endian, so nothing but its elements' lengths has to be understood to find where the
data set begins.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from engine.errors import ParseError

HEAD: Final = 16 << 10
"""Bytes of a file within which its file meta information has to end."""
_PREAMBLE: Final = 132
_LONG: Final = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT", b"UC", b"UR", b"SQ", b"SV", b"UV"})
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010


@dataclass(frozen=True, slots=True)
class FileMeta:
    """`offset` is where the data set begins."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    offset: int


def read_meta(head: bytes) -> FileMeta:
    """From the first HEAD bytes of a file. Raises ParseError."""
    if head[128:132] != b"DICM":
        raise ParseError("this is no DICOM file: it has no preamble with DICM")
    values: dict[int, str] = {}
    at = _PREAMBLE
    try:
        while head[at : at + 2] == b"\x02\x00":
            element = int.from_bytes(head[at + 2 : at + 4], "little")
            begin = at + (12 if head[at + 4 : at + 6] in _LONG else 8)
            (length,) = struct.unpack_from("<L" if begin - at == 12 else "<H", head, begin - 4 if begin - at == 12 else at + 6)
            at = begin + length
            if at > len(head):
                raise ParseError("the file meta information is cut off or too long", location="(0002)")
            if element in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX):
                values[element] = head[begin:at].decode("ascii").rstrip("\0 ")
    except (struct.error, UnicodeDecodeError):
        raise ParseError("the file meta information cannot be read", location="(0002)") from None
    for element in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX):
        if not values.get(element):
            raise ParseError("the file meta information lacks an element", location=f"(0002,{element:04X})")
    return FileMeta(values[_SOP_CLASS], values[_SOP_INSTANCE], values[_TRANSFER_SYNTAX], at)


class DataSetDigest:
    """The SHA-256 of the data set of a file that comes in pieces: the same whoever wrote the file meta information."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._head: bytearray | None = bytearray()

    def feed(self, data: bytes) -> None:
        """Raises ParseError when the file meta information cannot be read."""
        if self._head is None:
            self._digest.update(data)
            return
        self._head += data
        if len(self._head) >= HEAD:
            self._begin()

    def finish(self) -> bytes:
        """Raises ParseError."""
        if self._head is not None:
            self._begin()
        return self._digest.digest()

    def _begin(self) -> None:
        head, self._head = bytes(self._head or b""), None
        self._digest.update(head[read_meta(head[:HEAD]).offset :])
