"""What makes a resource the same one in the next message, and how it is therefore written.

Each kind has one business identity. It becomes the conditional query of its entry: a PUT updates what that query finds
or creates it, a POST with ifNoneExist creates only what is not there, so that no repetition creates a second one. Where
the identity has several parts (an observation: order, test, sub-id) they are hashed into an identifier of the
system urn:meridian:key, which the resource then carries. MessageHeader and Provenance have no identifiers: they are
written under an id of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mappings.conditions import NULL
from mappings.hl7v2_to_fhir.context import V2Transaction
from mappings.hl7v2_to_fhir.references import query_of
from mappings.transaction import KEY_SYSTEM, Body, Draft, name_uuid

_OTHER_NUMBERS: Final = frozenset(("NI", "SS", "DL", "PPN", "HC", "MC", "MA", "MCR", "MCD", "NH", "TAX", "SB", "BC", "PRN", "CZ", "AN"))
"""Identifier types that are not the facility's own number for the patient (table 0203)."""

Identify = Callable[[Draft, "Known", V2Transaction], str]


class Known:
    """What is settled so far in a message: patients and encounters, how often a key came up, order numbers used twice."""

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.patients: list[Draft] = []
        self.encounters: list[Draft] = []
        self.reused: set[str] = set()

    def patient(self, draft: Draft) -> str:
        """The patient a draft belongs to; of a message with its PID late, the first there is."""
        owner = draft.patient or next(iter(self.patients), None)
        return owner.query if owner else ""

    def encounter(self, draft: Draft) -> str:
        return draft.encounter.query if draft.encounter else ""

    def count_orders(self, drafts: list[Draft]) -> None:
        """Note the order numbers that several orders of this message share."""
        seen: set[str] = set()
        for draft in drafts:
            if draft.kind == "ServiceRequest":
                for identifier in draft.body.get("identifier", ())[:1]:
                    query = query_of(identifier)
                    (self.reused if query in seen else seen).add(query)

    def again(self, key: str) -> str:
        """`key`, with a number from its second appearance on."""
        count = self.keys[key] = self.keys.get(key, 0) + 1
        return key if count == 1 else f"{key} #{count}"


def own_number(identifiers: list[Body]) -> Body | None:
    """The identifier that the sending facility itself knows a patient by: the first that is no national or insurance number."""
    for identifier in identifiers:
        kinds = identifier.get("type", {}).get("coding") or [{}]
        kind = kinds[0].get("code", "")
        if kind not in _OTHER_NUMBERS and not kind.startswith("NN") and "system" in identifier:
            return identifier
    return next((identifier for identifier in identifiers if "system" in identifier), None)


def settle(draft: Draft, known: Known, tx: V2Transaction) -> None:
    """Give `draft` its identity."""
    if draft.kind in ("Provenance", "MessageHeader"):
        key = f"{tx.sender} {tx.control_id} {draft.source} {len(known.keys)}"
        known.keys[key] = 1
        draft.identify(name_uuid(f"{draft.kind} {key}"), "")
        return
    identifiers = draft.body.get("identifier") or []
    if draft.kind == "Patient":
        identifier = own_number(identifiers)
    elif draft.kind in _BY_IDENTIFIER:
        identifier = next((one for one in identifiers if "system" in one), None)
        if draft.kind == "ServiceRequest" and identifier and query_of(identifier) in known.reused:
            identifier = None
    else:
        identifier = None
    specimen = _own_specimen(draft, known, tx) if draft.kind == "Specimen" else ""
    uuid = ""
    if identifier is None or specimen:
        key = f"{draft.kind} {specimen or _PARTS.get(draft.kind, _message_part)(draft, known, tx)}"
        if draft.kind not in _ONE_PER_KEY and not specimen:
            key = known.again(key)
        uuid = name_uuid(key)
        identifier = {"system": KEY_SYSTEM, "value": uuid}
        draft.body["identifier"] = [*identifiers, identifier]
    query = query_of(identifier)
    draft.identify(uuid or name_uuid(f"{draft.kind} {query}"), query)
    if draft.kind == "Patient":
        known.patients.append(draft)


def _field(draft: Draft, number: int) -> str:
    value = draft.fields[number] if number < len(draft.fields) else ""
    return "" if value == NULL else value


def _message_part(draft: Draft, known: Known, tx: V2Transaction) -> str:
    return f"{tx.sender} {tx.control_id} {draft.source}"


def _of_patient(*numbers: int) -> Identify:
    """The patient and some fields; where none of them is valued, the message."""

    def identify(draft: Draft, known: Known, tx: V2Transaction) -> str:
        words = [_field(draft, number) for number in numbers]
        return f"{known.patient(draft)} {'|'.join(words)}" if any(words) else _message_part(draft, known, tx)

    return identify


def _code(raw: str) -> str:
    """What a coded field is about, whatever its display says."""
    parts = [*raw.split("^"), "", "", "", "", ""]
    return f"{parts[0]}^{parts[2]}" if parts[0] else f"{parts[3]}^{parts[5]}" if parts[3] else parts[1]


