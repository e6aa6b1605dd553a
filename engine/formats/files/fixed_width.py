"""Rows whose columns stand at fixed places, counted in characters or in bytes (as systems do that write GBK)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO

from engine.errors import ParseError
from engine.formats.files.delimited import Line, record
from engine.formats.files.lines import UTF_8_MARK, RawLine, text_lines
from engine.formats.rows import Record
from engine.values import value


@value(frozen=True, slots=True)
class Column:
    """`begin` counts from 1."""

    name: str
    begin: int
    width: int


@value(frozen=True, slots=True)
class Layout:
    """`in_bytes`: places are counted in bytes, not in characters. `skip` lines stand before the rows. `short`: a line may end where only
    blanks would follow. `most` bytes of one line."""

    columns: Sequence[Column]
    encoding: str = "utf-8"
    in_bytes: bool = False
    skip: int = 0
    short: bool = False
    most: int = 64 << 10

    @property
    def width(self) -> int:
        return max(one.begin + one.width - 1 for one in self.columns)


def rows(stream: BinaryIO, table: str, layout: Layout) -> Iterator[Line]:
    """Blanks around a value are left out; a column of blanks is NULL; empty lines are left out."""
    for line in islice(text_lines(stream, layout.most), layout.skip, None):
        content = line.content.removeprefix(UTF_8_MARK) if line.number == 1 else line.content
        if content.strip():
            yield Line(line.number, _row(line, content.rstrip(b"\r\n\x1a"), table, layout), line.content, line.offset)


def _row(line: RawLine, content: bytes, table: str, layout: Layout) -> Record | ParseError:
    if line.cut:
        return ParseError(f"the row has more than {layout.most} bytes")
    text: bytes | str = content if layout.in_bytes else content.decode(layout.encoding, "surrogateescape")
    unit = "bytes" if layout.in_bytes else "characters"
    if len(text) > layout.width and text[layout.width :].strip():
        return ParseError(f"has {len(text)} {unit}; the columns end at {layout.width}")
    if len(text) < layout.width and not layout.short:
        return ParseError(f"has {len(text)} {unit}; the columns end at {layout.width}")
    cells = []
    for column in layout.columns:
        cell = text[column.begin - 1 : column.begin - 1 + column.width]
        cells.append((cell.decode(layout.encoding, "surrogateescape") if isinstance(cell, bytes) else cell).strip())
    return record(table, [column.name for column in layout.columns], cells)
