"""Imaging orders, read from HL7 v2 as IHE schedules procedures (RAD TF-2, RAD-2, RAD-3, RAD-4, RAD-13; TF-2x appendix B for what becomes
which attribute of the modality worklist). ORM^O01 (clause 4.4.1), OMG^O19 (4.4.4), OMI^O23 (4.4.12), OML^O21. Pure.

Which step a message speaks of: an order is its placer's and its filler's number (ORC-2, ORC-3), each with who assigned it, else its
accession number (the book knows an order by one of the two again); in it the requested procedure (OBR-19, IPC-2) and the step (OBR-20,
IPC-4), and where these have no identifier, the place of the OBR among those of its order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import NAMESPACE_OID, uuid5

from adapters.dicom.worklist import names
from adapters.dicom.worklist.patients import line, patient_of, text_of
from adapters.dicom.worklist.segments import Group, Reading
from adapters.dicom.worklist.stations import Stations
from adapters.dicom.worklist.steps import CANCELLED, COMPLETED, DISCONTINUED, IN_PROGRESS, ON_HOLD, SCHEDULED, Code, Step
from engine.errors import ValidationError
from engine.formats import hl7v2
from engine.formats.hl7v2 import parse_path

MESSAGES: Final = frozenset(("ORM^O01", "OMG^O19", "OMI^O23", "OML^O21"))
SITE_FIELDS: Final = ("accession", "requested_id", "step_id", "study_uid", "modality", "ae_title", "station_name", "location", "start")

_KEEPS: Final = frozenset(("", "NW", "XO", "RO", "XX", "XR", "SN", "PA", "CH", "RF"))
_SAYS: Final = {
    "CA": CANCELLED, "OC": CANCELLED, "CR": CANCELLED, "DC": CANCELLED, "OD": CANCELLED, "DR": CANCELLED, "RP": CANCELLED, "RU": CANCELLED,
    "HD": ON_HOLD, "OH": ON_HOLD, "HR": ON_HOLD, "RL": SCHEDULED, "OE": SCHEDULED, "OR": SCHEDULED,
}  # fmt: skip
"""ORC-1 (table 0119): what it makes of the steps it speaks of."""
_STATUSES: Final = {
    "SC": SCHEDULED,
    "IP": IN_PROGRESS,
    "CM": COMPLETED,
    "DC": DISCONTINUED,
    "CA": CANCELLED,
    "RP": CANCELLED,
    "HD": ON_HOLD,
}
"""ORC-5 (table 0038) where ORC-1 is SC (RAD-3, RAD-13); of another status nothing follows."""
_PRIORITIES: Final = {"S": "STAT", "A": "HIGH", "P": "HIGH", "C": "HIGH", "R": "ROUTINE", "T": "MEDIUM"}
_UID: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_AE_TITLE: Final = re.compile(r"[ -\[\]-~]{1,16}")
_MOMENT: Final = re.compile(r"([0-9]{8})([0-9]{2})?([0-9]{2})?([0-9]{2})?(?:\.[0-9]{1,6})?(?:[+-][0-9]{4})?")


@dataclass(frozen=True, slots=True)
class Word:
    """What a message says of one step: it is to be kept as it stands (`status` ""), or the steps of its order, its procedure
    and its position (each "" for any) now have a status. `made`: no message gave the study's UID, it was made here."""

    step: Step
    status: str = ""
    made: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """What a site says of its orders: its `node`'s name (for study UIDs made here), stations, where fields of its own stand, and whose
    patient number is wanted (PID-3.4; "" the first)."""

    node: str = ""
    stations: Stations = field(default_factory=Stations)
    fields: Mapping[str, str] = field(default_factory=dict)
    authority: str = ""


def read(body: bytes, fallback: str, site: Site, received: str) -> list[Word]:
    """The words of a message. `fallback` is the character set where MSH-18 does not fit, `received` (YYYYMMDDHHMMSS) stands in for a
    start that nothing says. Raises ParseError, and ValidationError where a modality could not be given what it needs."""
    return _Reader(Reading(hl7v2.decode(body, fallback=fallback)), site, received).words()


