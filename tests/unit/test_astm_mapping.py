"""What a laboratory's results become (LIS02-A2 clauses 6 to 12), in the shape of ORU^R01."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle

from engine import registry
from engine.errors import ConfigError, ValidationError
from tests.support.astm_instrument import RECORDS, content

H, P, O, R, L = RECORDS  # noqa: E741  # as the standard calls them
SHIPPED = registry.mapping("astm-to-fhir").compile(None)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The mappings of a laboratory with one instrument."""
    folder = tmp_path / "astm-to-fhir"
    (folder / "tests").mkdir(parents=True)
    (folder / "instruments.csv").write_text("sender,facility,authority,tests\ncobas,COUNTY,HIS1,cobas\n")
    (folder / "tests" / "cobas.csv").write_text(
        "code,to,display,unit\nGLU,14749-6,Glucose [Moles/volume] in Serum or Plasma,mmol/L\n10,2823-3,Potassium,mmol/L\n"
    )
    return tmp_path


def mapped(*records: str, site: Path | None = None) -> dict[str, list[dict[str, Any]]]:
    """The resources by type, of a Bundle that is valid; each with its fullUrl as `url`."""
    body = (registry.mapping("astm-to-fhir").compile(site) if site else SHIPPED).map(content(*records)).body
    Bundle.model_validate_json(body)
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in orjson.loads(body)["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append(
            {**entry["resource"], "url": entry["fullUrl"], "request": entry["request"]}
        )
    return found


def result(text: str) -> dict[str, Any]:
    """The one Observation of the usual message with another result record."""
    return mapped(H, P, O, text, L)["Observation"][0]


