"""The tables of hip-to-fhir, shipped and a site's, compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigError, Fault
from engine.formats.hip.services import SERVICES
from mappings import paths
from mappings.cda_to_fhir import Documents, documents
from mappings.cda_to_fhir.loading import SITE_FOLDER as CDA_FOLDER
from mappings.conditions import Unreadable
from mappings.hip_to_fhir import converters
from mappings.hip_to_fhir.converters import Concepts, Quantities
from mappings.hip_to_fhir.elements import Convert, ElementMap, compile_map
from mappings.hip_to_fhir.identifiers import Identifiers
from mappings.hip_to_fhir.parties import Parties
from mappings.hip_to_fhir.routes import Route, compile_route, services_of
from mappings.hl7v2_to_fhir import loading as v2
from mappings.hl7v2_to_fhir.primitives import unit_map
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, Codes, CodingSystems
from mappings.rules import COLUMNS, constant
from mappings.tables import CODE_COLUMNS, Row, TableSet

TABLES: Final = Path(__file__).parent / "tables"
SITE_FOLDER: Final = "hip-to-fhir"
_FLAT: Final = {
    "routes": ("id", "services", "context", "resource", "map", "write", "links", "key", "when"),
    "identifiers": ("root", "role", "type", "system", "text"),
    "senders": ("sender", "facility", "patients", "orders", "visits"),
    "actions": ("action", "service"),
    "systems": ("name", "uri"),
    "extensions": ("name", "url"),
    "defaults": ("id", "resource", "element", "map"),
}
Defaults = Mapping[str, list[tuple[str, paths.Put, Any]]]


@dataclass(frozen=True, slots=True)
class Compiled:
    """Everything a mapper needs."""

    routes: Mapping[str, tuple[Route, ...]]
    """By service."""
    senders: Mapping[str, Row]
    actions: Mapping[str, str]
    defaults: Defaults
    parties: Parties
    documents: Documents
    v2: v2.Compiled


def _tables(site: Path | None, faults: list[Fault]) -> TableSet:
    return TableSet(SITE_FOLDER, TABLES, site, faults, _FLAT, {"codes": CODE_COLUMNS, "elements": COLUMNS}, closed=("elements",))


class Vocabulary:
    """elements.Vocabulary: converters by the name that rows use."""

    def __init__(self, tables: TableSet, shared: v2.Compiled) -> None:
        terms = shared.vocabulary.terms
        self.systems = CodingSystems({**terms.systems.uris, **{row["name"]: row["uri"] for row in tables.rows("systems")}})
        self.urls = {**shared.vocabulary.urls, **{row["name"]: row["url"] for row in tables.rows("extensions")}}
        self.codes = {name: self._codes(name, tables.rows(f"codes/{name}")) for name in tables.names("codes")}
        roots = {row["root"]: row for row in tables.rows("identifiers")}
        self.identifiers = Identifiers(roots, terms.assigners, self.codes["identity-document"].targets)
        self.parties = Parties(self.identifiers, shared.vocabulary)
        self._concepts = Concepts(self.systems)
        self._plain = self._converters(shared.vocabulary)

    def _codes(self, name: str, rows: list[Row]) -> Codes:
        targets = {row["code"]: {"to": row["to"], "system": self.coding_system(row["system"]), "display": row["display"]} for row in rows}
        return Codes(name, "", targets, not targets)

    def coding_system(self, name: str) -> str:
        return "" if not name else self.systems.uris.get(name) or (name if ":" in name else TERMINOLOGY + name)

    def _converters(self, shared: Any) -> dict[str, Convert]:
        ids, parties = self.identifiers, self.parties
        quantities = Quantities(unit_map(shared.terms.codes["units"], shared.terms), self._concepts)
        numbers = {
            f"Identifier.{role}": ids.identifier(role) for role in ("visit", "order", "application", "staff", "department", "record")
        }
        references = {
            "Reference.order": parties.refers("ServiceRequest", "order"),
            "Reference.parent": parties.refers("", "order"),
            "Reference.application": parties.refers("ServiceRequest", "application"),
            "Reference.Slot": parties.refers("Slot", "slot"),
        }
        return {
            **numbers,
            **references,
            "Identifier.patient": ids.patient(),
            "Identifier.appointment": ids.identifier("appointment"),
            "Identifier.slot": ids.identifier("slot"),
            "Identifier.specimen": ids.identifier("specimen"),
            "Identifier.card": ids.identifier("card", frozenset(("count", "domain", "visit", "patient", "identity"))),
            "string": converters.string,
            "dateTime": converters.date_time,
            "date": converters.date,
            "instant": converters.instant,
            "Period": converters.period,
            "boolean": converters.boolean,
            "integer": converters.integer,
            "Annotation": converters.annotation,
            "text": converters.text_only,
            "Address": converters.address,
            "Quantity": quantities.quantity,
            "Quantity.days": quantities.days,
            "Period.start": converters.part_of_period("start"),
            "Period.end": converters.part_of_period("end"),
            "CodeSystem.url": self._concepts.url,
            "CodeSystem.concept": converters.code_system_concept,
            "value": quantities.any_value,
            "HumanName": parties.names,
            "HumanName.one": parties.name_text,
            "ContactPoint": parties.telecom(""),
            "ContactPoint.home": parties.telecom("home"),
            "ContactPoint.work": parties.telecom("work"),
            "Practitioner": parties.practitioner,
            "PractitionerRole": parties.role,
            "Organization": parties.organization,
            "Organization.employer": parties.employer,
            "Location": parties.place,
            "Device": parties.device,
        }

    def converter(self, name: str, codes: str) -> Convert:
        if codes and codes not in self.codes:
            raise LookupError(f"there is no code table {codes!r}", sorted(self.codes), codes)
        if name in self._plain:
            return self._plain[name]
        table = self.codes[codes] if codes else None
        if name in ("CodeableConcept", "Coding"):
            return self._concepts.concept(table) if name == "CodeableConcept" else self._concepts.coding(table)
        if name != "code":
            raise LookupError(f"there is no map {name!r}", sorted([*self._plain, "CodeableConcept", "Coding", "code"]), name)
        if table is None:
            raise LookupError("the map 'code' needs a code table", sorted(self.codes), "")
        return self._concepts.code(table)


def compile_all(site: Path | None) -> Compiled:
    """Compile everything. Raises ConfigError with every fault."""
    if site is None or not any((site / folder).is_dir() for folder in (SITE_FOLDER, CDA_FOLDER, v2.SITE_FOLDER)):
        return _shipped()
    return _compile(site)


@cache
def _shipped() -> Compiled:
    return _compile(None)


def _compile(site: Path | None) -> Compiled:
    faults: list[Fault] = []
    shared = v2.compile_all(site)
    tables = _tables(site, faults)
    vocabulary = Vocabulary(tables, shared)
    maps = {name: compile_map(name, tables.rows(f"elements/{name}"), vocabulary, faults) for name in tables.names("elements")}
    actions = {row["action"]: row["service"] for row in tables.rows("actions") if _named(row, row["service"], faults)}
    compiled = Compiled(
        _routes(tables, vocabulary, maps, faults),
        {row["sender"]: row for row in tables.rows("senders")},
        actions,
        _defaults(tables, vocabulary, faults),
        vocabulary.parties,
        documents(site),
        shared,
    )
    if faults:
        raise ConfigError(faults)
    return compiled


def _named(row: Row, service: str, faults: list[Fault]) -> bool:
    if service not in SERVICES:
        faults.append(row.fault(f"there is no service {service!r}", sorted(SERVICES), service))
    return service in SERVICES


def _routes(tables: TableSet, vocabulary: Vocabulary, maps: Mapping[str, ElementMap], faults: list[Fault]) -> dict[str, tuple[Route, ...]]:
    found: dict[str, list[Route]] = {}
    for row in tables.rows("routes"):
        names = row["map"].split()
        if unknown := [name for name in names if name not in maps]:
            faults.append(row.fault(f"row {row['id']}: there is no map {unknown[0]!r} in elements/", sorted(maps), unknown[0]))
            continue
        try:
            route = compile_route(row, [maps[name] for name in names], vocabulary.urls)
        except Unreadable as error:
            faults.append(row.fault(f"row {row['id']}: {error}"))
            continue
        for word in row["services"].split():
            if not (named := services_of(word)):
                faults.append(row.fault(f"{word!r} is no service and no subject of services", sorted(SERVICES), word))
            for service in named:
                found.setdefault(service, []).append(route)
    return {service: tuple(routes) for service, routes in found.items()}


def _defaults(tables: TableSet, vocabulary: Vocabulary, faults: list[Fault]) -> Defaults:
    found: dict[str, list[tuple[str, paths.Put, Any]]] = {}
    for row in tables.rows("defaults"):
        try:
            steps = paths.steps(row["element"], vocabulary.urls)
        except Unreadable as error:
            faults.append(row.fault(f"row {row['id']}: {error}"))
            continue
        value = {"extension": [v2.ABSENT]} if row["map"] == "@absent" else constant(row["map"], vocabulary)  # type: ignore[arg-type]
        found.setdefault(row["resource"], []).append((steps[0].name.lstrip("_"), paths.compile_put(steps), value))
    return found
