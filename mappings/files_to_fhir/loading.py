"""The tables of files-to-fhir, with a site's rows laid over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import ConfigError, Fault
from mappings.cda_to_fhir import Documents, documents
from mappings.tables import Row, TableSet

SITE_FOLDER: Final = "files-to-fhir"
_TABLES: Final = {"types": ("type", "system", "code", "display"), "settings": ("name", "value")}
_FOLDER: Final = Path(__file__).parent / "tables"
_ZONE: Final = re.compile(r"([+-]\d\d:\d\d|Z)?")


@dataclass(frozen=True, slots=True)
class Compiled:
    """`types` by their word in small letters; `documents` is cda-to-fhir, which knows how documents and patients are identified."""

    types: Mapping[str, Row]
    facility: str
    zone: str
    documents: Documents


def compile_all(site_mappings: Path | None) -> Compiled:
    """Raises ConfigError with every fault."""
    faults: list[Fault] = []
    tables = TableSet(SITE_FOLDER, _FOLDER, site_mappings, faults, _TABLES, {})
    types, settings = tables.by_key("types"), tables.by_key("settings")
    for row in types.values():
        if ":" not in row["system"]:
            faults.append(row.fault(f"{row['system']!r} is no URI"))
    for row in settings.values():
        if row["name"] not in ("facility", "zone"):
            faults.append(row.fault(f"there is no setting {row['name']!r}", ["facility", "zone"], row["name"]))
        elif row["name"] == "zone" and not _ZONE.fullmatch(row["value"]):
            faults.append(row.fault(f"{row['value']!r} is no offset such as +08:00"))
    if faults:
        raise ConfigError(faults)
    said = {name: settings[name]["value"] if name in settings else "" for name in ("facility", "zone")}
    return Compiled({row["type"].lower(): row for row in types.values()}, said["facility"], said["zone"], documents(site_mappings))