def test_a_result_says_all_that_it_says_in_oru() -> None:
    found = mapped(*RECORDS)
    (patient,), (specimen,), (report,), (order,), (observation,) = (
        found[kind] for kind in ("Patient", "Specimen", "DiagnosticReport", "ServiceRequest", "Observation")
    )
    assert patient["name"][0]["text"] == "王小明"
    assert (patient["birthDate"], patient["gender"]) == ("1980-01-01", "male")
    assert report["result"] == [{"reference": observation["url"]}]
    assert report["specimen"] == [{"reference": specimen["url"]}]
    assert report["basedOn"] == [{"reference": order["url"]}]
    assert report["status"] == observation["status"] == "final"
    assert observation["valueQuantity"] == {"value": 5.4, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    assert [observation["referenceRange"][0][side]["value"] for side in ("low", "high")] == [3.9, 6.1]
    assert observation["interpretation"][0]["coding"][0]["code"] == "N"
    assert observation["effectiveDateTime"] == "2026-11-24T08:00:00+08:00"
    device = next(one for one in found["Device"] if one["url"] == observation["device"]["reference"])
    assert device["identifier"][0]["value"] == "D1"


def test_the_laboratorys_table_gives_the_loinc_code_and_keeps_the_instruments_own(site: Path) -> None:
    codings = mapped(*RECORDS, site=site)["Observation"][0]["code"]["coding"]
    assert [(one["system"], one["code"]) for one in codings] == [
        ("http://loinc.org", "14749-6"),
        ("urn:meridian:codes:COUNTY:99cobas", "GLU"),
    ]


def test_the_patient_is_the_one_that_other_systems_send(site: Path) -> None:
    """PID-3 `P1^^^HIS1^MR` of an ADT message gives the same identifier."""
    (patient,) = mapped(*RECORDS, site=site)["Patient"]
    assert patient["request"]["ifNoneExist"] == "identifier=urn:meridian:ns:HIS1|P1"


def test_a_code_with_parameters_is_known_without_them(site: Path) -> None:
    """As cobas sends application code, dilution and pre-dilution: ^^^10/1/not."""
    observation = mapped(H, P, O, "R|1|^^^10/1/not|4.1||||||F", L, site=site)["Observation"][0]
    assert [one["code"] for one in observation["code"]["coding"]] == ["2823-3", "10/1/not"]
    assert observation["valueQuantity"]["code"] == "mmol/L"


def test_a_code_that_no_table_knows_is_kept_flagged_and_counted(site: Path) -> None:
    records = (H, P, O, R, "R|2|^^^XYZ|1||||||F", L)
    glucose, unknown = mapped(*records, site=site)["Observation"]
    assert "meta" not in glucose
    assert [tag["code"] for tag in unknown["meta"]["tag"]] == ["unmapped-test"]
    assert unknown["code"]["coding"][0]["code"] == "XYZ"
    assert registry.mapping("astm-to-fhir").compile(site).map(content(*records)).unmapped == 1


def test_a_loinc_code_that_the_instrument_knows_itself_needs_no_table() -> None:
    observation = result("R|1|14749-6^Glucose^LN^GLU|5.4||||||F")
    assert observation["code"]["coding"][0]["system"] == "http://loinc.org"
    assert "meta" not in observation


@pytest.mark.parametrize(
    ("sent", "element", "value"),
    [
        ("5.40", "valueQuantity", {"value": 5.4}),
        (">6.9", "valueQuantity", {"value": 6.9, "comparator": ">"}),
        ("< 0.5", "valueQuantity", {"value": 0.5, "comparator": "<"}),
        ("Negative", "valueString", "Negative"),
        ("^^NEG", "valueString", "NEG"),
        ("POS^12.3", "valueString", "POS^12.3"),
        ("++++", "valueString", "++++"),
        ("5&F&6", "valueString", "5|6"),
    ],
)
def test_a_value_is_a_number_or_text(sent: str, element: str, value: Any) -> None:
    assert result(f"R|1|^^^GLU|{sent}|||||F")[element] == value


def test_no_value_is_no_value() -> None:
    """X: the test cannot be done (LIS02-A2 clause 9.9)."""
    observation = result("R|1|^^^GLU||||||X")
    assert (observation["status"], observation["dataAbsentReason"]["coding"][0]["code"]) == ("cancelled", "not-performed")
    assert not any(name.startswith("value") for name in observation)


@pytest.mark.parametrize(
    ("sent", "status"),
    [("F", "final"), ("C", "corrected"), ("P", "preliminary"), ("R", "final"), ("V", "final"), ("Q", "final"), ("", "unknown")],
)
def test_the_status_of_a_result(sent: str, status: str) -> None:
    assert result(f"R|1|^^^GLU|5.4|||||{sent}")["status"] == status


def test_two_operators_and_several_flags() -> None:
    found = mapped(H, P, O, "R|1|^^^GLU|5.4|mmol/L||H\\A||F||tech^chief", L)
    observation = found["Observation"][0]
    assert [one["coding"][0]["code"] for one in observation["interpretation"]] == ["H", "A"]
    assert sorted(one["identifier"][0]["value"] for one in found["Practitioner"]) == ["chief", "tech"]
    assert len(observation["performer"]) == 2


def test_a_comment_belongs_to_what_it_follows() -> None:
    found = mapped(H, P, "C|1|L|about the patient|G", O, "C|1|L|about the order|G", R, "C|1|I|about the result|I", L)
    assert [note["text"] for note in found["Observation"][0]["note"]] == ["about the result"]
    assert any("about the patient" in orjson.dumps(one).decode() for one in found["Patient"])
    assert any("about the order" in orjson.dumps(one).decode() for one in found["DiagnosticReport"])


def test_controls_are_kept_apart_from_patients() -> None:
    """O-12 = Q: wherever the order stands, it has no subject, and all that comes of it is tagged."""
    control = "O|2|QC1||^^^GLU|||||||Q"
    found = mapped(H, P, O, R, control, R, L)
    tagged = [one for kind in ("Observation", "DiagnosticReport", "Specimen") for one in found[kind] if "subject" not in one]
    assert [one["meta"]["tag"][0]["code"] for one in tagged] == ["Q", "Q", "Q"]
    assert len(found["Observation"]) == 2
    assert "Patient" not in mapped(H, P, control, R, L)


def test_each_patient_has_his_own_results() -> None:
    found = mapped(H, P, O, R, "P|2|P2", "O|1|S2||^^^GLU", "R|1|^^^GLU|7.7|mmol/L||||F", L)
    first, second = (one["url"] for one in found["Patient"])
    assert [(one["subject"]["reference"], one["valueQuantity"]["value"]) for one in found["Observation"]] == [(first, 5.4), (second, 7.7)]


def test_orders_of_one_specimen_share_it() -> None:
    found = mapped(H, P, O, R, "O|2|S1||^^^K", "R|1|^^^K|4.0|||||F", L)
    assert len(found["Specimen"]) == 1
    assert len(found["DiagnosticReport"]) == 2


def key(*records: str, kind: str = "Observation") -> str:
    return str(mapped(*records)[kind][0]["request"]["url"])


def test_a_correction_is_of_the_same_result() -> None:
    """Same patient, specimen, test and day."""
    corrected = "R|1|^^^GLU|5.6|mmol/L|3.9^6.1|N||C||||20261124090000|D1"
    assert key(*RECORDS) == key(H.replace("77", "78"), P, O, corrected, L)


@pytest.mark.parametrize("kind", ["Observation", "Specimen", "DiagnosticReport"])
def test_a_specimen_number_used_again_is_another_specimen(kind: str) -> None:
    """Laboratories that count from 1 each morning: nothing of yesterday's, and nothing of another patient's, is overwritten."""
    other_patient, other_day = P.replace("P1|L1", "P9|L9"), O.replace("20261124", "20261125")
    keys = {key(H, patient, order, R, L, kind=kind) for patient in (P, other_patient) for order in (O, other_day)}
    assert len(keys) == 4


def test_a_provenance_of_its_own_whatever_the_control_id() -> None:
    """H-3 is empty or always the same with many instruments."""
    header = H.replace("|77|", "||")
    first, second = (mapped(header, P, O, R.replace("5.4", value), L)["Provenance"][0] for value in ("5.4", "5.5"))
    assert first["request"]["url"] != second["request"]["url"]
    assert "ASTM E1394 message" in first["entity"][0]["what"]["display"]


def test_an_instrument_that_the_site_does_not_know_is_named(site: Path) -> None:
    with pytest.raises(ValidationError, match=r"instruments\.csv") as caught:
        mapped(H.replace("cobas^6000", "Architect"), P, O, R, L, site=site)
    assert caught.value.location == "sender"


def test_a_site_says_whose_patients_they_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"instruments\.csv: is missing"):
        registry.mapping("astm-to-fhir").compile(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("instruments.csv", "sender,facility,authority,tests\n*,,\n", "instruments.csv:2: says no facility"),
        ("instruments.csv", "sender,facility,authority,tests\n*,H,,kobas\n", "cobas"),
        ("instruments.csv", "sender,facility,tests\na,H,\na,H,\n", "instruments.csv:3: names 'a' again"),
        ("records.csv", "id,source,target,map\nX,R-99.x,OBX-1,\n", "records.csv:2"),
        ("records.csv", "id,source,target,map\nX,R-9,OBX,\n", "records.csv:2"),
        ("records.csv", "id,source,target,map\nX,R-9,OBX-1,nonsense\n", "records.csv:2"),
        ("test.csv", "code,to\n", "is no table of this mapping"),
    ],
)
def test_a_fault_of_a_table_is_named_with_file_and_line(site: Path, file: str, text: str, said: str) -> None:
    (site / "astm-to-fhir" / file).write_text(text)
    with pytest.raises(ConfigError) as caught:
        registry.mapping("astm-to-fhir").compile(site)
    assert said in str(caught.value)


def test_a_sites_own_record_row(site: Path) -> None:
    """A laboratory that keeps the ward's number in P-15."""
    (site / "astm-to-fhir" / "records.csv").write_text("id,source,target,map\nP-15,P-15.1,PID-3,id:PT\n")
    patient = mapped(H, "P|1|P1||||||||||||W7", O, R, L, site=site)["Patient"][0]
    assert [one["value"] for one in patient["identifier"]][:2] == ["P1", "W7"]
