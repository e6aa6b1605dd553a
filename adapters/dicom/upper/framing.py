"""Cuts PDUs out of a byte stream, and the fragments of P-DATA-TF PDUs as soon as their bytes are there (PS3.8 clause 9.3.5, annex E). Pure.

A fragment may be given in several pieces, and a piece is a view of the chunk that it came in: nothing of a data set is copied or held,
so memory does not depend on the size of images, fragments or PDUs. Any chunking of the same bytes gives the same PDUs and, put together,
the same fragments. After a FramingError a framer gives nothing more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from adapters.dicom.upper.pdu import ABORT, ASSOCIATE_AC, ASSOCIATE_RQ, INVALID_VALUE, P_DATA, UNRECOGNIZED_PDU, Pdu, broken, decode

MOST_ASSOCIATE: Final = 1 << 20
"""Bytes of an A-ASSOCIATE PDU: 128 presentation contexts with a hundred transfer syntaxes each, and a user identity, fit."""
_PDU: Final = struct.Struct(">BxL")
_PDV: Final = struct.Struct(">LBB")
_PDU_HEADER, _PDV_HEADER, _CONTENT, _VALUE = range(4)


class Piece(NamedTuple):
    """Bytes of one fragment (PDV). `is_last`: the message's command set or data set ends with it (PS3.8 annex E.2)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class PduFramer:
    """`max_length`: bytes that a P-DATA-TF PDU may have after its header, as we said in the negotiation (0 = any)."""

    def __init__(self, max_length: int = 0) -> None:
        self.max_length = max_length
        self._held = bytearray()  # a header, or an association PDU, that is not complete yet
        self._awaits, self._needs = _PDU_HEADER, 6
        self._kind = self._pdu_left = self._value_left = 0
        self._context = 0
        self._control = 0

    @property
    def inside(self) -> bool:
        """Whether a PDU has begun and not ended."""
        return self._awaits != _PDU_HEADER or bool(self._held)

    def feed(self, data: bytes) -> Iterator[Pdu | Piece]:
        """What the next bytes complete, in order; to be exhausted before the next call. Raises FramingError."""
        view, at, end = memoryview(data), 0, len(data)
        while at < end:
            if self._awaits == _VALUE:
                size = min(self._value_left, end - at)
                yield self._piece(view[at : at + size])
                at += size
                continue
            missing = self._needs - len(self._held)
            if not self._held and end - at >= missing:  # the usual case: the whole header is in this chunk
                whole = view[at : at + missing]
                at += missing
            else:
                self._held += view[at : at + missing]
                at = min(end, at + missing)
                if len(self._held) < self._needs:
                    return
                whole = memoryview(bytes(self._held))
                self._held.clear()
            if self._awaits == _PDV_HEADER:
                empty = self._begin_value(whole)
                if empty is not None:
                    yield empty
            elif self._awaits == _CONTENT or self._begin_pdu(whole):
                content = bytes(whole) if self._awaits == _CONTENT else b""
                self._expect(_PDU_HEADER, 6)
                yield decode(self._kind, content)

    def _expect(self, awaits: int, needs: int) -> None:
        self._awaits, self._needs = awaits, needs

    def _begin_pdu(self, header: memoryview) -> bool:
        """Whether it is complete already: a PDU without content."""
        self._kind, length = _PDU.unpack(header)
        if self._kind == P_DATA:
            if self.max_length and length > self.max_length:
                raise broken(f"a P-DATA-TF PDU of {length} bytes; {self.max_length} were agreed")
            if length < 6:
                raise broken("a P-DATA-TF PDU without a presentation data value")
            self._pdu_left = length
            self._expect(_PDV_HEADER, 6)
            return False
        if not 1 <= self._kind <= ABORT:
            raise broken(f"there is no PDU of type {self._kind}", UNRECOGNIZED_PDU)
        if length > (MOST_ASSOCIATE if self._kind in (ASSOCIATE_RQ, ASSOCIATE_AC) else 4):
            raise broken(f"a PDU of type {self._kind} with {length} bytes", INVALID_VALUE)
        self._expect(_CONTENT, length)
        return not length

    def _begin_value(self, header: memoryview) -> Piece | None:
        length, self._context, self._control = _PDV.unpack(header)
        self._pdu_left -= 4 + length
        if length < 2 or self._pdu_left < 0 or 0 < self._pdu_left < 6:
            raise broken("a presentation data value does not fit its PDU")
        self._value_left = length - 2
        self._expect(_VALUE, 0)
        return self._piece(header[:0]) if not self._value_left else None

    def _piece(self, data: memoryview) -> Piece:
        self._value_left -= len(data)
        done = not self._value_left
        if done:
            self._expect(_PDV_HEADER if self._pdu_left else _PDU_HEADER, 6)
        return Piece(self._context, bool(self._control & 1), done and bool(self._control & 2), data)
