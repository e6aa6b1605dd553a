"""Messages from pieces of P-DATA, and pieces from messages (PS3.7 clause 6.3.1, PS3.8 annex E). Pure.

A message is a command set, then a data set where the command says so; its fragments come one after another in one presentation context.
A data set is never held here: its pieces are passed on as they come.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from adapters.dicom.upper.dimse import MOST_COMMAND, Command, decode
from adapters.dicom.upper.framing import Piece
from adapters.dicom.upper.pdu import P_DATA, UNEXPECTED_PARAMETER, broken

_PDU_PDV: Final = struct.Struct(">BxLLBB")
_OVERHEAD: Final = 6  # of one presentation data value in its PDU: length, context ID, control header
SMALLEST_LENGTH: Final = 128
LARGEST_PDU: Final = 1 << 20
"""Bytes of the PDUs we send where the peer takes any length."""


class Began(NamedTuple):
    """A command has come; its data set follows if `command.has_data`."""

    context_id: int
    command: Command


class Part(NamedTuple):
    """The next bytes of the data set."""

    data: memoryview


class Ended(NamedTuple):
    """The data set is complete."""


class MessageReader:
    """Of one association."""

    def __init__(self) -> None:
        self._command = bytearray()
        self._context = 0
        self._in_data = False

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._in_data or bool(self._command)

    def take(self, piece: Piece) -> Iterator[Began | Part | Ended]:
        """Raises FramingError for fragments that are no message."""
        if self.inside and piece.context_id != self._context:
            raise broken("fragments of two messages are mixed", UNEXPECTED_PARAMETER)
        if piece.is_command == self._in_data:
            raise broken("a command set where a data set was due, or the other way round", UNEXPECTED_PARAMETER)
        if self._in_data:
            if piece.data:
                yield Part(piece.data)
            if piece.is_last:
                self._in_data = False
                yield Ended()
            return
        self._context = piece.context_id
        self._command += piece.data
        if len(self._command) > MOST_COMMAND:
            raise broken("a command set is too long")
        if piece.is_last:
            command = decode(bytes(self._command))
            self._command.clear()
            self._in_data = command.has_data
            yield Began(piece.context_id, command)


def fragment(
    context_id: int, content: bytes | memoryview, max_length: int, *, is_command: bool, is_last: bool = True
) -> list[bytes | memoryview]:
    """P-DATA-TF PDUs with one fragment each, as buffers to be written one after another; nothing of the content is copied.
    `max_length` is the peer's (0 = any). With `is_last` false more of the same data set follows."""
    most = min(max_length or LARGEST_PDU, LARGEST_PDU) - _OVERHEAD
    most -= most % 2  # fragments of even length (PS3.8 annex E.1)
    view, at = memoryview(content), 0
    buffers: list[bytes | memoryview] = []
    control = 1 if is_command else 0
    while True:
        part = view[at : at + most]
        at += len(part)
        done = at >= len(view)
        buffers.append(_PDU_PDV.pack(P_DATA, len(part) + _OVERHEAD, len(part) + 2, context_id, control | (2 if done and is_last else 0)))
        buffers.append(part)
        if done:
            return buffers
