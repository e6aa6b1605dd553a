"""Rows of tabular files for ``meridian convert``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from engine.contracts import Gathered, Mapper
from engine.errors import MessageError, ParseError
from engine.formats.fhir import dump, parse
from engine.formats.files.delimited import Line, lines
from engine.formats.rows import write


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
    """Its rows, each named by file and line; a file without any says so."""
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
