"""HL7 CDA release 2: what a clinical document says of itself, and whether that is what its envelope says of it. A pure codec.

The header is read as the standard has it (CDA R2 clause 4.2) and as the documents of WS/T 500 have it, where an identifier of a set or
of a parent document, a version, or the time of a signature stands as text of its element rather than in an attribute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from lxml import etree

from engine.errors import ParseError, UnsupportedError
from engine.formats.xml import Limits, parse
from engine.message import CDA, Excerpt

V3: Final = "urn:hl7-org:v3"
XSI_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
LIMITS: Final = Limits(size=64 << 20, depth=100, elements=500_000, attributes=60)
"""Of one document; images inside one are base64 text."""
_PATH: Final = re.compile(r"(?:[A-Za-z_][\w.-]*(?:\[[1-9]\d{0,3}\])?/)*(?:[A-Za-z_][\w.-]*(?:\[[1-9]\d{0,3}\])?|@[A-Za-z_][\w.:-]*)")
_STEP: Final = re.compile(r"([A-Za-z_][\w.-]*)(?:\[(\d+)\])?")

Element: TypeAlias = etree._Element


@dataclass(frozen=True, slots=True)
class Id:
    """II: an OID or UUID, and what is unique under it."""

    root: str = ""
    extension: str = ""

    def __bool__(self) -> bool:
        return bool(self.root or self.extension)


@dataclass(frozen=True, slots=True)
class Code:
    """CD, CE, CV: `system` is an OID."""

    code: str = ""
    system: str = ""
    display: str = ""
    system_name: str = ""

    def __bool__(self) -> bool:
        return bool(self.code or self.display)


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
    code: Code = Code()
    start: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class Related:
    """relatedDocument: `type` is RPLC, APND or XFRM (x_ActRelationshipDocument)."""

    type: str = ""
    id: Id = Id()
    set_id: Id = Id()
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
    code: Code = Code()
    title: str = ""
    effective_time: str = ""
    confidentiality: Code = Code()
    language: str = ""
    set_id: Id = Id()
    version: str = ""
    template_ids: tuple[Id, ...] = ()
    patient_ids: tuple[Id, ...] = ()
    patient_name: str = ""
    patient_gender: Code = Code()
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
        for step in _checked(path).split("/"):
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


# --- reading ------------------------------------------------------------------------------------------


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


# --- elements, whatever their namespace ---------------------------------------------------------------


def local(tag: object) -> str:
    """The name of an element or attribute without its namespace."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def children(element: Element | None, name: str) -> Iterator[Element]:
    """The child elements called `name`, in document order."""
    if element is not None:
        for child in element:
            if local(child.tag) == name:
                yield child


def first(element: Element | None, *names: str) -> Element | None:
    """The first element at a path of names."""
    for name in names:
        element = next(children(element, name), None)
    return element


def attribute(element: Element | None, name: str) -> str:
    return "" if element is None else (element.get(name) or "").strip()


def text_of(element: Element | None) -> str:
    """All text inside, blanks made single."""
    if element is None:
        return ""
    return " ".join(" ".join(word.strip() for word in element.itertext() if word.strip()).split())


def id_of(element: Element | None) -> Id:
    """II; one that is null (nullFlavor) or empty is false. Text instead of attributes is the extension."""
    if element is None or (element.get("nullFlavor") and not element.get("extension")):
        return Id()
    root, extension = attribute(element, "root"), attribute(element, "extension")
    return Id(root, extension) if root or extension else Id("", text_of(element))


def code_of(element: Element | None) -> Code:
    if element is None:
        return Code()
    display = attribute(element, "displayName") or text_of(first(element, "originalText"))
    return Code(attribute(element, "code"), attribute(element, "codeSystem"), display, attribute(element, "codeSystemName"))


def time_of(element: Element | None) -> str:
    """TS, or the beginning of an IVL_TS that has no value of its own; WS/T 500 writes some as text."""
    if element is None:
        return ""
    own = attribute(element, "value") or attribute(first(element, "low"), "value") or text_of(element)
    return own if len(own) <= 40 else ""


