"""The bytes of a document: kept beside its DocumentReference in a Binary, or by digest only where they are many."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha1, sha256
from typing import Final

from engine.formats.cda import whole
from engine.message import Excerpt
from mappings.cda_to_fhir.context import CdaTransaction
from mappings.transaction import Body, Draft, name_uuid

INLINE: Final = 1 << 20
"""Bytes of a document that go along in the Bundle. The original of a bigger one is in Meridian's store, by its SHA-256."""
_PIECE: Final = 1 << 20

Content = bytes | bytearray | memoryview


def attach(tx: CdaTransaction, content: Content, media_type: str) -> tuple[Body, str]:
    """(the Attachment, SHA-256 of the bytes in hex). `hash` is SHA-1, as R4 says (clause 2.24.0.9)."""
    size, first, second = 0, sha1(usedforsecurity=False), sha256()
    for piece in _pieces(content):
        size += len(piece)
        first.update(piece)
        second.update(piece)
    digest = second.hexdigest()
    made: Body = {"contentType": media_type, "size": size, "hash": b64encode(first.digest()).decode()}
    made["url"] = _binary(tx, whole(content), media_type, digest) if size <= INLINE else f"urn:sha256:{digest}"
    return made, digest


def _binary(tx: CdaTransaction, content: bytes, media_type: str, digest: str) -> str:
    """The same bytes are the same Binary."""
    draft = Draft("Binary", "put", "", [], {})
    draft.identify(name_uuid(f"Binary {digest}"), "")
    draft.body |= {"contentType": media_type, "data": b64encode(content).decode()}
    return str(tx.put(draft).ref["reference"])


def _pieces(content: Content) -> Iterator[bytes | memoryview]:
    if isinstance(content, Excerpt):
        with content.file.open("rb") as file:
            file.seek(content.begin)
            while piece := file.read(_PIECE):
                yield piece
        return
    view = memoryview(content)
    for begin in range(0, len(view), _PIECE):
        yield view[begin : begin + _PIECE]
