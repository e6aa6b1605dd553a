"""From a piece of a file to the envelope that is handed in. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from adapters.file.places import last_part, shown
from adapters.file.splitting import Part, content_type_of
from engine.errors import ParseError
from engine.formats.files import labelled
from engine.message import FILE, HL7V2, ROWS, BodyRef, Envelope, Judgement, Verdict
from engine.values import value


@value(frozen=True, slots=True)
class Content:
    """What is known of a file when it has been read once: SHA-256 and SHA-1 in hex, bytes, time of modification in microseconds. `name` is
    as it may be shown; `party` is who has proven to send it, "" for nobody: the same content of two parties is two messages."""

    name: str
    size: int
    modified: int
    sha256: str
    sha1: str
    party: str = ""

    def identity(self, options: Any) -> str:
        """What makes two files the same."""
        whose = f"{self.party}|{self.sha256}" if self.party else self.sha256
        return whose if options.same_content == "once" else f"{whose}|{self.name}|{self.modified}"


def facts_of(name: str, options: Any) -> dict[str, str]:
    """What the name says. Raises ParseError where it does not fit the pattern."""
    if options.name_pattern is None:
        return {}
    found = options.name_pattern.fullmatch(name)
    if found is None:
        raise ParseError("the name of the file does not fit name_pattern")
    return {group: text for group, text in found.groupdict().items() if text}


def is_labelled(options: Any) -> bool:
    return bool(options.format == "pdf" if options.label is None else options.label)


def where(file: str, part: Part) -> str:
    """``orders.csv:17``, ``night.zip/orders.csv:17``: as an error says it."""
    name = f"{file}/{shown(part.name)}" if part.member else file
    return f"{name}:{part.piece.line}" if part.piece.line else name


def envelope_of(
    part: Part, body: bytes | BodyRef, content: Content, facts: Mapping[str, str], options: Any, remote: str, now: int
) -> Envelope:
    """`remote` is the place, `body` what goes in for the piece; a labelled one has its label already."""
    piece = part.piece
    labelled_kind = FILE if is_labelled(options) and piece.fault is None else piece.content_type
    place = f"{part.member}.{piece.number}" if part.member else str(piece.number)
    found = {"file": content.name, "part": str(piece.number)}
    if piece.line:
        found["line"] = str(piece.line)
    if piece.offset:
        found["offset"] = str(piece.offset)
    if part.member:
        found["member"] = shown(part.name)
    if piece.content_type == HL7V2 and options.charset:
        found["charset"] = options.charset
    patient = (facts["patient"],) if "patient" in facts else ()
    key = content.identity(options)
    return Envelope(
        body,
        labelled_kind,
        piece.message_type or facts.get("type", "") or options.format,
        piece.control_id or facts.get("id", "") or f"{content.sha256[:12]}-{place}",
        "" if content.party and piece.content_type == ROWS else piece.sender,  # rows' is the channel's own word, and no claim
        peer=content.party,
        remote=remote,
        received_at=now,
        patient_ids=tuple(piece.patient_ids) or patient,
        idempotency_key=f"file|{key}|{place}",
        content_digest=bytes.fromhex(content.sha256)[:16],
        facts={**found, **facts},
    )


def invalid(part: Part, file: str) -> Judgement | None:
    """Its reason says file and line, and nothing of what stands there."""
    fault = part.piece.fault
    if fault is None:
        return None
    return Judgement(Verdict.INVALID, f"{where(file, part)}: {fault}", fault.hl7_code)


def label(part: Part, content: Content, facts: Mapping[str, str]) -> bytes:
    """What goes before the bytes of a whole file that is no archive."""
    name = shown(last_part(part.name)) if part.member else content.name
    made = labelled.Label(name, part.piece.content_type, content.size, content.sha256, content.sha1, facts)
    return labelled.head(made)


def private(name: str, options: Any) -> str:
    """How logs call a file: names that hold a patient's number are not written there."""
    if options.name_pattern is None and options.format != "pdf":
        return name
    return re.sub(r"^.*?(\.[A-Za-z0-9]{1,8})?$", r"*\1", name, flags=re.DOTALL)


__all__ = ["Content", "content_type_of", "envelope_of", "facts_of", "invalid", "is_labelled", "label", "private", "where"]
