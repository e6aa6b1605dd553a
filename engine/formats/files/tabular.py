"""Rows of a file as messages (application/rows+json): one each, or a header with the rows that belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from engine.errors import ParseError
from engine.formats import rows
from engine.formats.files import Piece
from engine.formats.files.delimited import Line
from engine.formats.rows import Record
from engine.message import ROWS
from engine.values import value

RAW: str = "text/plain"
"""Content type of a row that cannot be read: it is kept as it stands."""


@value(frozen=True, slots=True)
class Naming:
    """What records are called. `key` columns tell one from another; with `details` (name: columns) consecutive rows with the same key are
    one record, those columns its detail rows. `patient_ids` are columns. At most `most_details` rows in one record."""

    origin: str = "file"
    key: Sequence[str] = ()
    patient_ids: Sequence[str] = ()
    details: Mapping[str, Sequence[str]] = field(default_factory=dict)
    most_details: int = 10_000


def pieces(lines: Iterator[Line], naming: Naming) -> Iterator[Piece]:
    """Numbered from 1. Raises what `lines` raises."""
    for number, line in enumerate(_grouped(lines, naming) if naming.details else _keyed(lines, naming), 1):
        yield _piece(number, line, naming)


def _piece(number: int, line: Line, naming: Naming) -> Piece:
    if isinstance(line.content, ParseError):
        return Piece(number, line.raw, RAW, line.number, line.offset, fault=line.content)
    record = line.content
    patients = tuple(str(one) for name in naming.patient_ids if (one := record.row.get(name)) is not None)
    key = "|".join(str(one) for one in record.key.values())
    body = rows.write(record)
    return Piece(number, body, ROWS, line.number, line.offset, record.table, key, record.origin, patients)


def _keyed(lines: Iterator[Line], naming: Naming) -> Iterator[Line]:
    for line in lines:
        yield line._replace(content=_named(line, naming)) if isinstance(line.content, Record) else line


def _named(line: Line, naming: Naming) -> Record | ParseError:
    said = _record(line)
    key = {name: said.row.get(name) for name in naming.key}
    if None in key.values():
        missing = next(name for name, value in key.items() if value is None)
        why = "a column of the key is empty or not there" if missing in said.row else "the heading has no such column, and the key needs it"
        return ParseError(why, location=missing)
    return Record(naming.origin, said.table, said.row, key=key, types=said.types, position=f"line {line.number}")


def _grouped(lines: Iterator[Line], naming: Naming) -> Iterator[Line]:
    """A bad row is told where it stands, and ends no group: the rows around it may belong together."""
    group: list[Line] = []
    bad: list[Line] = []
    for line in _keyed(lines, naming):
        if not isinstance(line.content, Record):
            bad.append(line)
            continue
        if group and (line.content.key != _record(group[0]).key or len(group) >= naming.most_details):
            yield from _ended(group, bad, naming)
            group, bad = [], []
        group.append(line)
    yield from _ended(group, bad, naming)


def _ended(group: list[Line], bad: list[Line], naming: Naming) -> Iterator[Line]:
    if group:
        yield group[0]._replace(content=_whole([_record(line) for line in group], naming), raw=b"".join(line.raw for line in group))
    yield from bad


def _record(line: Line) -> Record:
    assert isinstance(line.content, Record)
    return line.content


def _whole(records: Sequence[Record], naming: Naming) -> Record:
    head = records[0]
    inside = {name: owner for owner, names in naming.details.items() for name in names}
    details = {owner: [_part(one.row, names) for one in records] for owner, names in naming.details.items()}
    details = {owner: [row for row in found if any(value is not None for value in row.values())] for owner, found in details.items()}
    types = {f"{inside[name]}.{name}" if name in inside else name: kind for one in records for name, kind in one.types.items()}
    return replace(head, row={name: one for name, one in head.row.items() if name not in inside}, details=details, types=types)


def _part(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in names}
