"""Reads the shipped tables, lays a site's over them, and compiles all of it once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigError, Fault
from mappings import paths
from mappings.conditions import Condition, Unreadable, condition
from mappings.hl7v2_to_fhir import primitives, timing, values
from mappings.hl7v2_to_fhir.context import Convert, Terms, V2Transaction
from mappings.hl7v2_to_fhir.identifiers import Identifiers, hd_endpoint, hd_name
from mappings.hl7v2_to_fhir.people import People
from mappings.hl7v2_to_fhir.references import References, xon_name
from mappings.hl7v2_to_fhir.structure import Route, Routes
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, Assigners, Codes, CodingSystems
from mappings.hl7v2_to_fhir.times import OFFSET, colon
from mappings.rules import COLUMNS, Apply, Map, compile_map, constant
from mappings.tables import CODE_COLUMNS, Row, TableSet
from mappings.transaction import Draft

TABLES: Final = Path(__file__).parent / "tables"
SITE_FOLDER: Final = "hl7v2-to-fhir"
ABSENT: Final = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}

_ROUTE_COLUMNS: Final = ("id", "segment", "message", "resource", "map", "links", "write", "when")
_FLAT: Final = {
    "systems": ("name", "uri"),
    "extensions": ("name", "url"),
    "assigners": ("authority", "system", "facility"),
    "zones": ("facility", "offset"),
    "facilities": ("sent", "facility"),
    "events": ("type", "message"),
    "defaults": ("id", "resource", "element", "map"),
    "messages": _ROUTE_COLUMNS,
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """Everything a mapper needs, and the maps by name for lineage."""

    routes: Routes
    events: dict[str, str]
    zones: dict[str, str]
    facilities: dict[str, str]
    defaults: dict[str, list[tuple[str, paths.Put, Any]]]
    vocabulary: Vocabulary
    maps: dict[str, Map]


def _tables(site: Path | None, faults: list[Fault]) -> TableSet:
    folders = {"codes": CODE_COLUMNS, "segments": COLUMNS, "datatypes": COLUMNS}
    return TableSet(SITE_FOLDER, TABLES, site, faults, _FLAT, folders)


class Vocabulary:
    """Converters by the name that rows use (mappings.rules.Vocabulary)."""

    def __init__(self, tables: TableSet, faults: list[Fault]) -> None:
        self.urls: Mapping[str, str] = {row["name"]: row["url"] for row in tables.rows("extensions")}
        systems = CodingSystems({row["name"]: row["uri"] for row in tables.rows("systems")})
        rows = {(row["authority"], row["facility"] or "*"): row["system"] for row in tables.rows("assigners")}
        codes = {name: _codes(name, tables.rows(f"codes/{name}"), systems) for name in tables.names("codes")}
        self.terms = Terms(codes, systems, Assigners(rows))
        self._by_codes: dict[tuple[str, str], Convert] = {}
        self._identifiers = Identifiers(self.terms)
        self._people = People(self.terms)
        self.references = References(self.terms, self._identifiers, self._people)
        self._plain = self._converters()
        self._coded: dict[str, Callable[[Codes | None], Convert]] = {
            "CWE": lambda codes: primitives.concept_map(codes, self.terms),
            "CWE.sub": lambda codes: _sub(primitives.concept_map(codes, self.terms)),
            "Coding": lambda codes: primitives.coding_map(codes, self.terms),
            "code": lambda codes: primitives.code_map(_needed(codes), self.terms),
        }
        units = primitives.unit_map(codes["units"], self.terms)
        reader = values.Values(primitives.concept_map(codes["tests"], self.terms), units)
        self._special: dict[str, tuple[Apply, tuple[int, ...]]] = {
            "@observation-value": (reader.value, (2, 6)),
            "@reference-range": (reader.reference_range, (6,)),
            "@procedure-end": (timing.procedure_end, ()),
            "@accession": (self._identifiers.accession, (3,)),
        }
        for name in tables.names("datatypes"):
            compiled = compile_map(name, name, tables.rows(f"datatypes/{name}"), self, faults)
            self._plain[name] = _data_type(name, compiled)

    def _converters(self) -> dict[str, Convert]:
        ids, people, refs, terms = self._identifiers, self._people, self.references, self.terms
        quantity = primitives.quantity_map(terms.codes["units"], terms)
        to = refs.converter
        return {
            "string": primitives.string,
            "text": primitives.string,
            "text.all": primitives.all_text,
            "boolean": primitives.boolean,
            "integer": primitives.integer,
            "positiveInt": primitives.positive,
            "date": primitives.date,
            "dateTime": primitives.date_time,
            "dateTime.first": primitives.date_time,
            "instant": primitives.instant,
            "time": primitives.time,
            "days": primitives.days,
            "language": primitives.language,
            "unknown": primitives.nobody_knows,
            "CWE.text": primitives.first_text,
            "CWE.identifier": ids.coded,
            "CQ": quantity,
            "CQ.sub": _sub(quantity),
            "DR": values.period_of,
            "CX": ids.cx,
            "CX.value": ids.cx_value,
            "CX.policy": ids.policy,
            "EI": ids.ei,
            "EI.sub": ids.ei_sub,
            "EIP.group": ids.group,
            "DLN": ids.license,
            "national-number": ids.national_number,
            "XPN": people.xpn,
            "XPN.all": people.names,
            "XPN.text": people.name_text,
            "XTN": people.xtn(""),
            "XTN.home": people.xtn("home"),
            "XTN.work": people.xtn("work"),
            "XON.name": xon_name,
            "HD.name": hd_name,
            "HD.endpoint": hd_endpoint,
            "TQ": timing.tq,
            "RPT": timing.rpt,
            "Practitioner": to(refs.practitioner),
            "Practitioner.NDL": to(refs.practitioner_ndl),
            "Organization": to(refs.organization),
            "Organization.HD": to(refs.organization_hd),
            "Organization.CX": to(refs.organization_cx),
            "Organization.CWE": to(refs.organization_coded),
            "Location": to(refs.location),
            "Location.NDL": to(refs.location_ndl),
            "Location.HD": to(refs.location_hd),
            "Location.DLD": to(refs.discharged_to),
            "Device": to(refs.device),
            "Device.HD": to(refs.device_hd),
            "Device.CWE": to(refs.device_coded),
            "Reference.EIP": ids.eip_reference("ServiceRequest"),
            "Reference.Specimen": ids.eip_reference("Specimen"),
            "Reference.Specimen.first": ids.eip_first("Specimen"),
            "minutes-from": timing.procedure_start,
        }

    def converter(self, name: str, codes: str) -> Convert:
        """The converter for a row's map and codes. Raises LookupError(text, allowed, wrong)."""
        known = self._by_codes.get((name, codes))
        if known is not None:
            return known
        if codes and codes not in self.terms.codes:
            raise LookupError(f"there is no code table {codes!r}", sorted(self.terms.codes), codes)
        if name in self._plain:
            return self._plain[name]
        if name not in self._coded:
            raise LookupError(f"there is no data type map {name!r}", sorted([*self._plain, *self._coded, *self._special]), name)
        if name == "code" and not codes:
            raise LookupError("the map 'code' needs a code table", sorted(self.terms.codes), "")
        made = self._by_codes[name, codes] = self._coded[name](self.terms.codes[codes] if codes else None)
        return made

    def coding_system(self, name: str) -> str:
        found = self.terms.systems.uris.get(name)
        return found or (name if ":" in name else TERMINOLOGY + name)

    def special(self, name: str) -> tuple[Apply, tuple[int, ...]]:
        if name not in self._special:
            raise LookupError(f"there is no rule {name!r}", sorted(self._special), name)
        return self._special[name]


