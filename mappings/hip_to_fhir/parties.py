"""Whom and where a message names: identifiers, people, organizations, places, devices, orders. What has a number of its own becomes a
small resource by the rules of hl7v2-to-fhir, so that the same one is the same whichever way it comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from stdnum.cn import ric
from stdnum.exceptions import ValidationError as InvalidNumber

from engine.formats.hip.header import DOMAIN_ID, IDENTITY_CARD
from mappings.hip_to_fhir.context import Found, HipTransaction, child, children, escaped, is_blank
from mappings.hl7v2_to_fhir.identifiers import IDENTIFIER_TYPE
from mappings.hl7v2_to_fhir.references import ready
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, Assigners, coding, uri_part
from mappings.tables import Row
from mappings.transaction import Body

_PHYSICAL: Final = TERMINOLOGY + "location-physical-type"
_VISIT_ROLES: Final = frozenset(("visit", "count", "domain"))
_USES: Final = {"H": "home", "HP": "home", "HV": "home", "WP": "work", "DIR": "work", "MC": "mobile", "TMP": "temp", "BAD": "old"}
"""TelecommunicationAddressUse (ISO 21090) -> contact-point-use."""
_PERSONS: Final = ("assignedPerson", "healthCarePrincipalPerson", "Person", "contactPerson", "relationshipHolder1")


def is_identity_card(number: str) -> bool:
    """18 places with a date that exists and the check character of GB 11643 (ISO 7064 MOD 11-2). Which district gave it out is left
    aside: the list of districts changes, and old numbers stay."""
    try:
        ric.get_birth_date(number)
        return len(number) == 18 and number[:17].isascii() and number[:17].isdigit() and ric.calc_check_digit(number[:-1]) == number[-1]
    except (InvalidNumber, ValueError, IndexError):
        return False


class Identifiers:
    """II -> Identifier. `roots` are the rows of identifiers.csv by root, `categories` those of codes/identity-document.csv by code."""

    def __init__(self, roots: Mapping[str, Row], assigners: Assigners, categories: Mapping[str, Mapping[str, str]]) -> None:
        self._roots, self._assigners, self._categories = roots, assigners, categories

    def role(self, root: str) -> str:
        row = self._roots.get(root)
        return row["role"] if row else ""

    def system(self, root: str, role: str, tx: HipTransaction) -> str:
        """The identifier system of a root; of none, that of its role at the facility. Who assigns a sender's own numbers, its row in
        senders.csv may say."""
        row = self._roots.get(root)
        role = row["role"] if row else role
        authority = tx.authorities.get(role, "")
        if authority and (row is None or row["system"]):
            return self._assigners.system(authority, "", "", role, tx.facility)
        if row and row["system"]:
            return row["system"].replace("{facility}", uri_part(tx.facility or "unknown"))
        return self._assigners.system("", root, "ISO" if root else "", role, tx.facility)

    def identifier(self, role: str, skip: frozenset[str] = frozenset(("count", "domain"))) -> Any:
        """A converter; what has no root is a number of `role`. Numbers whose roots are of the roles in `skip` are none here."""

        def convert(found: Found, tx: HipTransaction) -> Body | None:
            element, _ = found
            value, root = tx.get(element, "extension"), (element.get("root") or "").strip()
            if is_blank(value) or root == DOMAIN_ID or self.role(root) in skip:
                return None
            if root == IDENTITY_CARD:
                return self._card(value, element, tx)
            tx.get(element, "root")
            made: Body = {"system": self.system(root, role, tx), "value": value}
            row = self._roots.get(root)
            if row and (row["type"] or row["text"]):
                made["type"] = _typed(row["type"], row["text"])
            if issuer := self._issuer(element, tx):
                made["assigner"] = issuer
            return made

        return convert

    def _issuer(self, element: Any, tx: HipTransaction) -> Body | None:
        """Who has given a card out (``asOtherIDs/scopingOrganization``)."""
        holder = element.getparent().getparent() if element.getparent() is not None else None
        scoping: Any = child(holder, "scopingOrganization/id/item") if holder is not None else None
        if scoping is None or is_blank(value := tx.get(scoping, "extension")):
            return None
        return {"identifier": {"system": self.system((scoping.get("root") or "").strip(), "organization", tx), "value": value}}

    def patient(self) -> Any:
        return self.identifier("patient", _VISIT_ROLES)

    def _card(self, value: str, element: Any, tx: HipTransaction) -> Body:
        """A number under the root of the identity card: what card it is, ``idCategory`` says where it stands. One that fails its own check
        is kept in words, and under no system: it would make two people one."""
        category = child(element.getparent().getparent(), "idCategory") if element.getparent() is not None else None
        code = tx.get(category, "code") if category is not None else ""
        if code not in ("", "01", "1"):
            row = self._categories.get(code)
            if row is None:
                tx.unknown(code, "identity-document")
            kind = _typed(row["to"] if row else "", row["display"] if row else "")
            return {"system": f"urn:meridian:ns:identity-document:{code}", "value": value, **({"type": kind} if kind else {})}
        tx.get(element, "root")
        kind = {"coding": [coding(IDENTIFIER_TYPE, "NNCHN")]}
        number = value.upper().replace(" ", "")
        if is_identity_card(number):
            return {"system": f"urn:oid:{IDENTITY_CARD}", "value": number, "type": kind}
        tx.flag("identity-card")
        return {"value": value, "type": kind}


def _typed(kind: str, text: str) -> Body:
    made: Body = {"coding": [coding(IDENTIFIER_TYPE, kind)]} if kind else {}
    return {**made, "text": text} if text else made


class Parties:
    """The converters that make resources. `v2` is the vocabulary of hl7v2-to-fhir."""

    def __init__(self, identifiers: Identifiers, v2: Any) -> None:
        self._ids = identifiers
        self._names = v2.converter("XPN.all", "")
        self._practitioner, self._organization = v2.converter("Practitioner", ""), v2.converter("Organization", "")
        self._phone = {use: v2.converter(f"XTN.{use}" if use else "XTN", "") for use in ("home", "work", "")}

    def names(self, found: Found, tx: HipTransaction) -> Any:
        text = tx.said(found)
        return None if is_blank(text) else self._names(escaped(text), tx)

    def name_text(self, found: Found, tx: HipTransaction) -> Body | None:
        made = self.names(found, tx)
        return made[0] if made else None

    def telecom(self, use: str) -> Any:
        def convert(found: Found, tx: HipTransaction) -> Any:
            element, _ = found
            points: list[Body] = []
            for one in [*children(element, "item")] or [element]:
                text = tx.said((one, "")).removeprefix("tel:").removeprefix("mailto:")
                if is_blank(text):
                    continue
                made: list[Body] = self._phone[use](escaped(text), tx) or []
                said = _USES.get((tx.get(one, "use").split() or [""])[0])
                points += [{**point, "use": said} for point in made] if said else made
            return points or None

        return convert

    def number(self, element: Any, role: str, tx: HipTransaction) -> Body | None:
        """The first identifier of `element`: ``id/item``, or ``id`` itself."""
        convert = self._ids.identifier(role)
        candidates = (one for found in children(element, "id") for one in (*children(found, "item"), found))
        return next((made for one in candidates if (made := convert((one, ""), tx))), None)

    def practitioner(self, found: Found, tx: HipTransaction) -> Body | None:
        """An assigned entity or person: number and name."""
        element, _ = found
        number = self.number(element, "staff", tx)
        holder = next((inner for name in _PERSONS if (inner := child(element, name)) is not None), element)
        named = child(holder, "name")
        name = tx.said((named, "")) if named is not None else ""
        if is_blank(name) and not number:
            return None
        made: Body = self._practitioner(f"^{escaped(name)}", tx) if not number else self._numbered(number, name, tx)
        return made

    def _numbered(self, number: Body, name: str, tx: HipTransaction) -> Body:
        body: Body = {"identifier": [{key: part for key, part in number.items() if key != "type"}]}
        names = None if is_blank(name) else self._names(escaped(name), tx)
        if names:
            body["name"] = names
        return tx.refer(ready("Practitioner", body, ""))

    def role(self, found: Found, tx: HipTransaction) -> Body | None:
        """Who, and for which department: a PractitionerRole; the Practitioner alone where none is named."""
        element, _ = found
        person = self.practitioner(found, tx)
        house = child(element, "representedOrganization")
        department = self.organization((house, ""), tx) if house is not None else None
        if person is None or department is None:
            return person
        body = {"practitioner": person, "organization": department}
        return tx.refer(ready("PractitionerRole", body, f"{person['reference']} {department['reference']}"))

    def organization(self, found: Found, tx: HipTransaction) -> Body | None:
        """Number and name of a department or an institution, and the larger one that it is part of."""
        element, _ = found
        number = self.number(element, "department", tx)
        named = child(element, "name")
        if named is None and child(element, "location") is not None:
            named = child(element, "location/name")
        if named is None:
            named = child(element, "addr")
        name = tx.said((named, "")) if named is not None else ""
        if number is None and is_blank(name):
            return None
        body: Body = {"identifier": [{key: part for key, part in number.items() if key != "type"}]} if number else {}
        if not is_blank(name):
            body["name"] = name
        return tx.refer(ready("Organization", body, f"{tx.facility} {name}"))

    def employer(self, found: Found, tx: HipTransaction) -> Body | None:
        """An organization that has only a name."""
        element, _ = found
        named, phone = child(element, "name"), child(element, "contactParty/telecom")
        name = tx.said((named, "")) if named is not None else ""
        if is_blank(name):
            return None
        points = self.telecom("work")((phone, ""), tx) if phone is not None else None
        return tx.refer(ready("Organization", {"name": name, **({"telecom": points} if points else {})}, f"employer {name}"))

    def place(self, found: Found, tx: HipTransaction) -> Body | None:
        """A place of service: from department or ward by room to bed, each part of the one before. They stand one in the other, from the
        largest (``locatedEntityHasParts``) or from the smallest (``asLocatedEntityPartOf``)."""
        element, _ = found
        chain = [(one, kind) for one, kind in _levels(element) if self._known(one, tx)]
        reference, path = None, []
        for one, kind in chain:
            code, name = self._known(one, tx)
            path.append(code or name)
            body: Body = {
                "identifier": [{"system": self._ids.system("", "place", tx), "value": "/".join(path)}],
                **({"name": name or code}),
                "mode": "instance",
                "physicalType": {"coding": [coding(_PHYSICAL, kind)]},
                **({"partOf": reference} if reference else {}),
            }
            reference = tx.refer(ready("Location", body, ""))
        return reference

    def _known(self, element: Any, tx: HipTransaction) -> Any:
        """(code, name) of one place, () where it has neither."""
        holders = [*children(element, "id")] or [element]
        coded = next((one for found in holders for one in (*children(found, "item"), found) if one.get("extension")), None)
        code = tx.get(coded, "extension") if coded is not None else ""
        named = next((one for name in ("name", "addr") if (one := child(element, name)) is not None), None)
        name = tx.said((named, "")) if named is not None else ""
        return () if is_blank(code) and is_blank(name) else ("" if is_blank(code) else code, "" if is_blank(name) else name)

    def device(self, found: Found, tx: HipTransaction) -> Body | None:
        """A device that can be booked."""
        element, _ = found
        number = self.number(element, "device", tx)
        named = child(element, "name")
        name = tx.said((named, "")) if named is not None else ""
        if number is None and is_blank(name):
            return None
        body: Body = {"identifier": [number]} if number else {}
        if not is_blank(name):
            body["deviceName"] = [{"name": name, "type": "user-friendly-name"}]
        return tx.refer(ready("Device", body, f"{tx.facility} {name}"))

    def refers(self, kind: str, role: str) -> Any:
        """A logical reference: the resource is another message's. `kind` is "" where it may be of several."""
        convert = self._ids.identifier(role)

        def refer(found: Found, tx: HipTransaction) -> Body | None:
            number = convert(found, tx)
            return {**({"type": kind} if kind else {}), "identifier": number} if number else None

        return refer


def _has_number(element: Any) -> bool:
    return any(one.get("extension") for found in children(element, "id") for one in (*children(found, "item"), found))


def _levels(element: Any) -> Iterable[tuple[Any, str]]:
    """The places of a serviceDeliveryLocation (or of what stands in its stead), the largest first, with their physical types."""
    ward = child(element, "serviceProviderOrganization/asOrganizationPartOf/wholeOrganization")
    if ward is not None:
        yield ward, "wa"
    begin = child(element, "location")
    begin = element if begin is None or _has_number(element) else begin
    room = child(begin, "asLocatedEntityPartOf/location")
    if room is not None:
        yield room, "ro"
        yield begin, "bd"
        return
    for kind in ("wa", "wa", "ro", "bd"):
        yield begin, kind
        begin = child(begin, "locatedEntityHasParts/locatedPlace")
        if begin is None:
            return
