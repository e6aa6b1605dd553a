"""From a frame's content to an envelope and its answers: HL7 v2 over MLLP, without a socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from adapters.mllp.options import DECLARED
from engine.errors import ParseError
from engine.formats.hl7v2 import Header, acknowledge, read_header
from engine.formats.hl7v2.acknowledgment import no_data_found, wanted
from engine.formats.hl7v2.charsets import codec_name, decode_text
from engine.identity import party_name
from engine.message import ACCEPTED, HL7V2, Ack, Envelope, Judgement, Verdict
from engine.options import Settings

_NO_FACTS: Final[Mapping[str, str]] = {}
_ESCAPE: Final = b"\x1b"
_QUERIES: Final = ("QBP^", "QRY^")
"""Asked anew each time: the answer to the same question may be another one now."""
_WORK: Final = "QBP^Q11"
_UNPROVEN: Final = Judgement(Verdict.REFUSED, "only parties that prove themselves with a certificate may send here", "207")


class Received:
    """One message as it came in: its envelope, what is wrong with it before any channel looks at it, and how to answer it."""

    __slots__ = ("_acks", "envelope", "header", "invalid")

    def __init__(self, header: Header | None, envelope: Envelope, invalid: Judgement | None, acks: Acknowledger) -> None:
        self.header, self.envelope, self.invalid, self._acks = header, envelope, invalid, acks

    @property
    def impostor(self) -> bool:
        """Whether it comes from somebody who may not send here, or not as the sender that it claims."""
        return self.invalid is not None and self.invalid.verdict is Verdict.REFUSED

    def reply(self, judgement: Judgement) -> bytes:
        """engine.contracts.Reply: the acknowledgment that is stored with the message; of a query for work (IHE LAW, LAB-27) that nobody
        answers, or not in time, that there is no information."""
        body, header = self.envelope.body, self.header
        if header is not None and header.message_type == _WORK and judgement.verdict is Verdict.ACCEPTED and isinstance(body, bytes):
            return self._acks.no_information(header, body)
        return self._acks.word(self.header, judgement)

    def answers(self, ack: Ack) -> list[bytes]:
        """What goes onto the wire, in order: none, one or (enhanced mode) two acknowledgments."""
        return self._acks.answers(self.header, ack)


class Acknowledger:
    """Words acknowledgments; `clock` in microseconds UTC, `new_id` for MSH-10."""

    def __init__(self, clock: Callable[[], int], new_id: Callable[[], str]) -> None:
        self._clock, self._new_id = clock, new_id

    def word(self, header: Header | None, judgement: Judgement, *, application: bool = False) -> bytes:
        enhanced = header is not None and header.enhanced and not application
        return acknowledge(header, judgement, enhanced=enhanced, control_id=self._new_id(), now=self._clock())

    def no_information(self, query: Header, content: bytes) -> bytes:
        return no_data_found(query, content, control_id=self._new_id(), now=self._clock())

    def answers(self, header: Header | None, ack: Ack) -> list[bytes]:
        """In original mode the answer (clause 2.9.2). In enhanced mode (clause 2.9.3) an accept acknowledgment and then an application
        acknowledgment, each where MSH-15 and MSH-16 ask for it; after a negative accept acknowledgment no other one follows.

        `Ack.answer` is what `reply` worded, or what a destination said: that one is the application acknowledgment.
        """
        answer = ack.answer
        if not answer.startswith(b"MSH"):  # a destination that speaks no HL7 v2 has answered
            answer = self.word(header, ack.judgement)
        if header is None or not header.enhanced:
            return [answer]
        positive = ack.judgement.verdict is Verdict.ACCEPTED
        if _is_commit(answer):
            answers = [answer] if wanted(header.accept_ack, positive) else []
            if wanted(header.application_ack, positive) and (positive or not answers):
                answers.append(self.word(header, ack.judgement, application=True))
            return answers
        answers = [self.word(header, ACCEPTED)] if wanted(header.accept_ack, True) else []
        if wanted(header.application_ack, positive):
            answers.append(answer)
        return answers


def _is_commit(answer: bytes) -> bool:
    """Whether MSA-1 is CA, CE or CR."""
    msa = answer.find(b"\rMSA")
    return answer[msa + 5 : msa + 6] == b"C"


class Reader:
    """Makes `Received` out of frame contents, by a channel's options."""

    def __init__(self, options: Settings, clock: Callable[[], int], new_id: Callable[[], str]) -> None:
        self._clock = clock
        self._charset: str | None = None if options.charset == DECLARED else options.charset
        self._fallback: str | None = options.fallback
        self._senders: Mapping[str, Sequence[str]] | None = options.senders
        self._proof = options.tls is not None and bool(options.tls.allow)
        self.acks = Acknowledger(clock, new_id)

    def unreadable(self, content: bytes, judgement: Judgement, peer: str, remote: str) -> Received:
        """Bytes that are no message: kept without header facts, and answered AR."""
        judgement = self._unproven(peer) or judgement
        return Received(None, Envelope(content, HL7V2, peer=peer, remote=remote, received_at=self._clock()), judgement, self.acks)

    def broken(self, content: bytes, judgement: Judgement, peer: str, remote: str) -> Received:
        """Bytes of a frame that has gone wrong: kept, and answered with the control id if so much has come. Never the same message
        as another one, since it is not whole."""
        try:
            header = read_header(content, self._charset)
        except ParseError:
            return self.unreadable(content, judgement, peer, remote)
        facts = (header.message_type, header.control_id, header.sender, peer, remote, self._clock(), header.patient_ids)
        return Received(header, Envelope(content, HL7V2, *facts), self._unproven(peer) or judgement, self.acks)

    def read(self, content: bytes, peer: str, remote: str) -> Received:
        """Never raises: what cannot be read is a Received with a judgement."""
        try:
            header = read_header(content, self._charset)
        except ParseError as error:
            return self.unreadable(content, _invalid(error), peer, remote)
        invalid = None
        facts = _NO_FACTS
        try:
            charset = self._charset_of(content, header)
        except ParseError as error:
            invalid = _invalid(error)
        else:
            if charset:
                facts = {"charset": charset}
                header = header if charset == self._charset else read_header(content, charset)
        if self._proof:
            invalid = self._unproven(peer) or invalid
        if self._senders is not None:
            invalid = invalid or self._impostor(header.sender, peer, remote)
        control_id = header.control_id
        refused = invalid is not None and invalid.verdict is Verdict.REFUSED  # the right sender's message is another one
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
            _key(peer, header.sender, control_id) if control_id and not refused and header.message_type[:4] not in _QUERIES else "",
            blake2b(content[header.content_offset :], digest_size=16).digest(),
            facts,
        )
        return Received(header, envelope, invalid, self.acks)

    def _charset_of(self, content: bytes, header: Header) -> str:
        """What later steps must decode with, where that is not what they would find in MSH-18 themselves; else "".
        Raises ParseError where the bytes are not of their character set."""
        declared = header.charset
        try:
            codec = codec_name(declared)
        except ParseError:
            if self._charset is None and self._fallback is None:
                raise
            codec = declared = ""  # no name of table 0211: for such a sender the channel states another
        if content.isascii() and _ESCAPE not in content:  # whatever the set, these bytes mean the same in it
            return self._charset or ("" if codec else self._fallback or "")
        _, fitting = decode_text(content, declared, self._charset, self._fallback)
        return fitting if self._charset or fitting != codec else ""

    def _unproven(self, peer: str) -> Judgement | None:
        """Whether parties are named and this peer, whose certificate is optional, has shown none: then it is not on the list."""
        return _UNPROVEN if self._proof and not peer else None

    def _impostor(self, sender: str, peer: str, remote: str) -> Judgement | None:
        """Whether the claimed sender is one that the proven party (or the address) may send as."""
        senders = self._senders or {}
        names = (party_name(peer), remote.rpartition(":")[0], "*")
        allowed = next((senders[name] for name in names if name in senders), ())
        if sender in allowed:
            return None
        return Judgement(Verdict.REFUSED, "this sender may not send as this application and facility", "207", "MSH-3")


def _key(peer: str, sender: str, control_id: str) -> str:
    """Nobody can use up the control ids of a party that has proven itself."""
    return f"{peer}|{sender}|{control_id}" if peer else f"{sender}|{control_id}"


def _invalid(error: ParseError) -> Judgement:
    return Judgement(Verdict.INVALID, error.text, error.hl7_code, error.location)
