"""From an observation message of a point-of-care device to the segments of an OUL^R22 (POCT1-A2: services SVC with their PT or CTC, OBS,
ORD, SPC, OPR, RGT, NTE).

A service is one order: SPM and OBR, an OBX for each observation. One of a control or calibration (role LQC, CAL, or with a CTC) has no
patient and goes before all others.
"""

from __future__ import annotations

import re
from typing import Final
from xml.etree.ElementTree import Element

from engine.errors import UnsupportedError
from engine.formats.poct1a import Message, services, value
from mappings.instruments import Instrument, Instruments
from mappings.oul import NUMBER, Segments

_OBSERVATIONS: Final = ("OBS.R01", "OBS.R02")
_PATIENTS: Final = frozenset(("OBS", ""))
"""SVC.role_cd of what was measured of a patient; the others are controls, calibrations, proficiency and verification."""
_STATUS: Final = {"A": "F", "D": "X", "R": "X", "P": "P", "C": "C"}
"""OBS.status_cd: accepted, discarded, rejected, preliminary, corrected -> OBX-11 (table 0085)."""
_TIME: Final = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?)?")
_LIMITS: Final = re.compile(r"[\[\]()]([^;]*);([^;]*)[\[\]()]")
_LOINC: Final = frozenset(("LN", "LOINC"))


