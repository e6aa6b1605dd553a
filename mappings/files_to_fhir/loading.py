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
_SETTINGS: Final = ("facility", "authority", "zone")
_FOLDER: Final = Path(__file__).parent / "tables"
_ZONE: Final = re.compile(r"([+-]\d\d:\d\d|Z)?")


@dataclass(frozen=True, slots=True)
class Compiled:
    """`types` by their word in small letters; `documents` is cda-to-fhir, which knows how documents and patients are identified."""

    types: Mapping[str, Row]
    facility: str
    authority: str
    zone: str
    documents: Documents

    @property
    def patient_system(self) -> str:
        """The identifier system of patients' numbers: the same that hl7v2-to-fhir has for that facility and authority (PID-3.4)."""
        found: str = self.documents.compiled.v2.vocabulary.terms.assigners.system(self.authority, "", "", "MR", self.facility)
        return found


def compile_all(site_mappings: Path | None) -> Compiled:
    """Raises ConfigError with every fault."""
    faults: list[Fault] = []
    tables = TableSet(SITE_FOLDER, _FOLDER, site_mappings, faults, _TABLES, {})
    types, settings = tables.by_key("types"), tables.by_key("settings")
    for row in types.values():
        if ":" not in row["system"]:
            faults.append(row.fault(f"{row['system']!r} is no URI"))
    for row in settings.values():
        if row["name"] not in _SETTINGS:
            faults.append(row.fault(f"there is no setting {row['name']!r}", _SETTINGS, row["name"]))
        elif row["name"] == "zone" and not _ZONE.fullmatch(row["value"]):
            faults.append(row.fault(f"{row['value']!r} is no offset such as +08:00"))
    if faults:
        raise ConfigError(faults)
    said = {name: settings[name]["value"] if name in settings else "" for name in _SETTINGS}
    return Compiled({row["type"].lower(): row for row in types.values()}, **said, documents=documents(site_mappings))
