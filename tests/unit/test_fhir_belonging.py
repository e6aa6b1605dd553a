"""Patients of its own: whatever way a terminal tries to send of somebody else is refused, and its own way is open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.fhir.belonging import check_belonging
from adapters.fhir.entries import read_entry
from adapters.fhir.outcome import FhirRefusal
from engine.message import Verdict
from tests.support.entry import Guarded, device
from tests.support.fhir import SYSTEM, entry

OWN = frozenset({"Patient/p1", f"{SYSTEM}|own"})
MINE, OTHERS = {"system": SYSTEM, "value": "own"}, {"system": SYSTEM, "value": "stranger"}
PATIENT = {"resourceType": "Patient", "identifier": [MINE]}


def of(reference: Any, **more: Any) -> dict[str, Any]:
    subject = {"reference": reference} if isinstance(reference, str) else reference
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject, **more}


def post(resource: dict[str, Any], **request: Any) -> dict[str, Any]:
    return entry("POST", resource["resourceType"], resource, **request)


def check(*entries: dict[str, Any]) -> None:
    check_belonging([read_entry(one, index) for index, one in enumerate(entries)], OWN)


LOCAL = entry("POST", "Patient", PATIENT, "urn:uuid:1")
FINE: dict[str, list[dict[str, Any]]] = {
    "by id": [post(of("Patient/p1"))],
    "by version": [post(of("Patient/p1/_history/3"))],
    "by identifier in the reference": [post(of({"identifier": MINE}))],
    "by condition": [post(of(f"Patient?identifier={SYSTEM}|own"))],
    "by condition, encoded": [post(of(f"Patient?identifier={SYSTEM}%7Cown"))],
    "by an own patient of the same Bundle": [LOCAL, post(of("urn:uuid:1"))],
    "by a contained patient": [post(of("#p", contained=[{**PATIENT, "id": "p"}]))],
    "the patient itself": [entry("POST", "Patient", PATIENT, ifNoneExist=f"identifier={SYSTEM}|own")],
    "the patient by condition": [entry("PUT", f"Patient?identifier={SYSTEM}|own", PATIENT)],
    "the patient by id": [entry("PUT", "Patient/p1", {"resourceType": "Patient", "id": "p1"})],
    "removing it": [entry("DELETE", "Patient/p1")],
    "changing what is found by patient": [entry("PUT", "Observation?patient=Patient/p1&code=1", of("Patient/p1"))],
    "removing what is found by patient": [entry("DELETE", "Observation?subject=Patient/p1&code=1")],
    "itself": [post({"resourceType": "Device", "status": "active"})],
    "what is of nobody": [post({"resourceType": "Organization", "name": "x"})],
}  # fmt: skip
FOREIGN: dict[str, list[dict[str, Any]]] = {
    "by id": [post(of("Patient/p2"))],
    "by version": [post(of("Patient/p2/_history/1"))],
    "of another server": [post(of("https://elsewhere.example/fhir/Patient/p1"))],
    "of our server by its address": [post(of("https://meridian.example/fhir/Patient/p2"))],
    "by identifier": [post(of({"identifier": OTHERS}))],
    "by id of one and identifier of another": [post(of({"reference": "Patient/p1", "identifier": OTHERS}))],
    "by condition": [post(of(f"Patient?identifier={SYSTEM}|stranger"))],
    "by a condition of something else": [post(of("Patient?name=x"))],
    "by a list in a condition": [post(of(f"Patient?identifier={SYSTEM}|own,{SYSTEM}|stranger"))],
    "of nobody": [post({"resourceType": "Observation", "status": "final", "code": {"text": "x"}})],
    "by name only": [post(of({"display": "Li"}))],
    "of a group": [post(of("Group/g"))],
    "of what is not in the Bundle": [post(of("urn:uuid:9"))],
    "of another patient of the same Bundle": [
        entry("POST", "Patient", {"resourceType": "Patient", "identifier": [OTHERS]}, "urn:uuid:1"), post(of("urn:uuid:1"))],
    "of what is in the Bundle, and no patient": [
        entry("POST", "Group", {"resourceType": "Group"}, "urn:uuid:1"), post(of("urn:uuid:1"))],
    "by a contained patient": [post(of("#p", contained=[{"resourceType": "Patient", "id": "p", "identifier": [OTHERS]}]))],
    "by a contained thing": [post(of("#p", contained=[{"resourceType": "Group", "id": "p"}]))],
    "by two contained things": [post(of("#p", contained=[{**PATIENT, "id": "p"}, {"resourceType": "Group", "id": "p"}]))],
    "deep inside": [post(of("Patient/p1", performer=[{"reference": "Patient/p2"}]))],
    "deep inside, by identifier": [post(of("Patient/p1", performer=[{"type": "Patient", "identifier": OTHERS}]))],
    "deep inside an extension": [post(of("Patient/p1", extension=[{"url": "u", "valueReference": {"reference": "Patient/p2"}}]))],
    "encoded": [post(of("Patient/p1", focus=[{"reference": "Patient%2Fp2"}]))],
    "a second entry": [post(of("Patient/p1")), post(of("Patient/p2"))],
    "a patient without identifier": [post({"resourceType": "Patient"})],
    "a patient of nobody by an id that a create ignores": [post({"resourceType": "Patient", "id": "p1"})],
    "a patient with another's identifier beside": [post({"resourceType": "Patient", "identifier": [MINE, OTHERS]})],
    "a patient that is another as well": [post({**PATIENT, "link": [{"other": {"reference": "Patient/p2"}, "type": "seealso"}]})],
    "another's patient by id": [entry("PUT", "Patient/p2", {**PATIENT, "id": "p2"})],
    "another's patient by condition": [entry("PUT", f"Patient?identifier={SYSTEM}|stranger", PATIENT)],
    "a patient found by name": [entry("POST", "Patient", PATIENT, ifNoneExist="name=x")],
    "something by id, whosever it is": [entry("PUT", "Observation/o1", {**of("Patient/p1"), "id": "o1"})],
    "removing by id": [entry("DELETE", "Observation/o1")],
    "removing by a condition without patient": [entry("DELETE", "Observation?code=1")],
    "removing of two patients": [entry("DELETE", "Observation?patient=Patient/p1,Patient/p2")],
    "found by another's condition": [entry("POST", "Observation", of("Patient/p1"), ifNoneExist="identifier=x")],
    "reading": [entry("GET", "Observation?patient=Patient/p1")],
}  # fmt: skip


@pytest.mark.parametrize("way", FINE)
def test_an_own_patient(way: str) -> None:
    """Each way that R4 has of saying whose something is."""
    check(*FINE[way])


@pytest.mark.parametrize("way", FOREIGN)
def test_somebody_else(way: str) -> None:
    """403, with the entry that is at fault, and no word of whom it names."""
    with pytest.raises(FhirRefusal) as caught:
        check(*FOREIGN[way])
    assert caught.value.status == 403
    assert caught.value.location.startswith("Bundle.entry[")
    assert "stranger" not in str(caught.value)
    assert "p2" not in str(caught.value)


def test_what_is_refused_is_kept_and_audited(tmp_path: Path) -> None:
    """A terminal that lies about its patient: 403, the message in the store as refused, the party in the audit, and no patient there."""
    source = Guarded(tmp_path, device(patients=tuple(OWN), keys=()))
    line = source.connect("terminal-7")
    assert line.post(of("Patient/p1")).status == 202
    answer = line.post(of("Patient/p2"))
    assert answer.status == 403
    assert answer.said["issue"][0]["expression"] == ["resource.subject"]
    assert [one.verdict if one else None for one in source.intake.invalid] == [None, Verdict.REFUSED]
    ((event, facts),) = source.audited
    assert (event, facts["party"]) == ("fhir.refused", "terminal-7")
    assert "p2" not in json.dumps(facts)
    assert line.ask("GET", "/fhir/Observation/o1").status == 403
