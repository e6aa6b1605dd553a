"""A party, and what may be said of one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from engine.identity import party_name, party_uri
from engine.parties.identifiers import IDENTIFIERS
from engine.parties.keys import key_id, key_thumbprint

MOST: Final = 100
"""Of one thing a party may have, so that its audit record stays a line."""
MOST_REQUESTS: Final = 1_000_000
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*:[^\s|;]{1,200}", re.IGNORECASE)
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f;]{1,200}")
_AE_TITLE: Final = re.compile(r"(?! )[\x20-\x5b\x5d-\x7e]{1,16}(?<! )")
_SENDER: Final = re.compile(r"[^\x00-\x1f\x7f]{1,400}")
_PATTERN: Final = re.compile(r"(?=.)[^\x00-\x1f\x7f*;]{0,60}\*?")
_PATIENT: Final = re.compile(r"Patient/[A-Za-z0-9.-]{1,64}")
_CHANNEL: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Kind(StrEnum):
    """What a party is."""

    INSTITUTION = "institution"
    STAFF = "staff"
    DEVICE = "device"


class Mark(StrEnum):
    """By what a party is known. Each value of each belongs to one party only."""

    CERTIFICATE = "certificate"  # further party names in certificates; its own id is always one
    AE_TITLE = "ae_title"  # DICOM PS3.8
    SENDER = "sender"  # MSH-3|MSH-4, and what Envelope.sender is elsewhere
    SERIAL = "serial"  # an instrument's serial number


@dataclass(frozen=True, slots=True)
class Party:
    """`id` is the name in its party URI. `identifiers` are (system, value). `marks` are (mark, value): its certificates, AE titles,
    senders, serials. `belongs_to` is the id of the party above it, in whose connections it may be named as the sender. `disabled_at` in
    microseconds UTC, 0 while it is enabled. `keys` are the public keys of its assertions (engine.parties.keys).

    `may_send` are message types, each with an optional ``*`` at its end, or types of FHIR resources; none: it may send nothing.
    `channels` are those that it may send on; none: all. `patients` are those that it sends of, as ``Patient/ID`` or ``SYSTEM|VALUE``;
    none: all. `requests_per_minute` over HTTP; 0: as many as it wants.
    """

    id: str
    kind: Kind
    name: str = ""
    belongs_to: str = ""
    identifiers: tuple[tuple[str, str], ...] = ()
    marks: tuple[tuple[Mark, str], ...] = ()
    may_send: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    disabled_at: int = 0
    disabled_why: str = ""
    keys: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    requests_per_minute: int = 0

    def of(self, mark: Mark) -> tuple[str, ...]:
        """Its values of one kind of mark."""
        return tuple(value for kind, value in self.marks if kind is mark)

    def unique(self) -> Iterator[tuple[str, str]]:
        """What no other party may have: its name in certificates, its marks and identifiers."""
        yield Mark.CERTIFICATE, self.id
        yield from self.marks
        yield from self.identifiers
        yield from (("key", key_thumbprint(key)) for key in self.keys)


def faults_of(party: Party) -> Iterator[str]:
    """What is wrong with a party by itself."""
    yield from _name_faults("", party.id)
    if party.belongs_to:
        yield from _name_faults("belongs_to: ", party.belongs_to)
    if party.name and not _TEXT.fullmatch(party.name):
        yield "its name has more than 200 characters, a semicolon or a control character"
    for mark, value in party.marks:
        yield from _mark_faults(mark, value)
    for system, value in party.identifiers:
        yield from _identifier_faults(system, value)
    yield from (f"{one!r} is no message type such as ADT^A01, ADT^* or *" for one in party.may_send if not _PATTERN.fullmatch(one))
    yield from (f"{one!r} cannot be the name of a channel" for one in party.channels if not _CHANNEL.fullmatch(one))
    yield from (f"{one!r} is no patient such as Patient/1234 or SYSTEM|VALUE" for one in party.patients if not _is_patient(one))
    if len({key_id(key) for key in party.keys}) < len(party.keys):
        yield "two of its keys have the same key id (kid)"
    if not 0 <= party.requests_per_minute <= MOST_REQUESTS:
        yield f"requests_per_minute is a number up to {MOST_REQUESTS}; 0 for no limit"
    for several in (party.marks, party.identifiers, party.may_send, party.channels, party.keys, party.patients):
        if len(several) > MOST:
            yield f"more than {MOST} of one thing"


def _is_patient(text: str) -> bool:
    system, divided, value = text.partition("|")
    return bool(_URI.fullmatch(system) and _TEXT.fullmatch(value)) if divided else bool(_PATIENT.fullmatch(text))


def _name_faults(where: str, name: str) -> Iterator[str]:
    try:
        party_uri(name)
    except ValueError as error:
        yield f"{where}{error}"
    else:
        if party_name(name) != name:
            yield f"{where}{name!r} is a URI; write {party_name(name)}"


def _mark_faults(mark: Mark, value: str) -> Iterator[str]:
    if mark is Mark.CERTIFICATE:
        yield from _name_faults("certificate: ", value)
    elif mark is Mark.AE_TITLE and not _AE_TITLE.fullmatch(value):
        yield f"{value!r} is no AE title: 1 to 16 ASCII characters without backslash, no space at an end"
    elif mark is Mark.SENDER and (not _SENDER.fullmatch(value) or not value.strip("|")):
        yield f"{value!r} is no sender such as LAB|COUNTY (MSH-3|MSH-4)"
    elif mark is Mark.SERIAL and not _TEXT.fullmatch(value):
        yield f"{value!r} is no serial number"


def _identifier_faults(system: str, value: str) -> Iterator[str]:
    check = IDENTIFIERS.get(system)
    if check is None:
        if not _URI.fullmatch(system):
            yield f"{system!r} is no system of identifiers: {', '.join(IDENTIFIERS)} or a URI"
        elif not _TEXT.fullmatch(value):
            yield f"the identifier in {system} has 1 to 200 characters, and no semicolon"
        return
    try:
        check(value)
    except ValueError as error:
        yield f"{system} {value!r} {error}"


def together(parties: dict[str, Party]) -> Iterator[tuple[str, str]]:
    """What is wrong among all parties: the id that is at fault, and why. What two have, the later one is told."""
    owners: dict[tuple[str, str], str] = {}
    for party in parties.values():
        for key in dict.fromkeys(party.unique()):
            first = owners.setdefault(key, party.id)
            if first != party.id:
                yield party.id, f"{key[0]} {key[1]!r} belongs to {first!r} already"
    for party in parties.values():
        if party.belongs_to and party.belongs_to not in parties:
            yield party.id, f"belongs_to: there is no party {party.belongs_to!r}"
        elif party.id in above(party, parties)[1:]:
            yield party.id, "belongs_to leads back to itself"


def above(party: Party, parties: dict[str, Party]) -> list[str]:
    """Its own id and those of the parties that it belongs to, nearest first; a circle is gone through once, and ends with its start."""
    chain = [party.id]
    while (upper := parties[chain[-1]].belongs_to) and upper in parties:
        chain.append(upper)
        if upper in chain[:-1]:
            break
    return chain
