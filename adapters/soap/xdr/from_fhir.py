"""A FHIR Bundle's DocumentReferences as documents to submit: the mapping of MHD (IHE ITI TF-3 clause 4.5.1) the other way round. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from adapters.soap.xdr.outgoing import Document, Metadata, cx, dtm, offset, scheme_of
from engine.errors import PermanentDelivery
from engine.formats.xds.forms import is_oid, is_uuid
from engine.formats.xds.model import Author, Code

Resource = Mapping[str, Any]
_CODED: Final = {"facilityType": "healthcareFacilityTypeCode", "practiceSetting": "practiceSettingCode", "event": "eventCodeList"}
_GENDERS: Final = {"male": "M", "female": "F", "other": "O", "unknown": "U"}
_DAY: Final = 10


def from_fhir(body: bytes, metadata: Metadata) -> list[Document]:
    """Raises PermanentDelivery where there is no DocumentReference, or no content of one."""
    try:
        bundle = orjson.loads(body)
        resources = _Resources(bundle)
        found = [one for one in resources if one["resourceType"] == "DocumentReference"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PermanentDelivery("this is no FHIR Bundle") from None
    if not found:
        raise PermanentDelivery("the Bundle has no DocumentReference", location="Bundle.entry")
    try:
        return [_document(one, resources, metadata, content) for one in found for content in one.get("content", ())]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PermanentDelivery("a resource of the Bundle is not as FHIR has it", location="DocumentReference") from None


class _Resources:
    """A Bundle's resources, by what refers to them."""

    def __init__(self, bundle: Any) -> None:
        entries = bundle["entry"] if bundle["resourceType"] == "Bundle" else [{"resource": bundle}]
        self._all = [entry["resource"] for entry in entries if "resource" in entry]
        self._by = {entry["fullUrl"]: entry["resource"] for entry in entries if "resource" in entry and "fullUrl" in entry}
        self._by.update({f"{one['resourceType']}/{one['id']}": one for one in self._all if "id" in one})

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._all)

    def find(self, url: str, inside: Resource) -> Resource | None:
        if url.startswith("#"):
            return next((one for one in inside.get("contained", ()) if one.get("id") == url[1:]), None)
        return self._by.get(url)

    def referred(self, reference: Any, inside: Resource) -> Resource:
        """{} where it is not in the Bundle."""
        return self.find((reference or {}).get("reference", ""), inside) or {}


def _document(one: Resource, resources: _Resources, metadata: Metadata, content: Resource) -> Document:
    attachment = content["attachment"]
    document = Document(_content(attachment, one, resources), _mime(attachment, one, resources))
    zone = metadata.zone
    document.says("uniqueId", _unique_id(one) if len(one["content"]) == 1 else "")
    document.says("title", attachment.get("title") or one.get("description", ""))
    document.says("comments", one.get("description", "") if attachment.get("title") else "")
    document.says("creationTime", time_of(attachment.get("creation") or one.get("date", ""), zone))
    document.says("languageCode", attachment.get("language", ""))
    document.codes_as("typeCode", *_codes(one.get("type"), most=1))
    document.codes_as("classCode", *[code for concept in one.get("category", ())[:1] for code in _codes(concept, most=1)])
    document.codes_as("confidentialityCode", *[code for concept in one.get("securityLabel", ()) for code in _codes(concept, most=1)])
    document.codes_as("formatCode", *_coding(content.get("format")))
    context = one.get("context", {})
    for name, attribute in _CODED.items():
        concepts = context.get(name, ())
        document.codes_as(
            attribute, *[code for concept in ([concepts] if isinstance(concepts, dict) else concepts) for code in _codes(concept, most=1)]
        )
    period = context.get("period", {})
    document.says("serviceStartTime", time_of(period.get("start", ""), zone))
    document.says("serviceStopTime", time_of(period.get("end", ""), zone))
    document.authors = tuple(_authors(one, resources))
    patient = resources.referred(one.get("subject"), one)
    source = resources.referred(context.get("sourcePatientInfo"), one) or patient
    _patients(document, patient, source, metadata)
    return document


# --- content ----------------------------------------------------------------------------------------------


def _content(attachment: Resource, one: Resource, resources: _Resources) -> bytes:
    binary = resources.find(attachment.get("url", ""), one) or {}
    data = attachment.get("data") or (binary.get("data") if binary.get("resourceType") == "Binary" else None)
    if not data:
        raise PermanentDelivery("the content of a DocumentReference is not in the Bundle", location="DocumentReference.content")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise PermanentDelivery("the content of a DocumentReference is not base64", location="DocumentReference.content") from None


