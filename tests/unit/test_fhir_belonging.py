"""Patients of its own: whatever way a terminal tries to send of somebody else is refused, and its own way is open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.fhir.belonging import check_belonging
from adapters.fhir.entries import Request, read_entry
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
    "of several, all of them own": [post({"resourceType": "Account", "status": "active", "subject": [{"reference": "Patient/p1"}]})],
    "covered": [post({"resourceType": "Coverage", "status": "active", "beneficiary": {"reference": "Patient/p1"}})],
    "performed by somebody of another system": [post(of("Patient/p1", performer=[{"identifier": {"system": "urn:staff", "value": "9"}}]))],
    "performed by somebody of that system, who is no patient": [
        post(of("Patient/p1", performer=[{"type": "Practitioner", "identifier": OTHERS}]))],
    "with what is found by patient": [post(of("Patient/p1", encounter={"reference": "Encounter?patient=Patient/p1"}))],
    "with what is of nobody": [post(of("Patient/p1", performer=[{"reference": f"Practitioner?identifier={SYSTEM}|9"}]))],
    "with a business identifier of its own": [post(of("Patient/p1", identifier=[OTHERS]))],
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
    "by a crooked path": [post(of("Patient/p1", focus=[{"reference": "Patient//p2"}]))],
    "by an operation on it": [post(of("Patient/p1", focus=[{"reference": "Patient/p2/$everything"}]))],
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
    "something that no patient can be searched of": [post({"resourceType": "BodyStructure", "active": True})],
    "covering another": [post({"resourceType": "Coverage", "beneficiary": {"reference": "Patient/p1", "identifier": OTHERS}})],
    "a task for another": [post({"resourceType": "Task", "status": "draft", "intent": "order", "for": {"identifier": OTHERS}})],
    "something by id that no patient can be searched of": [
        entry("PUT", "BodyStructure/b", {"resourceType": "BodyStructure", "id": "b", "patient": {"reference": "Patient/p1"}})],
    "a Bundle by id, whosever is in it": [entry("PUT", "Bundle/b", {"resourceType": "Bundle", "id": "b", "type": "collection"})],
    "a Binary by id": [entry("PUT", "Binary/b", {"resourceType": "Binary", "id": "b", "contentType": "text/plain"})],
    "by a condition that the type does not know": [
        entry("PUT", "Practitioner?patient=Patient/p1&identifier=1", {"resourceType": "Practitioner"})],
    "of several, one of them another's": [
        post({"resourceType": "Account", "subject": [{"reference": "Patient/p1"}, {"identifier": OTHERS}]})],
    "of several, which are none": [post({"resourceType": "Account", "subject": []})],
    "deep inside, by an identifier of no type": [post(of("Patient/p1", focus=[{"identifier": OTHERS}]))],
    "asking whether another has something": [post(of("Patient/p1", encounter={"reference": "Encounter?patient=Patient/p2"}))],
    "asking whether anybody has something": [post(of("Patient/p1", encounter={"reference": "Encounter?identifier=x"}))],
    "by another's id, as the name of an own patient in the Bundle": [entry("POST", "Patient", PATIENT, "Patient/p2"), post(of("Patient/p2"))],
    "by another's address, as the name of an own patient in the Bundle": [
        entry("POST", "Patient", PATIENT, "https://meridian.example/fhir/Patient/p2"), post(of("https://meridian.example/fhir/Patient/p2"))],
    "by a name that is a patient's and something else's": [
        LOCAL, entry("POST", "Group", {"resourceType": "Group"}, "urn:uuid:1"), post(of("urn:uuid:1"))],
    "a patient by condition, under another's id": [entry("PUT", f"Patient?identifier={SYSTEM}|own", {**PATIENT, "id": "p2"})],
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


def test_a_patient_of_a_message_is_known_by_its_id() -> None:
    """A create gives an id of its own; whoever takes a message may know the patient by that in it, so it is an own one, or local."""
    for given, name in (("p1", ""), ("9", "urn:uuid:9"), (None, "")):
        resource = PATIENT if given is None else {**PATIENT, "id": given}
        check_belonging([Request("POST", "Patient", resource=resource, full_url=name)], OWN, ids_count=True)
    foreign = Request("POST", "Patient", resource={**PATIENT, "id": "p2"})
    check_belonging([foreign], OWN)
    with pytest.raises(FhirRefusal) as caught:
        check_belonging([foreign], OWN, ids_count=True)
    assert (caught.value.status, caught.value.location) == (403, "resource.id")


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
