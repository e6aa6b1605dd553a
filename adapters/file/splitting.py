"""Which splitter the options name, and what is in an archive. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO, Final, NamedTuple

from engine.errors import ParseError
from engine.formats.files import Piece, Splitter, archives, delimited, fixed_width, hl7v2, ndjson, tabular, whole, xml_pieces
from engine.message import CDA, FHIR_JSON, HL7V2, ROWS

UNKNOWN: Final = "application/octet-stream"


class Part(NamedTuple):
    """A piece, and the member of the archive in which it stands: 0 and "" without one."""

    piece: Piece
    member: int = 0
    name: str = ""

    @property
    def at(self) -> tuple[int, int]:
        """Its place among the pieces of its file."""
        return self.member, self.piece.number


def content_type_of(options: Any) -> str:
    """Of good pieces."""
    usual = {"hl7-batch": HL7V2, "csv": ROWS, "fixed-width": ROWS, "cda": CDA, "pdf": whole.PDF, "xml": "application/xml"}
    return usual.get(options.format) or options.content_type or (FHIR_JSON if options.format in ("ndjson", "json") else UNKNOWN)


def splitter_of(options: Any) -> Splitter:
    kind, most = options.content_type or content_type_of(options), options.most_message
    match options.format:
        case "hl7-batch":
            return partial(hl7v2.pieces, charset=options.charset, most=most)
        case "ndjson":
            return partial(ndjson.pieces, content_type=kind, most=most)
        case "csv" | "fixed-width":
            return partial(_rows, options=options)
        case "xml" if options.path:
            return partial(xml_pieces.pieces, path=options.path, content_type=kind, most=most)
        case "json":
            return partial(whole.json, content_type=kind, most=most)
        case "pdf":
            return whole.pdf
        case _:
            return partial(whole.pieces, content_type=kind)


def _rows(stream: BinaryIO, options: Any) -> Iterator[Piece]:
    said = options.rows
    naming = tabular.Naming(said.origin, tuple(said.key), tuple(said.patient_ids), {name: tuple(of) for name, of in said.details.items()})
    if options.format == "csv":
        one = options.csv
        dialect = delimited.Dialect(one.encoding, one.delimiter or "", one.quote or '"', tuple(one.columns), one.skip, options.most_message)
        lines = delimited.rows(stream, said.table, dialect)
    else:
        two = options.fixed_width
        columns = tuple(fixed_width.Column(column.name, column["at"], column.width) for column in two.columns)
        layout = fixed_width.Layout(columns, two.encoding, two["count"] == "bytes", two.skip, two.short_rows, options.most_message)
        lines = fixed_width.rows(stream, said.table, layout)
    return tabular.pieces(lines, naming)


def is_archive(name: str, options: Any) -> bool:
    return any(fnmatchcase(name.lower(), one.lower()) for one in options.archives.names)


def parts(stream: BinaryIO, size: int, name: str, options: Any) -> Iterator[Part]:
    """The pieces of a file of that name and size, or of the files in an archive. Raises ParseError where it can be cut no further."""
    split = splitter_of(options)
    if not is_archive(name, options):
        yield from map(Part, split(stream))
        return
    limits = archives.Limits(options.archives.members, options.archives.ratio, options.archives.total)
    archives.check(stream, size, name, limits)
    for member in archives.members(stream, size, name, limits):
        yield from _of_member(member, split, options)


def _of_member(member: archives.Member, split: Splitter, options: Any) -> Iterator[Part]:
    """What is in it; one that cannot be cut is a bad piece, and the next member goes on."""
    number, most = 0, options.most_message
    try:
        if member.fault is not None:
            raise member.fault
        if not is_whole(options):
            for piece in split(member.stream):
                number = piece.number
                yield Part(piece, member.number, member.name)
            return
        content = member.stream.read(most + 1)
        if len(content) > most:
            raise ParseError(f"it has more than {most} bytes, which are too many for a file in an archive")
        for piece in split(BytesIO(content)):
            yield Part(replace(piece, body=content), member.number, member.name)
    except ParseError as error:
        yield Part(Piece(number + 1, b"", content_type_of(options), fault=error), member.number, member.name)


def is_whole(options: Any) -> bool:
    """Whether a file is one message."""
    return options.format in ("pdf", "whole", "cda", "json") or (options.format == "xml" and not options.path)
