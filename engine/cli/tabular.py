"""Rows of tabular files, and JSON objects, for ``meridian convert`` with rules for rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

from engine.contracts import Gathered, Mapper
from engine.errors import MessageError, ParseError
from engine.formats.fhir import dump, parse
from engine.formats.files.delimited import Line, lines
from engine.formats.rows import write

_LINES: Final = (".ndjson", ".jsonl")


class Per(StrEnum):
    """What one Bundle is of."""

    ROW = "row"
    FILE = "file"


Failure = tuple[Gathered, MessageError]


@dataclass(frozen=True)
class Tabular:
    """How tabular files are read."""

    encoding: str
    delimiter: str


def of_file(one: Gathered, tabular: Tabular) -> Iterator[Gathered]:
    """Its rows, each named by file and line. NAME.json is one record or object, and so is what begins with a brace on standard input;
    NAME.ndjson (.jsonl) has one on each line."""
    ending = Path(one.source).suffix.lower()
    if one.source == "-":
        body = one.read()
        ending = ".json" if body.lstrip().startswith(b"{") else ""
        one = replace(one, read=lambda: body)
    if ending == ".json":
        yield one
    elif ending in _LINES:
        yield from _objects(one)
    else:
        yield from _rows(one, tabular)


def _objects(one: Gathered) -> Iterator[Gathered]:
    for number, line in enumerate(one.read().split(b"\n"), 1):
        if line.strip():
            yield Gathered(f"{one.name}-{number}", f"{one.source}:{number}", partial(bytes, line))


def _rows(one: Gathered, tabular: Tabular) -> Iterator[Gathered]:
    """A file without any says so."""
    line = None
    try:
        for line in lines(one.read(), one.name, encoding=tabular.encoding, delimiter=tabular.delimiter):
            yield Gathered(f"{one.name}-{line.number}", f"{one.source}:{line.number}", partial(_body, line))
    except (ParseError, LookupError) as error:
        yield Gathered(one.name, one.source, partial(_refuse, error))
    else:
        if line is None:
            yield Gathered(one.name, one.source, partial(_refuse, ParseError("there is a heading, and no row below it")))


def _body(line: Line) -> bytes:
    if isinstance(line.content, MessageError):
        raise line.content
    return write(line.content)


def _refuse(error: Exception) -> bytes:
    raise error if isinstance(error, MessageError) else ParseError(f"there is no such encoding: {error}")


def of_whole_files(inputs: Iterable[Gathered], tabular: Tabular, mapper: Mapper) -> Iterator[tuple[Gathered, bytes, list[Failure]]]:
    """For each file one transaction of all its rows, with what failed. A resource that several rows tell of is there once, and each row
    adds what those before it lack."""
    for one in inputs:
        entries: dict[str, dict[str, Any]] = {}
        failures: list[Failure] = []
        for row in of_file(one, tabular):
            try:
                _add(entries, parse(mapper.map(row.read()).body))
            except MessageError as error:
                failures.append((row, error))
        made = {"resourceType": "Bundle", "type": "transaction", "entry": list(entries.values())}
        yield one, dump(made) if entries else b"", failures


def _add(entries: dict[str, dict[str, Any]], bundle: dict[str, Any]) -> None:
    for entry in bundle["entry"]:
        there = entries.setdefault(entry["fullUrl"], entry)
        if there is not entry:
            for name, value in entry["resource"].items():
                there["resource"].setdefault(name, value)
