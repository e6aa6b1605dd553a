"""A CDA document as one to submit: metadata from its header (IHE PCC TF-2 clause 4.1.1, XDS metadata of medical documents). Pure."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from adapters.soap.xdr.outgoing import Document, Metadata, cx, dtm, offset
from engine.errors import MessageError, PermanentDelivery
from engine.formats import cda
from engine.formats.xds.forms import is_oid
from engine.formats.xds.model import Author, Code

_TS: Final = re.compile(r"(\d{4}(?:\d\d){0,5})(?:\.\d+)?([+-]\d{4})?")
_GENDERS: Final = {"1": "M", "2": "F", "M": "M", "F": "F"}
"""GB/T 2261.1 and HL7."""


def from_cda(content: bytes, metadata: Metadata) -> Document:
    """Raises PermanentDelivery for what is no CDA document."""
    try:
        read = cda.read(content)
    except MessageError as error:
        raise PermanentDelivery(f"the document cannot be read: {error.text}", location=error.location) from None
    document = Document(content, "text/xml")
    document.says("uniqueId", f"{read.id.root}^{read.id.extension}" if read.id.extension else read.id.root)
    document.says("title", read.title)
    document.says("creationTime", utc(read.effective_time, metadata.zone))
    document.says("languageCode", read.language)
    if read.encounter is not None:
        document.says("serviceStartTime", utc(read.encounter.start, metadata.zone))
        document.says("serviceStopTime", utc(read.encounter.end, metadata.zone))
    document.codes_as("typeCode", _code(read.code))
    document.codes_as("confidentialityCode", _code(read.confidentiality))
    document.authors = tuple(_author(one) for one in read.authors if one.person.name or one.person.ids or one.organization.name)
    _patient(document, read, metadata)
    return document


def utc(text: str, zone: str) -> str:
    """An HL7 time (TS) as DTM in UTC, to its own precision; "" where it is none. A day without a time stays that day."""
    match = _TS.fullmatch(text.strip())
    if match is None:
        return ""
    digits, said = match[1], match[2]
    if len(digits) < 10:
        return digits
    try:
        at = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=offset(f"{said[:3]}:{said[3:]}" if said else zone))
    except ValueError:
        return ""
    return dtm(at)[: max(len(digits), 12)]


def _patient(document: Document, read: cda.ClinicalDocument, metadata: Metadata) -> None:
    known = [one for one in read.patient_ids if is_oid(one.root) and one.extension]
    own = next((one for one in known if one.root == metadata.patient_domain), None)
    source = next((one for one in known if one is not own), own)
    if own is not None:
        document.says("patientId", cx(own.extension, own.root))
    if source is not None:
        document.says("sourcePatientId", cx(source.extension, source.root))
        gender = _GENDERS.get(read.patient_gender.code, "")
        info = {"PID-3": cx(source.extension, source.root), "PID-5": read.patient_name, "PID-7": read.patient_birth[:8], "PID-8": gender}
        document.says("sourcePatientInfo", *(f"{name}|{value}" for name, value in info.items() if value))


def _code(code: cda.Code) -> Code:
    return Code(code.code, code.system or code.system_name, code.display or code.code)


def _author(author: cda.Author) -> Author:
    person = author.person
    ids = person.ids[0] if person.ids else cda.Id()
    assigned = f"&{ids.root}&ISO" if ids.root else ""
    xcn = f"{ids.extension}^{person.name}^^^^^^^{assigned}".rstrip("^") if person.name or ids else ""
    organization = author.organization
    of = organization.ids[0] if organization.ids else cda.Id()
    xon = f"{organization.name}^^^^^&{of.root}&ISO^^^^{of.extension}".rstrip("^") if of.root and of.extension else organization.name
    return Author(persons=(xcn,) if xcn else (), institutions=(xon,) if organization.name else ())
