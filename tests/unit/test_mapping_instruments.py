"""Results as an analyzer reports them itself: OUL^R22 (HL7 v2.5.1 clause 13.3.3; IHE LAW transaction LAB-29)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle

from engine import registry
from engine.errors import UnsupportedError

MAPPER = registry.mapping("hl7v2-to-fhir").compile(None)
HEADER = "MSH|^~\\&|ANALYZER|LAB|LIS|H|20261124081500+0800||OUL^R22^OUL_R22|R1|P|2.5.1|||NE|AL||UNICODE UTF-8|||LAB-29^IHE"
PATIENT = "PID|1||P1^^^H^MR||王^小明\rPV1|1|I"
TUBE = "SPM|1|S1&H||SER^^HL70487|||||||P^^HL70369\rSAC|||S1"
GLUCOSE = "OBR|1|A1||GLU^Glucose^99X|||20261124080000\rORC|OK|A1|||CM\rOBX|1|NM|2345-7^Glucose^LN|1|5.4|mmol/L|||||F|||||||D1^MAKER"
POTASSIUM = "OBR|2|A2||K^Potassium^99X\rORC|OK|A2|||IP\rOBX|1|NM|2823-3^Potassium^LN|1|6.9|mmol/L||HH|||F\rNTE|1||hemolysis checked"
SECOND_TUBE = "SPM|2|S2&H||SER^^HL70487\rOBR|1|A3||GLU^Glucose^99X\rOBX|1|NM|2345-7^Glucose^LN|1|7.4|mmol/L|||||F"
CONTROL = "SPM|1|C1&MAKER||SER^^HL70487|||||||Q^^HL70369\rSAC|||LOT77"
BARE = 'OBR|1|""||GLU^Glucose^99X|||20261124070000\rOBX|1|NM|2345-7^Glucose^LN|1|5.0|mmol/L|||||F'


def mapped(*segments: str) -> dict[str, list[dict[str, Any]]]:
    """The resources by type, of a Bundle that is valid; each with its fullUrl as `url`."""
    body = MAPPER.map("\r".join([HEADER, *segments, ""]).encode()).body
    Bundle.model_validate_json(body)
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in orjson.loads(body)["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append({**entry["resource"], "url": entry["fullUrl"]})
    return found


def specimens(resource: dict[str, Any]) -> list[str]:
    there = resource["specimen"]
    return [one["reference"] for one in (there if isinstance(there, list) else [there])]


def test_every_order_of_a_specimen_is_its_own_report() -> None:
    """The ORC behind an OBR belongs to it, and opens no order."""
    reports = mapped(PATIENT, TUBE, GLUCOSE, POTASSIUM)["DiagnosticReport"]
    assert [(one["identifier"][0]["value"], one["status"], len(one["result"])) for one in reports] == [
        ("A1", "final", 1),
        ("A2", "registered", 1),
    ]


def test_results_belong_to_the_specimen_that_stands_before_them() -> None:
    found = mapped(PATIENT, TUBE, GLUCOSE, POTASSIUM, SECOND_TUBE)
    first, second = [one["url"] for one in found["Specimen"]]
    assert [specimens(one) for one in found["DiagnosticReport"]] == [[first], [first], [second]]
    assert [specimens(one) for one in found["Observation"]] == [[first], [first], [second]]
    assert found["Specimen"][0]["container"] == [{"identifier": [{"value": "S1"}]}]


def test_the_instrument_and_its_comment_stay_with_their_result() -> None:
    found = mapped(PATIENT, TUBE, GLUCOSE, POTASSIUM)
    glucose, potassium = found["Observation"]
    device = next(one for one in found["Device"] if one["url"] == glucose["device"]["reference"])
    assert device["identifier"][0]["value"] == "D1"
    assert potassium["note"] == [{"text": "hemolysis checked"}]
    assert "note" not in glucose


def test_an_order_control_before_its_request_is_understood_too() -> None:
    """Some analyzers write ORC OBR, as in ORU^R01."""
    usual = "ORC|OK|A1|||CM\rOBR|1|A1||GLU\rOBX|1|NM|GLU|1|5|||||||F\rORC|OK|A2|||CM\rOBR|2|A2||K\rOBX|1|NM|K|1|4|||||||F"
    assert [one["identifier"][0]["value"] for one in mapped(PATIENT, TUBE, usual)["DiagnosticReport"]] == ["A1", "A2"]


def test_what_was_measured_of_the_specimen_as_such_belongs_to_no_report() -> None:
    """An OBX between SPM and the first OBR."""
    found = mapped(PATIENT, "SPM|1|S1&H||SER\rOBX|1|NM|HIL^Hemolysis|1|12|||||||F", GLUCOSE)
    index = found["Observation"][0]
    assert specimens(index) == [found["Specimen"][0]["url"]]
    assert index["url"] not in [one["reference"] for one in found["DiagnosticReport"][0]["result"]]


def test_a_control_is_told_apart_from_patients() -> None:
    """SPM-11 (table 0369) tags all that comes of it, and no patient is made up."""
    found = mapped(CONTROL, BARE)
    assert "Patient" not in found
    for kind in ("Specimen", "DiagnosticReport", "Observation"):
        (resource,) = found[kind]
        assert [tag["code"] for tag in resource["meta"]["tag"]] == ["Q"]
        assert "subject" not in resource
    assert all("meta" not in one for one in mapped(PATIENT, TUBE, GLUCOSE)["Observation"])


def test_controls_of_different_messages_are_different_results() -> None:
    """Without a patient, service and time alone would make one result of two instruments'."""
    keys = {mapped(CONTROL, BARE)["Observation"][0]["url"]}
    other = HEADER.replace("|R1|", "|R2|")
    bundle = orjson.loads(MAPPER.map("\r".join([other, CONTROL, BARE, ""]).encode()).body)
    keys |= {entry["fullUrl"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Observation"}
    assert len(keys) == 2


COBAS = (
    "MSH|^~\\&|cobas pro^7E1B^M|Roche Diagnostics|Host|HostFac|20261124101500+0800||OUL^R22^OUL_R22|12001|P|2.5.1|||NE|AL||UNICODE UTF-8|||LAB-29^IHE",
    "PID|||PAT77^^^^PI||^^^^^^U|||U",
    "SPM|1|12345678&BARCODE||SERPLAS^^99ROC|||||||P^^HL70369|||~~~~||||||||||PSCO^^99ROC",
    "SAC|||12345678^BARCODE|||||||50123|3||||||||||||||||||^1^:^1",
    'OBR|1|""||20470^^99ROC',
    "ORC|SC||||CM",
    "TQ1|||||||||R^^HL70485",
    "OBX|1|NM|20470^20470^99ROC^2345-7^^LN|1/1|5.43|mmol/L^^UCUM||N^^HL70078|||F|||||op^SYSTEM||c503^ROCHE~~c503-1^ROCHE|20261124101400",
    "TCD|20470^^99ROC|1^:^1",
    "INV|20470^^99ROC|OK^^HL70383~CURRENT^^99ROC|R1|12|1|1||||||20270101||||445566",
    'OBX|2|NM|20480^20480^99ROC|1/1|141|mmol/L^^UCUM||""|||F|||||op^SYSTEM||c503^ROCHE|20261124101400',
)
"""As an analyzer of that make writes it: its own codes, reagents and test configuration beside the results, no order number."""


def cobas(site: Path | None = None, **replaced: str) -> dict[str, Any]:
    """The single resource of each type, of COBAS with words replaced."""
    body = "\r".join([*COBAS, ""])
    for old, new in replaced.items():
        body = body.replace(old, new)
    entries = orjson.loads(registry.mapping("hl7v2-to-fhir").compile(site).map(body.encode()).body)["entry"]
    return {f"{entry['resource']['resourceType']}": entry for entry in reversed(entries)}


def test_an_analyzers_own_words() -> None:
    """Reagents and test configuration are in nobody's way; the result that has LOINC is not flagged, the other is."""
    entries = orjson.loads(MAPPER.map("\r".join([*COBAS, ""]).encode()).body)["entry"]
    glucose, other = (entry["resource"] for entry in entries if entry["resource"]["resourceType"] == "Observation")
    assert [one["code"] for one in glucose["code"]["coding"]] == ["20470", "2345-7"]
    assert (glucose["valueQuantity"]["value"], glucose["status"]) == (5.43, "final")
    assert "meta" not in glucose
    assert other["meta"]["tag"][0]["code"] == "unmapped-test"


def test_a_barcode_is_no_authority() -> None:
    """Of another patient, on another day, the same label is another specimen."""
    queries = {cobas(None, PAT77=patient)["Specimen"]["request"]["url"] for patient in ("PAT77", "PAT78")}
    queries |= {cobas(None, **{"20261124101500": "20261125101500"})["Specimen"]["request"]["url"]}
    assert len(queries) == 3


def test_a_site_says_whose_analyzer_it_is(tmp_path: Path) -> None:
    """MSH-4 has the vendor's name in every hospital."""
    tables = tmp_path / "hl7v2-to-fhir"
    tables.mkdir()
    (tables / "facilities.csv").write_text("sent,facility\nRoche Diagnostics,ANPING\n")
    assert cobas()["Patient"]["resource"]["identifier"][0]["system"] == "urn:meridian:ns:Roche%20Diagnostics:PI"
    assert cobas(tmp_path)["Patient"]["resource"]["identifier"][0]["system"] == "urn:meridian:ns:ANPING:PI"


def test_another_event_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError):
        MAPPER.map(HEADER.replace("R22", "R23").encode())
