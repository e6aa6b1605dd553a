"""What was found in a registry and retrieved from repositories, as one message: in the form of a submission (IHE ITI TF-2 3.41.4.1.2), so
that one mapping, and the Document Source, take both. The registry's objects and the documents are as they came. For a thread."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from engine.errors import ParseError, StoreError
from engine.formats.soap import Attachment, FilePart, Package, Part, content_type, envelope, include, kept_form, package, read
from engine.formats.xds.forms import fits
from engine.formats.xds.model import DocumentEntry, Submission
from engine.formats.xds.names import RIM
from engine.formats.xds.responses import RegistryResponse
from engine.formats.xds.retrieval import read_retrieval
from engine.formats.xds.writing import provide
from engine.message import WHOLE, BodyRef, Excerpt

IN_MEMORY: Final = 256 << 10


@dataclass(slots=True)
class Found:
    """The documents of one submission set that were retrieved, by the entry's id. `missing` counts those that no repository has, `altered`
    those that are not what their entry's hash says."""

    parts: dict[str, tuple[Part, Path, str]] = field(default_factory=dict)
    missing: int = 0
    altered: int = 0
    responses: list[RegistryResponse] = field(default_factory=list)


def open_retrievals(files: Sequence[Path], entries: Sequence[DocumentEntry]) -> Found:
    """Raises ParseError for what is no RetrieveDocumentSetResponse, and for a document that was not asked for."""
    found = Found()
    by_unique_id = {entry.unique_id: entry for entry in entries}
    for file in files:
        with file.open("rb") as opened:
            message = read(Excerpt(opened.read(WHOLE), "", file))
        response, documents = read_retrieval(message.payload)
        found.responses.append(response)
        for one in documents:
            entry = by_unique_id.get(one.wanted.unique_id)
            if entry is None or entry.id in found.parts:
                raise ParseError("the repository gives a document that was not asked for", location="DocumentResponse")
            part = message.content_of(one.element)
            said = entry.get("hash")
            found.altered += bool(said) and fits("sha1", said) and part.sha1().hex() != said.lower()
            found.parts[entry.id] = part, file, entry.get("mimeType") or one.mime_type
    found.missing = len(entries) - len(found.parts)
    return found


def compose(objects: Any, wanted: Mapping[str, DocumentEntry], found: Found) -> Package:
    """`objects` is the registry's RegistryObjectList; entries that are not `wanted` are left out, and what leads to them."""
    kept = deepcopy(objects)
    gone = {one.get("id") for one in kept.iterchildren(f"{{{RIM}}}ExtrinsicObject") if one.get("id") not in wanted}
    for one in list(kept):
        if one.get("id") in gone or {one.get("sourceObject"), one.get("targetObject")} & gone:
            kept.remove(one)
    attachments = []
    references = {}
    for number, (entry_id, (part, file, kind)) in enumerate(found.parts.items(), 1):
        content = FilePart(file, part.offset, part.size) if part.body is not None else bytes(part.content)
        attachments.append(Attachment(f"document{number}@meridian", kind, content))
        references[entry_id] = include(attachments[-1].content_id)
    root = envelope("1.2", provide(kept, references))
    if not attachments:
        return Package(content_type("1.2"), [root])
    return package("1.2", root, attachments, f"MIME-{secrets.token_hex(20)}")


def keep(made: Package, new_spool: Any) -> bytes | BodyRef:
    """As messages are kept: small ones in memory, others in the store's spool. Raises StoreError, OSError."""
    first = kept_form(made.content_type) if len(made.content) > 1 else b""
    if made.length <= IN_MEMORY:
        return first + b"".join(made.pieces())
    spool = new_spool()
    try:
        spool.write(first)
        for piece in made.pieces():
            spool.write(piece)
        reference: BodyRef = spool.finish()
    except (StoreError, OSError):
        spool.abort()
        raise
    return reference


def digest(submission: Submission, found: Found) -> bytes:
    """Of what identifies the content: the same set found again is the same, whatever the registry has added since."""
    made = blake2b(submission.set.unique_id.encode(), digest_size=16)
    for entry in sorted(submission.entries, key=lambda one: one.unique_id):
        if entry.id in found.parts:
            made.update(entry.unique_id.encode() + b"\0" + found.parts[entry.id][0].sha1())
    return made.digest()
