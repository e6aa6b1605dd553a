"""Writes the hospital's HL7 v2.5 messages, segment by segment, in the character set of the system that sends them.

Deliberately not built on engine.formats: the demo's messages come from a foreign hand, as real ones do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from engine.demo.laboratory import Measurement, Panel
from engine.demo.people import Person

FACILITY: Final = "COUNTYHOSP"
IDENTITY_CARD: Final = "&2.16.156.10011.1.3&ISO"


@dataclass(frozen=True, slots=True)
class System:
    """A sending system of the hospital: MSH-3, its MSH-18 (table 0211) with Python's name for it, and whether it speaks TLS."""

    name: str
    declared: str
    codec: str
    tls: bool


HIS: Final = System("HIS", "GB 18030-2000", "gb18030", tls=False)
EMR: Final = System("EMR", "UNICODE UTF-8", "utf-8", tls=False)
LIS: Final = System("LIS", "UNICODE UTF-8", "utf-8", tls=True)
SYSTEMS: Final = (HIS, EMR, LIS)


@dataclass(frozen=True, slots=True)
class Visit:
    """One stay. `patient_class` is from table 0004; `place` is PV1-3 (ward^room^bed)."""

    number: str
    patient_class: str
    place: str
    doctor: str
    began: datetime


def stamp(moment: datetime) -> str:
    """A TS with the offset of China, which has had one zone and no summer time since 1992."""
    return f"{moment:%Y%m%d%H%M%S}+0800"


def segment(name: str, fields: Mapping[int, str]) -> str:
    """`fields` by their number in the standard; what is not given is empty."""
    return "|".join([name, *(fields.get(number, "") for number in range(1, max(fields) + 1))])


def message(system: System, message_type: str, control_id: str, at: datetime, segments: Sequence[str]) -> bytes:
    """`message_type` is MSH-9 (``ADT^A01^ADT_A01``)."""
    # MSH-1 is the separator itself, so that the numbers given to segment() are one less than the standard's here
    fields = {1: "^~\\&", 2: system.name, 3: FACILITY, 4: "MERIDIAN", 5: FACILITY, 6: stamp(at), 8: message_type, 9: control_id}
    header = segment("MSH", {**fields, 10: "P", 11: "2.5", 16: "CHN", 17: system.declared})
    return "".join(f"{one}\r" for one in (header, *segments)).encode(system.codec)


def evn(event: str, at: datetime, operator: str) -> str:
    return segment("EVN", {1: event, 2: stamp(at), 5: f"{operator}^值班^员"})


def pid(person: Person, *, phone: str = "") -> str:
    numbers = f"{person.record_number}^^^{FACILITY}^MR~{person.identity}^^^{IDENTITY_CARD}^NI"
    return segment(
        "PID",
        {
            1: "1",
            3: numbers,
            5: f"{person.family}^{person.given}^^^^^L^I",
            7: f"{person.born:%Y%m%d}",
            8: person.sex,
            11: f"{person.address}^H",
            13: f"{phone or person.phone}^PRN^CP",
            22: f"{person.ethnic}^GB3304",
            26: "CN^中国^ISO3166",
        },
    )


def unknown_pid(record_number: str, sex: str) -> str:
    """A patient whom nobody can name yet: a temporary number and a stand-in name (XPN-7 U: unspecified, table 0200)."""
    return segment("PID", {1: "1", 3: f"{record_number}^^^{FACILITY}^MR", 5: "无名氏^急^^^^^U^I", 8: sex})


def mrg(record_number: str) -> str:
    return segment("MRG", {1: f"{record_number}^^^{FACILITY}^MR", 7: "无名氏^急^^^^^U^I"})


def pv1(visit: Visit, *, left: datetime | None = None, before: str = "") -> str:
    """`before` is PV1-6, where the patient lay before a transfer."""
    return segment(
        "PV1",
        {
            1: "1",
            2: visit.patient_class,
            3: f"{visit.place}^{FACILITY}",
            6: f"{before}^{FACILITY}" if before else "",
            7: visit.doctor,
            19: f"{visit.number}^^^{FACILITY}^VN",
            44: stamp(visit.began),
            45: stamp(left) if left else "",
        },
    )


def nk1(person: Person) -> str:
    return segment("NK1", {1: "1", 2: f"{person.family}^家属^^^^^L^I", 3: "SPO^配偶^HL70063", 5: f"{person.phone}^PRN^CP"})


def dg1(code: str, text: str, at: datetime) -> str:
    return segment("DG1", {1: "1", 3: f"{code}^{text}^I10", 5: stamp(at), 6: "A"})


def al1(substance: str) -> str:
    return segment("AL1", {1: "1", 2: "DA^药物过敏^HL70127", 3: f"^{substance}", 4: "MO^中度^HL70128", 5: "皮疹"})


def orc(control: str, placer: str, filler: str, at: datetime, doctor: str) -> str:
    """`control` is ORC-1 (table 0119): NW new order, RE observations to follow."""
    status = {"NW": "SC", "RE": "CM"}[control]
    return segment("ORC", {1: control, 2: f"{placer}^EMR", 3: f"{filler}^LIS" if filler else "", 5: status, 9: stamp(at), 12: doctor})


def obr(panel: Panel, placer: str, filler: str, taken: datetime, doctor: str, reported: datetime | None = None) -> str:
    fields = {
        1: "1",
        2: f"{placer}^EMR",
        3: f"{filler}^LIS" if filler else "",
        4: f"{panel.loinc}^{panel.name}^LN^{panel.local}^{panel.chinese}^L",
        7: stamp(taken),
        16: doctor,
        24: panel.section,
    }
    return segment("OBR", {**fields, 22: stamp(reported), 25: "F"} if reported else fields)


def spm(panel: Panel, filler: str, taken: datetime) -> str:
    return segment("SPM", {1: "1", 2: f"&{filler}S", 4: f"{panel.tube}^HL70487", 17: stamp(taken)})


def obx(number: int, measured: Measurement, at: datetime) -> str:
    """A numeric result (OBX-2 NM)."""
    analyte = measured.analyte
    return segment(
        "OBX",
        {
            1: str(number),
            2: "NM",
            3: f"{analyte.loinc}^{analyte.name}^LN^{analyte.local}^{analyte.chinese}^L",
            5: measured.value,
            6: f"{analyte.unit}^^UCUM",
            7: measured.interval,
            8: measured.flag or "N",
            11: "F",
            14: stamp(at),
        },
    )


def obx_text(number: int, code: str, text: str, at: datetime) -> str:
    return segment("OBX", {1: str(number), 2: "TX", 3: code, 5: text, 11: "F", 14: stamp(at)})


def nte(number: int, text: str) -> str:
    """`text` is FT: ``\\.br\\`` breaks the line."""
    return segment("NTE", {1: str(number), 2: "L", 3: text})
