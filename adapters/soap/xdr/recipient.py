"""The Document Recipient's service (IHE ITI TF-2 clause 3.41): what a Provide and Register request says, and how it is answered. Pure,
but for the book of documents that were there before."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final, Literal, Protocol

from lxml import etree

from adapters.soap.service import Examined, Request
from adapters.soap.xdr import wsdl
from engine.errors import MessageError, ParseError
from engine.formats import cda
from engine.formats.soap import RECEIVER, SENDER, Part, SoapFault, SoapMessage, envelope, reply_headers
from engine.formats.soap.names import WSA, qname
from engine.formats.xds.checking import check
from engine.formats.xds.claims import claimed
from engine.formats.xds.model import DocumentEntry, Submission
from engine.formats.xds.names import LCM, PROVIDE, PROVIDED, XDSB
from engine.formats.xds.reading import read_submission
from engine.formats.xds.responses import RegistryError, response_to, write_response
from engine.message import Judgement, Verdict

MESSAGE_TYPE: Final = "ITI-41"
_METADATA: Final = "XDSRepositoryMetadataError"
_CDA_MIME: Final = ("text/xml", "application/xml", "application/hl7-cda+xml")
_DUPLICATE_KEY: Final = "205"
"""HL7 table 0357: the channel's word for a control id that was used before for another message."""
_WORDED: Final = {Verdict.REFUSED: "XDSRepositoryError", Verdict.UNAVAILABLE: "XDSRepositoryBusy", Verdict.INVALID: _METADATA}


class Book(Protocol):
    """adapters.soap.xdr.book.DocumentBook"""

    def other(self, documents: Mapping[str, bytes]) -> list[str]: ...

    def keep(self, documents: Mapping[str, bytes]) -> None: ...


class Forgetful:
    """A Book that remembers nothing."""

    def other(self, documents: Mapping[str, bytes]) -> list[str]:
        return []

    def keep(self, documents: Mapping[str, bytes]) -> None:
        pass


class DocumentRecipient:
    """adapters.soap.service.Service. `limited`: metadata of a Metadata-Limited Document Source will do. `cda`: whether a CDA document
    must be the one that its entry describes (``refuse``), or need not (``warn``: said in the answer; ``none``: not looked at)."""

    def __init__(self, book: Book, limited: bool = False, cda: Literal["none", "warn", "refuse"] = "none") -> None:
        self._book, self._limited, self._cda = book, limited, cda

    def wsdl(self, address: str) -> bytes:
        return wsdl.document(address)

    def schema(self, name: str, address: str) -> bytes | None:
        return wsdl.schema(name)

    def understands(self, header: str) -> bool:
        return False

    def examine(self, request: Request) -> Examined:
        """Raises SoapFault for what is no such request."""
        message = request.message
        if request.action and request.action != PROVIDE:
            raise SoapFault(SENDER, "this endpoint takes ProvideAndRegisterDocumentSet-b only", qname(WSA, "ActionNotSupported"))
        if message.payload is None or message.payload.tag != f"{{{XDSB}}}ProvideAndRegisterDocumentSetRequest":
            raise SoapFault(SENDER, "the Body holds no ProvideAndRegisterDocumentSetRequest")
        try:
            submission, errors = read_submission(message.payload), []
        except ParseError as error:
            submission, errors = Submission(), [RegistryError(_METADATA, error.text, error.location)]
        contents = _Contents(message)
        errors = errors or [*check(submission, contents.of, limited=self._limited), *_unreferred(message)]
        errors += self._against_book(submission, contents) if not errors else []
        if self._cda != "none":
            errors += [error for entry in submission.entries for error in _against_cda(entry, submission, contents, self._cda)]
        return _examined(message, submission, contents, errors)

    def _against_book(self, submission: Submission, contents: _Contents) -> list[RegistryError]:
        """3.42.4.1.3.3. Raises SoapFault where it cannot be looked up just now: the sender may send it again."""
        digests = {entry.unique_id: contents.sha1(submission, entry) for entry in submission.entries if entry.id in submission.contents}
        try:
            other = self._book.other(digests)
            if not other:
                self._book.keep(digests)
        except sqlite3.Error:
            raise SoapFault(RECEIVER, "the book of documents cannot be read or written now; try again later", status=503) from None
        text = "the document was there before with another content"
        return [RegistryError("XDSNonIdenticalHash", text, entry.path) for entry in submission.entries if entry.unique_id in other]


class _Contents:
    """The documents of one message, each decoded and hashed once."""

    def __init__(self, message: SoapMessage) -> None:
        self._message = message
        self._parts: dict[Any, Part] = {}
        self._sha1: dict[Any, bytes] = {}

    def of(self, element: Any) -> _Hashed:
        if element not in self._parts:
            self._parts[element] = self._message.content_of(element)
        return _Hashed(self._parts[element], self._sha1, element)

    def sha1(self, submission: Submission, entry: DocumentEntry) -> bytes:
        return self.of(submission.contents[entry.id]).sha1()


