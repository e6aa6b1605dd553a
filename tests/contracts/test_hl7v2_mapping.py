"""hl7v2-to-fhir held to the contract of mappings, and what its events and statuses mean (HL7 v2.5.1 chapters 3, 4 and 7)."""

from __future__ import annotations

import re
from typing import Any, ClassVar
from unittest import TestCase

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle

from engine import registry
from engine.demo.morning import morning
from tests.contracts.mapping_contract import MappingContract

MAPPER = registry.mapping("hl7v2-to-fhir").compile(None)

PID = "PID|1||P1^^^H^MR||Rivera^Ana||19800102|F"


def segment(name: str, fields: dict[int, str]) -> str:
    """A segment of its fields by number."""
    return "|".join((name, *(fields.get(number, "") for number in range(1, max(fields) + 1))))


PV1_FIELDS = {1: "1", 2: "I", 3: "W1^R1^B1", 19: "V1^^^H^VN"}
PV1 = segment("PV1", PV1_FIELDS)


def hl7(message_type: str, *segments: str, control_id: str = "1") -> bytes:
    head = f"MSH|^~\\&|HIS|COUNTY|M|C|20261123080000||{message_type}|{control_id}|P|2.5.1||||||UNICODE UTF-8"
    return "\r".join((head, *segments, "")).encode()


def entries(body: bytes, kind: str) -> list[Any]:
    """Bundle.entry of every resource of one type; the Bundle is valid."""
    made = MAPPER.map(body).body
    Bundle.model_validate_json(made)
    return [entry for entry in orjson.loads(made)["entry"] if entry["resource"]["resourceType"] == kind]


def only(body: bytes, kind: str) -> Any:
    (entry,) = entries(body, kind)
    return entry


RICH = hl7(
    "ORU^R01^ORU_R01",
    segment("PID", {3: "P1^^^H^MR", 5: "Rivera^Ana^^^^^^^^^^^^^Annie", 26: "CHN", 39: "CAN"}),
    segment("ORC", {1: "RE", 2: "O1^HIS", 3: "L1^LIS", 8: "O9&HIS"}),
    segment("OBR", {1: "1", 3: "L1^LIS", 4: "GLU^Glucose^L", 25: "F", 29: "O8&HIS", 32: "D7&Lee&Kim^^^LAB^R4", 34: "D8&Roe"}),
    segment("OBX", {1: "1", 2: "NM", 3: "GLU^Glucose^L", 5: "5.1", 11: "F"}),
    segment("PRT", {2: "UC", 4: "EQUIP", 10: "A7^ANALYZERS"}),
)
"""What the tables say beyond a hospital's morning: roles in places, two citizenships, a device, two parent orders."""

_SOURCE = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?(?:-(\d+)(?:\[(\d+)\])?(?:\.(\d+))?)?")


