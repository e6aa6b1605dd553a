"""What the demo's vendor sends: readable, complete, and about the morning's own patients."""

from __future__ import annotations

import base64
from collections import Counter
from xml.sax.saxutils import escape

import orjson
import pytest
from lxml import etree

from adapters.soap.hip.documents import look
from engine import registry
from engine.demo.morning import ACCEPTED, BROKEN, DUPLICATE, Item, morning
from engine.demo.vendor import acknowledged, calls, inpatients
from engine.errors import ParseError
from engine.formats import hip, hl7v2
from engine.formats.soap import read
from tests.support.hip_files import SCHEMAS
from tests.support.soap import envelope

MORNING = morning(2026, 12)
CALLS = calls(inpatients(MORNING), 2026)
ABOUT = {
    "PatientInfoRegister": "Patient",
    "InPatientInfoAdd": "Encounter",
    "ExamAppInfoAdd": "ServiceRequest",
    "DocumentRegister": "Composition",
}


def called(action: str, item: Item) -> bytes:
    """As a client sends it."""
    text = escape(item.body.decode())
    return envelope(f'<HIPMessageServer xmlns="http://tempuri.org"><input1>{action}</input1><input2>{text}</input2></HIPMessageServer>')


def test_every_mishap_is_there_once() -> None:
    """Two that must be refused, one that comes twice; the same seed gives the same calls."""
    counts = Counter(item.expect for _, item in CALLS)
    assert (counts[ACCEPTED], counts[DUPLICATE], counts[BROKEN]) == (16, 1, 2)
    assert calls(inpatients(MORNING), 2026) == CALLS
    accepted = [item.control_id for _, item in CALLS if item.expect == ACCEPTED]
    assert len(set(accepted)) == len(accepted)
    assert all(
        control_id.encode() in item.body
        for item in [item for _, item in CALLS if item.expect == ACCEPTED]
        for control_id in [item.control_id]
    )


def test_the_patients_are_those_of_the_hospitals_messages() -> None:
    """Each is in PID-3 of an admission, under the number that the vendor uses."""
    admitted = {hl7v2.decode(item.body).get("PID-3.1") for item in MORNING if item.kind == "ADT^A01"}
    assert {one.record_number for one in inpatients(MORNING)} <= admitted


@pytest.mark.parametrize("call", [call for call in CALLS if call[1].expect == ACCEPTED], ids=lambda call: f"{call[0]} {call[1].control_id}")
def test_a_message_is_the_service_that_it_says_and_is_mapped(call: tuple[str, Item]) -> None:
    """Under the control id by which the platform will know it; Chinese text arrives as it was."""
    action, item = call
    body = called(action, item)
    message = hip.read(read(body))
    assert (message.service.name, message.header.id) == (item.kind, item.control_id)
    bundle = orjson.loads(registry.mapping("hip-to-fhir").compile(None).map(body).body)
    assert bundle["identifier"]["value"] == item.control_id
    kinds = {entry["resource"]["resourceType"] for entry in bundle["entry"]}
    assert {
        "Patient",
        {"InPatientInfoAdd": "Encounter", "ExamAppInfoAdd": "ServiceRequest", "DocumentRegister": "Composition"}.get(action, "Patient"),
    } <= kinds


def test_one_document_is_another_patients() -> None:
    found = [look(hip.read(read(called(action, item))).element).fact for action, item in CALLS if item.kind == "DocumentRegister"]
    assert Counter(found) == {"agrees": 4, "differs: patient": 1}


def test_one_message_is_cut_off() -> None:
    (item,) = [item for _, item in CALLS if item.expect == BROKEN and not item.control_id]
    with pytest.raises(ParseError, match="not readable"):
        hip.read(read(called("PatientInfoRegister", item)))


def test_an_answer_says_aa_or_ae() -> None:
    answer = '<MCCI_IN000002UV01 xmlns="urn:hl7-org:v3"><acknowledgement typeCode="AE"/></MCCI_IN000002UV01>'
    assert acknowledged(answer) == "AE"
    assert acknowledged("<x/>") == ""


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the schemas of WS/T 846 are not here")
@pytest.mark.parametrize("call", CALLS[:4], ids=lambda call: call[0])
def test_a_message_is_valid_by_the_standards_schema(call: tuple[str, Item]) -> None:
    """And so is the document in it."""
    action, item = call
    message = etree.fromstring(item.body)
    etree.XMLSchema(etree.parse(SCHEMAS / "services" / f"{action}.xsd")).assertValid(message)
    for content in message.iter("{*}originalText"):
        if action == "DocumentRegister":
            document = etree.fromstring(base64.b64decode(content.get("value") or ""))
            etree.XMLSchema(etree.parse(SCHEMAS / "cdas" / "C0007.xsd")).assertValid(document)