class _Hashed:
    """engine.formats.xds.checking.Content"""

    def __init__(self, part: Part, known: dict[Any, bytes], key: Any) -> None:
        self.part, self._known, self._key = part, known, key

    @property
    def size(self) -> int:
        return self.part.size

    def sha1(self) -> bytes:
        if self._key not in self._known:
            self._known[self._key] = self.part.sha1()
        return self._known[self._key]


# --- checks --------------------------------------------------------------------------------------------


def _unreferred(message: SoapMessage) -> list[RegistryError]:
    """A part that no Document refers to has no metadata (table 4.2.4.1-2)."""
    assert message.payload is not None
    referred = {part.content_id for document in message.payload.iterchildren(f"{{{XDSB}}}Document") for part in _part(message, document)}
    count = sum(content_id not in referred for content_id in message.parts)
    text = f"{count} of the attachments belong to no document"
    return [RegistryError("XDSMissingDocumentMetadata", text, "multipart/related")] if count else []


def _part(message: SoapMessage, document: Any) -> Sequence[Part]:
    if not len(document):
        return ()
    with suppress(ParseError):
        return (message.content_of(document),)
    return ()


def _against_cda(entry: DocumentEntry, submission: Submission, contents: _Contents, wanted: str) -> list[RegistryError]:
    """Whether the document is that which its entry describes, and of that patient."""
    element = submission.contents.get(entry.id)
    if element is None or entry.get("mimeType").partition(";")[0].strip().lower() not in _CDA_MIME:
        return []
    try:
        document = cda.read(contents.of(element).part.content)
    except MessageError:
        return []  # other XML, or not to be read: said by the check of a format, not here
    found = cda.cross_check(document, claimed(entry))
    grave = [one.field for one in found if one.grave]
    named = [one.field for one in found if one.field != "patient-unproven"]
    if not named:
        return []
    text = f"the document contradicts its entry: {', '.join(named)}"
    return [RegistryError("InvalidDocumentContent", text, entry.path, warning=wanted == "warn" or not grave)]


# --- what is kept and answered -----------------------------------------------------------------------------


def _examined(message: SoapMessage, submission: Submission, contents: _Contents, errors: list[RegistryError]) -> Examined:
    grave = [one for one in errors if not one.warning]
    unique_id, source_id = submission.set.unique_id, submission.set.get("sourceId")

    def answer(judgement: Judgement) -> bytes:
        response = response_to(_said(judgement, errors))
        headers = reply_headers(message.addressing, PROVIDED)
        return envelope(message.version, write_response(response), headers)

    first = grave[0] if grave else None
    return Examined(
        message_type=MESSAGE_TYPE,
        control_id=unique_id,
        answer=answer,
        sender=source_id,
        patient_ids=submission.patient_ids(),
        facts=_facts(submission),
        idempotency_key=f"xdr|{source_id}|{unique_id}" if not grave else "",
        judgement=Judgement(Verdict.INVALID, first.context, location=first.location) if first else None,
        packaged=True,
        content_digest=_digest(submission, contents, message) if not grave else b"",
    )


def _said(judgement: Judgement, errors: list[RegistryError]) -> list[RegistryError]:
    """The errors of an answer: what was found here, else the channel's own reason."""
    if judgement.verdict is Verdict.ACCEPTED:
        return [one for one in errors if one.warning]
    if judgement.verdict is Verdict.INVALID and any(not one.warning for one in errors):
        return errors
    code = "XDSDuplicateUniqueIdInRegistry" if judgement.hl7_code == _DUPLICATE_KEY else _WORDED[judgement.verdict]
    return [RegistryError(code, judgement.reason or "not taken", judgement.location)]


def _facts(submission: Submission) -> dict[str, str]:
    """For the channel's `accept` expressions."""
    formats = dict.fromkeys(code.code for entry in submission.entries for code in entry.codes.get("formatCode", ()))
    content_type = submission.set.code("contentTypeCode")
    return {
        "xdr.documents": str(len(submission.entries)),
        "xdr.formats": " ".join(formats),
        "xdr.content_type": content_type.code if content_type else "",
        "xdr.recipients": " ".join(submission.set.all("intendedRecipient")),
    }


def _digest(submission: Submission, contents: _Contents, message: SoapMessage) -> bytes:
    """Of metadata and documents, however they were packed: a submission sent again has other boundaries and headers."""
    digest = blake2b(digest_size=16)
    assert message.payload is not None
    digest.update(etree.tostring(message.payload.find(f"{{{LCM}}}SubmitObjectsRequest"), method="c14n", exclusive=True))
    for entry in submission.entries:
        if entry.id in submission.contents:
            digest.update(entry.id.encode() + b"\0" + contents.sha1(submission, entry))
    return digest.digest()
