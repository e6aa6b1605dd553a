"""Tabular files with a heading (CSV, RFC 4180; also with semicolons or tabs) as records. A bad row does not stop the others. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from engine.errors import ParseError
from engine.formats.rows import Record

DELIMITERS: Final = (",", ";", "\t", "|")
_UNDECODED: Final = re.compile(r"[\ud800-\udfff]")
_MOST_COLUMNS: Final = 2000


class Line(NamedTuple):
    """A row: `number` is the line on which it begins, from 1; `content` the record, or what is wrong with it."""

    number: int
    content: Record | ParseError


def lines(body: bytes, table: str, *, encoding: str = "", delimiter: str = "") -> Iterator[Line]:
    """The rows of a file. Without an `encoding` it is UTF-8, or GB18030 where it cannot be that; without a `delimiter` the one that the
    heading has most of. An empty cell is NULL; every value is text. Raises ParseError for a file without a usable heading."""
    text = _text(body, encoding)
    heading_line = next((line for line in text.splitlines() if line.strip()), "")
    mark = delimiter or max(DELIMITERS, key=heading_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    heading: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if heading is None:
                raise ParseError(f"the heading cannot be read: {error}", location=f"line {number}") from None
            yield Line(number, ParseError(f"the row cannot be read: {error}"))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if heading is None:
            heading = _heading(cells, number)
        else:
            yield Line(number, _record(table, heading, cells))
    if heading is None:
        raise ParseError("the file has no heading")


def _text(body: bytes, encoding: str) -> str:
    if encoding:
        text = body.decode(encoding, "surrogateescape")
        return text.removeprefix("\ufeff")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return body.decode("gb18030")
    except UnicodeDecodeError:  # most of it is one of the two: rows with a broken byte say so
        return body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def _heading(cells: list[str], number: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    where = f"line {number}"
    if len(names) > _MOST_COLUMNS:
        raise ParseError(f"the heading has more than {_MOST_COLUMNS} columns", location=where)
    if "" in names or any(_UNDECODED.search(name) for name in names):
        raise ParseError("the heading has a column without a name, or one that is not in the file's encoding", location=where)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ParseError(f"the heading has the column {twice!r} twice", location=where)
    return names


def _record(table: str, heading: list[str], cells: list[str]) -> Record | ParseError:
    if len(cells) != len(heading):
        return ParseError(f"has {len(cells)} cells; the heading names {len(heading)}")
    bad = next((name for name, cell in zip(heading, cells, strict=True) if _UNDECODED.search(cell)), None)
    if bad is not None:
        return ParseError("is not in the file's encoding", location=bad)
    row = {name: cell if cell.strip() else None for name, cell in zip(heading, cells, strict=True)}
    return Record("file", table, row, types={name: "text" for name, cell in row.items() if cell is not None})