class Hl7v2MappingTests(MappingContract, TestCase):
    """With one message of every type of a hospital's morning."""

    mapping = "hl7v2-to-fhir"
    bodies: ClassVar[list[bytes]] = [
        hl7("ADT^A01^ADT_A01", "EVN|A01|20261123080000", PID, PV1, "DG1|1||J18.9^Pneumonia^I10"),
        RICH,
        *sorted({item.kind: item.body for item in morning(7, 6) if item.kind not in ("", "ASTM^R")}.values()),
    ]
    unsupported: ClassVar[list[tuple[bytes, str]]] = [
        (hl7("SIU^S12^SIU_S12", PID), "200"),
        (hl7("ADT^A99^ADT_A01", PID), "201"),
    ]
    undecodable: ClassVar[list[bytes]] = [
        b"",
        b"PID|1||P1||Rivera",
        b"{}",
        hl7("ADT^A01", PID).replace(b"Rivera", b"Rivera\xff"),
        hl7("ADT^A01", PID).replace(b"UNICODE UTF-8", b"KLINGON"),
    ]
    lacking: ClassVar[list[tuple[bytes, str]]] = [
        (hl7("ADT^A01^ADT_A01", "NK1|1|Rivera^Tom"), "PID"),
        (hl7("", PID), "MSH-9"),
        (hl7("ADT^A40^ADT_A39", PID), "MRG-1"),
        (hl7("ADT^A40^ADT_A39", PID, 'MRG|""||A1'), "MRG-1"),
    ]
    secrets: ClassVar[list[str]] = ["Rivera", "Ana", "P1^", "19800102"]
    overlay: ClassVar[tuple[str, str]] = (
        "hl7v2-to-fhir/segments/Patient-PID.csv",
        "id,source,target,map,codes,when\nPID-8,PID-8,gender,=other,,\n",
    )
    before, after = b'"gender":"female"', b'"gender":"other"'
    bad_overlay: ClassVar[tuple[str, str]] = (
        "hl7v2-to-fhir/segments/Patient-PID.csv",
        "id,source,target,map,codes,when\n# ours\nPID-8,PID-8,gender,kode,gender,\n",
    )
    bad_line = 3

    def resolves(self, body: bytes, source: str) -> bool:
        """`PID[3]-5[1].2`: the third segment is a PID that has such a field, repetition and component."""
        match = _SOURCE.fullmatch(source)
        if match is None:
            return False
        name, number, field, repetition, component = match[1], *(int(word or 0) for word in match.groups()[1:])
        charset = "gb18030" if b"GB 18030" in body else "utf-8"
        segments = [line.split("|") for line in body.decode(charset).split("\r") if line]
        for fields in [segments[number - 1]] if number else segments:
            if fields[0] == name and (not field or self._valued(fields, field - (name == "MSH"), repetition, component)):
                return True
        return False

    @staticmethod
    def _valued(fields: list[str], field: int, repetition: int, component: int) -> bool:
        text = fields[field] if field < len(fields) else ""
        if repetition:
            text = [*text.split("~"), *[""] * repetition][repetition - 1]
        return any([*one.split("^"), *[""] * component][component - 1] if component else one for one in text.split("~"))


def test_an_update_is_of_the_admitted_patient() -> None:
    """A08 (§3.3.8) writes the resources that A01 (§3.3.1) made, by the same condition."""
    admitted, updated = (hl7(f"ADT^{event}^ADT_A01", f"EVN|{event}|20261123", PID, PV1, control_id=event) for event in ("A01", "A08"))
    for kind, system in (("Patient", "MR"), ("Encounter", "VN")):
        first, second = only(admitted, kind), only(updated, kind)
        assert first["request"] == second["request"]
        assert first["request"]["method"] == "PUT"
        assert first["fullUrl"] == second["fullUrl"]
        assert first["resource"]["identifier"][0] == second["resource"]["identifier"][0]
        assert first["resource"]["identifier"][0]["type"]["coding"][0]["code"] == system


def test_the_survivor_of_a_merge_replaces_the_other() -> None:
    """A40 (§3.3.40): PID is the record that stays, MRG the one that goes; each links to the other."""
    body = hl7("ADT^A40^ADT_A39", "EVN|A40|20261123", PID, "MRG|P0^^^H^MR")
    stays, gone = sorted(entries(body, "Patient"), key=lambda entry: entry["resource"].get("active", True), reverse=True)
    assert (stays["resource"]["identifier"][0]["value"], gone["resource"]["identifier"][0]["value"]) == ("P1", "P0")
    assert stays["resource"]["link"] == [{"other": {"reference": gone["fullUrl"]}, "type": "replaces"}]
    assert gone["resource"]["link"] == [{"other": {"reference": stays["fullUrl"]}, "type": "replaced-by"}]
    assert gone["resource"]["active"] is False
    assert stays["fullUrl"] == only(hl7("ADT^A01^ADT_A01", PID), "Patient")["fullUrl"]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("A01", "in-progress"),
        ("A02", "in-progress"),
        ("A03", "finished"),
        ("A04", "arrived"),
        ("A05", "planned"),
        ("A11", "cancelled"),
        ("A13", "in-progress"),
    ],
)
def test_the_event_says_what_became_of_the_visit(event: str, status: str) -> None:
    """Of the same Encounter: A03 (§3.3.3) finishes it, A11 (§3.3.11) cancels it, A13 (§3.3.13) opens it again."""
    encounter = only(hl7(f"ADT^{event}", f"EVN|{event}|20261123", PID, PV1), "Encounter")
    assert encounter["resource"]["status"] == status
    assert encounter["request"] == only(hl7("ADT^A01", PID, PV1), "Encounter")["request"]


