"""Batches: FHS / BHS … BTS / FTS (HL7 v2.5 clause 2.10.3), and bare sequences of messages.

    [FHS] { [BHS] { message } [BTS] } [FTS]

A trailer counts what precedes it: BTS-1 the messages of its batch, FTS-1 the batches of the file. A count that does not fit is a
fault that is told, never a reason to drop a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.errors import ParseError
from engine.formats.hl7v2.header import BOM
from engine.formats.hl7v2.separators import STANDARD, Separators

_ENVELOPE: Final = frozenset((b"FHS", b"BHS", b"BTS", b"FTS"))


@dataclass(slots=True)
class Batch:
    """`messages` are slices of the file, byte for byte, good and bad ones alike; headers and trailers are segments without terminator.

    `faults`: counts that do not fit, missing headers and trailers, stray segments; without payload.
    """

    messages: list[bytes] = field(default_factory=list)
    file_header: bytes = b""
    batch_headers: list[bytes] = field(default_factory=list)
    batch_trailers: list[bytes] = field(default_factory=list)
    file_trailer: bytes = b""
    faults: list[str] = field(default_factory=list)
    groups: list[tuple[bytes, list[int]]] = field(default_factory=list)
    """In order: a BHS (b"" for messages that stand in no batch), and the places of its messages in `messages`."""

    @property
    def has_headers(self) -> bool:
        return bool(self.file_header or self.batch_headers)


def is_batch(body: bytes) -> bool:
    """Whether it begins like a batch or holds more than one message. Cheap: one search from the end for a single message."""
    if body[:3] in (b"FHS", b"BHS") or body[:6] in (b"\xef\xbb\xbfFHS", b"\xef\xbb\xbfBHS"):
        return True
    return body.rfind(b"MSH") > 3 and (b"\rMSH" in body or b"\nMSH" in body)


def most_messages(body: bytes) -> int:
    """What `split` gives at most, at the price of a few searches: each message is followed by one of these lines, or the end."""
    return 1 + sum(body.count(end + name) for end in (b"\r", b"\n") for name in (b"MSH", *_ENVELOPE))


def split(body: bytes) -> Batch:
    """Cut a file into its messages. Never raises: what belongs to no message is a message of its own, so that nothing is lost."""
    cutter = Cutter()
    for line in body.removeprefix(BOM).splitlines(keepends=True):  # of bytes: CR, LF and CRLF only
        cutter.take(line)
    return cutter.finish()


class Cutter:
    """One pass over the lines of a file. Who wants a long file at flat memory drains it after each line."""

    def __init__(self) -> None:
        self.batch = Batch()
        self._message: list[bytes] = []
        self._counted = 0  # messages since the last BHS
        self._open = False  # a BHS waits for its BTS
        self._batches = 0
        self._ended = False  # the FTS has come

    def take(self, line: bytes) -> None:
        name = line[:3]
        if name == b"MSH":
            self._close()
            self._message.append(line)
        elif name in _ENVELOPE:
            self._close()
            self._envelope(name, line)
        elif self._message:
            self._message.append(line)
        elif line.strip():
            self.batch.faults.append("a segment stands outside of any message")
            self._message.append(line)

    def _envelope(self, name: bytes, line: bytes) -> None:
        batch, segment = self.batch, line.rstrip(b"\r\n")
        if name == b"FHS":
            batch.file_header = segment
        elif name == b"BHS":
            self._end_of_batch("the next one begins")
            batch.batch_headers.append(segment)
            batch.groups.append((segment, []))
            self._counted, self._open = 0, True
        elif name == b"BTS":
            batch.batch_trailers.append(segment)
            self._check(segment, self._counted, "BTS-1", "messages")
            self._batches += 1
            self._counted, self._open = 0, False
        else:
            self._end_of_batch("the file ends")
            batch.file_trailer, self._ended = segment, True
            self._check(segment, self._batches, "FTS-1", "batches")

    def _close(self) -> None:
        if self._message:
            groups, messages = self.batch.groups, self.batch.messages
            if not groups or (groups[-1][0] and not self._open):
                groups.append((b"", []))
            groups[-1][1].append(len(messages))
            messages.append(b"".join(self._message))
            self._message.clear()
            self._counted += 1

    def _end_of_batch(self, why: str) -> None:
        if self._open:
            self.batch.faults.append(f"a batch has no BTS before {why}")
            self._batches += 1
            self._open = False

    def _check(self, trailer: bytes, counted: int, place: str, what: str) -> None:
        """A count that is not given is no fault: the field is optional."""
        declared = trailer[4:].split(trailer[3:4])[0].strip() if len(trailer) > 4 else b""
        if declared and not (declared.isdigit() and int(declared[:9]) == counted):
            self.batch.faults.append(f"{place} does not agree with the number of {what}: {counted} found")

    @property
    def begun(self) -> bool:
        """Whether a message has begun whose end is not seen yet."""
        return bool(self._message)

    def drain(self) -> tuple[list[bytes], list[str]]:
        """The messages and faults since the last call; they and their headers are forgotten."""
        batch = self.batch
        messages, faults = batch.messages, batch.faults
        self.batch = Batch(file_header=batch.file_header)
        return messages, faults

    def finish(self) -> Batch:
        self._close()
        self._end_of_batch("the end")
        if self.batch.file_header and not self._ended:
            self.batch.faults.append("the file has no FTS")
        return self.batch


def wrap_answers(batch: Batch, answers: Sequence[Sequence[bytes]], *, new_id: Callable[[], str], stamp: str) -> bytes:
    """The response: what came with headers is answered with headers, the parties swapped; in each batch the acknowledgments of its
    messages, and BTS with their number. `answers` has those of each message; `stamp` is a DTM.

    BHS-11 and FHS-11 are new, BHS-12 and FHS-12 the control ids of what is answered.
    """
    body = b""
    for header, places in batch.groups:
        acks = [ack if ack.endswith(b"\r") else ack + b"\r" for place in places for ack in answers[place]]
        body += _enclosed(header, b"BHS", b"".join(acks), len(acks), new_id, stamp) if header else b"".join(acks)
    return _enclosed(batch.file_header, b"FHS", body, len(batch.groups), new_id, stamp) if batch.file_header else body


def _enclosed(header: bytes, name: bytes, body: bytes, count: int, new_id: Callable[[], str], stamp: str) -> bytes:
    """`body` between the answer to `header` and its trailer. Latin-1 keeps every byte."""
    text = header.decode("latin-1")
    fields = [text[:3], text[3], *text[4:].split(text[3])] if len(text) > 4 else []
    separators = _separators(fields)
    f = separators.field

    def of(number: int) -> str:
        return fields[number] if number < len(fields) else ""

    head = f"{separators.declared}{f}{of(5)}{f}{of(6)}{f}{of(3)}{f}{of(4)}{f}{stamp}{f * 4}{new_id()}{f}{of(11)}\r"
    return name + head.encode("latin-1") + body + name[:1] + f"TS{f}{count}\r".encode()


def _separators(fields: list[str]) -> Separators:
    try:
        return Separators.of(f"BHS{fields[1]}{fields[2]}{fields[1]}") if len(fields) > 2 else STANDARD
    except ParseError:
        return STANDARD
