"""The rows of records.csv, compiled: which element of an ASTM record goes where in an OUL^R22."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import ConfigError, Fault
from engine.formats.astm import parse_path
from mappings import instruments
from mappings.conditions import ELEMENT, Unreadable
from mappings.instruments import Instruments
from mappings.tables import Row, overlay, read

_RECORDS: Final = Path(__file__).parent / "tables" / "records.csv"
SITE_FOLDER: Final = "astm-to-fhir"
_FILE: Final = "records.csv"
_COLUMNS: Final = ("id", "source", "target", "map")
_MAPS: Final = ("", "components", "repeats", "people")
_SOURCE: Final = re.compile(r"[HPORC]-\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled row of records.csv."""

    row: Row
    record: str
    source_field: int
    source_component: int
    segment: str
    field: int
    component: int
    map: str


def compile_rule(row: Row) -> Rule:
    """Raises Unreadable or ValueError with what is wrong."""
    if row["map"] not in _MAPS and not row["map"].startswith("id:"):
        raise Unreadable(f"there is no map {row['map']!r}; there are {', '.join(_MAPS[1:])}, id:TYPE")
    if not _SOURCE.fullmatch(row["source"]):
        raise Unreadable(f"source {row['source']!r} is no element of a record H, P, O, R or C such as R-4 or O-16.2")
    path, into = parse_path(row["source"]), ELEMENT.fullmatch(row["target"])
    if into is None or not into[2]:
        raise Unreadable(f"target {row['target']!r} is no element of a segment such as OBX-19.1")
    return Rule(row, path.record, path.field, path.component, into[1], int(into[2]), int(into[3] or 0), row["map"])


def rules(site: Path | None, faults: list[Fault]) -> tuple[Rule, ...]:
    """The shipped rows with those of a site's file laid over them."""
    rows: Sequence[Row] = read(_RECORDS, _COLUMNS, faults)
    if site is not None and site.exists():
        rows = overlay([*rows], read(site, _COLUMNS, faults, site=True), _COLUMNS, faults)
    compiled = []
    for row in rows:
        try:
            compiled.append(compile_rule(row))
        except ValueError as error:
            faults.append(row.fault(f"row {row['id']}: {error}"))
    return tuple(compiled)


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that a translation looks up."""

    rules: Sequence[Rule]
    instruments: Instruments


def load(site_mappings: Path | None) -> Tables:
    """Raises ConfigError with every fault of a site's files."""
    faults: list[Fault] = []
    folder = site_mappings / SITE_FOLDER if site_mappings is not None else None
    tables = Tables(rules(folder / _FILE if folder is not None else None, faults), instruments.load(folder, (_FILE,), faults))
    if faults:
        raise ConfigError(faults)
    return tables
