"""Code tables, coding systems and assigning authorities, as loaded from the tables and a site's rows over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*))+")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_V2_TABLE: Final = re.compile(r"HL7-?(\d{1,4})", re.IGNORECASE)
_URI: Final = re.compile(r"(?:urn:|https?://|ldap://|mailto:)\S+")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~-]+")
_LOCAL: Final = re.compile(r"L|LN?OCAL|99.*", re.IGNORECASE)
TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"


@lru_cache(maxsize=1024)
def uri_part(text: str) -> str:
    """`text` made fit to be part of a URI."""
    return text if _PLAIN.fullmatch(text) else quote(text, safe="._~-")


@dataclass(frozen=True, slots=True)
class Codes:
    """One code table. `system` is the URI of the codes it translates from; `*` in `targets` is the default."""

    name: str
    system: str
    targets: Mapping[str, Mapping[str, str]]
    open: bool
    """True when any code of `system` is fine as it is (no rows at all)."""

    def find(self, code: str, system: str) -> Mapping[str, str] | None:
        """The target of a code: the row for SYSTEM|CODE goes before the row for CODE."""
        return self.targets.get(f"{system}|{code}") or self.targets.get(code)


@dataclass(frozen=True, slots=True)
class CodingSystems:
    """Names of coding systems (table 0396) -> URIs."""

    uris: Mapping[str, str]

    def resolve(self, name: str, facility: str = "") -> str:
        """The URI for `name`; a local system (L, 99xxx) is kept apart by facility."""
        known = self.uris.get(name) or self.uris.get(name.upper())
        if known:
            return known
        table = _V2_TABLE.fullmatch(name)
        if table:
            return f"{TERMINOLOGY}v2-{table[1]:0>4}"
        if _URI.fullmatch(name):
            return name
        if _OID.fullmatch(name):
            return "urn:oid:" + name
        if _LOCAL.fullmatch(name):
            return f"urn:meridian:codes:{uri_part(facility or 'unknown')}:{uri_part(name)}"
        return "urn:meridian:codes:" + uri_part(name)


@dataclass(frozen=True, slots=True)
class Assigners:
    """Assigning authorities -> identifier systems; `rows` are by (authority, facility or *)."""

    rows: Mapping[tuple[str, str], str]

    def system(self, namespace: str, universal: str, universal_type: str, kind: str, facility: str) -> str:
        """The system of an identifier that an HD names (v2.5.1 §2.A.33), or that only its type and sender tell."""
        row = self._row(universal, facility) or self._row(namespace, facility)
        if row:
            return row
        known = universal_system(universal, universal_type)
        if known:
            return known
        if namespace:
            return "urn:meridian:ns:" + uri_part(namespace)
        return self._row("TYPE:" + kind, facility) or ":".join(["urn:meridian:ns", uri_part(facility or "unknown"), uri_part(kind or "id")])

    def _row(self, authority: str, facility: str) -> str:
        if not authority:
            return ""
        found = self.rows.get((authority, facility)) or self.rows.get((authority, "*")) or ""
        if "{" in found:
            found = found.replace("{facility}", uri_part(facility or "unknown")).replace("{authority}", uri_part(authority))
        return found


def universal_system(universal: str, kind: str) -> str:
    """The URI of a universal id (HD-2) of a given type (HD-3, table 0301), "" where it makes none."""
    if not universal:
        return ""
    if _URI.fullmatch(universal):
        return universal
    if _OID.fullmatch(universal) and kind in ("ISO", "HL7", ""):
        return "urn:oid:" + universal
    if _UUID.fullmatch(universal):
        return "urn:uuid:" + universal.lower()
    if kind == "DNS":
        return "urn:dns:" + uri_part(universal)
    return f"urn:meridian:ns:{uri_part(kind)}:{uri_part(universal)}" if kind else "urn:meridian:ns:" + uri_part(universal)


def coding(system: str, code: str, display: str = "", version: str = "") -> dict[str, Any]:
    """A FHIR Coding of what is there."""
    value = {"system": system, "version": version, "code": " ".join(code.split()), "display": display}
    return {name: part for name, part in value.items() if part}
