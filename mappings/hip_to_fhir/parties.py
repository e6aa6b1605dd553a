"""Whom and where a message names: people, organizations, places, devices, orders. What has a number of its own becomes a
small resource by the rules of hl7v2-to-fhir, so that the same one is the same whichever way it comes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from mappings.hip_to_fhir.context import Found, HipTransaction, child, children, is_blank
from mappings.hip_to_fhir.identifiers import Identifiers
from mappings.hl7v2_to_fhir.context import escaped
from mappings.hl7v2_to_fhir.references import ready
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body

_PHYSICAL: Final = TERMINOLOGY + "location-physical-type"
_USES: Final = {"H": "home", "HP": "home", "HV": "home", "WP": "work", "DIR": "work", "MC": "mobile", "TMP": "temp", "BAD": "old"}
"""TelecommunicationAddressUse (ISO 21090) -> contact-point-use."""
_PERSONS: Final = ("assignedPerson", "healthCarePrincipalPerson", "Person", "contactPerson", "relationshipHolder1")


class Parties:
    """The converters that make resources. `v2` is the vocabulary of hl7v2-to-fhir."""

    def __init__(self, identifiers: Identifiers, v2: Any) -> None:
        self._ids = identifiers
        self._names = v2.converter("XPN.all", "")
        self._practitioner = v2.converter("Practitioner", "")
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
