"""Where a Bundle comes from: the message by its number and SHA-256, the sending system, who entered or verified it, when."""

from __future__ import annotations

from typing import Any, Final

from engine.formats.hip import Service
from engine.formats.hip.header import Header
from mappings.hip_to_fhir.context import HipTransaction
from mappings.hip_to_fhir.loading import Compiled
from mappings.hip_to_fhir.sources import compile_source
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.loading import ABSENT
from mappings.hl7v2_to_fhir.references import ready
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding, uri_part
from mappings.transaction import Body, Draft, name_uuid

_PARTICIPANT: Final = TERMINOLOGY + "provenance-participant-type"
_PEOPLE: Final = [
    (compile_source(path), code, display)
    for path, code, display in (
        ("//registrationRequest/author/assignedEntity", "enterer", "Enterer"),
        ("//registrationEvent/custodian/assignedEntity", "enterer", "Enterer"),
        ("//dataEnterer/assignedPerson", "enterer", "Enterer"),
        ("//verifier/assignedEntity", "verifier", "Verifier"),
    )
]
"""Who is behind a message and no part of what it is about."""


def message_identifier(tx: HipTransaction) -> Body:
    return {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": tx.control_id or "unknown"}


def people_behind(tx: HipTransaction, compiled: Compiled, header: Header, root: Any) -> list[Body]:
    """The sending system, and who entered or verified what it sends."""
    return [*_system(tx, header), *_people(tx, compiled, root)]


def provenance(tx: HipTransaction, service: Service, header: Header, agents: list[Body], digest: str) -> Draft:
    """`agents` are those of `people_behind`; all else that goes into the Bundle is in `tx`."""
    draft = Draft("Provenance", "put", service.root, [], {})
    draft.body["target"] = [other.ref for other in tx.drafts] + [{"reference": url} for url in tx.entries]
    recorded = times.instant(header.created, tx.zone)
    if recorded:
        draft.body["recorded"] = recorded
    else:
        draft.body["_recorded"] = {"extension": [ABSENT]}
    draft.body["activity"] = {"text": f"message - {service.name}"}
    assembler = {"type": {"coding": [coding(_PARTICIPANT, "assembler", "Assembler")]}, "who": {"display": "Meridian"}}
    draft.body["agent"] = [*agents, assembler]
    what = {"identifier": message_identifier(tx), "display": f"WS/T 846 message {service.root}"}
    draft.body["entity"] = [
        {"role": "source", "what": what},
        {"role": "source", "what": {"identifier": {"system": "urn:meridian:sha256", "value": digest}}},
    ]
    draft.identify(name_uuid(f"Provenance {tx.sender} {tx.control_id} {digest}"), "")
    return draft


def _system(tx: HipTransaction, header: Header) -> list[Body]:
    """The sending application, as hl7v2-to-fhir has one."""
    if not header.sender:
        return []
    system = f"urn:meridian:application:{uri_part(tx.facility or 'unknown')}"
    body = {
        "identifier": [{"system": system, "value": header.sender}],
        "deviceName": [{"name": header.sender, "type": "user-friendly-name"}],
    }
    return [{"type": {"coding": [coding(_PARTICIPANT, "author", "Author")]}, "who": tx.refer(ready("Device", body, ""))}]


def _people(tx: HipTransaction, compiled: Compiled, root: Any) -> list[Body]:
    made: list[Body] = []
    for source, code, display in _PEOPLE:
        for found in source.find(root):
            who = compiled.parties.role(found, tx)
            agent = {"type": {"coding": [coding(_PARTICIPANT, code, display)]}, "who": who}
            if who and agent not in made:
                made.append(agent)
    return made
