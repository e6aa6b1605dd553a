"""Tabular files (CSV, RFC 4180; also with semicolons or tabs) as records. A bad row does not stop the others. Pure.

A quoted cell may go over lines. Where such a row turns out not to be readable (its quote is never closed, or something follows the closing
one), its first line is the bad row, and reading goes on with the line after it: a forgotten quote costs one row, not the rest of the file.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO, Final, NamedTuple

from engine.errors import ParseError
from engine.formats.files.lines import UTF_8_MARK, RawLine, text_lines
from engine.formats.rows import Record
from engine.values import value

DELIMITERS: Final = (",", ";", "\t", "|")
_UNREADABLE: Final = re.compile(r"[\ud800-\udfff\x00]")
_MOST_COLUMNS: Final = 2000
_MOST_LINES: Final = 500
"""Lines of one row."""


@value(frozen=True, slots=True)
class Dialect:
    """How a tabular file is written. Without a `delimiter` it is the one that the first line has most of. `names` are the columns of a file
    without a heading; `skip` lines stand before all else. `most` bytes of one row; `encoding` is one in which no part of a character is a
    line end or a quote."""

    encoding: str = "utf-8"
    delimiter: str = ""
    quote: str = '"'
    names: Sequence[str] = ()
    skip: int = 0
    most: int = 1 << 20


class Line(NamedTuple):
    """A row: `number` is the line on which it begins, from 1; `content` the record, or what is wrong with it; `raw` as it stands at
    `offset` in the file."""

    number: int
    content: Record | ParseError
    raw: bytes = b""
    offset: int = 0


def lines(body: bytes, table: str, *, encoding: str = "", delimiter: str = "") -> Iterator[Line]:
    """The rows of a file with a heading. Without an `encoding` it is UTF-8, or GB18030 where it cannot be that. Raises ParseError for a
    file without a usable heading, LookupError for an encoding that is none."""
    yield from rows(io.BytesIO(body), table, Dialect(encoding or _encoding(body), delimiter))


def rows(stream: BinaryIO, table: str, dialect: Dialect) -> Iterator[Line]:
    """An empty cell is NULL; every value is text; rows without any are left out. Raises ParseError for a file without a usable heading."""
    if csv.field_size_limit() < dialect.most:  # one limit for the process; the lines are cut at `most` anyway
        csv.field_size_limit(dialect.most)
    source = _Rows(islice(text_lines(stream, dialect.most), dialect.skip, None), dialect)
    heading = list(dialect.names) or None
    for first, cells, raw in source:
        if isinstance(cells, ParseError):
            if heading is None:
                raise ParseError(f"the heading cannot be read: {cells.text}", location=f"line {first.number}")
            yield Line(first.number, cells, raw, first.offset)
        elif not any(cell.strip() for cell in cells):
            continue
        elif heading is None:
            heading = _heading(cells, first.number)
        else:
            yield Line(first.number, _record(table, heading, cells), raw, first.offset)
    if heading is None:
        raise ParseError("the file has no heading")


class _NeverEnds(Exception):
    pass


class _Rows:
    """Cells of row after row, or why they cannot be read, with the raw lines of each."""

    def __init__(self, raw: Iterator[RawLine], dialect: Dialect) -> None:
        self._raw, self._dialect = raw, dialect
        self._again: deque[RawLine] = deque()
        self._taken: list[RawLine] = []
        self._size = 0

    def __iter__(self) -> Iterator[tuple[RawLine, list[str] | ParseError, bytes]]:
        first = next(self._raw, None)
        if first is None:
            return
        self._again.append(first._replace(content=first.content.removeprefix(UTF_8_MARK)) if first.number == 1 else first)
        mark = self._dialect.delimiter or self._most_used()
        reader = csv.reader(self._texts(), delimiter=mark, quotechar=self._dialect.quote, strict=True)
        while True:
            self._taken, self._size = [], 0
            try:
                cells: list[str] | ParseError = next(reader)
            except StopIteration:
                return
            except _NeverEnds:
                reader = csv.reader(self._texts(), delimiter=mark, quotechar=self._dialect.quote, strict=True)
                cells = self._unreadable("a quoted cell does not end, or the row is too long")
            except csv.Error as error:
                reader = csv.reader(self._texts(), delimiter=mark, quotechar=self._dialect.quote, strict=True)
                cells = self._unreadable(f"the row cannot be read: {error}")
            if self._taken[0].cut:
                cells = ParseError(f"the row has more than {self._dialect.most} bytes")
            yield self._taken[0], cells, b"".join(line.content for line in self._taken)

    def _most_used(self) -> str:
        """The delimiter of the first line that is not blank."""
        while len(self._again) < _MOST_LINES and not self._again[-1].content.strip() and (line := next(self._raw, None)) is not None:
            self._again.append(line)
        text = self._decoded(self._again[-1])
        return max(DELIMITERS, key=text.count)

    def _texts(self) -> Iterator[str]:
        while (line := self._again.popleft() if self._again else next(self._raw, None)) is not None:
            self._taken.append(line)
            self._size += len(line.content)
            if len(self._taken) > _MOST_LINES or (self._size > self._dialect.most and len(self._taken) > 1):
                raise _NeverEnds
            yield self._decoded(line)

    def _decoded(self, line: RawLine) -> str:
        return line.content.decode(self._dialect.encoding, "surrogateescape")

    def _unreadable(self, text: str) -> ParseError:
        """Of what was read, all but the first line will be read again, as rows of their own."""
        self._again.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]
        return ParseError(text)


def _encoding(body: bytes) -> str:
    """Where most of it is one of the two, rows with a broken byte say so."""
    for name in ("utf-8", "gb18030"):
        try:
            body.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "utf-8"


def _heading(cells: list[str], number: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    where = f"line {number}"
    if len(names) > _MOST_COLUMNS:
        raise ParseError(f"the heading has more than {_MOST_COLUMNS} columns", location=where)
    if "" in names or any(_UNREADABLE.search(name) for name in names):
        raise ParseError("the heading has a column without a name, or one that is not in the file's encoding", location=where)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ParseError(f"the heading has the column {twice!r} twice", location=where)
    return names


def _record(table: str, heading: list[str], cells: list[str]) -> Record | ParseError:
    if len(cells) != len(heading):
        return ParseError(f"has {len(cells)} cells; the heading names {len(heading)}")
    return record(table, heading, cells)


def record(table: str, names: Sequence[str], cells: Sequence[str]) -> Record | ParseError:
    """A row of text; as many cells as names."""
    if _UNREADABLE.search("".join(cells)):
        return _unreadable(names, cells)
    row = {name: cell if cell and not cell.isspace() else None for name, cell in zip(names, cells, strict=True)}
    return Record("file", table, row, types={name: "text" for name, cell in row.items() if cell is not None})


def _unreadable(names: Sequence[str], cells: Sequence[str]) -> ParseError:
    name, cell = next((name, cell) for name, cell in zip(names, cells, strict=True) if _UNREADABLE.search(cell))
    return ParseError("has a NUL character" if "\0" in cell else "is not in the file's encoding", location=name)
