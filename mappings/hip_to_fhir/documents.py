"""DocumentRegister (WS/T 846.6): the document that the message carries, taken in by cda-to-fhir, and held against what the message says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from engine.errors import ParseError, ValidationError
from engine.formats.cda import Claimed, Code, Id
from engine.formats.hip import registered
from engine.formats.hip.header import DOMAIN_ID, child
from mappings.cda_to_fhir import Described
from mappings.hip_to_fhir import converters
from mappings.hip_to_fhir.context import HipDraft, HipTransaction, place
from mappings.hip_to_fhir.reading import Message
from mappings.hip_to_fhir.sources import compile_source
from mappings.hl7v2_to_fhir.context import clean
from mappings.hl7v2_to_fhir.references import query_of
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body, name_uuid

if TYPE_CHECKING:
    from engine.formats.hip.documents import Registered
    from mappings.hip_to_fhir.loading import Compiled

_DOCUMENT: Final = "controlActProcess/subject/clinicalDocument"
_CONTENT: Final = f"{_DOCUMENT}/storageCode/originalText"
_TOLD: Final = [
    compile_source(path)
    for path in (
        "id/item/@extension",
        "id/@extension",
        "code/@code",
        "code/displayName/@value",
        "effectiveTime/@value",
        "confidentialityCode/@code",
        "storageCode/originalText/@value",
    )
]
"""What goes into the DocumentReference, or is held against the document."""
_INCLUDE: Final = "{http://www.w3.org/2004/08/xop/include}Include"
_MEDIA: Final = {
    "pdf": "application/pdf",
    "xml": "text/xml",
    "cda": "text/xml",
    "html": "text/html",
    "txt": "text/plain",
    "ofd": "application/ofd",
}
_CONFIDENTIALITY: Final = frozenset(("U", "L", "M", "N", "R", "V"))


def register(compiled: Compiled, tx: HipTransaction, message: Message, drafts: list[HipDraft]) -> None:
    """Take the document in. Raises ParseError (no base64, no readable XML), ValidationError (no document), MappingError (it is another
    document's or patient's than the message says)."""
    told, content, where = _carried(message)
    patient = next((draft for draft in drafts if draft.kind == "Patient"), None)
    if patient is not None:
        for number in patient.body.get("identifier", ()):
            if "system" in number:  # by whichever of them the document knows the patient, it is this one
                tx.known.setdefault("urn:uuid:" + name_uuid(f"Patient {query_of(number)}"), patient)
    number = next((Id(one.root, one.extension) for one in told.ids), Id())
    patients = tuple(Id(one.root, one.extension) for one in told.patients if one.root != DOMAIN_ID)
    claimed = Claimed(number, Code(told.code), "", told.time, patients)  # its code system is another than the document's
    media = _MEDIA.get(told.format.rpartition("/")[2].lower(), told.format if "/" in told.format else "")
    try:
        mapped = compiled.documents.take(tx, content, media, claimed, _described(compiled, tx, told, message, patient), place=f"{where}/")
    except ParseError as error:
        raise ParseError("the document is not readable XML", location=f"{where}: {error.location}") from None
    tx.unmapped += mapped.unmapped
    numbers = mapped.document.body.setdefault("identifier", [])
    if mapped.document.body["masterIdentifier"] not in numbers:  # not every server's search by identifier looks at the master's
        numbers.append(mapped.document.body["masterIdentifier"])
    _read(tx, child(message.element, _DOCUMENT))
    if tx.notes is not None:
        tx.notes.claim(mapped.document.body, where, "the document as registered")


def _read(tx: HipTransaction, document: Any) -> None:
    if tx.read is not None:
        for source in _TOLD:
            tx.read.update(source.find(document))


def _carried(message: Message) -> tuple[Registered, Any, str]:
    """(what the message says, the bytes, where they stand): base64, or a part that is only referred to (XOP)."""
    holder = child(message.element, _CONTENT)
    where = place((holder, "")) if holder is not None else _CONTENT
    included = holder is not None and message.soap is not None and next(holder.iter(_INCLUDE), None) is not None
    if included and message.soap is not None:
        content = message.soap.content_of(holder).content
        holder.set("value", "-")
    try:
        told = registered(message.element)
        if not included:
            content = told.decoded()
    except ParseError as error:
        kind = ParseError if "base64" in error.text else ValidationError
        raise kind(error.text, location=where, hl7_code="101") from None
    return told, content, where


def _described(compiled: Compiled, tx: HipTransaction, told: Registered, message: Message, patient: HipDraft | None) -> Described:
    document = child(message.element, _DOCUMENT)
    visited = child(document, "recordTarget/patient/effectiveTime")
    period = converters.period((visited, ""), tx) if visited is not None else None
    author, custodian = child(document, "author/assignedAuthor"), child(document, "custodian/assignedCustodian/representedOrganization")
    who = compiled.parties.practitioner((author, ""), tx) if author is not None else None
    keeper = compiled.parties.organization((custodian, ""), tx) if custodian is not None else None
    kind = _kind(told)
    security = clean(told.confidentiality)
    label = coding(TERMINOLOGY + "v3-Confidentiality" if security in _CONFIDENTIALITY else "", security)
    return Described(
        id=next((Id(one.root, one.extension) for one in told.ids), Id()),
        title=clean(told.name),
        time=told.time,
        type=kind,
        security=[{"coding": [label]}] if security else (),
        patient=patient,
        authors=[who] if who else (),
        custodian=keeper,
        extra={"context": {"period": period}} if period else {},
    )


def _kind(told: Registered) -> Body | None:
    code, name = clean(told.code), clean(told.name)
    if not code:
        return {"text": name} if name else None
    system = f"urn:oid:{told.code_system}" if told.code_system else "urn:meridian:codes:WST846-document"
    return {"coding": [coding(system, code, name)], **({"text": name} if name else {})}
