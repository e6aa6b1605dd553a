"""From a message's records to an envelope; no socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Final

from adapters.astm.levels import complete
from adapters.astm.link import CR, Incomplete
from engine.errors import ParseError
from engine.formats.astm import Message, codec
from engine.message import ASTM, Envelope, Judgement, Verdict
from engine.options import Settings

QUERY: Final = "ASTM^Q"
_KINDS: Final = (("Q", QUERY), ("R", "ASTM^R"), ("O", "ASTM^O"))


class Reader:
    """Makes envelopes by a channel's options; `clock` in microseconds UTC."""

    def __init__(self, options: Settings, clock: Callable[[], int]) -> None:
        self._charset: str = options.charset
        self._clock = clock

    def read(self, content: bytes, peer: str, remote: str) -> tuple[Envelope, Judgement | None]:
        """Never raises: what cannot be read has a judgement. The same bytes from the same sender are the same message sent again: an
        instrument that missed our last answer repeats all, and its control id (H-3) is often empty or always the same. A query is
        asked anew each time."""
        try:
            message = codec.decode_with(content, self._charset)
        except ParseError as error:
            return self._unread(content, peer, remote), Judgement(Verdict.INVALID, error.text, error.hl7_code, error.location)
        digest = blake2b(content, digest_size=16)
        sender, kind = message.get("H-5") or "", _kind(message)
        envelope = Envelope(
            content,
            ASTM,
            kind,
            message.get("H-3") or "",
            sender,
            peer,
            remote,
            self._clock(),
            _patients(message),
            f"{peer or sender}|{digest.hexdigest()}" if kind != QUERY else "",
            digest.digest(),
            {"charset": self._charset},
        )
        return envelope, None

    def incomplete(self, step: Incomplete, peer: str, remote: str) -> Iterator[tuple[Envelope, Judgement | None]]:
        """What came of a message that did not end. Its complete levels are messages of their own, since their sender may count them as
        stored (adapters.astm.levels); a query is none, it is asked again. All of it is kept as invalid, where an operator finds it."""
        messages, count = ([], 0) if step.refused else complete(step.content.rstrip(CR).split(CR))
        taken = [one for one in (self.read(message, peer, remote) for message in messages) if one[0].message_type != QUERY]
        yield from taken
        reason = f"incomplete: {step.reason}" + (f"; its first {count} records are complete, and taken" if taken else "")
        yield self._unread(step.content, peer, remote), Judgement(Verdict.INVALID, reason, "207", "L")

    def _unread(self, content: bytes, peer: str, remote: str) -> Envelope:
        return Envelope(content, ASTM, peer=peer, remote=remote, received_at=self._clock(), facts={"charset": self._charset})


def no_information(query: Envelope) -> bytes:
    """What answers a query when nothing is known: a header, and a terminator that says so (LIS02-A2 clause 13.1.3, L-3 is I). From whom the
    query went to, to whom it came from."""
    body, charset = query.body, query.facts["charset"]
    message = codec.decode_with(body if isinstance(body, bytes) else b"", charset)
    header, field = message.records[0], message.delimiters.field
    told = {5: 10, 10: 5, 12: 12, 13: 13}  # our field: the query's
    copied = (header.fields[told[number] - 1] if number in told and told[number] <= len(header.fields) else "" for number in range(3, 14))
    return "".join(f"{field.join(record)}\r" for record in ([header.fields[0], header.fields[1], *copied], ["L", "1", "I"])).encode(charset)


def _kind(message: Message) -> str:
    """ASTM^Q for a host query, ASTM^R for results, ASTM^O for orders, else ASTM."""
    there = {record.type for record in message.records}
    return next((name for letter, name in _KINDS if letter in there), "ASTM")


def _patients(message: Message) -> tuple[str, ...]:
    """P-3, the practice's own number of each patient, and P-4, the laboratory's."""
    found = [record.get(field, component=1) for record in message.of("P") for field in (3, 4)]
    return tuple(dict.fromkeys(one for one in found if one))
