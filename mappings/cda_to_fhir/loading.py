"""The tables of cda-to-fhir, shipped and a site's, compiled once; what hl7v2-to-fhir knows of numbers, people and units comes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from engine.errors import ConfigError, Fault
from mappings.hl7v2_to_fhir import loading as v2
from mappings.tables import CODE_COLUMNS, Row, TableSet

TABLES: Final = Path(__file__).parent / "tables"
SITE_FOLDER: Final = "cda-to-fhir"
_FLAT: Final = {
    "systems": ("name", "uri"),
    "identifiers": ("root", "role", "type", "system"),
    "documents": ("code", "title", "category", "display", "medication", "report"),
    "sections": ("code", "role", "category", "display"),
    "templates": ("root", "role", "name"),
    "elements": ("element", "role", "to", "display", "unit"),
}
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


def _rows(tables: TableSet, name: str) -> dict[str, Row]:
    rows = tables.by_key(name)
    for row in rows.values() if name in _ROLES else ():
        if row["role"] not in _ROLES[name]:
            tables.faults.append(row.fault(f"there is no role {row['role']!r}", sorted(_ROLES[name] - {""}), row["role"]))
    return rows


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
    tables = TableSet(SITE_FOLDER, TABLES, site, faults, _FLAT, {"codes": CODE_COLUMNS}, closed=("codes",))
    flat = {name: _rows(tables, name) for name in _FLAT}
    codes = {name: tables.by_key(f"codes/{name}") for name in tables.names("codes")}
    if faults:
        raise ConfigError(faults)
    systems = {name: row["uri"] for name, row in flat.pop("systems").items()}
    return Compiled(systems=systems, codes=codes, v2=shared, **flat)
