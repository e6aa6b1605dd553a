"""From a frame's content to an envelope and its answer: HL7 v2 over MLLP, without a socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from engine.errors import ParseError
from engine.formats.hl7v2 import Header, acknowledge, read_header
from engine.formats.hl7v2.acknowledgment import wanted
from engine.formats.hl7v2.charsets import decode_text, named
from engine.message import HL7V2, Ack, Envelope, Judgement, Verdict
from engine.options import Settings

_NO_FACTS: Final[Mapping[str, str]] = {}


class Received:
    """One message as it came in: its envelope, what is wrong with it before any channel looks at it, and how to answer it."""

    __slots__ = ("_acks", "envelope", "header", "invalid")

    def __init__(self, header: Header | None, envelope: Envelope, invalid: Judgement | None, acks: Acknowledger) -> None:
        self.header, self.envelope, self.invalid, self._acks = header, envelope, invalid, acks

    def reply(self, judgement: Judgement) -> bytes:
        """engine.contracts.Reply: the acknowledgment that is stored with the message."""
        return self._acks.word(self.header, judgement)

    def answers(self, ack: Ack) -> list[bytes]:
        """What goes onto the wire, in order: nothing, an accept or original-mode acknowledgment, and in enhanced mode an application
        acknowledgment where it was asked for (clause 2.9.3). Meridian's application acknowledgment says that the message was committed."""
        return self._acks.answers(self.header, ack)


class Acknowledger:
    """Words acknowledgments; `clock` in microseconds UTC, `new_id` for MSH-10."""

    def __init__(self, clock: Callable[[], int], new_id: Callable[[], str]) -> None:
        self._clock, self._new_id = clock, new_id

    def word(self, header: Header | None, judgement: Judgement, *, application: bool = False) -> bytes:
        if header is None and judgement.verdict is Verdict.INVALID:  # no usable MSH: rejected, not in error (clause 2.9.2)
            judgement = Judgement(Verdict.REFUSED, judgement.reason, judgement.hl7_code, judgement.location)
        enhanced = header is not None and header.enhanced and not application
        return acknowledge(header, judgement, enhanced=enhanced, control_id=self._new_id(), now=self._clock())

    def answers(self, header: Header | None, ack: Ack) -> list[bytes]:
        if header is None or not header.enhanced:
            return [ack.answer]
        positive = ack.judgement.verdict is Verdict.ACCEPTED
        answers = [ack.answer] if wanted(header.accept_ack, positive) else []
        if ack.judgement.verdict is not Verdict.UNAVAILABLE and wanted(header.application_ack, positive):
            answers.append(self.word(header, ack.judgement, application=True))
        return answers


class Reader:
    """Makes `Received` out of frame contents, by a channel's options."""

    def __init__(self, options: Settings, clock: Callable[[], int], new_id: Callable[[], str]) -> None:
        self._clock = clock
        self._charset = None if options.charset == "declared" else named(options.charset)
        self._fallback = named(options.fallback) if options.fallback else None
        self._senders: Mapping[str, Sequence[str]] | None = options.senders
        self.acks = Acknowledger(clock, new_id)

    def unreadable(self, content: bytes, judgement: Judgement, peer: str, remote: str) -> Received:
        """Bytes that are no message: kept and answered without a header."""
        envelope = Envelope(content, HL7V2, peer=peer, remote=remote, received_at=self._clock())
        return Received(None, envelope, judgement, self.acks)

    def read(self, content: bytes, peer: str, remote: str) -> Received:
        """Never raises: what cannot be read is a Received with a judgement."""
        try:
            header = read_header(content, self._charset)
        except ParseError as error:
            judgement = Judgement(Verdict.INVALID, error.text, error.hl7_code, error.location)
            return self.unreadable(content, judgement, peer, remote)
        charset, invalid = self._charset_of(content, header)
        invalid = invalid or self._impostor(header, peer)
        control_id = header.control_id
        envelope = Envelope(
            content,
            HL7V2,
            header.message_type,
            control_id,
            header.sender,
            peer,
            remote,
            self._clock(),
            header.patient_ids,
            f"{header.sender}|{control_id}" if control_id else "",
            blake2b(content[header.content_offset :], digest_size=16).digest(),
            {"charset": charset} if charset else _NO_FACTS,
        )
        return Received(header, envelope, invalid, self.acks)

    def _charset_of(self, content: bytes, header: Header) -> tuple[str, Judgement | None]:
        """The character set to decode with where it is not simply the declared one, and what is wrong with it."""
        declared = header.charset
        if self._charset is None and not declared and content.isascii():
            return "", None
        try:
            _, codec = decode_text(content, declared, self._charset, self._fallback)
        except ParseError as error:
            return "", Judgement(Verdict.INVALID, error.text, error.hl7_code, error.location)
        return codec, None

    def _impostor(self, header: Header, peer: str) -> Judgement | None:
        """Whether the claimed sender is one that the proven party may send as."""
        if self._senders is None:
            return None
        allowed = self._senders.get(peer.rpartition(":")[2]) or self._senders.get("*") or ()
        if header.sender in allowed:
            return None
        return Judgement(Verdict.REFUSED, "this sender may not send as this application and facility", "207", "MSH-3")


def no_answer(ack: Ack, options: Any) -> bool:
    """Whether silence was asked for when the store cannot take messages."""
    return ack.judgement.verdict is Verdict.UNAVAILABLE and options.when_unavailable == "silent"
