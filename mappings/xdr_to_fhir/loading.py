"""The tables of xdr-to-fhir, with a site's rows laid over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import ConfigError, Fault
from mappings.cda_to_fhir import Documents, documents
from mappings.tables import Row, overlay, read

SITE_FOLDER: Final = "xdr-to-fhir"
_TABLES: Final = {"systems": ("scheme", "uri"), "sources": ("source", "facility")}
_FOLDER: Final = Path(__file__).parent / "tables"


@dataclass(frozen=True, slots=True)
class Compiled:
    """Rows by their first column; `documents` is cda-to-fhir."""

    systems: Mapping[str, Row]
    sources: Mapping[str, Row]
    documents: Documents


def compile_all(site_mappings: Path | None) -> Compiled:
    """Raises ConfigError with every fault."""
    faults: list[Fault] = []
    folder = site_mappings / SITE_FOLDER if site_mappings is not None else None
    known = [f"{name}.csv" for name in _TABLES]
    for path in sorted(folder.rglob("*.csv")) if folder is not None else ():
        if path.name not in known or path.parent != folder:
            faults.append(Row(str(path), 0, {}).fault("is no table of this mapping", known, path.name))
    tables = {name: _rows(name, columns, folder, faults) for name, columns in _TABLES.items()}
    for row in tables["systems"].values():
        if ":" not in row["uri"]:
            faults.append(row.fault(f"{row['uri']!r} is no URI"))
    if faults:
        raise ConfigError(faults)
    return Compiled(tables["systems"], tables["sources"], documents(site_mappings))


def _rows(name: str, columns: tuple[str, ...], folder: Path | None, faults: list[Fault]) -> dict[str, Row]:
    rows = read(_FOLDER / f"{name}.csv", columns, faults)
    own = folder / f"{name}.csv" if folder is not None else None
    if own is not None and own.exists():
        rows = overlay(rows, read(own, columns, faults, site=True), columns, faults)
    return {row[columns[0]]: row for row in rows}
