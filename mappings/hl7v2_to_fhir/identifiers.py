"""CX, EI, EIP, HD and their like -> Identifier, and the systems that make an identifier unique.

An identifier without a system would match another hospital's patient with the same number, so there is always one:
see tables/assigners.csv for where it comes from.
"""

from __future__ import annotations

import re
from typing import Any, Final

from mappings.conditions import NULL, View
from mappings.hl7v2_to_fhir.context import Terms, V2Transaction, components, first, part, parted
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding, universal_system
from mappings.hl7v2_to_fhir.times import date_time
from mappings.transaction import Absent, Body, Draft

IDENTIFIER_TYPE: Final = TERMINOLOGY + "v2-0203"
CHINA_IDENTITY_CARD: Final = "urn:oid:2.16.156.10011.1.3"

_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/"
_US_SSN: Final = re.compile(r"\d{3}-\d{2}-\d{4}")
_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def is_identity_card(number: str) -> bool:
    """Whether `number` is a Chinese resident identity number: 18 places, a day that exists, check character as GB 11643 (ISO 7064
    MOD 11-2). Which district gave it out is left aside: the list of districts changes, and old numbers stay."""
    if len(number) != 18 or not (number[:17].isascii() and number[:17].isdigit()) or date_time(number[6:14], "") is None:
        return False
    remainder = sum(int(digit) * weight for digit, weight in zip(number, _WEIGHTS, strict=False)) % 11
    return number[17].upper() == "10X98765432"[remainder]


