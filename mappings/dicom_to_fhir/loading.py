"""The tables of dicom-to-fhir, shipped and a site's, compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigError, Fault
from mappings.dicom_to_fhir import converters
from mappings.dicom_to_fhir.attributes import AttributeMap, Convert, compile_map
from mappings.dicom_to_fhir.context import DicomTransaction, Found
from mappings.dicom_to_fhir.converters import Concepts, order_number, patient_number, xpn
from mappings.dicom_to_fhir.people import People
from mappings.hl7v2_to_fhir import loading as v2
from mappings.hl7v2_to_fhir.context import clean, escaped
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, Codes, CodingSystems, coding
from mappings.rules import COLUMNS
from mappings.tables import CODE_COLUMNS, Row, TableSet
from mappings.transaction import Body, Unfit

TABLES: Final = Path(__file__).parent / "tables"
SITE_FOLDER: Final = "dicom-to-fhir"
_FLAT: Final = {
    "senders": ("sender", "facility", "patients", "orders", "endpoint", "charset"),
    "systems": ("name", "uri"),
    "roles": ("concept", "role"),
}
ATTRIBUTES: Final = ("Patient", "ImagingStudy", "Series", "Instance", "Device", "ServiceRequest", "DiagnosticReport")


@dataclass(frozen=True, slots=True)
class Compiled:
    """Everything a mapper needs."""

    maps: Mapping[str, AttributeMap]
    senders: Mapping[str, Row]
    roles: Mapping[str, str]
    concepts: Concepts
    people: People
    organization: Any
    v2: v2.Compiled


def _tables(site: Path | None, faults: list[Fault]) -> TableSet:
    return TableSet(SITE_FOLDER, TABLES, site, faults, _FLAT, {"codes": CODE_COLUMNS, "attributes": COLUMNS}, closed=("attributes",))


class Vocabulary:
    """attributes.Vocabulary: converters by the name that rows use."""

    def __init__(self, tables: TableSet, shared: v2.Compiled) -> None:
        uris = {**shared.vocabulary.terms.systems.uris, **{row["name"]: row["uri"] for row in tables.rows("systems")}}
        self.systems = CodingSystems(uris)
        self.urls = shared.vocabulary.urls
        self.codes = {name: self._codes(name, tables.rows(f"codes/{name}")) for name in tables.names("codes")}
        self.concepts = Concepts(self.systems, self.codes["concepts"])
        self._v2 = shared.vocabulary
        self.people = People(shared.vocabulary)
        self._plain = self._converters()

    def _codes(self, name: str, rows: list[Row]) -> Codes:
        targets = {row["code"]: {"to": row["to"], "system": self.coding_system(row["system"]), "display": row["display"]} for row in rows}
        return Codes(name, "", targets, not targets)

    def coding_system(self, name: str) -> str:
        return "" if not name else self.systems.uris.get(name) or (name if ":" in name else TERMINOLOGY + name)

    def _converters(self) -> dict[str, Convert]:
        cx, ei, names = (self._v2.converter(name, "") for name in ("CX", "EI", "XPN"))
        location, organization = self._v2.converter("Location", ""), self._v2.converter("Organization.HD", "")

        def numbered(issuer: int) -> Convert:
            return lambda found, tx: ei(order_number(found[0], found[2], issuer, tx), tx)

        def department(found: Found, tx: DicomTransaction) -> Any:
            house = clean(found[0].text(0x00080080)) or tx.facility
            return location(f"{escaped(found[2])}^^^{escaped(house)}", tx)

        return {
            "string": converters.string,
            "word": converters.word,
            "date": converters.date,
            "dateTime": converters.date_time,
            "instant": converters.instant,
            "integer": converters.integer,
            "uid": converters.uid,
            "oid": converters.oid,
            "Identifier.uid": converters.study_identifier,
            "Coding.sop-class": converters.sop_class,
            "CodeableConcept": lambda found, tx: self.concepts.concept(found[2], tx),
            "Coding": lambda found, tx: self.concepts.coding(found[2], tx),
            "HumanName": lambda found, tx: [name for text in xpn(found[2]) if (name := names(text, tx))] or None,
            "Practitioner": self.people.named,
            "Identifier.patient": lambda found, tx: cx(patient_number(found[0], clean(found[2]), tx), tx),
            "Identifier.accession": numbered(0x00080051),
            "Identifier.placer": numbered(0x00400026),
            "Identifier.filler": numbered(0x00400027),
            "Location": department,
            "Organization": lambda found, tx: organization(escaped(found[2]), tx),
            "text": lambda found, tx: {"text": clean(found[2])} if clean(found[2]) else None,
        }

    def converter(self, name: str, codes: str) -> Convert:
        if codes and codes not in self.codes:
            raise LookupError(f"there is no code table {codes!r}", sorted(self.codes), codes)
        if name in self._plain:
            return self._plain[name]
        coded = {"code": _code, "Coding.of": _coding, "CodeableConcept.of": _concept}
        if name not in coded:
            raise LookupError(f"there is no map {name!r}", sorted([*self._plain, *coded]), name)
        if not codes:
            raise LookupError(f"the map {name!r} needs a code table", sorted(self.codes), "")
        return coded[name](self.codes[codes])


def _code(codes: Codes) -> Convert:
    def convert(found: Found, tx: DicomTransaction) -> Any:
        row = codes.targets.get(found[2].upper())
        return row["to"] if row else Unfit(clean(found[2]))

    return convert


def _coding(codes: Codes) -> Convert:
    """A CS as a Coding; what the table has not stays as DICOM's own code."""

    def convert(found: Found, tx: DicomTransaction) -> Body:
        row = codes.targets.get(found[2].upper())
        return coding(row["system"], row["to"], row["display"]) if row else {"display": clean(found[2])}

    return convert


def _concept(codes: Codes) -> Convert:
    def convert(found: Found, tx: DicomTransaction) -> Body:
        row = codes.targets.get(found[2].upper())
        made: Body = {"coding": [coding(row["system"], row["to"], row["display"])]} if row else {}
        return {**made, "text": clean(found[2])}

    return convert


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
    tables = _tables(site, faults)
    vocabulary = Vocabulary(tables, shared)
    maps = {name: compile_map(name, tables.rows(f"attributes/{name}"), vocabulary, faults) for name in ATTRIBUTES}
    senders = {row["sender"]: row for row in tables.rows("senders")}
    for row in senders.values():
        _check_sender(row, faults)
    roles = {row["concept"]: row["role"] for row in tables.rows("roles")}
    if faults:
        raise ConfigError(faults)
    organization = vocabulary.converter("Organization", "")
    return Compiled(maps, senders, roles, vocabulary.concepts, vocabulary.people, organization, shared)


def _check_sender(row: Row, faults: list[Fault]) -> None:
    if row["charset"]:
        try:
            "".encode(row["charset"])
        except LookupError:
            faults.append(row.fault(f"{row['charset']!r} is no character set", ("gb18030", "utf-8", "big5", "euc_kr"), row["charset"]))
    if row["endpoint"] and not row["endpoint"].startswith(("http://", "https://")):
        faults.append(row.fault("the endpoint is the address of DICOMweb, such as https://pacs.example/dicom-web"))