# --- the document against its envelope ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claimed:
    """What an envelope (XDS metadata, a HIP message) says of the document it carries; empty = says nothing. An Id without a root is
    compared by its extension. `time` is an HL7 time (TS); give UTC as +0000."""

    id: Id = Id()
    type: Code = Code()
    title: str = ""
    time: str = ""
    patient_ids: tuple[Id, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """`field` is id, patient, type, title, time; or patient-unproven: the two name the patient in no common domain. No values."""

    field: str

    @property
    def grave(self) -> bool:
        """Whether the document is another one, or another patient's, than its envelope says."""
        return self.field in ("id", "patient")


def cross_check(document: ClinicalDocument, claimed: Claimed) -> list[Discrepancy]:
    """Where the document contradicts its envelope."""
    differs = {
        "id": bool(claimed.id and document.id) and not _same_id(claimed.id, document.id),
        "type": not _same_code(claimed.type, document.code),
        "title": bool(claimed.title and document.title) and "".join(claimed.title.split()) != "".join(document.title.split()),
        "time": bool(claimed.time and document.effective_time) and not _same_time(claimed.time, document.effective_time),
    }
    found = [Discrepancy(name) for name, wrong in differs.items() if wrong]
    patient = _patient(claimed.patient_ids, document.patient_ids)
    return [*found, Discrepancy(patient)] if patient else found


def _key(one: Id) -> tuple[str, str]:
    return one.root.lower(), one.extension.strip().lower()


def _same_id(claimed: Id, own: Id) -> bool:
    """An OID or UUID alone may be told as root or as extension."""
    if _key(claimed) == _key(own):
        return True
    if claimed.root and claimed.extension:
        return False
    alone = (claimed.extension or claimed.root).strip().lower().removeprefix("urn:uuid:").removeprefix("urn:oid:")
    return alone in (own.extension.lower(), own.root.lower() if not own.extension else "")


def _same_code(claimed: Code, own: Code) -> bool:
    if not claimed.code or not own.code:
        return True
    return claimed.code == own.code and (not claimed.system or not own.system or claimed.system == own.system)


def _patient(claimed: tuple[Id, ...], own: tuple[Id, ...]) -> str:
    """In every domain that both name, one number must be common to both."""
    if not any(claimed):
        return ""
    proven = False
    for root in {one.root.lower() for one in claimed if one}:
        said = {one.extension.strip().lower() for one in claimed if one and one.root.lower() == root}
        there = {one.extension.strip().lower() for one in own if not root or one.root.lower() == root}
        if there and not said & there:
            return "patient"
        proven = proven or bool(said & there)
    return "" if proven else "patient-unproven"


_TIME: Final = re.compile(r"(\d{4,14})(?:\.\d+)?([+-]\d{4})?")
_ZONES: Final = 14 * 60
"""How far, in minutes, the time of a place may be from UTC."""


def _same_time(claimed: str, own: str) -> bool:
    """To the precision of the coarser one, minutes at most. Where only one of them has an offset from UTC, they may be 14 hours apart."""
    one, other = _TIME.fullmatch(claimed.strip()), _TIME.fullmatch(own.strip())
    if one is None or other is None:
        return claimed.strip() == own.strip()
    length = min(len(one[1]), len(other[1]), 12)
    if length < 8 or (length == 8 and one[2] == other[2]) or not (one[2] or other[2]):
        return one[1][:length] == other[1][:length]
    minutes = _minutes(one, length), _minutes(other, length)
    if None in minutes:
        return False
    apart = abs((minutes[0] or 0) - (minutes[1] or 0))
    return apart == 0 if one[2] and other[2] and length > 8 else apart <= _ZONES + (24 * 60 if length == 8 else 0)


def _minutes(match: re.Match[str], length: int) -> int | None:
    """Minutes since the year 1, UTC where there is an offset; None for a day or hour that does not exist."""
    digits, offset = match[1][:length].ljust(12, "0"), match[2] or "+0000"
    try:
        at = datetime.strptime(digits, "%Y%m%d%H%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    zone = int(offset[1:3]) * 60 + int(offset[3:5])
    return at.toordinal() * 24 * 60 + at.hour * 60 + at.minute - (-zone if offset[0] == "-" else zone)


# --- codec ------------------------------------------------------------------------------------------------


def _checked(path: str) -> str:
    """Raises ValueError for what can never be a path."""
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not a path such as code/@code or recordTarget/patientRole/id[2]/@extension")
    return path


class CdaCodec:
    """engine.contracts.Codec"""

    content_type = CDA
    headers = True

    def decode(self, body: bytes) -> ClinicalDocument:
        return read(body)

    def check_path(self, path: str) -> None:
        _checked(path)


codec: Final = CdaCodec()
