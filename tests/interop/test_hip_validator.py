"""What hip-to-fhir makes is FHIR R4 to somebody else: Medplum's validator with R4's definitions and invariants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from engine import registry
from tests.support.hip_files import MAPPED, sample
from tests.support.peers import ForeignPeer, node_script

MAPPER = registry.mapping("hip-to-fhir").compile(None)
SCRIPT = Path(__file__).parent / "hip_peers" / "validate.mjs"
SCANTY = (
    ("ExamAppInfoAdd", "//component2/observationRequest/code"),
    ("OperationAppInfoAdd", "//encounter"),
    ("OutPatientAppointStatusInfoAdd", "//transportationIntent/effectiveTime/high"),
    ("OutPatientAppointStatusInfoAdd", "//encounterAppointment/subject"),
    ("SourceAndScheduleInfoAdd", "//timeFrame/effectiveTime"),
    ("TransferInfoAdd", "//location2/serviceDeliveryLocation"),
    ("PatientInfoRegister", "//relationshipHolder1"),
    ("OrderInfoAdd", "//consumable2"),
)
"""Messages without something that FHIR wants."""


def resources(body: bytes) -> Iterator[dict[str, Any]]:
    """As a server keeps them: references by type and id."""
    made = MAPPER.map(body).body
    for entry in orjson.loads(made)["entry"]:
        url = entry["fullUrl"]
        made = made.replace(f'"reference":"{url}"'.encode(), f'"reference":"{entry["resource"]["resourceType"]}/{url[9:]}"'.encode())
    for entry in orjson.loads(made)["entry"]:
        yield entry["resource"]


def faults(found: list[dict[str, Any]], folder: Path) -> list[Any]:
    file = folder / "resources.json"
    file.write_bytes(orjson.dumps(found))
    with ForeignPeer(node_script(SCRIPT, "@medplum/core", folder), file=str(file)) as peer:
        return peer.all_heard()


def test_a_fault_would_be_seen(tmp_path: Path) -> None:
    """An element that R4 has not, and an invariant."""
    planted = [{"resourceType": "Patient", "contact": [{"gender": "male"}]}, {"resourceType": "Patient", "occupation": "x"}]
    assert len(faults(planted, tmp_path)) == 2


def test_every_service_makes_valid_resources(tmp_path: Path) -> None:
    assert faults([one for service in MAPPED for one in resources(sample(service))], tmp_path) == []


def test_so_does_a_message_that_lacks_something(tmp_path: Path) -> None:
    assert faults([one for service, path in SCANTY for one in resources(sample(service, (path, None)))], tmp_path) == []
