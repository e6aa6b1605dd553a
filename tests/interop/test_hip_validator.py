"""What hip-to-fhir makes, before a validator of other people's (npm @medplum/core): structure, invariants, targets of references."""

from __future__ import annotations

from pathlib import Path

from engine import registry
from tests.support.hip_files import MAPPED, sample
from tests.support.peers import ForeignPeer, node_script

MAPPER = registry.mapping("hip-to-fhir").compile(None)
VALIDATOR = Path(__file__).parent / "fhir_peers" / "validator.mjs"
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


def faults(folder: Path, bundles: dict[str, bytes]) -> list[str]:
    made = folder / "bundles"
    made.mkdir()
    for name, body in bundles.items():
        (made / f"{name}.json").write_bytes(body)
    with ForeignPeer(node_script(VALIDATOR, "@medplum/core", folder), folder=str(made)) as peer:
        *issues, counted = peer.all_heard()
    assert counted["files"] == len(bundles)
    return [f"{issue['file']} {issue['text']}" for issue in issues]


def test_a_fault_would_be_seen(tmp_path: Path) -> None:
    """An element that R4 has not; an application's details without its code (prr-1)."""
    patient = MAPPER.map(sample("PatientInfoRegister")).body.replace(b'"birthDate"', b'"birthDay"')
    order = MAPPER.map(sample("CheckAppInfoAdd")).body.replace(
        b'"code":{"coding":[{"system":"urn:meridian:codes:HIS0001:L","code":"CT01"', b'"_code":{"x":[{"y":1'
    )
    assert {fault.split()[0] for fault in faults(tmp_path, {"patient": patient, "order": order})} == {"patient.json", "order.json"}


def test_every_service_makes_valid_resources(tmp_path: Path) -> None:
    assert faults(tmp_path, {service: MAPPER.map(sample(service)).body for service in MAPPED}) == []


def test_so_does_a_message_that_lacks_something(tmp_path: Path) -> None:
    lacking = {f"{number}-{service}": MAPPER.map(sample(service, (path, None))).body for number, (service, path) in enumerate(SCANTY)}
    assert faults(tmp_path, lacking) == []
