"""Files that are one message: checked as far as that can be done without reading all of them into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, Final

from engine.errors import ParseError
from engine.formats.files import Piece
from engine.formats.files.lines import UTF_8_MARK
from engine.formats.files.ndjson import identity

PDF: Final = "application/pdf"
_PDF_BEGIN: Final = 1024
"""ISO 32000-1 annex H.3.4.1: readers accept the header within these bytes, and the end mark likewise."""


def pieces(stream: BinaryIO, content_type: str) -> Iterator[Piece]:
    """Anything; an empty file is at fault."""
    fault = None if stream.read(1) else ParseError("the file is empty")
    yield Piece(1, None, content_type, fault=fault)


def json(stream: BinaryIO, content_type: str, most: int) -> Iterator[Piece]:
    """One JSON document of at most `most` bytes; of FHIR a resource."""
    body = stream.read(most + 1)
    try:
        if len(body) > most:
            raise ParseError(f"the document has more than {most} bytes")
        kind, control_id = identity(body.removeprefix(UTF_8_MARK), content_type)
    except ParseError as error:
        yield Piece(1, None, content_type, fault=error)
    else:
        yield Piece(1, None, content_type, message_type=kind, control_id=control_id)


def pdf(stream: BinaryIO) -> Iterator[Piece]:
    """A PDF that has its header and its end (ISO 32000-1 clauses 7.5.2 and 7.5.5). Nothing in it is run or rendered."""
    begin = stream.read(_PDF_BEGIN)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _PDF_BEGIN))
    fault = None
    if b"%PDF-" not in begin:
        fault = ParseError("it is no PDF: the header %PDF- is missing")
    elif b"%%EOF" not in stream.read():
        fault = ParseError("the PDF is not complete: its end mark %%EOF is missing")
    yield Piece(1, None, PDF, fault=fault)
