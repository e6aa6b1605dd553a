"""A submission against IHE ITI TF-3 clauses 4.1 to 4.3: what a Document Recipient or Repository answers with errors (table 4.2.4.1-2).

No error text holds a value of the metadata: attribute, place and rule only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from engine.errors import ParseError
from engine.formats.xds import names
from engine.formats.xds.forms import fits, is_uuid
from engine.formats.xds.model import Described, DocumentEntry, Submission
from engine.formats.xds.names import ATTRIBUTES, Attribute
from engine.formats.xds.responses import RegistryError

_METADATA: Final = "XDSRepositoryMetadataError"
_MOST_ERRORS: Final = 100


class Content(Protocol):
    """A document as it was received (engine.formats.soap: Part)."""

    @property
    def size(self) -> int: ...

    def sha1(self) -> bytes: ...


def check(submission: Submission, content_of: Callable[[Any], Content], *, limited: bool = False) -> list[RegistryError]:
    """Everything that is wrong, up to a hundred errors. `limited`: metadata of the Metadata-Limited Document Source will do, whether they
    say so or not (4.1.12 and the classification limitedMetadata)."""
    errors: list[RegistryError] = []
    for found in _all(submission, content_of, limited):
        errors.append(found)
        if len(errors) == _MOST_ERRORS:
            break
    return errors


def _all(submission: Submission, content_of: Callable[[Any], Content], limited: bool) -> Iterator[RegistryError]:
    if len(submission.sets) != 1:
        yield RegistryError(_METADATA, f"there are {len(submission.sets)} submission sets; there must be one", "SubmissionSet")
    for one in submission.described():
        yield from _attributes(one, limited)
    yield from _identities(submission)
    yield from _patients(submission)
    yield from _associations(submission)
    yield from _documents(submission, content_of)


# --- attributes ---------------------------------------------------------------------------------------


def _attributes(one: Described, limited: bool) -> Iterator[RegistryError]:
    for row in ATTRIBUTES.of[one.kind].values():
        if row.attribute == "author":
            yield from _authors(one)
            continue
        values = one.all(row.attribute)
        required = (row.limited if limited or one.limited else row.full) == "R"
        if required and not any(values):
            yield _wrong(one, row.attribute, "is required")
        if row.most == "1" and len(values) > 1:
            yield _wrong(one, row.attribute, "has more than one value")
        if not all(fits(row.format, value) for value in values):
            yield _wrong(one, row.attribute, f"does not have the form of its data type ({row.format})")
        if row.kind == "code":
            yield from _codes(one, row)


def _codes(one: Described, row: Attribute) -> Iterator[RegistryError]:
    for code in one.codes.get(row.attribute, ()):
        if not (code.code and code.scheme and code.display):
            yield _wrong(one, row.attribute, "needs a nodeRepresentation, a codingScheme and a Name")


def _authors(one: Described) -> Iterator[RegistryError]:
    for author in one.authors:
        if not (author.persons or author.institutions or author.roles or author.telecommunications):
            yield _wrong(one, "author", "names neither person nor institution")


def _wrong(one: Described, attribute: str, text: str) -> RegistryError:
    return RegistryError(_METADATA, f"{one.kind}.{attribute} {text}", f"{one.path}.{attribute}")


# --- identity -----------------------------------------------------------------------------------------


def _identities(submission: Submission) -> Iterator[RegistryError]:
    for attribute, code in (("entryUUID", _METADATA), ("uniqueId", "XDSDuplicateUniqueIdInMessage")):
        seen = Counter(one.get(attribute) for one in submission.described())
        for one in submission.described():
            if one.get(attribute) and seen[one.get(attribute)] > 1:
                yield RegistryError(code, f"{attribute} is used more than once in this message", f"{one.path}.{attribute}")


def _patients(submission: Submission) -> Iterator[RegistryError]:
    """4.1.4.1: all objects of a submission are of one patient. The name of the authority is not part of its identity."""
    of_set = _patient(submission.set)
    for one in submission.described():
        if _patient(one) and of_set and _patient(one) != of_set:
            yield RegistryError("XDSPatientIdDoesNotMatch", "patientId is not that of the submission set", f"{one.path}.patientId")


def _patient(one: Described) -> tuple[str, ...]:
    parts = one.patient_id.split("^")
    authority = (parts[3] if len(parts) > 3 else "").split("&")
    return (parts[0], authority[1] if len(authority) > 1 else authority[0]) if one.patient_id else ()


# --- associations -------------------------------------------------------------------------------------


def _associations(submission: Submission) -> Iterator[RegistryError]:
    """4.2.2: sources are in the message; targets are too, or are in the registry already, by their UUID."""
    inside = {one.id: one for one in submission.described()}
    sets = {one.id for one in submission.sets}
    for one in submission.associations:
        source, target = inside.get(one.source), inside.get(one.target)
        if one.kind in names.RELATIONSHIPS:
            if not isinstance(source, DocumentEntry):
                yield RegistryError(_METADATA, "its source is no document of this message", f"{one.path}.sourceObject")
            if not is_uuid(one.target):
                yield RegistryError(_METADATA, "its target is not the UUID of a document that was there before", f"{one.path}.targetObject")
        elif one.kind != names.HAS_MEMBER:
            yield RegistryError(_METADATA, "its type is not known", f"{one.path}.associationType")
        elif source is None and not is_uuid(one.source):
            yield RegistryError(_METADATA, "its source is not in this message", f"{one.path}.sourceObject")
        elif target is None and not _elsewhere(submission, one.target):
            yield RegistryError(_METADATA, "its target is not in this message", f"{one.path}.targetObject")
        elif one.source in sets and isinstance(target, DocumentEntry) and one.status != "Original":
            yield RegistryError(_METADATA, "SubmissionSetStatus of a document of this message must be Original", one.path)
    members = {one.target for one in submission.associations if one.kind == names.HAS_MEMBER and one.source in sets}
    for entry in submission.entries:
        if entry.id not in members:
            yield RegistryError(_METADATA, "no HasMember association puts it into the submission set", entry.path)


def _elsewhere(submission: Submission, target: str) -> bool:
    """In a registry, or one of this message's associations (a document's in a folder is a member of the submission set as well)."""
    return is_uuid(target)


# --- documents ----------------------------------------------------------------------------------------


def _documents(submission: Submission, content_of: Callable[[Any], Content]) -> Iterator[RegistryError]:
    for number, name in enumerate(submission.contents, 1):
        if name in submission.doubled:
            yield RegistryError(_METADATA, "two documents have the same id", f"Document[{number}]/@id")
        if all(entry.id != name for entry in submission.entries):
            yield RegistryError("XDSMissingDocumentMetadata", "the document has no document entry", f"Document[{number}]")
    for entry in submission.entries:
        element = submission.contents.get(entry.id)
        if element is not None:
            yield from _document(entry, element, content_of)
        elif not entry.on_demand:
            yield RegistryError("XDSMissingDocument", "the document entry has no document", entry.path)


def _document(entry: DocumentEntry, element: Any, content_of: Callable[[Any], Content]) -> Iterator[RegistryError]:
    """ITI TF-2 3.41.4.1.3: hash and size, where they are said, are those of the document."""
    try:
        content = content_of(element)
    except ParseError as error:
        yield RegistryError("XDSRepositoryError", error.text, entry.path)
        return
    said = entry.get("hash")
    if fits("sha1", said) and content.sha1().hex() != said.lower():
        yield _wrong(entry, "hash", "is not the SHA-1 of the document")
    size = entry.get("size")
    if size and fits("integer", size) and int(size) != content.size:
        yield _wrong(entry, "size", "is not that of the document")
