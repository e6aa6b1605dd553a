"""One instance as a file (PS3.10 clause 7.1) that comes in pieces: where its data set begins, its digest, its first bytes. Pure.

Nothing is decoded here beyond the lengths of the file meta elements, which are always Explicit VR Little Endian.
"""

from __future__ import annotations

import hashlib
from typing import Final

from engine.errors import ParseError

HEAD: Final = 64 << 10
"""How many of a file's first bytes are kept, for the header facts."""
_PREAMBLE: Final = 132
_LONG: Final = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT", b"UC", b"UR", b"SQ", b"SV", b"UV"})
_MOST_META: Final = 32 << 10


class FileReading:
    """`head` are the first bytes of the file, `size` counts all of it. After `finish`: `data_set` is the offset of the data set."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.size = 0
        self.data_set = 0
        self._digest = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        if len(self.head) < HEAD:
            room = HEAD - len(self.head)
            self.head += data[:room]
            data = data[room:]
            if len(self.head) == HEAD:
                self._begin_data_set()
        if data:
            self._digest.update(data)

    def finish(self) -> bytes:
        """The SHA-256 of the data set: it is the same whoever wrote the file meta. Raises ParseError where this is no such file."""
        if self.size < HEAD:
            self._begin_data_set()
        if not self.data_set:
            self.data_set = data_set_offset(bytes(self.head))  # says what is wrong
        return self._digest.digest()

    def _begin_data_set(self) -> None:
        try:
            self.data_set = data_set_offset(bytes(self.head))
        except ParseError:
            return
        self._digest.update(self.head[self.data_set :])


def data_set_offset(head: bytes) -> int:
    """Where the file meta information (group 0002) ends. Raises ParseError."""
    if head[128:132] != b"DICM":
        raise ParseError("this is no DICOM file: it has no preamble with DICM (PS3.10 clause 7.1)")
    at = _PREAMBLE
    while head[at : at + 2] == b"\x02\x00":
        value = at + (12 if head[at + 4 : at + 6] in _LONG else 8)
        length = int.from_bytes(head[value - 4 : value] if value - at == 12 else head[at + 6 : at + 8], "little")
        at = value + length
        if at > min(len(head), _MOST_META):
            raise ParseError("the file meta information is cut off or too long", location="(0002)")
    if at == _PREAMBLE:
        raise ParseError("the file has no file meta information", location="(0002)")
    return at
