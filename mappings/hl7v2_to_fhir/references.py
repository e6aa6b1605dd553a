"""Fields that name someone or somewhere -> small resources of their own, and references to them.

Practitioners, organizations, places and devices are known by their identifier; without one, by a key derived from
the facility and what was sent (`urn:meridian:key`), so that the same words are the same resource every time.
They are written with a conditional create: what the receiver has of them is never made poorer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from mappings.hl7v2_to_fhir.context import Terms, V2Transaction, components, part, parted
from mappings.hl7v2_to_fhir.identifiers import Identifiers
from mappings.hl7v2_to_fhir.people import People, flat
from mappings.hl7v2_to_fhir.primitives import concept_map
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding, uri_part
from mappings.transaction import KEY_SYSTEM, Body, Ready, name_uuid

_SAFE: Final = re.compile(r"[A-Za-z0-9._~:/-]*")
_PHYSICAL: Final = TERMINOLOGY + "location-physical-type"
_CACHED: Final = 4096

Make = Callable[[str, V2Transaction], list[Ready]]
"""What a text becomes; the first is what a reference points to, the others belong to it."""


def query_of(identifier: Body) -> str:
    """The search that finds a resource by an identifier, as it goes into a URL."""
    system, value = identifier.get("system", ""), identifier["value"]
    if not _SAFE.fullmatch(value):
        value = quote(value.replace("\\", "\\\\").replace("$", "\\$").replace(",", "\\,").replace("|", "\\|"), safe="._~:/-")
    return f"identifier={system}|{value}"


def ready(kind: str, body: Body, known_by: str) -> Ready:
    """A resource known by its first identifier, or by a key made of `known_by`."""
    identifiers = body.get("identifier")
    if not identifiers:
        key = {"system": KEY_SYSTEM, "value": name_uuid(f"{kind} {known_by}")}
        body = {**body, "identifier": [key]}
        identifiers = [key]
    query = query_of(identifiers[0])
    return Ready("urn:uuid:" + name_uuid(f"{kind} {query}"), kind, {"resourceType": kind, **body}, query)


class References:
    """The converters that make resources of fields."""

    def __init__(self, terms: Terms, identifiers: Identifiers, people: People) -> None:
        self._terms = terms
        self._ids = identifiers
        self._people = people
        self._degree = concept_map(terms.codes["degree"], terms)
        self._destination = concept_map(None, terms)

    def converter(self, make: Make) -> Callable[[str, V2Transaction], Body | None]:
        """A converter that puts what `make` gives into the transaction and refers to the first of it."""
        store: dict[tuple[str, str, str], list[Ready]] = {}

        def convert(text: str, tx: V2Transaction) -> Body | None:
            key = (text, tx.facility, tx.zone)
            made = store.get(key)
            if made is None:
                if len(store) >= _CACHED:
                    store.clear()
                made = store[key] = make(text, tx)
            if not made:
                return None
            for other in made[1:]:
                tx.refer(other)
            return tx.refer(made[0])

        return convert

    def practitioner(self, text: str, tx: V2Transaction) -> list[Ready]:
        """XCN."""
        return self._person(parted(text, tx, 21), text, tx)

    def practitioner_ndl(self, text: str, tx: V2Transaction) -> list[Ready]:
        """NDL: the person in its first component; a plain XCN is taken as well."""
        parts = flat(text) if "&" in text.split("^", 1)[0] else text.split("^")
        if "&" in text.split("^", 1)[0] and len(parts) > 8:
            parts = [*parts[:8], "&".join(word for word in parts[8:11]), *parts[11:]]
        elif len(parts) > 1 and re.fullmatch(r"\d{8,}.*", parts[1]):
            parts = parts[:1]  # NDL.2 is a time, not a family name
        return self._person([*(tx.text(word) if "&" not in word else word for word in parts), *[""] * 21], text, tx)

    def _person(self, parts: list[str], text: str, tx: V2Transaction) -> list[Ready]:
        body: Body = {}
        number, authority, kind = parts[0].strip(), parts[8], parts[12].strip()
        if number:
            identifier: Body = {"system": self._ids.system(authority, kind if authority or kind else "staff", tx), "value": number}
            self._ids.complete(identifier, ["", parts[10], parts[11], authority, kind, parts[13], "", ""], tx)
            body["identifier"] = [identifier]
        name = self._people.person(parts, tx)
        if name:
            body["name"] = [name]
        if parts[6]:
            degree = self._degree(parts[6].replace("&", "^"), tx)
            if degree:
                body["qualification"] = [{"code": degree}]
        return [ready("Practitioner", body, f"{tx.facility} {text}")] if body.get("identifier") or name else []

    def organization(self, text: str, tx: V2Transaction) -> list[Ready]:
        """XON (v2.5.1 §2.A.87)."""
        parts = text.split("^")
        name, number = tx.text(part(parts, 1)).strip(), tx.text(part(parts, 10) or part(parts, 3)).strip()
        body: Body = {}
        if number:
            kind = tx.text(part(parts, 7)).strip()
            identifier: Body = {"system": self._ids.system(part(parts, 6), kind or "organization", tx), "value": number}
            rest = ["", part(parts, 4), part(parts, 5), part(parts, 6), kind, part(parts, 8), "", ""]
            self._ids.complete(identifier, rest, tx)
            body["identifier"] = [identifier]
        if name:
            body["name"] = name
        return [ready("Organization", body, f"{tx.facility} {name}")] if body else []

    def payor(self, text: str, tx: V2Transaction) -> list[Ready]:
        return self.organization(text, tx)

    def organization_hd(self, text: str, tx: V2Transaction) -> list[Ready]:
        """HD: a facility by its namespace and universal id."""
        return self._by_hd("Organization", text, tx, named=True)

    def organization_cx(self, text: str, tx: V2Transaction) -> list[Ready]:
        """CX: an organization of which only the number is known."""
        identifier = self._ids.cx(text, tx)
        return [ready("Organization", {"identifier": [identifier]}, "")] if identifier else []

    def organization_coded(self, text: str, tx: V2Transaction) -> list[Ready]:
        """CWE: code and coding system identify, the text is the name."""
        parts = components(text)
        code, name = tx.text(part(parts, 1)).strip(), tx.text(part(parts, 2) or part(parts, 9)).strip()
        body: Body = {}
        if code:
            system = part(parts, 3)
            uri = self._terms.systems.resolve(system, tx.facility) if system else self._ids.system("", "organization", tx)
            body["identifier"] = [{"system": uri, "value": code}]
        if name or code:
            body["name"] = name or code
        return [ready("Organization", body, f"{tx.facility} {name}")] if body else []

    def device_hd(self, text: str, tx: V2Transaction) -> list[Ready]:
        """HD: an application."""
        return self._by_hd("Device", text, tx, named=False)

    def device(self, text: str, tx: V2Transaction) -> list[Ready]:
        """EI: an instrument."""
        identifier = self._ids.ei(text, tx)
        return [ready("Device", {"identifier": [identifier]}, "")] if identifier else []

    def device_coded(self, text: str, tx: V2Transaction) -> list[Ready]:
        """CWE: a device by its code."""
        found = self.organization_coded(text, tx)
        if not found:
            return []
        body = found[0].body
        named = {"deviceName": [{"name": body["name"], "type": "user-friendly-name"}]} if "name" in body else {}
        return [ready("Device", {"identifier": body["identifier"], **named}, "")]

    def _by_hd(self, kind: str, text: str, tx: V2Transaction, *, named: bool) -> list[Ready]:
        parts = components(text)
        namespace, universal = tx.text(part(parts, 1)).strip(), tx.text(part(parts, 2)).strip()
        if not namespace and not universal:
            return []
        identifiers: list[Body] = []
        if universal:
            identifiers.append({"system": "urn:ietf:rfc:3986", "value": self._ids.system(f"^{universal}^{part(parts, 3)}", "", tx)})
            if self._ids.system(f"^{universal}^{part(parts, 3)}", "", tx).rpartition(":")[2] != universal:
                identifiers.append({"value": universal})
        if namespace:
            identifiers.append(
                {
                    "system": "urn:meridian:facility" if named else f"urn:meridian:application:{uri_part(tx.facility or 'unknown')}",
                    "value": namespace,
                }
            )
        if part(parts, 3):
            identifiers[0]["type"] = {"coding": [coding(TERMINOLOGY + "v2-0301", tx.text(part(parts, 3)))]}
        body: Body = {"identifier": identifiers}
        if namespace and named:
            body["name"] = namespace
        if namespace and not named:
            body["deviceName"] = [{"name": namespace, "type": "user-friendly-name"}]
        return [ready(kind, body, "")]

    def location_hd(self, text: str, tx: V2Transaction) -> list[Ready]:
        """HD: a facility as a place."""
        found = self._by_hd("Location", text, tx, named=True)
        return [ready("Location", {**found[0].body, "physicalType": _physical("si")}, "")] if found else []

    def location(self, text: str, tx: V2Transaction) -> list[Ready]:
        """PL (v2.5.1 §2.A.53): the bed, and each larger place that it is part of."""
        parts = text.split("^")
        path: list[str] = []
        chain: list[Ready] = []
        for number, kind in ((4, "si"), (7, "bu"), (8, "lvl"), (1, "wa"), (2, "ro"), (3, "bd")):
            raw = part(parts, number)
            words = [tx.text(word).strip() for word in raw.split("&")] if raw else []
            name = next((word for word in words if word), "")
            if not name:
                continue
            path.append(name)
            body: Body = {
                "identifier": [{"system": self._place_system(tx), "value": "/".join(path)}],
                "name": name,
                "mode": "instance",
                "physicalType": _physical(kind),
            }
            if len(words) > 1 and words[1]:
                body["identifier"].append({"system": "urn:ietf:rfc:3986", "value": self._ids.system(raw, "", tx)})
            if chain:
                body["partOf"] = {"reference": chain[-1].url}
            chain.append(ready("Location", body, ""))
        described, comprehensive = tx.text(part(parts, 9)).strip(), part(parts, 10)
        if chain:
            self._describe(chain, parts, tx, described, comprehensive)
        elif described or comprehensive:
            body = {"description": described} if described else {}
            identifier = self._ids.ei_sub(comprehensive, tx) if comprehensive else None
            chain.append(ready("Location", {**body, **({"identifier": [identifier]} if identifier else {})}, f"{tx.facility} {described}"))
        return chain[::-1]

    def location_ndl(self, text: str, tx: V2Transaction) -> list[Ready]:
        """NDL (v2.5.1 §2.A.47): its components 4 to 11 are in the order of a PL's 1 to 8."""
        return self.location("^".join(text.split("^")[3:]), tx)

    def _describe(self, chain: list[Ready], parts: list[str], tx: V2Transaction, described: str, comprehensive: str) -> None:
        """What a PL says of the smallest place: description, further number, bed status (PL.5, table 0116), type (PL.6)."""
        body = dict(chain[-1].body)
        if described:
            body["description"] = described
        identifier = self._ids.ei_sub(comprehensive, tx) if comprehensive else None
        if identifier:
            body["identifier"] = [*body["identifier"], identifier]
        status, kind = tx.text(part(parts, 5)).strip(), tx.text(part(parts, 6)).strip()
        if status in ("active", "suspended", "inactive"):
            body["status"] = status
        elif status:
            body["operationalStatus"] = coding(TERMINOLOGY + "v2-0116" if len(status) == 1 else "", status)
        if kind:
            body["type"] = [{"coding": [coding(TERMINOLOGY + "v2-0305", kind)]}]
        chain[-1] = Ready(chain[-1].url, "Location", body, chain[-1].query)

    def _place_system(self, tx: V2Transaction) -> str:
        return self._ids.system("", "place", tx)

    def discharged_to(self, text: str, tx: V2Transaction) -> list[Ready]:
        """DLD: where a patient was discharged to."""
        parts = text.split("^")
        kind = self._destination(part(parts, 1).replace("&", "^"), tx) if part(parts, 1) else None
        if kind is None:
            return []
        name = kind.get("text") or kind["coding"][0].get("display") or kind["coding"][0].get("code")
        return [ready("Location", {"name": name, "type": [kind]}, f"{tx.facility} discharged to {text}")]

    def coded_organization_name(self, text: str, tx: V2Transaction) -> list[Ready]:
        """IS: a facility by a code of the sender's (PV1-39)."""
        return self.organization_coded(text, tx)


def xon_name(text: str, tx: V2Transaction) -> str | None:
    """An XON as text."""
    parts = text.split("^")
    return tx.text(part(parts, 1) or part(parts, 10)).strip() or None


def _physical(code: str) -> dict[str, Any]:
    return {"coding": [coding(_PHYSICAL, code)]}