def _encounter(draft: Draft, known: Known, tx: V2Transaction) -> str:
    admitted = _field(draft, 44) if draft.fields[0] == "PV1" else ""
    return f"{known.patient(draft)} admitted {admitted}" if admitted else _message_part(draft, known, tx)


def _order_number(draft: Draft) -> str:
    """Filler's number, else placer's, as sent in ORC or OBR."""
    for number in (3, 2):
        for segment in ("ORC", "OBR"):
            fields = draft.view.get(segment) or []
            value = fields[number] if number < len(fields) else ""
            if value and value != NULL:
                return f"{'placer' if number == 2 else 'filler'} {value}"
    return ""


def _own_specimen(draft: Draft, known: Known, tx: V2Transaction) -> str:
    """The specimen of an instrument's message (OUL^R22) whose number nobody vouches for: numbers begin again the next morning, so patient
    and day belong to it. "" for any other, and for a control's, which has the same number every day."""
    fields = [*(draft.view.get("SPM") or []), *[""] * 18]
    number, role = fields[2].strip('^&"'), fields[11]
    vouched = number.partition("&")[2].strip("&") not in ("", "BARCODE")
    if tx.event != "R22" or not number or vouched or (role and not role.startswith("P")):
        return ""
    header, order = draft.view["MSH"], [*(draft.view.get("OBR") or []), *[""] * 8]
    day = (fields[17] or order[7] or header[7])[:8]
    return f"{tx.facility} specimen {number} {known.patient(draft)} {day}"


def order_key(draft: Draft, known: Known, tx: V2Transaction) -> str:
    """One order's result: its number and the service, or specimen and service, or patient, service and time, or (a control has neither)
    the message."""
    fields = [*(draft.view.get("OBR") or []), "", "", "", "", "", "", "", ""]
    number = _order_number(draft)
    if number:
        return f"{tx.facility} {number} {_code(fields[4])}"
    if fields[4] and (specimen := _own_specimen(draft, known, tx)):
        return f"{specimen} {_code(fields[4])}"
    patient = known.patient(draft)
    if fields[4] and fields[7] and patient:
        return f"{patient} {_code(fields[4])} {fields[7]}"
    return _message_part(draft, known, tx)


def _observation(draft: Draft, known: Known, tx: V2Transaction) -> str:
    if draft.fields[0] != "OBX":
        return f"{known.patient(draft)} {draft.fields[0]}"
    about = f"{_code(_field(draft, 3))} {_field(draft, 4)}"
    if draft.order is not None:
        return f"{order_key(draft, known, tx)} {about}"
    return f"{known.patient(draft)} {known.encounter(draft)} {about} {_field(draft, 14)}"


def _condition(draft: Draft, known: Known, tx: V2Transaction) -> str:
    return f"{known.patient(draft)} {known.encounter(draft)} {_code(_field(draft, 3)) or _field(draft, 4)} {_field(draft, 6)}"


def _procedure(draft: Draft, known: Known, tx: V2Transaction) -> str:
    return f"{known.patient(draft)} {known.encounter(draft)} {_code(_field(draft, 3)) or _field(draft, 4)} {_field(draft, 5)}"


def _allergy(draft: Draft, known: Known, tx: V2Transaction) -> str:
    return f"{known.patient(draft)} {_code(_field(draft, 3))}"


def _related(draft: Draft, known: Known, tx: V2Transaction) -> str:
    numbers = [query_of(one) for one in draft.body.get("identifier", ())[:1]]
    about = numbers or [_field(draft, 2 if draft.fields[0] == "NK1" else 3), _field(draft, 16 if draft.fields[0] == "IN1" else 0)]
    return f"{known.patient(draft)} {draft.fields[0]} {' '.join(about)}"


def _organization(draft: Draft, known: Known, tx: V2Transaction) -> str:
    return f"{tx.facility} {draft.body.get('name', '')}"


def _role(draft: Draft, known: Known, tx: V2Transaction) -> str:
    """Who, for whom, as what, where: the same person in another room is another role, or two reports would show one room."""
    body = draft.body
    who = [body.get(name, {}).get("reference", "") for name in ("practitioner", "organization")]
    codes = [coding.get("code", "") for code in body.get("code", ()) for coding in code.get("coding", ())]
    places = [place.get("reference", "") for place in body.get("location", ())]
    return " ".join([*who, *codes, *places])


_BY_IDENTIFIER: Final = frozenset(("Encounter", "Account", "Organization", "EpisodeOfCare", "Specimen", "ServiceRequest"))
_ONE_PER_KEY: Final = frozenset(("PractitionerRole",))
_PARTS: Final[dict[str, Identify]] = {
    "Encounter": _encounter,
    "ServiceRequest": order_key,
    "DiagnosticReport": order_key,
    "Specimen": order_key,
    "Observation": _observation,
    "Condition": _condition,
    "Procedure": _procedure,
    "AllergyIntolerance": _allergy,
    "PractitionerRole": _role,
    "Coverage": _of_patient(2, 36, 49),
    "RelatedPerson": _related,
    "Organization": _organization,
    "Device": lambda draft, known, tx: f"{tx.facility} {'|'.join(_field(draft, number) for number in (1, 2, 3, 4, 6))}",
    "CareTeam": _of_patient(3, 4),
}
