"""A JSON object on each line (ndjson; FHIR Bulk Data has its resources so)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from engine.errors import ParseError
from engine.formats.fhir import parse
from engine.formats.files import Piece
from engine.formats.files.lines import UTF_8_MARK, RawLine, raw_lines
from engine.message import FHIR_JSON


def pieces(stream: BinaryIO, content_type: str, most: int) -> Iterator[Piece]:
    """`most` bytes of one line. Of FHIR each must be a resource. Empty lines are left out."""
    number = 0
    for line in raw_lines(stream, most):
        body = (line.content.removeprefix(UTF_8_MARK) if line.number == 1 else line.content).strip()
        if body:
            number += 1
            yield _piece(number, line, body, content_type, most)


def _piece(number: int, line: RawLine, body: bytes, content_type: str, most: int) -> Piece:
    try:
        if line.cut:
            raise ParseError(f"the line has more than {most} bytes")
        kind, control_id = identity(body, content_type)
    except ParseError as error:
        return Piece(number, body, content_type, line.number, line.offset, fault=error)
    return Piece(number, body, content_type, line.number, line.offset, kind, control_id)


def identity(body: bytes, content_type: str) -> tuple[str, str]:
    """Type and id of a FHIR resource; of other JSON "". Raises ParseError."""
    content = parse(body)
    if content_type != FHIR_JSON:
        return "", ""
    kind, of_bundle = content.get("resourceType"), content.get("identifier")
    if not isinstance(kind, str) or not kind:
        raise ParseError("it is no FHIR resource: it has no resourceType", location="resourceType")
    named = of_bundle.get("value") if kind == "Bundle" and isinstance(of_bundle, dict) else content.get("id")
    return kind, named if isinstance(named, str) else ""