def test_a_discharge_has_its_time() -> None:
    encounter = only(hl7("ADT^A03^ADT_A03", PID, segment("PV1", {**PV1_FIELDS, 44: "20261120", 45: "20261123"})), "Encounter")["resource"]
    assert encounter["period"] == {"start": "2026-11-20", "end": "2026-11-23"}
    assert encounter["location"][0]["status"] == "completed"


def report(obr_25: str = "F", obx_11: str = "F", value: str = "5.1", control_id: str = "1") -> bytes:
    obr = f"OBR|1|O1^HIS|L1^LIS|GLU^Glucose^L|||20261123070000|||||||||||||||20261123080000||LAB|{obr_25}"
    obx = f"OBX|1|NM|GLU^Glucose^L||{value}|mmol/L|3.9-6.1||||{obx_11}|||20261123070000"
    return hl7("ORU^R01^ORU_R01", PID, obr, obx, control_id=control_id)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("P", "preliminary"),
        ("F", "final"),
        ("C", "corrected"),
        ("A", "amended"),
        ("X", "cancelled"),
        ("D", "entered-in-error"),
        ("W", "entered-in-error"),
        ("I", "registered"),
        ("?", "unknown"),
    ],
)
def test_the_status_of_a_result(sent: str, status: str) -> None:
    """OBX-11 (§7.4.2.11, table 0085) -> Observation.status; a wrong or deleted result is never shown as one that holds."""
    assert only(report(obx_11=sent), "Observation")["resource"]["status"] == status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("O", "registered"),
        ("I", "registered"),
        ("P", "preliminary"),
        ("R", "partial"),
        ("F", "final"),
        ("C", "corrected"),
        ("X", "cancelled"),
    ],
)
def test_the_status_of_a_report(sent: str, status: str) -> None:
    """OBR-25 (§7.4.1.25, table 0123) -> DiagnosticReport.status."""
    assert only(report(obr_25=sent), "DiagnosticReport")["resource"]["status"] == status


@pytest.mark.parametrize("kind", ["Observation", "DiagnosticReport", "ServiceRequest"])
def test_a_correction_is_of_the_same_result(kind: str) -> None:
    """Nothing is there twice: the correction updates what the first report made."""
    first, second = only(report(), kind), only(report("C", "C", "6.0", "2"), kind)
    assert first["request"] == second["request"]
    assert first["fullUrl"] == second["fullUrl"]
    if kind == "Observation":
        assert first["request"]["method"] == "PUT"
        assert second["resource"]["valueQuantity"]["value"] == 6.0


def test_a_cancelled_result_has_no_value_and_says_so() -> None:
    """OBX-11 = X: no results can be obtained."""
    observation = only(report(obx_11="X", value=""), "Observation")["resource"]
    assert not any(name.startswith("value") for name in observation)
    assert observation["dataAbsentReason"]["coding"][0]["code"] == "not-performed"


def order(control: str, status: str = "", message_type: str = "ORM^O01^ORM_O01", more: tuple[str, ...] = ()) -> bytes:
    orc = segment("ORC", {1: control, 2: "O1^HIS", 5: status, 9: "20261123080000", 12: "D1^Doe"})
    return hl7(message_type, PID, PV1, orc, "OBR|1|O1^HIS||GLU^Glucose^L", *more, control_id=control + status)