class Identifiers:
    """The converters that need the assigner table."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._systems: dict[tuple[str, str, str], str] = {}
        self._types = {
            kind: {"coding": [coding(target["system"] or IDENTIFIER_TYPE, target["to"], target["display"])]}
            for kind, target in terms.codes["identifier-type"].targets.items()
        }

    def system(self, hd: str, kind: str, tx: V2Transaction) -> str:
        """The system for an HD (as components or subcomponents) and an identifier type."""
        key = (hd, kind, tx.facility)
        found = self._systems.get(key)
        if found is None:
            namespace, universal, universal_type = [*components(hd), "", ""][:3] if hd and hd != NULL else ("", "", "")
            words = [("" if word == NULL else tx.text(word).strip()) for word in (namespace, universal, universal_type)]
            found = self._terms.assigners.system(words[0], words[1], words[2], kind, tx.facility)
            if len(self._systems) > 4096:
                self._systems.clear()
            self._systems[key] = found
        return found

    def cx(self, text: str, tx: V2Transaction) -> Body | None:
        """CX (v2.5.1 §2.A.14)."""
        parts = parted(text, tx, 8)
        value = parts[0].strip()
        if not value:
            return None
        authority, kind = parts[3], parts[4].strip()
        identifier: Body = {"system": self.system(authority, kind, tx), "value": value}
        if not authority and kind in ("", "NI", "NNCHN") and is_identity_card(value):
            identifier["system"] = CHINA_IDENTITY_CARD
        self.complete(identifier, parts, tx)
        return identifier

    def complete(self, identifier: Body, parts: list[str], tx: V2Transaction) -> None:
        """What a CX says beside value and system: assigner, type, check digit, period."""
        authority, kind = parts[3], parts[4].strip()
        if authority:
            self.assigner(authority, identifier, tx)
        if kind:
            identifier["type"] = self._types.get(kind) or {"coding": [coding(IDENTIFIER_TYPE if kind.startswith("NN") else "", kind)]}
        if parts[1] or parts[5] or parts[6] or parts[7]:
            self._rest_of_cx(parts, identifier, tx)

    def assigner(self, hd: str, identifier: Body, tx: V2Transaction) -> None:
        """Name the authority in words too: its namespace, which the system may spell otherwise."""
        words = components(hd)[0]
        if words and words != NULL:
            identifier["assigner"] = {"display": tx.text(words) if "&" in hd or "^" in hd else words}

    def _rest_of_cx(self, parts: list[str], identifier: Body, tx: V2Transaction) -> None:
        for number, name in ((1, "identifier-checkDigit"), (2, "namingsystem-checkDigit")):
            if parts[number]:
                identifier.setdefault("extension", []).append({"url": _EXTENSION + name, "valueString": parts[number]})
        period = {
            name: value for name, number in (("start", 6), ("end", 7)) if parts[number] and (value := date_time(parts[number], tx.zone))
        }
        if period:
            identifier["period"] = period
        if parts[5] and "assigner" not in identifier:
            self.assigner(parts[5], identifier, tx)

    def cx_value(self, text: str, tx: V2Transaction) -> str | None:
        return tx.text(first(text)).strip() or None

    def policy(self, text: str, tx: V2Transaction) -> Body | None:
        """A policy number that comes without an authority: the sender's."""
        value = tx.text(first(text)).strip()
        return {"system": self.system("", "policy", tx), "value": value} if value else None

    def coded(self, text: str, tx: V2Transaction) -> Body | None:
        """A CWE that identifies (an insurance plan): code and coding system."""
        parts = text.split("^")
        value = tx.text(part(parts, 1) or part(parts, 2)).strip()
        return {"system": self.system(part(parts, 3), "plan", tx), "value": value} if value else None

    def ei(self, text: str, tx: V2Transaction) -> Body | None:
        """EI (v2.5.1 §2.A.28): entity identifier, and the HD that follows it."""
        parts = text.split("^")
        value = tx.text(part(parts, 1).split("&", 1)[0] if len(parts) == 1 else part(parts, 1)).strip()
        if not value:
            return None
        hd = "^".join(parts[1:4]) if len(parts) > 1 else ""
        hd = hd if hd.strip("^") else ""
        identifier: Body = {"system": self.system(hd, "order", tx), "value": value}
        if hd:
            self.assigner(hd, identifier, tx)
        return identifier

    def ei_sub(self, text: str, tx: V2Transaction) -> Body | None:
        """An EI inside another type, its parts separated by subcomponent delimiters."""
        return self.ei(text.replace("&", "^"), tx)

    def accession(self, raw: str, draft: Draft, tx: V2Transaction, view: View) -> None:
        """OBR-18 of an imaging order (IHE RAD TF-2, RAD-4): the accession number, given out by whoever numbers the order as its filler.
        Images name it, and are linked with the order by it."""
        fillers = (view[name][3] for name in ("OBR", "ORC") if len(view.get(name, ())) > 3 and view[name][3] not in ("", NULL))
        authority = next(fillers, "").partition("^")[2]
        identifier = self.ei(f"{first(raw)}^{authority}", tx)
        if identifier is None:
            return
        there = draft.body.setdefault("identifier", [])
        if all((one.get("system"), one["value"]) != (identifier["system"], identifier["value"]) for one in there):
            there.append({**identifier, "type": {"coding": [coding(IDENTIFIER_TYPE, "ACSN", "Accession ID")]}})

    def group(self, text: str, tx: V2Transaction) -> Body | None:
        """ORC-4, an EIP or an EI by version: the placer's group number."""
        parts = text.split("^")
        eip = "&" in text or (len(parts) > 1 and not part(parts, 1))
        identifier = self.ei_sub(part(parts, 1) or part(parts, 2), tx) if eip else self.ei(text, tx)
        if identifier:
            identifier["type"] = {"coding": [coding(IDENTIFIER_TYPE, "PGN", "Placer Group Number")]}
        return identifier

    def eip_reference(self, kind: str) -> Any:
        """EIP -> logical references to resources of `kind` by placer's and filler's number."""

        def convert(text: str, tx: V2Transaction) -> list[Body] | None:
            found = [self.ei_sub(word, tx) for word in text.split("^")[:2] if word and word != NULL]
            return [{"type": kind, "identifier": identifier} for identifier in found if identifier] or None

        return convert

    def eip_first(self, kind: str) -> Any:
        """EIP -> one logical reference, where the element takes no more."""
        several = self.eip_reference(kind)

        def convert(text: str, tx: V2Transaction) -> Body | None:
            found: list[Body] | None = several(text, tx)
            return found[0] if found else None

        return convert

    def national_number(self, text: str, tx: V2Transaction) -> Body | None:
        """PID-19: a Chinese identity card number, a US social security number, or one whose country nobody said."""
        value = tx.text(first(text)).strip()
        if not value:
            return None
        if is_identity_card(value):
            return {"system": CHINA_IDENTITY_CARD, "value": value, "type": {"coding": [coding(IDENTIFIER_TYPE, "NNCHN")]}}
        if _US_SSN.fullmatch(value):
            kind = coding(IDENTIFIER_TYPE, "SS", "Social Security number")
            return {"system": "http://hl7.org/fhir/sid/us-ssn", "value": value, "type": {"coding": [kind]}}
        kind = coding(IDENTIFIER_TYPE, "SB", "Social Beneficiary Identifier")
        return {"system": self.system("", "SB", tx), "value": value, "type": {"coding": [kind]}}

    def license(self, text: str, tx: V2Transaction) -> Body | None:
        """DLN: driver's license."""
        parts = text.split("^")
        value = tx.text(part(parts, 1)).strip()
        if not value:
            return None
        made: Body = {"value": value, "type": {"coding": [coding(IDENTIFIER_TYPE, "DL", "Driver's license number")]}}
        made["system"] = self.system(part(parts, 2), "DL", tx)
        end = date_time(part(parts, 3), tx.zone) if part(parts, 3) else None
        return {**made, "period": {"end": end}} if end else made


def hd_name(text: str, tx: V2Transaction) -> str | None:
    """What an HD is called: its namespace, else its universal id."""
    parts = components(text)
    return tx.text(part(parts, 1) or part(parts, 2)).strip() or None


def hd_endpoint(text: str, tx: V2Transaction) -> Any:
    """An HD as an address; a bare namespace is none."""
    parts = components(text)
    return universal_system(tx.text(part(parts, 2)).strip(), part(parts, 3)) or Absent()
