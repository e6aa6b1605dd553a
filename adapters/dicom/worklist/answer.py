"""A step as the answer to a query (PS3.4 clause K.4.1.3): everything that is known of it, then what was asked for. Pure."""

from __future__ import annotations

from typing import Final

from adapters.dicom.worklist.attributes import CHARSET, DATE, STATION, STEPS, TIME, below
from adapters.dicom.worklist.elements import Item
from adapters.dicom.worklist.steps import IN_PROGRESS, Code, Name, Step

_STARTED: Final = "STARTED"
"""(0040,0020), its term for a step that is in progress (PS3.3 table C.4-10)."""


def whole(step: Step, status: str, extended: bool, station: str) -> Item:
    """Everything. `extended`: the character set of the answer reaches ideographs by code extensions; `station`: who asks, for a step
    that is bound to no station."""
    patient = step.patient
    item: Item = {
        STEPS: [_step(step, status, extended, station)],
        0x00401001: _one(step.requested_id),
        0x00321060: _one(step.description),
        0x00321064: _codes(step.requested),
        0x0020000D: _one(step.study_uid),
        0x00081110: [],
        0x00401003: _one(step.priority),
        0x00401004: _one(step.transport),
        0x00401002: _one(step.reason),
        0x00401400: _one(step.comments),
        0x00080050: _one(step.accession),
        0x00321032: _name(step.requesting, extended),
        0x00080090: _name(patient.referring, extended),
        0x00321033: _one(step.service),
        0x00402016: _one(step.placer.partition("^")[0]),
        0x00402017: _one(step.filler.partition("^")[0]),
        0x00380010: _one(patient.admission),
        0x00380300: _one(patient.location),
        0x00081120: [],
        0x00100010: _name(patient.name, extended),
        0x00100020: _one(patient.number),
        0x00100021: _one(patient.issuer),
        0x00100030: _one(patient.born),
        0x00100040: _one(patient.sex),
        0x00101020: _one(patient.size),
        0x00101030: _one(patient.weight),
        0x00403001: _one(patient.confidentiality),
        0x00380500: _one(patient.state),
        0x001021C0: _one(patient.pregnancy),
        0x00102000: patient.alerts,
        0x00102110: patient.allergies,
        0x00380050: (),
    }
    return item


def asked(keys: Item, item: Item, sequence: int = 0) -> Item:
    """What a query asks for, of what there is: a return key that is known is there, be it empty; an unknown one is not (C.2.2.1.3)."""
    found: Item = {}
    for tag, key in keys.items():
        vr = below(sequence).get(tag)
        if vr is None or tag == CHARSET:
            continue
        values = item.get(tag, ())
        if vr == "SQ" and isinstance(key, list) and any(key):
            wanted = key[0]
            found[tag] = [asked(wanted, one, tag) for one in values if isinstance(one, dict)]
        else:
            found[tag] = values
    return found


def supported(keys: Item, sequence: int = 0) -> bool:
    """Whether every key is one that is known here: otherwise the status of a match is FF01H (K.4.1.1.4)."""
    names = below(sequence)
    for tag, key in keys.items():
        if not tag & 0xFFFF and tag >> 16:
            continue  # a group length, retired
        if tag not in names or (names[tag] == "SQ" and isinstance(key, list) and key and not supported(key[0], tag)):
            return False
    return True


def _step(step: Step, status: str, extended: bool, station: str) -> Item:
    return {
        STATION: step.stations or _one(station),
        DATE: _one(step.date),
        TIME: _one(step.time),
        0x00080060: _one(step.modality),
        0x00400006: _name(step.performer, extended),
        0x00400007: _one(step.step_description),
        0x00400008: _codes(*step.protocols),
        0x00400009: _one(step.step_id),
        0x00400010: _one(step.station_name),
        0x00400011: _one(step.location),
        0x00400012: (),
        0x00321070: (),
        0x00400020: _one(_STARTED if status == IN_PROGRESS else status),
        0x00400400: _one(step.comments),
    }


def _one(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _codes(*codes: Code) -> list[Item]:
    return [{0x00080100: (one.value,), 0x00080102: (one.scheme,), 0x00080104: (one.meaning,)} for one in codes if one.value]


def _name(name: Name, extended: bool) -> tuple[str, ...]:
    """A name of one spelling stands in the first group, where a modality looks for it; with code extensions that group has no ideographs
    (PS3.5 clause 6.2.1.2), so they stand in theirs."""
    groups = [name.alphabetic, name.ideographic, name.phonetic]
    if not extended and sum(map(bool, groups)) == 1:
        groups = [next(filter(None, groups)), "", ""]
    return _one("=".join(groups).rstrip("="))