class _Reader:
    def __init__(self, reading: Reading, site: Site, received: str) -> None:
        self._reading, self._site, self._received = reading, site, received
        self._patient, self._groups = reading.groups()
        self._positions: Counter[tuple[str, str]] = Counter()

    def words(self) -> list[Word]:
        found: list[Word] = []
        for index, group in enumerate(self._groups):
            control = self._reading.part(group.first("ORC"), 1).upper()
            status = _STATUSES.get(self._reading.part(group.first("ORC"), 5), "") if control == "SC" else _SAYS.get(control, "")
            if status:
                found += [Word(self._named(group, ipc), status) for ipc in group.all("IPC") or [[]]]
            elif control in _KEEPS and group.all("OBR"):
                found += [self._kept(group, ipc, index) for ipc in group.all("IPC") or [[]]]
        return _joined(found)

    def _named(self, group: Group, ipc: list[str]) -> Step:
        """Which steps a message means, with the numbers it has for them."""
        placer, filler = self._number(group, 2), self._number(group, 3)
        accession = self._fact("accession", group, ipc, ("IPC", 1), ("OBR", 18))
        requested = self._fact("requested_id", group, ipc, ("IPC", 2), ("OBR", 19))
        step = self._fact("step_id", group, ipc, ("IPC", 4), ("OBR", 20))
        order = f"{placer}|{filler}" if placer or filler else accession
        if not order:
            raise ValidationError("an order without a number cannot be kept", location="ORC-2", hl7_code="101")
        for text, where in ((accession, "OBR-18"), (requested, "OBR-19"), (step, "OBR-20")):
            if len(text) > 16 or "\\" in text:
                raise ValidationError("the number does not fit into a DICOM SH (16 characters)", location=where, hl7_code="102")
        plain = filler.partition("^")[0]
        accession = accession or (plain if len(plain) <= 16 else "")
        return Step(order, requested, step, placer, filler, accession, requested, step)

    def _number(self, group: Group, number: int) -> str:
        """ORC-2 or ORC-3 (EI), else the same of OBR, with its namespace."""
        part = self._reading.part
        for fields in (group.first("ORC"), group.first("OBR")):
            if found := part(fields, number):
                return f"{found}^{part(fields, number, 2) or part(fields, number, 3)}".rstrip("^")
        return ""

    def _kept(self, group: Group, ipc: list[str], index: int) -> Word:
        step = self._named(group, ipc)
        self._positions[step.order, step.procedure] += 1
        place = str(self._positions[step.order, step.procedure])
        step = replace(step, position=step.position or place, procedure=step.procedure or ("" if step.position or ipc else place))
        study = self._study(group, ipc, index)
        step = self._numbered(step, study)
        return Word(self._described(self._placed(step, group, ipc), group, ipc), made=not study)

    def _numbered(self, step: Step, study: str) -> Step:
        """Identifiers that nothing says are made from those of the order, so that the same order has the same ones again."""
        base = step.accession or step.placer.partition("^")[0]
        requested = step.requested_id or _short(base if step.procedure in ("", "1") else f"{base}-{step.procedure}", step.key[:2])
        return replace(
            step,
            requested_id=requested,
            step_id=step.step_id or _short(f"{requested}-{step.position}", step.key),
            study_uid=study or made_study_uid(self._site.node, step),
        )

    def _study(self, group: Group, ipc: list[str], index: int) -> str:
        """IPC-3, or ZDS-1 of this order or of the next that has one (RAD-4: one ZDS ends the orders of a requested procedure)."""
        zds = next((found for one in self._groups[index:] if (found := one.first("ZDS"))), [])
        uid = self._own("study_uid", group) or self._reading.part(ipc, 3) or self._reading.part(zds, 1)
        if uid and (len(uid) > 64 or not _UID.fullmatch(uid)):
            raise ValidationError("the Study Instance UID is none", location="IPC-3" if ipc else "ZDS-1", hl7_code="102")
        return uid

    # --- where and when ------------------------------------------------------------------------------

    def _placed(self, step: Step, group: Group, ipc: list[str]) -> Step:
        part, obr = self._reading.part, group.first("OBR")
        service = self._fact("modality", group, ipc, ("IPC", 5), ("OBR", 24))
        row = self._site.stations.of(service, list(filter(None, (part(obr, 4), part(obr, 44), part(obr, 4, 4)))))
        modality = (row.get("modality") or service).upper()
        if not re.fullmatch(r"[A-Z0-9_ ]{1,16}", modality):
            raise ValidationError("the order says no modality, nor does the table of stations", location="OBR-24", hl7_code="101")
        own = self._own("ae_title", group)
        said = [own] if own else [title for one in self._reading.repetitions(ipc, 9) if (title := one(1))]
        stations = tuple(said or filter(None, row.get("ae_title", "").split("\\")))
        if not all(_AE_TITLE.fullmatch(title) for title in stations):
            raise ValidationError("an AE title has 1 to 16 characters of ASCII", location="IPC-9", hl7_code="102")
        date, time = self._start(group)
        return replace(
            step,
            modality=modality,
            stations=stations,
            station_name=self._own("station_name", group) or text_of(part(ipc, 7) or row.get("station_name", ""), 16),
            location=self._own("location", group) or text_of(part(ipc, 8, 2) or part(ipc, 8) or row.get("location", ""), 16),
            date=date,
            time=time,
            performer=names.provider(self._staff(obr, 34)),
        )

    def _staff(self, obr: list[str], number: int) -> list[names.Part]:
        """OBR-34 (NDL): who, as the subcomponents of the first component; like an XCN, as far as both go."""
        who = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}
        found = {to: self._reading.subcomponent(obr, number, 1, part) for part, to in who.items()}
        return [lambda component: found.get(component, "")] if any(found.values()) else []

    def _start(self, group: Group) -> tuple[str, str]:
        """TQ1-7, OBR-36, OBR-27.4, ORC-7.4, else when it is requested (OBR-6), else when the order came."""
        part, obr = self._reading.part, group.first("OBR")
        places = (
            (self._own("start", group), "start"),
            (part(group.first("TQ1"), 7), "TQ1-7"),
            (part(obr, 36), "OBR-36"),
            (part(obr, 27, 4), "OBR-27.4"),
            (part(group.first("ORC"), 7, 4), "ORC-7.4"),
            (part(obr, 6), "OBR-6"),
            (self._received, ""),
        )
        text, where = next((text, where) for text, where in places if text)
        return moment(text, where)

    # --- what ----------------------------------------------------------------------------------------

    def _described(self, step: Step, group: Group, ipc: list[str]) -> Step:
        part, obr, orc = self._reading.part, group.first("OBR"), group.first("ORC")
        requested = self._code(obr, 44) or self._code(obr, 4) or Code()
        protocols = self._codes(ipc, 6) or tuple(filter(None, (self._code(obr, 4, 4),)))
        said = part(obr, 44, 2) or part(obr, 4, 2) or part(obr, 4)
        doing = part(ipc, 6, 2) or part(obr, 4, 5) or said
        urgency = part(group.first("TQ1"), 9) or part(obr, 27, 6) or part(orc, 7, 6) or part(obr, 5)
        return replace(
            step,
            requested=requested,
            description=text_of(said),
            protocols=protocols,
            step_description=text_of(doing),
            requesting=names.provider(self._reading.repetitions(obr, 16) or self._reading.repetitions(orc, 12)),
            service=text_of(part(orc, 17, 2) or part(orc, 17)),
            priority=_PRIORITIES.get(urgency.upper()[:1], ""),
            transport=text_of(part(obr, 30)),
            reason=text_of(part(obr, 31, 2) or part(obr, 31)),
            comments=line(" ".join(filter(None, (part(nte, 3) for nte in group.all("NTE")))), 1024),
            patient=patient_of(self._reading, self._patient, group, self._site.authority),
        )

    def _code(self, fields: list[str], number: int, first: int = 1, repetition: int = 1) -> Code | None:
        """A CE or CWE as a coded entry; none where the value does not fit into (0008,0100), an SH."""
        value, meaning, scheme = (self._reading.part(fields, number, first + offset, repetition) for offset in range(3))
        if not value or len(value) > 16 or "\\" in value:
            return None
        return Code(value, text_of(scheme, 16) or "L", text_of(meaning) or value)

    def _codes(self, fields: list[str], number: int) -> tuple[Code, ...]:
        count = len(self._reading.repetitions(fields, number))
        return tuple(code for repetition in range(1, count + 1) if (code := self._code(fields, number, 1, repetition)))

    # --- facts that a site may have elsewhere --------------------------------------------------------

    def _fact(self, name: str, group: Group, ipc: list[str], *places: tuple[str, int]) -> str:
        """Where the site says it is, else the first of `places` that has something."""
        if own := self._own(name, group):
            return own
        for segment, number in places:
            fields = ipc if segment == "IPC" else group.first(segment)
            if found := self._reading.part(fields, number):
                return found
        return ""

    def _own(self, name: str, group: Group) -> str:
        path = self._site.fields.get(name)
        if not path:
            return ""
        where = parse_path(path)
        fields = group.first(where.segment) or self._patient.first(where.segment)
        return self._reading.part(fields, where.field, where.component or 1, where.repetition)


