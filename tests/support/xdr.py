"""Provide and Register requests as a Document Source writes them: by hand, and not by what is tested."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from lxml import etree

from tests.support.reference import reference
from tests.support.soap import kept

SCHEMAS = reference("ihe", "xds-wsdl")
"""Of IHE and OASIS: not ours to keep here; what needs it is skipped where it is not there."""
PATIENT = "P-4711^^^&1.2.156.10011.1&ISO"
SOURCE_ID = "1.2.156.10011.9"
SET_ID = "1.2.156.10011.9.1000"
BOUNDARY = "MIMEBoundary_7c1e"
SOAP12 = "http://www.w3.org/2003/05/soap-envelope"
PROVIDE = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
_CODED = {
    "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a": ("18842-5", "2.16.840.1.113883.6.1", "Discharge summary"),
    "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983": ("18842-5", "2.16.840.1.113883.6.1", "Discharge summary"),
    "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d": ("urn:ihe:iti:xds-sd:text:2008", "1.3.6.1.4.1.19376.1.2.3", "Scanned text"),
    "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f": ("N", "2.16.840.1.113883.5.25", "Normal"),
    "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1": ("HOSP", "2.16.840.1.113883.5.111", "Hospital"),
    "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead": ("394802001", "2.16.840.1.113883.6.96", "General medicine"),
}


def slot(name: str, *values: str) -> str:
    listed = "".join(f"<rim:Value>{value}</rim:Value>" for value in values)
    return f"<rim:Slot name={quoteattr(name)}><rim:ValueList>{listed}</rim:ValueList></rim:Slot>"


def named(text: str, tag: str = "Name") -> str:
    return f"<rim:{tag}><rim:LocalizedString value={quoteattr(text)}/></rim:{tag}>"


def classified(of: str, scheme: str, code: str, system: str, display: str) -> str:
    said = f'id="c-{of}-{scheme[9:13]}" classifiedObject="{of}" classificationScheme="{scheme}" nodeRepresentation="{code}"'
    return f"<rim:Classification {said}>{slot('codingScheme', system)}{named(display)}</rim:Classification>"


def authored(of: str, scheme: str) -> str:
    said = f'id="a-{of}" classifiedObject="{of}" classificationScheme="{scheme}" nodeRepresentation=""'
    slots = slot("authorPerson", "D77^Wang^Fang^^^Dr.^^^&amp;1.2.156.10011.2&amp;ISO") + slot(
        "authorInstitution", "County Hospital^^^^^&amp;1.2.156.10011.3&amp;ISO^^^^45"
    )
    return f"<rim:Classification {said}>{slots}{slot('authorRole', 'Attending')}</rim:Classification>"


def identified(of: str, scheme: str, value: str, name: str) -> str:
    said = f'id="e-{of}-{scheme[9:13]}" registryObject="{of}" identificationScheme="{scheme}" value={quoteattr(value)}'
    return f"<rim:ExternalIdentifier {said}>{named(name)}</rim:ExternalIdentifier>"


@dataclass
class Doc:
    """One document with its entry; `said` replaces slots (None leaves one out), `without` leaves out schemes."""

    content: bytes = b"Discharged in good health."
    id: str = "Document01"
    unique_id: str = "1.2.156.10011.9.2000"
    mime: str = "text/plain"
    patient: str = PATIENT
    title: str = "Discharge summary"
    said: dict[str, str | None] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    coded: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def entry(self) -> str:
        slots: dict[str, str | None] = {
            "creationTime": "20261120103000",
            "languageCode": "zh-CN",
            "serviceStartTime": "202611180900",
            "sourcePatientId": self.patient.replace("&", "&amp;"),
            "hash": hashlib.sha1(self.content, usedforsecurity=False).hexdigest(),
            "size": str(len(self.content)),
            **self.said,
        }
        info = slot("sourcePatientInfo", "PID-3|P-4711^^^&amp;1.2.156.10011.1&amp;ISO", "PID-5|Li^Xiaoming", "PID-7|19800101", "PID-8|M")
        written = "".join(slot(name, value) for name, value in slots.items() if value is not None) + info
        codes = "".join(
            classified(self.id, scheme, *coded) for scheme, coded in {**_CODED, **self.coded}.items() if scheme not in self.without
        )
        author = authored(self.id, "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d")
        identifiers = "".join(
            identified(self.id, scheme, value, name)
            for scheme, value, name in (
                ("urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", self.patient, "XDSDocumentEntry.patientId"),
                ("urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab", self.unique_id, "XDSDocumentEntry.uniqueId"),
            )
            if scheme not in self.without
        )
        kind = 'objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"'
        return f'<rim:ExtrinsicObject id="{self.id}" mimeType="{self.mime}" {kind}>{written}{named(self.title)}{codes}{author}{identifiers}</rim:ExtrinsicObject>'


def submission_set(unique_id: str = SET_ID, patient: str = PATIENT, time: str = "20261120110000", source: str = SOURCE_ID) -> str:
    of = "SubmissionSet01"
    code = classified(of, "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500", "34133-9", "2.16.840.1.113883.6.1", "Summary of episode")
    node = f'<rim:Classification id="n-{of}" classifiedObject="{of}" classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/>'
    identifiers = "".join(
        identified(of, scheme, value, name)
        for scheme, value, name in (
            ("urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446", patient, "XDSSubmissionSet.patientId"),
            ("urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8", unique_id, "XDSSubmissionSet.uniqueId"),
            ("urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832", source, "XDSSubmissionSet.sourceId"),
        )
    )
    author = authored(of, "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d")
    return f'<rim:RegistryPackage id="{of}">{slot("submissionTime", time)}{named("Admission")}{code}{node}{author}{identifiers}</rim:RegistryPackage>'


def member(target: str, number: int = 1, status: str = "Original", source: str = "SubmissionSet01", kind: str = "") -> str:
    kind = kind or "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
    said = f'id="as{number}" associationType="{kind}" sourceObject="{source}" targetObject="{target}"'
    return f"<rim:Association {said}>{slot('SubmissionSetStatus', status) if status else ''}</rim:Association>"


def objects(docs: list[Doc], the_set: str | None = None, more: str = "") -> str:
    entries = "".join(doc.entry() for doc in docs)
    members = "".join(member(doc.id, number) for number, doc in enumerate(docs, 1))
    return f'<rim:RegistryObjectList xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">{entries}{submission_set() if the_set is None else the_set}{members}{more}</rim:RegistryObjectList>'


def request(docs: list[Doc], the_set: str | None = None, more: str = "", documents: str | None = None) -> str:
    """The payload, with documents as references to parts ``<id>@source``."""
    if documents is None:
        documents = "".join(
            f'<xdsb:Document id="{doc.id}"><xop:Include href="cid:{doc.id}@source" xmlns:xop="http://www.w3.org/2004/08/xop/include"/></xdsb:Document>'
            for doc in docs
        )
    return (
        '<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="urn:ihe:iti:xds-b:2007">'
        f'<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0">{objects(docs, the_set, more)}</lcm:SubmitObjectsRequest>'
        f"{documents}</xdsb:ProvideAndRegisterDocumentSetRequest>"
    )


def in_envelope(payload: str, action: str = PROVIDE, message_id: str = "urn:uuid:11111111-2222-4333-8444-555555555555") -> bytes:
    wsa = "http://www.w3.org/2005/08/addressing"
    header = f'<a:Action xmlns:a="{wsa}" s:mustUnderstand="1">{action}</a:Action><a:MessageID xmlns:a="{wsa}">{message_id}</a:MessageID>'
    return f'<s:Envelope xmlns:s="{SOAP12}"><s:Header>{header}</s:Header><s:Body>{payload}</s:Body></s:Envelope>'.encode()


CONTENT_TYPE = (
    f'multipart/related; type="application/xop+xml"; boundary="{BOUNDARY}"; start="<root@source>"; '
    f'start-info="application/soap+xml"; action="{PROVIDE}"'
)


def mtom(root: bytes, parts: dict[str, tuple[str, bytes]]) -> bytes:
    """An HTTP body of CONTENT_TYPE (MTOM clause 3): `parts` are (media type, content) by Content-ID."""
    head = f'--{BOUNDARY}\r\nContent-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <root@source>\r\n\r\n'
    body = head.encode() + root
    for name, (kind, content) in parts.items():
        body += (
            f"\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <{name}>\r\n\r\n".encode()
            + content
        )
    return body + f"\r\n--{BOUNDARY}--\r\n".encode()


def packed(docs: list[Doc], the_set: str | None = None, more: str = "") -> bytes:
    """An HTTP body with these documents."""
    return mtom(in_envelope(request(docs, the_set, more)), {f"{doc.id}@source": (doc.mime, doc.content) for doc in docs})


def message(docs: list[Doc] | None = None, the_set: str | None = None, more: str = "") -> bytes:
    """The same, as the engine keeps it."""
    return kept(CONTENT_TYPE, packed([Doc()] if docs is None else docs, the_set, more))


def schema(name: str) -> etree.XMLSchema:
    """One of the schemas below SCHEMAS, such as ``ebRS30/query.xsd``. IHE's own namespace lies in two files, of which libxml2 would read
    but the first."""
    folder = (SCHEMAS / "schema").as_uri()
    both = "".join(f'<xs:include schemaLocation="{folder}/IHE/{file}.xsd"/>' for file in ("IHEXDSB", "xcf"))
    text = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:ihe:iti:xds-b:2007">{both}</xs:schema>'
    return etree.XMLSchema(etree.fromstring(text) if name.startswith("IHE/") else etree.parse(SCHEMAS / "schema" / name))
