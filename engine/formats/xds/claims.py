"""What a document entry says of its document, in the words of engine.formats.cda: for comparing the two."""

from __future__ import annotations

from engine.formats import cda
from engine.formats.xds.model import DocumentEntry


def claimed(entry: DocumentEntry) -> cda.Claimed:
    root, _, extension = entry.unique_id.removeprefix("urn:oid:").removeprefix("urn:uuid:").partition("^")
    type_code = entry.code("typeCode")
    patients = [_cx(text) for name in ("sourcePatientId", "patientId") for text in entry.all(name)]
    return cda.Claimed(
        id=cda.Id(root, extension),
        type=cda.Code(type_code.code, type_code.scheme) if type_code else cda.Code(),
        title=entry.get("title"),
        time=entry.get("creationTime") and entry.get("creationTime") + "+0000",
        patient_ids=tuple(one for one in patients if one),
    )


def _cx(text: str) -> cda.Id:
    parts = text.split("^")
    authority = (parts[3] if len(parts) > 3 else "").split("&")
    return cda.Id(authority[1] if len(authority) > 1 else "", parts[0])
