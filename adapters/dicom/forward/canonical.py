"""A digest of what a data set says, rather than of its bytes (PS3.5 clause 7). Pure.

A receiver may write anew what it gives back: sequences and items with or without their lengths (7.5), group lengths (7.2), Data Set
Trailing Padding (FFFC,FFFC). None of that is in the digest; every tag, every value and the nesting are. What cannot be walked through has
no such digest, and is compared by its bytes alone.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import Final

from adapters.dicom.upper.negotiation import DEFLATED_LE, EXPLICIT_BE, IMPLICIT_LE

_LONG: Final = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT", b"UC", b"UR", b"SQ", b"SV", b"UV"})
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END, _PADDING = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFCFFFC
_DEEPEST: Final = 64
_SEQUENCE, _IN_ITEM, _FRAGMENTS = range(3)


class CanonicalDigest:
    """Fed with a data set in any chunking."""

    def __init__(self, transfer_syntax: str) -> None:
        self._explicit = transfer_syntax != IMPLICIT_LE
        self._lost = transfer_syntax in (EXPLICIT_BE, DEFLATED_LE)
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._at = self._value_left = 0
        self._hashing = False
        self._within: list[tuple[int, int]] = []  # what we are in, and where that ends (-1: a delimiter says it)

    def feed(self, data: bytes | memoryview) -> None:
        if self._lost:
            return
        self._buffer += data
        while self._value() if self._value_left else self._header():
            pass

    def finish(self) -> str:
        """ "" where there is none: the data set ends in the middle, or makes no sense."""
        if not self._lost:
            self._close_ended()
        return "" if self._lost or self._buffer or self._value_left or self._within else self._digest.hexdigest()

    def _value(self) -> bool:
        part = self._buffer[: self._value_left]
        if not part:
            return False
        del self._buffer[: len(part)]
        self._at += len(part)
        self._value_left -= len(part)
        if self._hashing:
            self._digest.update(part)
        return True

    def _header(self) -> bool:
        """The next element or item; False where it is not all there, or nothing makes sense any more."""
        self._close_ended()
        if len(self._buffer) < 8:
            return False
        group, element, length = struct.unpack_from("<HHL", self._buffer)
        tag, size = group << 16 | element, 8
        vr = b""
        if self._explicit and group != 0xFFFE:
            vr = bytes(self._buffer[4:6])
            if vr in _LONG:
                if len(self._buffer) < 12:
                    return False
                (length,), size = struct.unpack_from("<L", self._buffer, 8), 12
            else:
                (length,) = struct.unpack_from("<H", self._buffer, 6)
        del self._buffer[:size]
        self._at += size
        self._lost = not (self._delimiter(tag, length) if group == 0xFFFE else self._element(tag, vr, length))
        return not self._lost

    def _element(self, tag: int, vr: bytes, length: int) -> bool:
        if self._within and self._within[-1][0] != _IN_ITEM:
            return False
        if length == _UNDEFINED and vr not in (b"", b"SQ", b"UN"):
            return self._enter(_FRAGMENTS, tag, length)
        if vr == b"SQ" or length == _UNDEFINED or (not vr and _is_sequence(tag)):
            return self._enter(_SEQUENCE, tag, length)
        self._hashing = bool(tag & 0xFFFF) and tag != _PADDING
        if self._hashing:
            self._digest.update(struct.pack("<LL", tag, length))
        self._value_left = length
        return True

    def _delimiter(self, tag: int, length: int) -> bool:
        kind = self._within[-1][0] if self._within else -1
        if tag == _ITEM and kind == _SEQUENCE:
            return self._enter(_IN_ITEM, tag, length)
        if tag == _ITEM and kind == _FRAGMENTS and length != _UNDEFINED:
            self._digest.update(struct.pack("<LL", tag, length))
            self._hashing, self._value_left = True, length
            return True
        if (tag, kind) in ((_ITEM_END, _IN_ITEM), (_SEQUENCE_END, _SEQUENCE), (_SEQUENCE_END, _FRAGMENTS)):
            self._leave()
            return True
        return False

    def _enter(self, kind: int, tag: int, length: int) -> bool:
        self._digest.update(b"<" + struct.pack("<L", tag))
        self._within.append((kind, -1 if length == _UNDEFINED else self._at + length))
        return len(self._within) <= _DEEPEST

    def _leave(self) -> None:
        self._digest.update(b">")
        self._within.pop()

    def _close_ended(self) -> None:
        while self._within and self._within[-1][1] == self._at:
            self._leave()


class Digests:
    """Of a data set's bytes, and of what it says."""

    def __init__(self, transfer_syntax: str) -> None:
        self._bytes, self._canonical = hashlib.sha256(), CanonicalDigest(transfer_syntax)

    def feed(self, data: bytes | memoryview) -> None:
        self._bytes.update(data)
        self._canonical.feed(data)

    def agree(self, other: Digests) -> bool:
        """Both are complete."""
        if self._bytes.digest() == other._bytes.digest():
            return True
        said = self._canonical.finish()
        return bool(said) and said == other._canonical.finish()


@lru_cache(4096)
def _is_sequence(tag: int) -> bool:
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
