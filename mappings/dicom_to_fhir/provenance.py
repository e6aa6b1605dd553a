"""Where a Bundle comes from: the instance or study by UID and SHA-256 of its bytes, its sender, its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.formats.dicom import DataSet
from engine.formats.dicom.dictionary import uid_name
from mappings.dicom_to_fhir.context import DicomTransaction
from mappings.dicom_to_fhir.converters import instant
from mappings.dicom_to_fhir.loading import Compiled
from mappings.hl7v2_to_fhir.context import clean
from mappings.hl7v2_to_fhir.loading import ABSENT
from mappings.hl7v2_to_fhir.references import ready
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding, uri_part
from mappings.transaction import Draft, name_uuid

_DATES: Final = (0x00080012, 0x00080023, 0x00080022, 0x00080021, 0x00080020)
"""When an instance was made, as far as it says so: creation, content, acquisition, series, study."""
_PARTICIPANT: Final = TERMINOLOGY + "provenance-participant-type"


def provenance(tx: DicomTransaction, compiled: Compiled, instances: Sequence[DataSet], source: tuple[str, str], *, whole: bool) -> Draft:
    """`source` is (UID, SHA-256 of the bytes). Each version of a study is a source of its own."""
    uid, digest = source
    draft = Draft("Provenance", "put", "SOPInstanceUID", [], {})
    agents = []
    ae_title = clean(instances[0].text(0x00020016))
    if ae_title:
        system = f"urn:meridian:application:{uri_part(tx.facility or 'unknown')}"
        body = {"identifier": [{"system": system, "value": ae_title}], "deviceName": [{"name": ae_title, "type": "user-friendly-name"}]}
        agents.append({"type": {"coding": [coding(_PARTICIPANT, "author", "Author")]}, "who": tx.refer(ready("Device", body, ""))})
        house = compiled.organization((instances[0], 0, tx.facility), tx) if tx.facility else None
        if house:
            agents[0]["onBehalfOf"] = house
    draft.body["target"] = [other.ref for other in tx.drafts] + [{"reference": url} for url in tx.entries]
    recorded = max(filter(None, (_made(one, tx) for one in instances)), default="")
    if recorded:
        draft.body["recorded"] = recorded
    else:
        draft.body["_recorded"] = {"extension": [ABSENT]}
    what = "DICOM study" if whole else uid_name(instances[0].text(0x00080016)) or "DICOM instance"
    draft.body["activity"] = {"text": f"message - {what}"}
    draft.body["agent"] = [*agents, {"type": {"coding": [coding(_PARTICIPANT, "assembler", "Assembler")]}, "who": {"display": "Meridian"}}]
    message = {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": uid}
    draft.body["entity"] = [
        {"role": "source", "what": {"identifier": message, "display": what}},
        {"role": "source", "what": {"identifier": {"system": "urn:meridian:sha256", "value": digest}}},
    ]
    draft.identify(name_uuid(f"Provenance {tx.sender} {uid} {digest}"), "")
    return draft


def _made(one: DataSet, tx: DicomTransaction) -> str | None:
    """When it was made, in the first of the ways in which it says so."""
    for tag in _DATES:
        value = one.text(tag)
        if value and (found := instant((one, tag, value), tx)):
            return found
    return None