def _needed(codes: Codes | None) -> Codes:
    if codes is None:
        raise LookupError("the map 'code' needs a code table", (), "")
    return codes


def _sub(convert: Convert) -> Convert:
    """A type that stands inside another one, its parts separated by subcomponent delimiters."""
    return lambda text, tx: convert(text.replace("&", "^"), tx)


def _data_type(name: str, compiled: Map) -> Convert:
    """A converter of a data type table: components are its fields, subcomponents their components."""

    def convert(text: str, tx: V2Transaction) -> Any:
        parts = [name, *text.split("^")]
        if "&" in text:
            parts = [part.replace("&", "^") for part in parts]
        draft = Draft("", "", name, parts, {})
        del draft.body["resourceType"]
        compiled.apply(parts, draft, tx, {name: parts})
        return draft.body or None

    return convert


def _codes(name: str, rows: list[Row], systems: CodingSystems) -> Codes:
    system = next((row["to"] for row in rows if row["code"] == "@system"), "")
    targets = {}
    for row in rows:
        if row["code"] != "@system":
            word = row["system"]
            uri = "" if not word else systems.uris.get(word) or (word if ":" in word else TERMINOLOGY + word)
            targets[row["code"]] = {"to": row["to"], "system": uri, "display": row["display"]}
    return Codes(name, system, targets, not targets)


