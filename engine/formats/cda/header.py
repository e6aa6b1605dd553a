"""What a clinical document says of itself.

The header is read as the standard has it (CDA R2 clause 4.2) and as the documents of WS/T 500 have it, where an identifier of a set or
of a parent document, a version, or the time of a signature stands as text of its element rather than in an attribute.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import ParseError, UnsupportedError
from engine.formats.cda.elements import (
    NO_CODE,
    NO_ID,
    Code,
    Element,
    Id,
    attribute,
    children,
    code_of,
    first,
    id_of,
    local,
    text_of,
    time_of,
)
from engine.formats.xml import Limits, parse
from engine.message import Excerpt

LIMITS: Final = Limits(size=64 << 20, depth=100, elements=500_000, attributes=60)
"""Of one document; images inside one are base64 text."""
_PATH: Final = re.compile(r"(?:[A-Za-z_][\w.-]*(?:\[[1-9]\d{0,3}\])?/)*(?:[A-Za-z_][\w.-]*(?:\[[1-9]\d{0,3}\])?|@[A-Za-z_][\w.:-]*)")
_STEP: Final = re.compile(r"([A-Za-z_][\w.-]*)(?:\[(\d+)\])?")


@dataclass(frozen=True, slots=True)
class Party:
    """A person or an organization, as far as an index of documents names it."""

    ids: tuple[Id, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Author:
    """`time` as written; `organization` is who the author acts for."""

    time: str = ""
    person: Party = Party()
    organization: Party = Party()


@dataclass(frozen=True, slots=True)
class Encounter:
    """encompassingEncounter; times as written."""

    ids: tuple[Id, ...] = ()
    code: Code = NO_CODE
    start: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class Related:
    """relatedDocument: `type` is RPLC, APND or XFRM (x_ActRelationshipDocument)."""

    type: str = ""
    id: Id = NO_ID
    set_id: Id = NO_ID
    version: str = ""


@dataclass(frozen=True, slots=True)
class NonXmlBody:
    """A body that is no XML. `element` is its text, which engine code decodes only where it needs the bytes."""

    media_type: str
    reference: str
    element: Element


@dataclass(frozen=True, slots=True)
class ClinicalDocument:
    """The header. Times are HL7 times (TS) as written. `root` is the whole document."""

    root: Element
    id: Id
    code: Code = NO_CODE
    title: str = ""
    effective_time: str = ""
    confidentiality: Code = NO_CODE
    language: str = ""
    set_id: Id = NO_ID
    version: str = ""
    template_ids: tuple[Id, ...] = ()
    patient_ids: tuple[Id, ...] = ()
    patient_name: str = ""
    patient_gender: Code = NO_CODE
    patient_birth: str = ""
    authors: tuple[Author, ...] = ()
    custodian: Party = Party()
    encounter: Encounter | None = None
    related: tuple[Related, ...] = ()
    non_xml_body: NonXmlBody | None = None

    def get(self, path: str) -> str | None:
        """engine.contracts.Document: ``code/@code``, ``recordTarget/patientRole/id[2]/@extension`` from ClinicalDocument; namespaces are
        not looked at; of several elements the first."""
        element: Element | None = self.root
        for step in checked(path).split("/"):
            if element is None:
                return None
            if step.startswith("@"):
                return next((value for name, value in element.attrib.items() if local(name) == step[1:].rpartition(":")[2]), None)
            match = _STEP.fullmatch(step)
            assert match is not None
            found = [child for child in element if local(child.tag) == match[1]]
            number = int(match[2] or 1)
            element = found[number - 1] if number <= len(found) else None
        return None if element is None else text_of(element) or None


def checked(path: str) -> str:
    """Raises ValueError for what can never be a path."""
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not a path such as code/@code or recordTarget/patientRole/id[2]/@extension")
    return path


def read(document: bytes | bytearray | memoryview, limits: Limits = LIMITS) -> ClinicalDocument:
    """The header of a document. An Excerpt is read whole from its file, within `limits`. Raises ParseError (not well-formed, too big,
    no id), UnsupportedError (XML, but no ClinicalDocument)."""
    root = parse(whole(document, limits), limits)
    if local(root.tag) != "ClinicalDocument":
        raise UnsupportedError("the XML document is no HL7 CDA document", location="/", hl7_code="200")
    header = _header(root)
    if not header.id:
        raise ParseError("the document has no id", location="ClinicalDocument/id", hl7_code="101")
    return header


def whole(document: bytes | bytearray | memoryview, limits: Limits = LIMITS) -> bytes:
    """All bytes of a document. Raises ParseError where it is bigger than `limits`, before it is read."""
    size = document.file.stat().st_size if isinstance(document, Excerpt) else len(document)
    if size > limits.size:
        raise ParseError(f"the document has more than {limits.size} bytes")
    if isinstance(document, Excerpt):
        return Path(document.file).read_bytes()
    return document if isinstance(document, bytes) else bytes(document)


def _header(root: Element) -> ClinicalDocument:
    patient = first(root, "recordTarget", "patientRole")
    person = first(patient, "patient")
    non_xml = first(root, "component", "nonXMLBody", "text")
    return ClinicalDocument(
        root=root,
        id=id_of(first(root, "id")),
        code=code_of(first(root, "code")),
        title=text_of(first(root, "title")),
        effective_time=time_of(first(root, "effectiveTime")),
        confidentiality=code_of(first(root, "confidentialityCode")),
        language=attribute(first(root, "languageCode"), "code"),
        set_id=id_of(first(root, "setId")),
        version=attribute(first(root, "versionNumber"), "value") or text_of(first(root, "versionNumber")),
        template_ids=_ids(root, "templateId"),
        patient_ids=(*_ids(patient, "id"), *_ids(person, "id")),
        patient_name=text_of(first(person, "name")),
        patient_gender=code_of(first(person, "administrativeGenderCode")),
        patient_birth=time_of(first(person, "birthTime")),
        authors=tuple(_author(one) for one in children(root, "author")),
        custodian=_party(first(root, "custodian", "assignedCustodian", "representedCustodianOrganization")),
        encounter=_encounter(first(root, "componentOf", "encompassingEncounter")),
        related=tuple(_related(one) for one in children(root, "relatedDocument")),
        non_xml_body=None if non_xml is None else _non_xml(non_xml),
    )


def _author(element: Element) -> Author:
    assigned = first(element, "assignedAuthor")
    person = first(assigned, "assignedPerson", "name")
    device = first(assigned, "assignedAuthoringDevice", "softwareName")
    named = Party(_ids(assigned, "id"), text_of(person) or text_of(device))
    return Author(time_of(first(element, "time")), named, _party(first(assigned, "representedOrganization")))


def _party(element: Element | None) -> Party:
    return Party(_ids(element, "id"), text_of(first(element, "name")))


def _encounter(element: Element | None) -> Encounter | None:
    if element is None:
        return None
    time = first(element, "effectiveTime")
    start = time_of(first(time, "low")) or time_of(time)
    return Encounter(_ids(element, "id"), code_of(first(element, "code")), start, time_of(first(time, "high")))


def _related(element: Element) -> Related:
    parent = first(element, "parentDocument")
    version = first(parent, "versionNumber")
    return Related(
        attribute(element, "typeCode"),
        id_of(first(parent, "id")),
        id_of(first(parent, "setId")),
        attribute(version, "value") or text_of(version),
    )


def _non_xml(text: Element) -> NonXmlBody:
    return NonXmlBody(attribute(text, "mediaType"), attribute(first(text, "reference"), "value"), text)


def _ids(element: Element | None, name: str) -> tuple[Id, ...]:
    return tuple(found for child in children(element, name) if (found := id_of(child)))
