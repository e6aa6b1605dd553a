"""Batches: FHS / BHS … BTS / FTS (HL7 v2.5 clause 2.10.3), and bare sequences of messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.errors import ParseError
from engine.formats.hl7v2.separators import STANDARD, Separators


@dataclass(slots=True)
class Batch:
    """`messages` are slices of the file, byte for byte, good and bad ones alike. `faults`: counts that do not fit, stray segments."""

    messages: list[bytes] = field(default_factory=list)
    file_header: bytes = b""
    batch_headers: list[bytes] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def header_fields(self) -> list[str]:
        """The fields of the first BHS (or the FHS), index n is field n; empty where the file has neither."""
        raw = (self.batch_headers or [self.file_header])[0]
        if len(raw) < 5:
            return []
        text = raw.decode("ascii", "replace")
        return [text[:3], text[3], *text[4:].split(text[3])]


def is_batch(body: bytes) -> bool:
    """Whether it begins like a batch or holds more than one message."""
    return body[:3] in (b"FHS", b"BHS") or b"\rMSH" in body or b"\nMSH" in body


def split(body: bytes) -> Batch:
    """Cut a file into its messages. Never raises: a line that belongs to no message is a message of its own, so that nothing is lost."""
    batch = Batch()
    current: list[bytes] = []
    counted, batches = 0, 0

    def close() -> None:
        nonlocal counted
        if current:
            batch.messages.append(b"".join(current))
            current.clear()
            counted += 1

    for line in _lines(body):
        name = line[:3]
        if name in (b"FHS", b"BHS", b"BTS", b"FTS", b"MSH"):
            close()
        if name == b"FHS":
            batch.file_header = line.rstrip(b"\r\n")
        elif name == b"BHS":
            batch.batch_headers.append(line.rstrip(b"\r\n"))
            counted = 0
        elif name == b"BTS":
            batches += 1
            _check(batch, line, counted, "BTS-1", "messages")
        elif name == b"FTS":
            _check(batch, line, batches, "FTS-1", "batches")
        elif line.strip():
            if not current and name != b"MSH":
                batch.faults.append("a segment stands before the first MSH")
            current.append(line)
        elif current:
            current.append(line)
    close()
    return batch


def _lines(body: bytes) -> list[bytes]:
    """Segments with their terminators, whichever of CR, LF and CRLF each has."""
    return body.replace(b"\r\n", b"\x00\n").replace(b"\r", b"\r\x00").replace(b"\n", b"\n\x00").replace(b"\x00\n", b"\r\n").split(b"\x00")


def _check(batch: Batch, trailer: bytes, counted: int, place: str, what: str) -> None:
    declared = trailer.rstrip(b"\r\n")[4:].split(trailer[3:4])[0].strip() if len(trailer) > 4 else b""
    if declared and declared != str(counted).encode():
        batch.faults.append(f"{place} does not agree with the number of {what}: {counted} found")


def wrap_answers(batch: Batch, answers: Sequence[bytes], *, control_id: str, stamp: str) -> bytes:
    """The batch response: BHS with the parties swapped, the acknowledgments, BTS with their number. `stamp` is a DTM."""
    fields = batch.header_fields
    separators = _separators(fields)
    f = separators.field

    def of(number: int) -> str:
        return fields[number] if number < len(fields) else ""

    declared = separators.component + separators.repetition + separators.escape + separators.subcomponent
    head = f"BHS{f}{declared}{f}{of(5)}{f}{of(6)}{f}{of(3)}{f}{of(4)}{f}{stamp}{f}{f}{f}{f}{control_id}{f}{of(11)}"
    tail = f"BTS{f}{len(answers)}"
    return head.encode() + b"\r" + b"".join(answers) + tail.encode() + b"\r"


def _separators(fields: list[str]) -> Separators:
    try:
        return Separators.of(f"BHS{fields[1]}{fields[2]}{fields[1]}") if len(fields) > 2 else STANDARD
    except ParseError:
        return STANDARD
