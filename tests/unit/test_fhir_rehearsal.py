"""What the FHIR source would make of a body, tried without a server."""

from __future__ import annotations

import json

import pytest

from adapters.fhir import adapter
from adapters.fhir.options import SOURCE
from engine.message import FHIR_JSON, FHIR_XML, Verdict, as_received

PATIENT = {"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": "7"}]}
BUNDLE = {"resourceType": "Bundle", "type": "transaction", "identifier": {"value": "B1"}, "entry": []}


def rehearse(body: object, **options: object):  # type: ignore[no-untyped-def]
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return adapter.rehearse(SOURCE.defaults(listen=0, **options), raw, "urn:meridian:party:county")


def test_a_bundle_and_a_create() -> None:
    """Message type, control id and peer as the server's; a single create travels as a transaction."""
    envelope, fault = rehearse(BUNDLE)
    assert (envelope.message_type, envelope.control_id, envelope.peer, fault) == (
        "Bundle transaction",
        "B1",
        "urn:meridian:party:county",
        None,
    )
    envelope, fault = rehearse(PATIENT)
    assert (envelope.message_type, envelope.patient_ids, fault) == ("Patient create", ("7",), None)
    assert json.loads(envelope.body)["entry"][0]["request"] == {"method": "POST", "url": "Patient"}


@pytest.mark.parametrize("body", [b"{", b"[]", {"resourceType": 7}, {**BUNDLE, "type": "collection"}, {**BUNDLE, "entry": {}}])
def test_what_the_server_would_refuse(body: object) -> None:
    """A judgement, never an exception."""
    assert rehearse(body)[1].verdict is Verdict.INVALID


def test_structure_is_checked_unless_the_channel_wants_nothing_checked() -> None:
    """By the rules of R4, and by the models where they are asked for."""
    wrong = {**PATIENT, "birthDate": "yesterday"}
    assert rehearse(wrong, validate="none")[1] is None
    assert rehearse(wrong)[1].location == "Patient.birthDate"
    assert rehearse(wrong, validate="fhir.resources")[1].location == "Patient.birthDate"


def test_xml_is_tried_as_the_server_takes_it() -> None:
    """Converted, with what it was beside it; what cannot be read is kept as it is."""
    document = b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'
    envelope, fault = rehearse(document)
    assert (envelope.message_type, envelope.content_type, fault) == ("Patient create", FHIR_JSON, None)
    assert as_received(envelope) == document
    envelope, fault = rehearse(b"<Patient/>")
    assert (envelope.body, envelope.content_type, fault.location) == (b"<Patient/>", FHIR_XML, "Patient")


def test_a_message_where_the_channel_takes_messages() -> None:
    """Its event is the message type."""
    header = {"resourceType": "MessageHeader", "id": "m1", "eventUri": "urn:e", "source": {"endpoint": "urn:s"}}
    message = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": header}]}
    envelope, fault = rehearse(message, messages=True)
    assert (envelope.message_type, envelope.control_id, fault) == ("urn:e", "m1", None)
    assert rehearse(message)[1].location == "Bundle.type"
