"""FHIR: element by element, default deny for text, references that still refer, and pseudonyms that are those of HL7 v2 and DICOM."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle

from engine import registry
from engine.deidentify import fhir, hl7v2
from engine.errors import Quarantined
from engine.formats.hl7v2 import decode
from tests.support.deidentify import cleaned, image, policy
from tests.unit.test_deidentify_hl7v2 import body as hl7v2_body

MRN = {"system": "urn:oid:1.2.3", "value": "MRN4711", "assigner": {"display": "General"}, "period": {"start": "2001-01-01"}}
PATIENT = {
    "resourceType": "Patient",
    "id": "p-4711",
    "meta": {"versionId": "3", "lastUpdated": "2024-03-01T00:00:00Z", "source": "urn:x"},
    "text": {"status": "generated", "div": "<div>Alonso Quixote</div>"},
    "extension": [{"url": "urn:race", "valueString": "x"}],
    "identifier": [MRN],
    "name": [{"family": "Quixote", "given": ["Alonso"]}, {"text": "Don Quixote"}],
    "telecom": [{"system": "phone", "value": "030 123 4567"}],
    "gender": "male",
    "birthDate": "1947-01-31",
    "_birthDate": {"extension": [{"url": "urn:t", "valueDateTime": "1947-01-31T12:00:00Z"}]},
    "deceasedDateTime": "2024-03-02",
    "address": [{"line": ["Long Lane 12"], "city": "Springfield"}],
    "contact": [{"name": {"family": "Panza"}, "telecom": [{"value": "030 765 4321"}]}],
    "generalPractitioner": [{"reference": "Practitioner/9", "display": "Dr. House"}],
}
OBSERVATION = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "2345-7", "display": "Glucose"}], "text": "sugar"},
    "subject": {"reference": "Patient/p-4711", "display": "Don Quixote"},
    "effectiveDateTime": "2024-03-01T08:30:00+08:00",
    "valueQuantity": {"value": 1.50, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
    "note": [{"authorString": "Nurse Ann", "text": "pale"}],
    "component": [{"code": {"text": "impression"}, "valueString": "looks tired"}],
}


def made(resource: dict[str, Any], **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(fhir.deidentify(orjson.dumps(resource), policy(**options)))
    return found


def test_a_patient_is_a_pseudonym() -> None:
    """Nothing is left but identifier, name and reference, each of them another."""
    found = made(PATIENT)
    patient = policy().pseudonyms.identifier("urn:oid:1.2.3", "MRN4711")
    assert found["identifier"] == [{"system": "urn:oid:1.2.3", "value": patient}]
    assert found["name"] == [{"family": patient}]
    assert set(found) == {"resourceType", "id", "meta", "identifier", "name", "generalPractitioner"}
    assert found["meta"] == {"versionId": "3"}
    assert found["generalPractitioner"] == [{"reference": f"Practitioner/{policy().pseudonyms.uuid('Practitioner/9')}"}]
    assert made(PATIENT, options=["retain-patient-characteristics"])["gender"] == "male"


def test_text_goes_codes_and_numbers_stay() -> None:
    """A decimal keeps its digits; what needs a text has one that says nothing."""
    content = orjson.dumps(OBSERVATION).replace(b"1.5,", b"1.50,")
    raw = fhir.deidentify(content, policy())
    found = orjson.loads(raw)
    assert b'"value":1.50' in raw
    assert found["code"] == {"coding": [{"system": "http://loinc.org", "code": "2345-7", "display": "Glucose"}]}
    assert found["component"] == [{"code": {"text": "REMOVED"}, "valueString": "REMOVED"}]
    assert "note" not in found
    assert "effectiveDateTime" not in found
    assert found["subject"] == {"reference": f"Patient/{made(PATIENT)['id']}"}
    told = made(OBSERVATION, options=["clean-descriptors"])
    assert told["component"] == [{"code": {"text": "impression"}, "valueString": "looks tired"}]


def test_dates_follow_the_patient_of_each_resource() -> None:
    """In a bundle of two, each by its own; what is of neither has none."""
    other = {**PATIENT, "id": "p2", "identifier": [{"system": "urn:oid:1.2.3", "value": "MRN0815"}]}
    theirs = {**OBSERVATION, "id": "o2", "subject": {"reference": "Patient?identifier=urn:oid:1.2.3|MRN0815"}}
    astray = {key: value for key, value in OBSERVATION.items() if key != "subject"}
    entries = [{"resource": one} for one in (PATIENT, other, OBSERVATION, theirs, astray)]
    found = made({"resourceType": "Bundle", "type": "collection", "entry": entries}, dates="shift")["entry"]
    for place, number in ((2, "MRN4711"), (3, "MRN0815")):
        moved = date(2024, 3, 1) - timedelta(policy().pseudonyms.shift("urn:oid:1.2.3", number).days)
        assert found[place]["resource"]["effectiveDateTime"] == f"{moved}T08:30:00+08:00"
    assert "effectiveDateTime" not in found[4]["resource"]
    assert "birthDate" not in found[0]["resource"]


def test_references_still_refer() -> None:
    """Full URLs, conditional requests, contained resources: what was the same is the same."""
    one = {**OBSERVATION, "subject": {"reference": "urn:uuid:3f1b4d5e-0000-4000-8000-000000000001"}, "hasMember": [{"reference": "#c1"}]}
    one["contained"] = [{"resourceType": "Observation", "id": "c1", "status": "final", "code": {"text": "x"}}]
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:3F1B4D5E-0000-4000-8000-000000000001",
                "resource": PATIENT,
                "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:oid:1.2.3|MRN4711"},
            },
            {"resource": one, "request": {"method": "PUT", "url": "Observation?identifier=urn:x%7C1"}},
        ],
    }
    first, second = made(bundle)["entry"]
    patient = first["resource"]["identifier"][0]["value"]
    assert first["request"] == {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier=urn:oid:1.2.3|{patient}"}
    assert second["resource"]["subject"]["reference"] == first["fullUrl"]
    assert second["resource"]["hasMember"][0]["reference"] == f"#{second['resource']['contained'][0]['id']}"
    with pytest.raises(Quarantined, match="other than an identifier"):
        made({**OBSERVATION, "subject": {"reference": "Patient?name=Quixote"}})


def test_attachments_are_empty_and_binaries_are_held() -> None:
    """A PDF cannot be cleaned."""
    report = {"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "x"}}
    found = made({**report, "presentedForm": [{"contentType": "application/pdf", "data": "QQ==", "title": "Quixote.pdf"}]})
    assert found["presentedForm"] == [{"contentType": "application/pdf"}]
    with pytest.raises(Quarantined):
        made({"resourceType": "Binary", "contentType": "application/pdf", "data": "QQ=="})


def test_extensions_that_hold_text_go() -> None:
    """Codes and numbers in them stay, however deep."""
    inner = [
        {"url": "urn:c", "valueCode": "x"},
        {"url": "urn:t", "valueString": "Quixote"},
        {"url": "urn:r", "valueUrl": "http://x/Quixote"},
    ]
    found = made({**OBSERVATION, "extension": [{"url": "urn:a", "extension": inner}, {"url": "urn:b", "valueMarkdown": "x"}]})
    assert found["extension"] == [{"url": "urn:a", "extension": [{"url": "urn:c", "valueCode": "x"}]}]


@pytest.mark.parametrize(
    ("element", "value", "path"),
    [
        (
            "code",
            {"coding": [{"system": "urn:l", "code": "1", "display": "Glucose of Quixote"}]},
            "entry[1].resource.code.coding[0].display",
        ),
        ("category", [{"coding": [{"code": "MRN4711"}]}], "entry[1].resource.category[0].coding[0].code"),
        ("valueQuantity", {"value": 1, "unit": "Springfields"[:11]}, "entry[1].resource.valueQuantity.unit"),
    ],
)
def test_what_is_kept_and_names_the_patient_is_held(element: str, value: Any, path: str) -> None:
    """The element is named, the value is not."""
    entries = [{"resource": PATIENT}, {"resource": {**OBSERVATION, element: value}}]
    with pytest.raises(Quarantined) as caught:
        made({"resourceType": "Bundle", "type": "collection", "entry": entries})
    assert caught.value.location == path


def test_one_patient_in_three_formats_has_one_pseudonym() -> None:
    """DICOM with its issuer, HL7 v2 with its assigning authority, FHIR as mapped: identifier, accession number, dates and study."""
    rules = policy(
        dates="shift",
        authority="HIS",
        authorities=dict.fromkeys(("HIS", "urn:meridian:ns:HOSP:HIS", "urn:meridian:ns:HOSP:ACSN"), "urn:oid:1.2.3"),
    )
    message = hl7v2_body()
    v2 = decode(hl7v2.deidentify(message, rules))
    mapped = registry.mapping("hl7v2-to-fhir").compile(None).map(message).body
    bundle = orjson.loads(fhir.deidentify(mapped, rules))
    Bundle.model_validate(bundle)
    patient = next(entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Patient")
    dataset = cleaned(image(StudyDate="20240301"), rules)
    assert dataset.PatientID == v2.get("PID-3.1") == patient["identifier"][0]["value"]
    assert str(dataset.PatientName) == v2.get("PID-5") == patient["name"][0]["family"]
    assert dataset.AccessionNumber == v2.get("OBR-18")
    report = next(entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "DiagnosticReport")
    assert dataset.StudyDate == v2.get("OBR-7") == report["effectiveDateTime"].replace("-", "")
    study = {"resourceType": "ImagingStudy", "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.826.0.1.3680043.2.2"}]}
    study |= {"series": [{"uid": "1.2.826.0.1.3680043.2.3"}]}
    found = orjson.loads(fhir.deidentify(orjson.dumps(study), rules))
    assert found["identifier"][0]["value"] == f"urn:oid:{dataset.StudyInstanceUID}"
    assert found["series"][0]["uid"] == dataset.SeriesInstanceUID
