"""The tables of xdr-to-fhir, with a site's rows laid over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import ConfigError, Fault
from mappings.cda_to_fhir import Documents, documents
from mappings.tables import Row, TableSet

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
    tables = TableSet(SITE_FOLDER, _FOLDER, site_mappings, faults, _TABLES, {})
    systems, sources = tables.by_key("systems"), tables.by_key("sources")
    for row in systems.values():
        if ":" not in row["uri"]:
            faults.append(row.fault(f"{row['uri']!r} is no URI"))
    if faults:
        raise ConfigError(faults)
    return Compiled(systems, sources, documents(site_mappings))
