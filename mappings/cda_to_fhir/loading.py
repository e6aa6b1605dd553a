"""The tables of cda-to-fhir, shipped and a site's, compiled once; what hl7v2-to-fhir knows of numbers, people and units comes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from engine.errors import ConfigError, Fault
from mappings.hl7v2_to_fhir import loading as v2
from mappings.tables import Row, overlay, read

TABLES: Final = Path(__file__).parent / "tables"
SITE_FOLDER: Final = "cda-to-fhir"
_CODE_COLUMNS: Final = ("code", "to", "system", "display")
_FLAT: Final = {
    "systems": ("name", "uri"),
    "identifiers": ("root", "role", "type", "system"),
    "documents": ("code", "title", "category", "display", "medication", "report"),
    "sections": ("code", "role", "category", "display"),
    "templates": ("root", "role", "name"),
    "elements": ("element", "role", "to", "display", "unit"),
}
_CODES: Final = ("units", "gender", "currency", "negations", "tests")
_ROLES: Final = {
    "sections": frozenset(
        ("problem", "diagnosis", "allergy", "medication", "immunization", "result", "vital", "procedure", "social", "family", "plan")
    )
    | {"observation", ""},
    "templates": frozenset(
        ("concern", "problem", "allergy", "medication", "immunization", "result", "vital", "social", "family", "procedure", "reaction")
    )
    | {"severity", "criticality", "status", "indication", "instruction", "comment", "refusal", "age"},
    "elements": frozenset(
        ("condition", "condition-name", "allergy-flag", "allergy", "procedure", "procedure-name", "item", "value", "unit", "finding")
    )
    | {"vital", "observation"},
    "identifiers": frozenset(
        ("patient", "order", "report", "specimen", "prescription", "staff", "department", "organization", "bed", "room", "ward", "document")
    ),
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """Everything the rules look things up in; rows are by their key column."""

    systems: Mapping[str, str]
    identifiers: Mapping[str, Row]
    documents: Mapping[str, Row]
    sections: Mapping[str, Row]
    templates: Mapping[str, Row]
    elements: Mapping[str, Row]
    codes: Mapping[str, Mapping[str, Row]]
    v2: v2.Compiled


class _Tables:
    def __init__(self, site: Path | None, faults: list[Fault]) -> None:
        self._site = site / SITE_FOLDER if site is not None and (site / SITE_FOLDER).is_dir() else None
        self._faults = faults
        known = [f"{name}.csv" for name in _FLAT] + [f"codes/{name}.csv" for name in _CODES]
        for path in sorted(self._site.rglob("*.csv")) if self._site else ():
            relative = path.relative_to(self._site or path).as_posix()
            if relative not in known:
                faults.append(Row(str(path), 0, {}).fault("is no table of this mapping", known, relative))

    def rows(self, name: str, columns: tuple[str, ...]) -> dict[str, Row]:
        shipped = TABLES / f"{name}.csv"
        rows = read(shipped, columns, self._faults) if shipped.exists() else []
        mine = self._site / f"{name}.csv" if self._site else None
        if mine is not None and mine.exists():
            rows = overlay(rows, read(mine, columns, self._faults, site=True), columns, self._faults)
        for row in rows:
            allowed = _ROLES.get(name)
            if allowed is not None and row["role"] not in allowed:
                self._faults.append(row.fault(f"there is no role {row['role']!r}", sorted(allowed - {""}), row["role"]))
        return {row[columns[0]]: row for row in rows}


def compile_all(site: Path | None) -> Compiled:
    """Compile everything. Raises ConfigError with every fault."""
    if site is None or not ((site / SITE_FOLDER).is_dir() or (site / v2.SITE_FOLDER).is_dir()):
        return _shipped()
    return _compile(site)


@cache
def _shipped() -> Compiled:
    return _compile(None)


def _compile(site: Path | None) -> Compiled:
    faults: list[Fault] = []
    shared = v2.compile_all(site)
    tables = _Tables(site, faults)
    flat = {name: tables.rows(name, columns) for name, columns in _FLAT.items()}
    codes = {name: tables.rows(f"codes/{name}", _CODE_COLUMNS) for name in _CODES}
    if faults:
        raise ConfigError(faults)
    systems = {name: row["uri"] for name, row in flat.pop("systems").items()}
    return Compiled(systems=systems, codes=codes, v2=shared, **flat)
