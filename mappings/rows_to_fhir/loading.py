"""A site's rules files, code tables and lookups, compiled once."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from engine.documents import read_yaml
from engine.errors import ConfigError, Fault
from engine.options import Place, Settings
from mappings.hl7v2_to_fhir import loading as v2
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, Codes
from mappings.rows_to_fhir.compiling import Compiler, Made, Vocabulary
from mappings.rows_to_fhir.converters import converters
from mappings.rows_to_fhir.definitions import needs
from mappings.rows_to_fhir.options import RULES
from mappings.rows_to_fhir.views import Columns
from mappings.tables import Row, read

SITE_FOLDER: Final = "rows-to-fhir"
_CODE_COLUMNS: Final = ("code", "to", "system", "display")
_MOST_LOOKED_UP: Final = 200_000
_PROVIDED: Final = frozenset(("meta", "text", "id"))


@dataclass(frozen=True)
class RulesFile:
    """One compiled."""

    name: str
    settings: Settings
    resources: tuple[Made, ...]

    @cached_property
    def reads(self) -> frozenset[str]:
        """The columns of the row that its elements are made of."""
        sources = {
            source for made in self.resources for source in (*made.key_sources, *(one for rule in made.rules for one in rule.sources))
        }
        return frozenset(source.removeprefix("row.") for source in sources if source.startswith("row."))


@dataclass(frozen=True)
class Compiled:
    """`tables`: table -> the rules for it; of a single file, "" -> its rules, whatever the table."""

    tables: Mapping[str, RulesFile]
    shared: v2.Compiled

    @cached_property
    def objects(self) -> Sequence[RulesFile]:
        """Those for JSON objects, those that look closer first."""
        found = {id(rules): rules for rules in self.tables.values() if rules.settings.json is not None}
        return sorted(found.values(), key=lambda rules: (-len(rules.settings.json.when), rules.name))


def compile_site(site: Path | None) -> Compiled:
    """SITE/mappings/rows-to-fhir/*.yaml. Raises ConfigError with every fault."""
    shared = v2.compile_all(site)
    folder = site / SITE_FOLDER if site is not None else None
    if folder is None or not folder.is_dir():
        return Compiled({}, shared)
    faults: list[Fault] = []
    codes = _codes(folder / "codes", shared, faults)
    tables: dict[str, RulesFile] = {}
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        made = _rules(file, shared, codes, faults)
        for table in made.settings.table if made is not None else ():
            if made is not None and tables.setdefault(table, made) is not made:
                line = made.settings.lines.get("table", 0)
                faults.append(Fault(str(file), line, f"the table {table!r} has rules in {tables[table].name} already"))
    if faults:
        raise ConfigError(faults)
    return Compiled(tables, shared)


def compile_file(file: Path, site: Path | None = None) -> Compiled:
    """One rules file for rows of any table, with the code tables beside it. Raises ConfigError with every fault."""
    shared = v2.compile_all(site)
    faults: list[Fault] = []
    made = _rules(file, shared, _codes(file.parent / "codes", shared, faults), faults)
    if faults or made is None:
        raise ConfigError(faults or f"{file} cannot be used")
    return Compiled({"": made}, shared)


def _codes(folder: Path, shared: v2.Compiled, faults: list[Fault]) -> dict[str, Codes]:
    """The site's own over those that are shipped for HL7 v2."""
    found = dict(shared.vocabulary.terms.codes)
    for file in sorted(folder.glob("*.csv")):
        rows = read(file, _CODE_COLUMNS, faults, site=True)
        system = next((row["to"] for row in rows if row["code"] == "@system"), "")
        targets = {
            row["code"]: {"to": row["to"], "system": _system(row["system"], shared), "display": row["display"]}
            for row in rows
            if row["code"] != "@system"
        }
        found[file.stem] = Codes(file.stem, system, targets, not targets)
    return found


def _system(name: str, shared: v2.Compiled) -> str:
    known = shared.vocabulary.terms.systems.uris.get(name)
    return "" if not name else known or (name if ":" in name else TERMINOLOGY + name)


def _rules(file: Path, shared: v2.Compiled, codes: Mapping[str, Codes], faults: list[Fault]) -> RulesFile | None:
    before = len(faults)
    document = read_yaml(file, str(file), faults)
    if len(faults) > before:
        return None
    settings = RULES.parse(document, Place(str(file), 1, "", file.parent), faults)
    if len(faults) > before:
        return None
    lookups = {name: _lookup(file, name, settings.lookups[name], faults) for name in settings.lookups}
    vocabulary = Vocabulary(converters(shared), codes, lookups, shared.vocabulary.urls, shared.vocabulary.coding_system)
    details = sorted({column.partition(".")[0] for column in settings.columns if "." in column})
    made = Compiler(str(file), settings, Columns(settings.columns, details), vocabulary, faults).resources()
    for one in made:
        _check_required(file, one, shared, faults)
    return RulesFile(file.name, settings, tuple(made)) if len(faults) == before else None


def _check_required(file: Path, made: Made, shared: v2.Compiled, faults: list[Fault]) -> None:
    """What a resource cannot be without, and no default says."""
    said = {rule.target.partition(".")[0].partition("[")[0] for rule in made.rules}
    said |= {element.lstrip("_") for element, _, _ in shared.defaults.get(made.kind, ())} | _PROVIDED
    for element, names in needs(made.kind):
        if not said & set(names):
            text = f"resource {made.name}: a {made.kind} needs {element.choice or element.name!r}"
            faults.append(Fault(str(file), made.line, text, ", ".join(element.codes)))


def _lookup(rules: Path, name: str, settings: Settings, faults: list[Fault]) -> dict[str, dict[str, str]]:
    """Key -> row. A key that is there twice would be a guess."""
    file = rules.parent / settings.file
    where = Row(str(rules), settings.lines.get("file", 0), {})
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            return _looked_up(csv.DictReader(opened), file, settings.key, where, faults)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        faults.append(
            where.fault(f"lookup {name}: {settings.file} cannot be read: {getattr(error, 'strerror', None) or 'no CSV in UTF-8'}")
        )
        return {}


def _looked_up(rows: csv.DictReader[Any], file: Path, key: str | None, where: Row, faults: list[Fault]) -> dict[str, dict[str, str]]:
    heading = list(rows.fieldnames or [])
    column = key or (heading[0] if heading else "")
    if column not in heading:
        faults.append(where.fault(f"{file.name} has no column {column!r}", heading, column))
        return {}
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if row[column] in found:
            faults.append(Fault(str(file), rows.line_num, f"the key {column} is there twice"))
        found[row[column]] = {name: row[name] or "" for name in heading}
        if len(found) > _MOST_LOOKED_UP:
            faults.append(
                where.fault(f"{file.name} has more than {_MOST_LOOKED_UP} rows: read them with the row, as details of the source")
            )
            return {}
    return found
