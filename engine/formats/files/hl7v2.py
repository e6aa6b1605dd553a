"""HL7 v2 files: batches (FHS, BHS … BTS, FTS; v2.5 clause 2.10.3) and messages that only follow one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from engine.errors import ParseError
from engine.formats.files import Piece
from engine.formats.files.lines import UTF_8_MARK, RawLine, raw_lines
from engine.formats.hl7v2 import read_header
from engine.formats.hl7v2.batch import Cutter
from engine.message import HL7V2


def pieces(stream: BinaryIO, charset: str | None, most: int) -> Iterator[Piece]:
    """Each message byte for byte. `charset` rules over MSH-18; `most` bytes of one message. A count of a trailer that does not fit, or a
    trailer that is missing, is a piece of its own, which is at fault: the messages are there all the same."""
    reading = _Reading(charset, most)
    line = None
    for line in raw_lines(stream, most):
        yield from reading.take(line._replace(content=line.content.removeprefix(UTF_8_MARK)) if line.number == 1 else line)
    if line is not None:
        yield from reading.end(line)


class _Reading:
    """The cutter, and where each message begins."""

    def __init__(self, charset: str | None, most: int) -> None:
        self._charset, self._most = charset, most
        self._cutter = Cutter()
        self._first: RawLine | None = None
        self._size = self._number = 0
        self._over = False

    def take(self, line: RawLine) -> Iterator[Piece]:
        content = line.content
        begun, starts = self._cutter.begun, content[:3] == b"MSH"
        if begun and not starts and self._size + len(content) > self._most:  # the rest of it is left out, and said
            self._over, content = True, b""
        self._over = self._over or line.cut
        self._cutter.take(content)
        yield from self._drained(line)
        if self._cutter.begun and (starts or not begun):
            self._first, self._size, self._over = line, 0, line.cut
        self._size += len(content)

    def end(self, line: RawLine) -> Iterator[Piece]:
        self._cutter.finish()
        yield from self._drained(line)

    def _drained(self, line: RawLine) -> Iterator[Piece]:
        messages, faults = self._cutter.drain()
        for message in messages:
            assert self._first is not None
            yield self._piece(message, self._first)
        for fault in faults:
            if not fault.startswith("a segment"):  # that one is a message of its own
                self._number += 1
                yield Piece(self._number, line.content, HL7V2, line.number, line.offset, fault=ParseError(fault))

    def _piece(self, message: bytes, first: RawLine) -> Piece:
        self._number += 1
        try:
            if self._over:
                raise ParseError(f"the message has more than {self._most} bytes")
            header = read_header(message, self._charset)
        except ParseError as error:
            return Piece(self._number, message, HL7V2, first.number, first.offset, fault=error)
        return Piece(
            self._number,
            message,
            HL7V2,
            first.number,
            first.offset,
            header.message_type,
            header.control_id,
            header.sender,
            header.patient_ids,
        )