def _mime(attachment: Resource, one: Resource, resources: _Resources) -> str:
    binary = resources.find(attachment.get("url", ""), one) or {}
    return str(attachment.get("contentType") or binary.get("contentType") or "application/octet-stream")


def _unique_id(one: Resource) -> str:
    """masterIdentifier: an OID as URN, an UUID as URN (as an OID: ITU-T X.667), or an extension below an OID."""
    identifier = one.get("masterIdentifier") or {}
    value, system = identifier.get("value", ""), identifier.get("system", "")
    if value.startswith("urn:oid:"):
        return str(value.removeprefix("urn:oid:"))
    if system.startswith("urn:oid:") and value:
        return f"{system.removeprefix('urn:oid:')}^{value}" if len(value) <= 16 else ""
    return f"2.25.{UUID(value).int}" if is_uuid(value) else str(value) if value.startswith("urn:") else ""


# --- codes, times ---------------------------------------------------------------------------------------------


def _codes(concept: Any, most: int) -> list[Code]:
    return [code for coding in (concept or {}).get("coding", ())[:most] for code in _coding(coding, concept.get("text", ""))]


def _coding(coding: Any, text: str = "") -> list[Code]:
    code = (coding or {}).get("code", "")
    return [Code(code, scheme_of(coding.get("system", "")), coding.get("display") or text or code)] if code else []


def time_of(text: str, zone: str) -> str:
    """A FHIR dateTime as DTM in UTC; a year, month or day stays what it is."""
    if len(text) <= _DAY:
        return text.replace("-", "")
    at = datetime.fromisoformat(text)
    return dtm(at if at.tzinfo is not None else at.replace(tzinfo=offset(zone)))


# --- people ---------------------------------------------------------------------------------------------------


def _patients(document: Document, patient: Resource, source: Resource, metadata: Metadata) -> None:
    known = [(value, oid) for value, oid in _identifiers(patient)]
    own = next(((value, oid) for value, oid in known if oid == metadata.patient_domain), None)
    others = [pair for pair in (*_identifiers(source), *known) if pair != own]
    if own is not None:
        document.says("patientId", cx(*own))
    first = others[0] if others else own
    if first is not None:
        document.says("sourcePatientId", cx(*first))
        birth = source.get("birthDate", "")
        info = {
            "PID-3": cx(*first),
            "PID-5": _xpn(source),
            "PID-7": date.fromisoformat(birth).strftime("%Y%m%d") if len(birth) == _DAY else birth.replace("-", ""),
            "PID-8": _GENDERS.get(source.get("gender", ""), ""),
        }
        document.says("sourcePatientInfo", *(f"{name}|{value}" for name, value in info.items() if value))


def _identifiers(one: Resource) -> Iterator[tuple[str, str]]:
    """(value, OID) of those whose system is an OID."""
    for identifier in one.get("identifier", ()):
        oid = identifier.get("system", "").removeprefix("urn:oid:")
        if is_oid(oid) and identifier.get("value"):
            yield _plain(identifier["value"]), oid


def _plain(text: str) -> str:
    """Without what would be read as a delimiter (HL7 v2.5.1 clause 2.7)."""
    for letter, escape in (("\\", "\\E\\"), ("^", "\\S\\"), ("&", "\\T\\"), ("|", "\\F\\"), ("~", "\\R\\")):
        text = text.replace(letter, escape)
    return text


def _xpn(one: Resource) -> str:
    name: Resource = next(iter(one.get("name", ())), {})
    parts = [name.get("family") or name.get("text", ""), *name.get("given", ())[:1]]
    return "^".join(_plain(part) for part in parts).rstrip("^")


def _authors(one: Resource, resources: _Resources) -> Iterator[Author]:
    for reference in one.get("author", ()):
        found = resources.referred(reference, one)
        if found.get("resourceType") == "Organization":
            yield Author(institutions=(_xon(found),))
        elif found.get("resourceType") == "PractitionerRole":
            person, house = (resources.referred(found.get(name), one) for name in ("practitioner", "organization"))
            yield Author(persons=_xcn(person), institutions=(_xon(house),) if house.get("name") else ())
        elif _xcn(found):
            yield Author(persons=_xcn(found))


def _xcn(one: Resource) -> tuple[str, ...]:
    value, oid = next(_identifiers(one), ("", ""))
    name = _xpn(one)
    family, _, given = name.partition("^")
    text = f"{value}^{family}^{given}^^^^^^{f'&{oid}&ISO' if oid else ''}".rstrip("^")
    return (text,) if name or value else ()


def _xon(one: Resource) -> str:
    value, oid = next(_identifiers(one), ("", ""))
    name = _plain(one.get("name", ""))
    return f"{name}^^^^^&{oid}&ISO^^^^{value}" if oid else name
