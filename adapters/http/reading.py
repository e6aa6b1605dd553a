"""From a request whose body is complete to an envelope. Pure but for the file of a body that is not small."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from adapters.http.media import Medium
from adapters.http.places import Request, all_said, first
from engine import registry
from engine.errors import MessageError, ParseError
from engine.formats.hl7v2 import Header, read_header
from engine.formats.hl7v2.charsets import codec_name
from engine.message import HL7V2, WHOLE, BodyRef, Envelope, Judgement, Verdict
from engine.options import Settings

MOST_KEY: Final = 255
BEGIN: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Arrived:
    """What was known before the body. `who` is whose idempotency keys these are, `peer` the proven party or "". `signed_id` is the
    identifier that is signed, `by_content`: it is signed without one, so that only the content tells a repetition."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    medium: Medium
    who: str
    peer: str
    remote: str
    received_at: int
    signed_id: str = ""
    by_content: bool = False


class Reading:
    """One request. `file` is where the body lies when it is a BodyRef."""

    def __init__(self, options: Settings, arrived: Arrived, body: bytes | BodyRef, file: Path | None = None) -> None:
        self._options, self._arrived, self._body, self._file = options, arrived, body, file
        self._key_shown = ""

    @property
    def unkeyed(self) -> bool:
        """No idempotency key is shown, and one is required. To be asked after `envelope`."""
        return bool(self._options.idempotency_required) and not self._key_shown

    @cached_property
    def begin(self) -> bytes:
        """What the content begins with, as far as a header of HL7 v2 may reach."""
        return self._whole[:BEGIN] if self._file is None or len(self._whole) else self._read(BEGIN)

    def envelope(self) -> tuple[Envelope, Judgement | None]:
        """With what is wrong with the content. Raises nothing that the content could cause."""
        fault = None
        try:
            facts = self._facts()
            if self._options.check:
                self._document()
        except ParseError as error:
            fault = Judgement(Verdict.INVALID, error.text, "100", error.location)
            facts = self._facts(looking=False)
        return self._made(facts), fault

    # --- parts -----------------------------------------------------------------------------------

    def _made(self, facts: _Facts) -> Envelope:
        arrived, header = self._arrived, self._header
        control_id = facts.control_id or (header.control_id if header else "") or self._key_shown
        return Envelope(
            body=self._body,
            content_type=arrived.medium.content_type,
            message_type=facts.message_type or (header.message_type if header else ""),
            control_id=control_id,
            sender=facts.sender or (header.sender if header else ""),
            peer=arrived.peer,
            remote=arrived.remote,
            received_at=arrived.received_at,
            patient_ids=facts.patients or (header.patient_ids if header else ()),
            idempotency_key=self._key(header),
            content_digest=hashlib.sha256(
                f"{arrived.method} {arrived.path}?{arrived.query} {self._digest}".encode("utf-8", "replace")
            ).digest(),
            facts=self._envelope_facts(),
        )

    def _facts(self, *, looking: bool = True) -> _Facts:
        """Raises ParseError."""
        arrived, options = self._arrived, self._options
        document = self._document if looking else None
        request = Request(arrived.method, arrived.path, arrived.query, arrived.headers, self._digest, document)
        self._key_shown = _unquoted(first(options.idempotency, request)) if options.idempotency is not None else self._usual_key()
        return _Facts(
            first(options.type, request),
            first(options.control_id, request),
            first(options.sender, request),
            all_said(options.patient, request),
        )

    def _usual_key(self) -> str:
        """What is signed goes before what is only said: who has caught a signed request cannot make another message of it."""
        arrived = self._arrived
        if arrived.signed_id or arrived.by_content:
            return arrived.signed_id or self._digest
        return _unquoted(arrived.headers.get("idempotency-key", "").strip())

    def _key(self, header: Header | None) -> str:
        shown = self._key_shown
        if not shown and header is not None and header.control_id:
            shown = f"{header.sender}|{header.control_id}"
        return f"{self._arrived.who}|{shown}" if shown else ""

    def _envelope_facts(self) -> Mapping[str, str]:
        arrived = self._arrived
        facts = {"request.method": arrived.method, "request.path": arrived.path}
        if arrived.medium.media_type != arrived.medium.content_type:
            facts["request.media_type"] = arrived.medium.media_type
        if arrived.medium.charset and not self._declares_itself():
            facts["charset"] = arrived.medium.charset
        return facts

    def _declares_itself(self) -> bool:
        """Whether a message of HL7 v2 says in MSH-18 what the request says too."""
        header = self._header
        try:
            return header is not None and bool(header.charset) and codec_name(header.charset) == codec_name(self._arrived.medium.charset)
        except ParseError:
            return False

    @cached_property
    def _header(self) -> Header | None:
        if self._arrived.medium.content_type != HL7V2:
            return None
        try:
            return read_header(self.begin)
        except ParseError:
            return None

    @cached_property
    def _digest(self) -> str:
        return self._body.digest if isinstance(self._body, BodyRef) else hashlib.sha256(self._body).hexdigest()

    @cached_property
    def _whole(self) -> bytes:
        """The content, b"" where it is too big to be looked into."""
        if isinstance(self._body, bytes):
            return self._body
        return self._read(self._body.size) if self._body.size <= WHOLE else b""

    def _read(self, most: int) -> bytes:
        if self._file is None:
            return b""
        with self._file.open("rb") as opened:
            return opened.read(most)

    def _document(self) -> Any:
        """engine.contracts.Document, None where nothing can look into this content. Raises ParseError."""
        return self._decoded

    @cached_property
    def _decoded(self) -> Any:
        codec = registry.codec(self._arrived.medium.content_type)
        if codec is None or not self._whole:
            return None
        charset = self._arrived.medium.charset
        decode_with = getattr(codec, "decode_with", None)
        try:
            return decode_with(self._whole, charset) if charset and decode_with is not None else codec.decode(self._whole)
        except MessageError as error:
            raise ParseError(error.text, location=error.location) from None


@dataclass(frozen=True, slots=True)
class _Facts:
    message_type: str
    control_id: str
    sender: str
    patients: tuple[str, ...]


def _unquoted(key: str) -> str:
    """An Idempotency-Key is a string of structured fields, in quotes (RFC 9651 clause 3.3.3); many send it bare."""
    return key[1:-1].replace('\\"', '"').replace("\\\\", "\\") if len(key) > 1 and key[0] == key[-1] == '"' else key