def v2_time(text: str) -> str:
    """ISO 8601 as an HL7 v2 time; "" for what is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return ""
    *digits, zone = match.groups()
    written = "".join(digit for digit in digits if digit)
    return written + ("" if not zone else "+0000" if zone == "Z" else zone.replace(":", ""))


class Translation:
    """One message. Raises UnsupportedError, and ValidationError for a device that the site does not know."""

    def __init__(self, message: Message, instruments: Instruments, digest: str) -> None:
        if message.kind not in _OBSERVATIONS:
            raise UnsupportedError(f"only observations ({', '.join(_OBSERVATIONS)}) are mapped", location="message type", hl7_code="200")
        found = list(services(message.root))
        if not any(True for service in found for _ in service.iter("OBS")):
            raise UnsupportedError("there is no observation in this message", location="OBS", hl7_code="200")
        self._device = message.hello.find("DEV") if message.hello is not None else None
        vendor = value(self._device, "DEV.vendor_id")
        model = value(self._device, "DEV.model_id") or value(self._device, "DEV.device_name")
        self._serial = value(self._device, "DEV.serial_id") or value(self._device, "DEV.device_id")
        self._instrument: Instrument = instruments.find(model, vendor)
        self.segments = Segments()
        self._header(message.root.find("HDR"), model or vendor, digest)
        numbered = list(enumerate(found, 1))
        for number, service in numbered:
            if self._is_control(service):
                self._service(number, service, control=True)
        for number, service in numbered:
            if not self._is_control(service):
                self._patient(number, service)
                self._service(number, service, control=False)

    @staticmethod
    def _is_control(service: Element) -> bool:
        return value(service, "SVC.role_cd") not in _PATIENTS or service.find("CTC") is not None

    # --- segments --------------------------------------------------------------------------------

    def _header(self, header: Element | None, name: str, digest: str) -> None:
        segments = self.segments
        segments.header("HDR", self._instrument, "DEV.model_id")
        self._put(3, 1, name, "DEV.model_id")
        self._put(7, 1, v2_time(value(header, "HDR.creation_dttm")), "HDR.creation_dttm")
        control_id = "-".join(filter(None, (value(header, "HDR.control_id"), digest[:16])))
        segments.put(10, 1, control_id, "HDR.control_id", "the message's control id and digest")
        segments.put(11, 1, "P", "HDR", "production")

    def _patient(self, number: int, service: Element) -> None:
        patient = service.find("PT")
        if patient is None or not list(patient):
            return
        here = f"SVC[{number}]/PT"
        self.segments.open("PID", here)
        identifier = value(patient, "PT.patient_id")
        self._put(3, 1, identifier, f"{here}.patient_id")
        if identifier:
            self._put(3, 4, self._instrument.authority, f"{here}.patient_id")
            self._put(3, 5, "MR", f"{here}.patient_id")
        name = patient.find("PT.name")
        self._put(5, 1, value(name, "FAM"), f"{here}.name")
        self._put(5, 2, value(name, "GIV"), f"{here}.name")
        if name is not None and not list(name):
            self._put(5, 1, name.get("V") or "", f"{here}.name")
        self._put(7, 1, v2_time(value(patient, "PT.birth_date")), f"{here}.birth_date")
        self._put(8, 1, value(patient, "PT.gender_cd"), f"{here}.gender_cd")

    def _service(self, number: int, service: Element, *, control: bool) -> None:
        here = f"SVC[{number}]"
        at = v2_time(value(service, "SVC.observation_dttm"))
        specimen, order = service.find(".//SPC"), service.find(".//ORD")
        self.segments.open("SPM", here)
        self._put(2, 1, value(specimen, "SPC.specimen_id"), f"{here}/SPC.specimen_id")
        self._put(4, 1, value(specimen, "SPC.type_cd"), f"{here}/SPC.type_cd")
        if control:
            self._put(11, 1, "Q", f"{here}.role_cd")
            self._put(11, 3, "HL70369", f"{here}.role_cd")
            for text in (value(service.find("CTC"), "CTC.name"), value(service.find("CTC"), "CTC.lot_number")):
                self._put(14, 1, text, f"{here}/CTC", repeat=True)
        self.segments.open("OBR", here)
        observations = list(service.iter("OBS"))
        self._put(2, 1, value(order, "ORD.order_id"), f"{here}/ORD.order_id")
        if not self._test(value(order, "ORD.universal_service_id"), value(order, "ORD.universal_service_id", "DN"),
                          value(order, "ORD.universal_service_id", "SN"), 4, f"{here}/ORD.universal_service_id"):  # fmt: skip
            names = (value(one, "OBS.observation_id", "DN") or value(one, "OBS.observation_id") for one in observations)
            self._put(4, 2, ", ".join(dict.fromkeys(filter(None, names))), f"{here}/OBS.observation_id")
        self._put(7, 1, at, f"{here}.observation_dttm")
        self._put(25, 1, "F", f"{here}")
        for index, observation in enumerate(observations, 1):
            self._observation(f"{here}/OBS[{index}]", observation, service, at, here)
        self._notes(service, here)

    def _observation(self, here: str, observation: Element, service: Element, at: str, parent: str) -> None:
        self.segments.open("OBX", here)
        test = value(observation, "OBS.observation_id")
        known = self._test(test, value(observation, "OBS.observation_id", "DN"), value(observation, "OBS.observation_id", "SN"), 3,
                           f"{here}.observation_id")  # fmt: skip
        text = value(observation, "OBS.value")
        where = f"{here}.value"
        if not text:
            text, where = value(observation, "OBS.qualitative_value"), f"{here}.qualitative_value"
        if text:
            self._put(2, 1, "NM" if NUMBER.fullmatch(text) else "ST", where)
            self._put(5, 1, text, where)
        unit = value(observation, "OBS.value", "U")
        row = self._instrument.test([test]) if known else None
        if row is not None and row["unit"]:
            self._put(6, 1, row["unit"], f"{here}.observation_id")
            self._put(6, 2, unit or row["unit"], f"{here}.value")
            self._put(6, 3, "UCUM", f"{here}.observation_id")
        else:
            self._put(6, 1, unit, f"{here}.value")
        limits = _LIMITS.fullmatch(value(observation, "OBS.normal_lo-hi_limit"))
        if limits is not None:
            low, high = (one.strip() for one in limits.groups())
            self._put(7, 1, f"{low}-{high}" if low and high else f">={low}" if low else f"<={high}", f"{here}.normal_lo-hi_limit")
        flag = value(observation, "OBS.interpretation_cd") or value(observation, "OBS.normal_flag")
        self._put(8, 1, flag, f"{here}.interpretation_cd")
        status = value(observation, "OBS.status_cd")
        self._put(11, 1, _STATUS.get(status, "F"), f"{here}.status_cd")
        self._put(14, 1, at, f"{parent}.observation_dttm")
        operator = service.find("OPR")
        self._put(16, 1, value(operator, "OPR.operator_id"), f"{parent}/OPR.operator_id")
        self._put(18, 1, self._serial, "DEV.serial_id")
        self._notes(observation, here)

    def _notes(self, element: Element, here: str) -> None:
        for note in element.findall("NTE"):
            if text := value(note, "NTE.text"):
                self.segments.open("NTE", f"{here}/NTE")
                self._put(3, 1, text, f"{here}/NTE.text")

    def _test(self, code: str, name: str, system: str, field: int, source: str) -> bool:
        """A coded test as CWE, LOINC first; whether there is any."""
        if not code:
            return False
        row = self._instrument.test([code])
        own = f"99{self._instrument.name or 'POC'}"
        at = 1
        if row is not None:
            rule = f"tests/{self._instrument.name}.csv row {row['code']} (site)"
            for component, text in ((1, row["to"]), (2, row["display"]), (3, "LN")):
                self.segments.put(field, component, text, source, rule)
            at = 4
        elif system.upper() in _LOINC:
            own = "LN"
        for component, text in ((at, code), (at + 1, name), (at + 2, own)):
            self._put(field, component, text, source)
        return True

    def _put(self, field: int, component: int, text: str, source: str, *, repeat: bool = False) -> None:
        if text:
            self.segments.put(field, component, text, source, source.rpartition("/")[2], repeat=repeat)
