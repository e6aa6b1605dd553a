"""What one line of an upload is: its number, its resource or Bundle, the envelope that it becomes. Pure.

A resource with an id is an update, which creates it under that id where it is new (R4 3.1.0.7.1), so that references among the lines of
a terminal hold; one without is a create. A transaction or batch Bundle is what it would be if it were posted. The bytes are never altered,
so the times in them are those that the terminal has said.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from adapters.fhir import exact
from adapters.fhir.envelopes import envelope
from adapters.fhir.offline.asked import MOST_NUMBER, Asked
from adapters.fhir.offline.lines import Line
from adapters.fhir.outcome import FhirRefusal
from adapters.fhir.requests import Route
from adapters.fhir.resource_types import ID, RESOURCE_TYPES
from adapters.fhir.write import Write
from engine.errors import ParseError
from engine.http1 import Message
from engine.http_answers import Sender
from engine.message import FHIR_JSON, ORDER_KEY, Envelope

SEQUENCE: Final = "urn:meridian:fhir:upload:sequence"
"""The system of the tag (Resource.meta.tag) whose code is a line's own number."""
_CODE: Final = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_MOST_TIME: Final = 40


@dataclass(slots=True)
class Content:
    """`sequence` is 0 where the line has no number, and until it is read where its place gives it none. `fault` says what is wrong with
    it; `write` is None where it cannot be read. `digest`: 16 bytes."""

    asked: Asked
    line: Line
    sender: Sender
    target: str
    sequence: int
    digest: bytes = b""
    write: Write | None = None
    fault: FhirRefusal | None = None

    def envelope(self, received_at: int, checkpoint: tuple[str, str] | None, *, apart: bool) -> Envelope:
        """`apart`: under a key that holds for this content only, since its number is, or stays, another's."""
        journal = self.asked.journal
        key = f"{journal.party}|{journal.device}|{self.sequence}"
        made: Envelope
        if self.write is not None:
            made = self.write.envelope(received_at)
        else:
            facts = {"request.method": "POST", "request.url": self.target}
            made = envelope(
                self.line.content,
                None,
                self.sender,
                {},
                content_type=FHIR_JSON,
                message_type="upload line",
                received_at=received_at,
                facts=facts,
            )
        return replace(
            made,
            control_id=f"{journal.device}/{self.sequence or f'line {self.line.number}'}",
            idempotency_key=f"{key}|{self.digest.hex()}" if apart or not self.sequence else key,
            facts={**made.facts, **self._facts()},
            checkpoint=checkpoint,
        )

    def _facts(self) -> dict[str, str]:
        journal = self.asked.journal
        facts = {"device.id": journal.device, ORDER_KEY: journal.order_key}
        if self.sequence:
            facts["device.sequence"] = str(self.sequence)
        if self.asked.clock:
            facts["device.clock"] = self.asked.clock
        meta = self.write.content.get("meta") if self.write is not None else None
        recorded = meta.get("lastUpdated") if isinstance(meta, dict) else None
        if isinstance(recorded, str):
            facts["device.recorded"] = recorded[:_MOST_TIME]
        return facts


def read(found: Content, most: int) -> None:
    """What is in the line that has only its place yet; `most` bytes are taken. Takes the time of its size."""
    line = found.line
    found.digest = hashlib.sha256(line.content or b"%d" % line.length).digest()[:16]
    try:
        if line.length > most:
            raise FhirRefusal(
                413, f"the line has {line.length} bytes, more than the {most} that are taken; it is not kept", issue="too-long"
            )
        parsed = exact.inspect(line.content)
        if not found.sequence:
            found.sequence = _own_number(parsed)
        found.write = _write(found, parsed)
        found.write.check(parsed)
    except ParseError as error:
        found.fault = FhirRefusal(400, error.text, issue="structure", location=error.location)
    except FhirRefusal as refused:
        found.fault = refused


def _own_number(parsed: dict[str, Any]) -> int:
    """Raises FhirRefusal."""
    meta = parsed.get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    codes = [tag.get("code") for tag in tags if isinstance(tag, dict) and tag.get("system") == SEQUENCE] if isinstance(tags, list) else []
    if len(codes) == 1 and isinstance(codes[0], str) and _CODE.fullmatch(codes[0]) and int(codes[0]) <= MOST_NUMBER:
        return int(codes[0])
    place = f"{_kind(parsed)}.meta.tag"
    raise FhirRefusal(400, f"without the parameter first, each line has one tag of the system {SEQUENCE}", issue="required", location=place)


def _write(found: Content, parsed: dict[str, Any]) -> Write:
    """Raises FhirRefusal."""
    kind, identity = _kind(parsed), parsed.get("id")
    if kind not in RESOURCE_TYPES:
        raise FhirRefusal(400, "this is no resource type of FHIR R4", issue="not-supported", location="Resource.resourceType")
    method, route = "POST", Route("type", kind)
    if kind == "Bundle":
        route = Route("system")
    elif identity is not None:
        if not isinstance(identity, str) or not ID.fullmatch(identity):
            raise FhirRefusal(400, "the resource has no valid id", issue="value", location=f"{kind}.id")
        method, route = "PUT", Route("instance", kind, identity)
    message = Message((method, found.target, "HTTP/1.1"), {}, b"", keep_alive=True)
    return Write(route, message, found.sender, found.line.content)


def _kind(parsed: dict[str, Any]) -> str:
    kind = parsed.get("resourceType")
    return kind if isinstance(kind, str) and kind in RESOURCE_TYPES else "Resource"
