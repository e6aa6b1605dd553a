"""What the source would make of a file, without a folder: for a channel's tests. A test file holds one piece."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import TYPE_CHECKING

from adapters.file.envelopes import Content, envelope_of, facts_of, invalid, is_labelled, label
from adapters.file.splitting import Part, content_type_of, parts
from engine.errors import ParseError
from engine.formats.files import Piece
from engine.message import Envelope, Judgement

if TYPE_CHECKING:
    from engine.options import Settings


def rehearse(options: Settings, name: str, body: bytes) -> tuple[Envelope, Judgement | None]:
    """Of a file with more than one piece the first, or the bad one that makes it stop, and its judgement says so."""
    digests = hashlib.sha256(body).hexdigest(), hashlib.sha1(body, usedforsecurity=False).hexdigest()
    content = Content(name, len(body), 0, *digests)
    facts: dict[str, str] = {}
    try:
        facts = facts_of(name, options)
        found = list(parts(BytesIO(body), len(body), name, options))
        if len(found) != 1:
            raise ParseError(f"a test is a file with one piece; this one has {len(found)}")
        (part,) = found
    except ParseError as error:
        part = Part(Piece(1, None, content_type_of(options), fault=error))
    whole = body if part.piece.body is None else part.piece.body
    head = label(part, content, facts) if is_labelled(options) and part.piece.fault is None else b""
    return envelope_of(part, head + whole, content, facts, options, "", 0), invalid(part, name)