def compile_all(site: Path | None) -> Compiled:
    """Compile everything. Raises ConfigError with every fault."""
    if site is None or not (site / SITE_FOLDER).is_dir():
        return _shipped()
    return _compile(site)


@cache
def _shipped() -> Compiled:
    return _compile(None)


def _compile(site: Path | None) -> Compiled:
    faults: list[Fault] = []
    tables = _tables(site, faults)
    vocabulary = Vocabulary(tables, faults)
    routes = tables.rows("messages")
    maps: dict[str, Map] = {}
    compiled_routes = _routes(routes, tables, vocabulary, maps, faults)
    unused = set(tables.names("segments")) - set(maps)
    for name in sorted(unused):
        faults.append(Fault(f"segments/{name}.csv", 0, "no row of messages.csv uses this map", ", ".join(sorted(maps)), ""))
    events = {row["type"]: row["message"] for row in tables.rows("events")}
    facilities = {row["sent"]: row["facility"] for row in tables.rows("facilities")}
    compiled = Compiled(
        compiled_routes, events, _zones(tables, faults), facilities, _defaults(tables, vocabulary, faults), vocabulary, maps
    )
    if faults:
        raise ConfigError(faults)
    return compiled


def _zones(tables: TableSet, faults: list[Fault]) -> dict[str, str]:
    zones = {}
    for row in tables.rows("zones"):
        if not OFFSET.fullmatch(row["offset"]):
            faults.append(row.fault(f"{row['offset']!r} is not an offset from UTC", ("+08:00", "-05:00")))
        zones[row["facility"]] = colon(row["offset"])
    return zones


def _defaults(tables: TableSet, vocabulary: Vocabulary, faults: list[Fault]) -> dict[str, list[tuple[str, paths.Put, Any]]]:
    found: dict[str, list[tuple[str, paths.Put, Any]]] = {}
    for row in tables.rows("defaults"):
        try:
            steps = paths.steps(row["element"], vocabulary.urls)
        except Unreadable as error:
            faults.append(row.fault(f"row {row['id']}: {error}"))
            continue
        value = {"extension": [ABSENT]} if row["map"] == "@absent" else constant(row["map"], vocabulary)
        found.setdefault(row["resource"], []).append((steps[0].name.lstrip("_"), paths.compile_put(steps), value))
    return found


def _routes(rows: list[Row], tables: TableSet, vocabulary: Vocabulary, maps: dict[str, Map], faults: list[Fault]) -> Routes:
    found: dict[tuple[str, str], list[Route]] = {}
    known = tables.names("segments")
    for row in rows:
        segment = row["segment"].split("@", 1)[0]
        if row["map"] not in known:
            faults.append(row.fault(f"row {row['id']}: there is no map {row['map']!r} in segments/", known, row["map"]))
            continue
        if row["map"] not in maps:
            maps[row["map"]] = compile_map(row["map"], segment, tables.rows(f"segments/{row['map']}"), vocabulary, faults)
        try:
            route = _route(row, maps[row["map"]], vocabulary)
        except Unreadable as error:
            faults.append(row.fault(f"row {row['id']}: {error}"))
            continue
        for family in row["message"].split():
            found.setdefault((family, row["segment"]), []).append(route)
    return {key: tuple(routes) for key, routes in found.items()}


def _route(row: Row, compiled: Map, vocabulary: Vocabulary) -> Route:
    forward, reverse = [], []
    for link in row["links"].split():
        path, mark, kind = link.partition("=")
        if mark:
            forward.append((paths.compile_put(paths.steps(path, vocabulary.urls)), kind))
        else:
            kind, _, path = link.partition(".")
            reverse.append((paths.compile_put(paths.steps(path, vocabulary.urls)), kind))
    if row["write"] not in ("put", "create"):
        raise Unreadable(f"write is 'put' or 'create', not {row['write']!r}")
    when: Condition | None = condition(row["when"]) if row["when"] else None
    resource = row["resource"]
    return Route(row, resource.lstrip("+"), resource.startswith("+"), compiled, tuple(forward), tuple(reverse), row["write"], when)
