"""What every message says of itself (WS/T 846.1: id, creationTime, interactionId, processingCode, acceptAckCode, receiver, sender), and
whom it is about. Namespaces are left aside: some senders have none.

Identifiers are an OID (`root`) with a value (`extension`); since HL7 v3 release 2 a set of them is ``id/item``, some write ``id`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from engine.formats.hip.services import local_name

PLATFORM: Final = "2.16.156.10011.2.5.1"
MESSAGE_ID: Final = f"{PLATFORM}.1"
INTERACTION_ID: Final = f"{PLATFORM}.2"
DEVICE_ID: Final = f"{PLATFORM}.3"
PATIENT_ID: Final = f"{PLATFORM}.4"
DOMAIN_ID: Final = f"{PLATFORM}.5"
"""The domain in which a patient id holds: stands among a patient's ids and is none."""
IDENTITY_CARD: Final = "2.16.156.10011.1.3"


@dataclass(frozen=True, slots=True)
class Identifier:
    """HL7 v3 data type II."""

    root: str
    extension: str


@dataclass(frozen=True, slots=True)
class Header:
    """Of one message; "" for what it does not say. `created` is as written (YYYYMMDDhhmmss)."""

    id: str = ""
    id_root: str = ""
    created: str = ""
    interaction: str = ""
    processing_code: str = ""
    accept_ack_code: str = ""
    sender: str = ""
    receiver: str = ""


def header_of(element: Any) -> Header:
    """Never raises: what is missing is "", the schema says that it is missing."""
    return Header(
        id=attribute(element, "id", "extension"),
        id_root=attribute(element, "id", "root"),
        created=attribute(element, "creationTime", "value"),
        interaction=attribute(element, "interactionId", "extension"),
        processing_code=attribute(element, "processingCode", "code"),
        accept_ack_code=attribute(element, "acceptAckCode", "code"),
        sender=_device(element, "sender"),
        receiver=_device(element, "receiver"),
    )


def _device(element: Any, role: str) -> str:
    found = child(element, f"{role}/device")
    return next((one.extension for one in identifiers(found) if one.extension), "") if found is not None else ""


def patients_of(element: Any) -> tuple[Identifier, ...]:
    """Identifiers of the patients that a message is about, the local ones before identity cards: each patient's, those that a merge
    replaces, and those a query asks for."""
    local, cards = dict[Identifier, None](), dict[Identifier, None]()
    for found in element.iter("{*}patient", "{*}priorRegisteredRole"):
        local.update(dict.fromkeys(identifiers(found)))
        person = child(found, "patientPerson")
        if person is not None:
            cards.update(dict.fromkeys(identifiers(person)))
    for found in element.iter("{*}patientId", "{*}patient.id", "{*}livingSubjectId"):
        local.update(dict.fromkeys(_items(value) for value in found.iter("{*}item", "{*}value") if value.get("extension")))
    for found in element.iter("{*}parameterList"):
        local.update(dict.fromkeys(identifiers(found)))
    return tuple(one for one in (local | cards) if one.extension and one.root != DOMAIN_ID)


def identifiers(element: Any) -> Iterator[Identifier]:
    """Those of the ``id`` children of `element`."""
    for found in element.iterchildren("{*}id"):
        yield from [_items(one) for one in (*found.iterchildren("{*}item"), found) if one.get("extension") is not None]


def _items(element: Any) -> Identifier:
    return Identifier((element.get("root") or "").strip(), (element.get("extension") or "").strip())


def child(element: Any, path: str) -> Any:
    """The first element at `path` of local names, None where there is none."""
    for name in path.split("/"):
        element = next((one for one in element.iterchildren() if local_name(one) == name), None)
        if element is None:
            return None
    return element


def attribute(element: Any, path: str, name: str) -> str:
    """An attribute of the first element at `path`, "" where there is none."""
    found = child(element, path)
    return (found.get(name) or "").strip() if found is not None else ""