def _joined(words: Sequence[Word]) -> list[Word]:
    """A step that comes several times in a message has several protocol codes (RAD-4: an ORC and OBR, or an IPC, for each)."""
    found: dict[tuple[str, ...], Word] = {}
    for word in words:
        key = (word.status, *word.step.key)
        first = found.setdefault(key, word)
        protocols = tuple(dict.fromkeys((*first.step.protocols, *word.step.protocols)))
        found[key] = replace(first, step=replace(first.step, protocols=protocols))
    return list(found.values())


def moment(text: str, where: str) -> tuple[str, str]:
    """A DTM as date and time of a modality's own clock: an offset from UTC is left out. Raises ValidationError."""
    match = _MOMENT.fullmatch(text)
    date, time = (match[1], "".join(part or "00" for part in match.groups()[1:])) if match else ("", "")
    try:
        datetime.strptime(date + time, "%Y%m%d%H%M%S")  # noqa: DTZ007
    except ValueError:
        raise ValidationError("this is no date and time", location=where, hl7_code="102") from None
    return date, time


def made_study_uid(node: str, step: Step) -> str:
    """A UID from a UUID (PS3.5 annex B.2) of the requested procedure: the same order gives the same study again."""
    return f"2.25.{uuid5(NAMESPACE_OID, '|'.join((node, step.order, step.procedure))).int}"


def _short(readable: str, key: tuple[str, ...]) -> str:
    """An identifier that fits into an SH: a readable one, or where that is too long, sixteen characters of a digest."""
    if 0 < len(readable) <= 16 and "\\" not in readable:
        return readable
    return sha256("|".join(key).encode()).hexdigest()[:16].upper()
