"""What a channel file may say under ``xdr`` and ``xds`` of what is sent and asked."""

from __future__ import annotations

import re
from typing import Any, Final

from adapters.soap.options import endpoint_options, no_version
from adapters.soap.security.options import CLIENT_SECURITY
from engine.formats.xds.forms import fits, is_oid
from engine.formats.xds.model import Code
from engine.http_options import client_options, in_the_clear
from engine.options import DURATION, FLAG, SIZE, TEXT, URL, Faulty, Kind, ListOf, MapOf, Option, Settings, Spec, choice, integer

_ZONE: Final = re.compile(r"[+-](?:0\d|1[0-4]):[0-5]\d")


def _oid(raw: Any) -> str:
    if not is_oid(str(raw)):
        raise Faulty(f"{raw!r} is no OID")
    return str(raw)


def _zone(raw: Any) -> str:
    if not isinstance(raw, str) or not _ZONE.fullmatch(raw):
        raise Faulty(f"{raw!r} is no offset from UTC")
    return raw


OID: Final = Kind("oid", "an OID such as 1.2.156.10011.1", _oid, {"type": "string", "pattern": r"^[0-2](\.(0|[1-9]\d*))+$"})
ZONE: Final = Kind("offset", 'an offset from UTC such as "+08:00"', _zone, {"type": "string", "pattern": f"^{_ZONE.pattern}$"})


def _patient(raw: Any) -> str:
    if not isinstance(raw, str) or not fits("patient", raw):
        raise Faulty("is no patient identifier with the OID of its authority")
    return raw


PATIENT: Final = Kind("patient", "an identifier such as 4711^^^&1.2.156.10011.1&ISO", _patient, {"type": "string"})

_CODE: Final = Spec(
    "code",
    "A code (IHE ITI TF-3 4.2.3.1.2).",
    [
        Option("code", TEXT, "the code", required=True),
        Option("scheme", TEXT, "OID of its coding scheme, or its name", required=True),
        Option("display", TEXT, "what it means in words", required=True),
    ],
)
CODED: Final = {
    "class": "classCode",
    "type": "typeCode",
    "format": "formatCode",
    "facility": "healthcareFacilityTypeCode",
    "practice": "practiceSettingCode",
    "confidentiality": "confidentialityCode",
    "content": "contentTypeCode",
}
"""The names of the option `codes`, and the attributes that they stand in for; the last is the submission set's."""


def code_of(settings: Settings | None) -> Code | None:
    return None if settings is None else Code(settings.code, settings.scheme, settings.display)


SOURCE: Final = Spec(
    "xdr source",
    "Document Recipient: takes documents with their metadata (IHE ITI-41, XDR).",
    [
        *endpoint_options("/xdr"),
        Option("metadata", choice("full", "limited"), "limited: what a Metadata-Limited Document Source says will do", default="full"),
        Option(
            "cda",
            choice("none", "warn", "refuse"),
            "a CDA document that is not what its entry describes, or of another patient: not looked for, said in the answer, refused",
            default="warn",
        ),
        Option(
            "documents", TEXT, "file that remembers the documents taken, relative to the site's data folder", default="xdr-documents.db"
        ),
    ],
    scalar="listen",
    check=no_version,
)

_METADATA: Final = [
    Option("source_id", OID, "our own OID: who submits (SubmissionSet.sourceId)"),
    Option("patient_domain", OID, "OID of the authority whose patient number goes into patientId"),
    Option("institution", TEXT, "author institution, where a document names none: a name, or XON"),
    Option("language", TEXT, "language of documents that do not say theirs", default="zh-CN"),
    Option("zone", ZONE, "offset from UTC of times that do not say theirs", default="+00:00"),
    Option("title", TEXT, "title of the submission set"),
    Option("recipients", ListOf(TEXT), "intended recipients: XON|XCN|XTN", default=[]),
    Option(
        "codes",
        Spec("codes", "Codes of what a document does not say itself.", [Option(name, _CODE, CODED[name]) for name in CODED]),
        "codes of what a document does not say itself",
    ),
]

_SECURITY: Final = Option("security", CLIENT_SECURITY, "what WS-Security says of us in each message; default: nothing")

DESTINATION: Final = Spec(
    "xdr destination",
    "Document Source: provides documents to a Document Recipient or Repository (IHE ITI-41). Takes kept ITI-41 messages, FHIR Bundles "
    "with DocumentReferences, and CDA documents.",
    [
        *client_options("address of the recipient, such as https://hie.example:8443/xdr", 4),
        _SECURITY,
        *_METADATA,
    ],
    scalar="url",
    check=in_the_clear,
)


def _consumer_contradiction(options: Settings) -> str:
    if bool(options.patients) == bool(options.patients_file):
        return "needs patients, or patients_file, and not both"
    bad = [repository for repository in options.repositories if not is_oid(repository)]
    if bad:
        return f"repositories: {bad[0]!r} is no OID"
    for url in (options.url, *options.repositories.values()):
        wrong = in_the_clear(Settings(options._spec, {**options, "url": url}))
        if wrong:
            return wrong
    return ""


CONSUMER: Final = Spec(
    "xds source",
    "Document Consumer: asks a registry for what is new of some patients (IHE ITI-18), and retrieves the documents (ITI-43).",
    [
        *client_options("address of the registry's stored query, such as https://hie.example:8443/registry", 2),
        _SECURITY,
        Option("repositories", MapOf(URL), "address of each repository's retrieval, by its repositoryUniqueId", required=True),
        Option("patients", ListOf(PATIENT), "whose documents: identifiers as value^^^&OID&ISO", default=[]),
        Option("patients_file", TEXT, "file with one such identifier a line, relative to the site's folder; read in each round"),
        Option("poll", DURATION, "how long to wait between rounds", default="5m"),
        Option("since", DURATION, "how far back the first round looks", default="30d"),
        Option("overlap", DURATION, "how far each later round looks back behind the newest submission seen", default="1d"),
        Option("status", ListOf(choice("approved", "deprecated")), "availability of the documents wanted", default=["approved"]),
        Option("types", ListOf(TEXT), "type codes wanted, as CODE or CODE^^SCHEME; none: all", default=[]),
        Option("home", TEXT, "home community of the registry, as urn:oid:…"),
        Option("documents", FLAG, "retrieve the documents; otherwise their metadata only", default=True),
        Option("most_retrieved", SIZE, "largest answer of a repository", default="4GB"),
        Option("file", TEXT, "file of what was seen, relative to the site's data folder", default="xds-seen.db"),
        Option("patients_at_once", integer(1, 64), "patients asked for at once", default=2),
    ],
    check=_consumer_contradiction,
)