@pytest.mark.parametrize(
    ("control", "sent", "status", "activity"),
    [
        ("NW", "", "active", "CREATE"),
        ("CA", "", "active", "ABORT"),  # the placer asks for it (§4.5.1.1); the filler's CR or OC says that it is so
        ("CA", "CA", "revoked", "ABORT"),
        ("OC", "", "revoked", "ABORT"),
        ("DC", "", "revoked", "ABORT"),
        ("SC", "CM", "completed", "UPDATE"),
    ],
)
def test_what_became_of_an_order(control: str, sent: str, status: str, activity: str) -> None:
    """ORC-5 (table 0038), else ORC-1 (table 0119) -> status of the ServiceRequest that the new order made; its event is kept beside it."""
    body = order(control, sent)
    request = only(body, "ServiceRequest")
    assert request["resource"]["status"] == status
    assert request["request"] == only(order("NW"), "ServiceRequest")["request"]
    (event,) = (one for one in request["resource"]["extension"] if one["url"].endswith("businessEvent"))
    assert event["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] == control
    assert activity in [one["resource"]["activity"]["coding"][0]["code"] for one in entries(body, "Provenance")]


def test_a_laboratory_order_has_its_specimen() -> None:
    """OML^O21 (§4.4.6): the same order as an ORM would give, and a specimen that refers to it and is referred to."""
    body = order("NW", message_type="OML^O21^OML_O21", more=("SPM|1|S1&HIS||BLD^Blood^HL70487|||||||||||||20261123070000",))
    request, specimen = only(body, "ServiceRequest"), only(body, "Specimen")
    assert request["request"] == only(order("NW"), "ServiceRequest")["request"]
    assert request["resource"]["specimen"] == [{"reference": specimen["fullUrl"]}]
    assert specimen["resource"]["request"] == [{"reference": request["fullUrl"]}]
    assert (request["resource"]["status"], request["resource"]["intent"]) == ("active", "order")


def test_where_a_result_was_interpreted() -> None:
    """NDL (§2.A.47): with a place it is someone's role there, without one the person."""
    plain, placed = (
        hl7("ORU^R01", PID, segment("OBR", {1: "1", 3: "L1^LIS", 4: "GLU^Glucose^L", 32: who}))
        for who in ("D7&Lee&Kim", "D7&Lee&Kim^^^LAB^R4")
    )
    person = {"reference": only(plain, "Practitioner")["fullUrl"]}
    assert only(plain, "DiagnosticReport")["resource"]["resultsInterpreter"] == [person]
    role = only(placed, "PractitionerRole")
    assert only(placed, "DiagnosticReport")["resource"]["resultsInterpreter"] == [{"reference": role["fullUrl"]}]
    assert role["resource"]["practitioner"] == person
    (place,) = (entry for entry in entries(placed, "Location") if [{"reference": entry["fullUrl"]}] == role["resource"]["location"])
    assert place["resource"]["name"] == "R4"
    elsewhere = only(placed.replace(b"^R4", b"^R5"), "PractitionerRole")
    assert elsewhere["fullUrl"] != role["fullUrl"]


def test_both_citizenships_and_the_name_that_is_called() -> None:
    """PID-26 and PID-39; XPN.15."""
    patient = only(hl7("ADT^A08", "PID|1||P1^^^H^MR||Rivera^Ana^^^^^^^^^^^^^Annie" + "|" * 21 + "CHN" + "|" * 13 + "CAN"), "Patient")[
        "resource"
    ]
    codes = [one["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] for one in patient["extension"]]
    assert codes == ["CHN", "CAN"]
    assert patient["name"][1] == {"use": "nickname", "given": ["Annie"]}


def test_the_device_of_an_observation_and_both_parents_of_an_order() -> None:
    """PRT-10 (§7.4.4); ORC-8 (§4.5.1.8) and OBR-29 (§7.4.1.29) where they name different orders."""
    assert only(RICH, "Observation")["resource"]["device"]["reference"] in [entry["fullUrl"] for entry in entries(RICH, "Device")]
    parents = only(RICH, "ServiceRequest")["resource"]["basedOn"]
    assert sorted(parent["identifier"]["value"] for parent in parents) == ["O8", "O9"]
