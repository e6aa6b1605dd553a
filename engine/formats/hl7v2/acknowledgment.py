"""Acknowledgments: worded for a judgement, and read from a receiver (HL7 v2.5 clauses 2.9.2, 2.9.3, 2.14.1, 2.15.5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from engine.errors import ParseError
from engine.formats.hl7v2.charsets import codec_name
from engine.formats.hl7v2.header import Header, read_header
from engine.formats.hl7v2.message import decode
from engine.formats.hl7v2.separators import STANDARD
from engine.message import Judgement, Verdict

_CODES: Final = {Verdict.ACCEPTED: "A", Verdict.REFUSED: "R", Verdict.INVALID: "E", Verdict.UNAVAILABLE: "E"}
_CONDITIONS: Final = {  # HL7 table 0357
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}


def acknowledge(header: Header | None, judgement: Judgement, *, enhanced: bool, control_id: str, now: int) -> bytes:
    """The ACK for a message: MSA-1 AA/AE/AR, in enhanced mode CA/CE/CR; MSA-2 is the original control id; an ERR where it is negative.

    `header` None: there was no usable MSH, and a minimal ACK is made. `now` in microseconds UTC. In the separators, version and
    character set of the message. `control_id` becomes MSH-10.
    """
    code = ("C" if enhanced else "A") + _CODES[judgement.verdict]
    separators = header.separators if header else STANDARD
    f, c = separators.field, separators.component
    declared = f + c + separators.repetition + separators.escape + separators.subcomponent + separators.truncation
    stamp = datetime.fromtimestamp(now // 1_000_000, UTC).strftime("%Y%m%d%H%M%S") + "+0000"
    if header is None:
        lines = [f"MSH{declared}{f * 5}{stamp}{f}{f}ACK{f}{control_id}{f}P{f}2.5", f"MSA{f}{code}{f}"]
    else:
        parts = header.message_type.split("^")
        kind = f"ACK{c}{parts[1]}{c}ACK" if len(parts) > 1 and parts[1] else "ACK"
        charset = f"{f * 6}{header.charset}" if header.charset else ""
        lines = [
            f"MSH{declared}{f}{header.field(5)}{f}{header.field(6)}{f}{header.field(3)}{f}{header.field(4)}{f}{stamp}{f}{f}"
            f"{kind}{f}{control_id}{f}{header.field(11) or 'P'}{f}{header.field(12) or '2.5'}{charset}",
            f"MSA{f}{code}{f}{header.control_id}",
        ]
    if judgement.verdict is not Verdict.ACCEPTED:
        lines.append(_err(judgement, header))
    return ("\r".join(lines) + "\r").encode(_codec(header), "replace")


def _codec(header: Header | None) -> str:
    try:
        return codec_name(header.charset) if header and header.charset else "utf-8"
    except ParseError:
        return "utf-8"


def _err(judgement: Judgement, header: Header | None) -> str:
    """ERR-2 to ERR-8 from version 2.5 on, ERR-1 before."""
    separators = header.separators if header else STANDARD
    f, c = separators.field, separators.component
    number = judgement.hl7_code or "207"
    condition = f"{number}{c}{_CONDITIONS.get(number, '')}{c}HL70357"
    location = _location(judgement.location, c)
    if header and header.version and header.version < "2.5":
        return f"ERR{f}{location}{c if location else c * 3}{condition.replace(c, separators.subcomponent or ' ')}"
    return f"ERR{f}{f}{location}{f}{condition}{f}E{f}{f}{f}{f}{separators.escape_text(judgement.reason)}"


def _location(path: str, component: str) -> str:
    """``PID-3[1].4`` as an ERL: segment, sequence, field, repetition, component."""
    from engine.formats.hl7v2.message import parse_path

    try:
        where = parse_path(path)
    except ValueError:
        return path if path.isalnum() and len(path) == 3 else ""
    parts = [where.segment, str(where.occurrence), str(where.field), str(where.repetition)]
    return component.join(parts + ([str(where.component)] if where.component else []))


def wanted(condition: str, positive: bool) -> bool:
    """MSH-15 or MSH-16 (table 0155): AL always, NE never, ER on error, SU on success. Empty counts as never, as clause 2.9.3 has it."""
    return condition == "AL" or (condition == "SU" and positive) or (condition == "ER" and not positive)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a receiver said. `code` is MSA-1, `control_id` MSA-2 (the message it answers), `reference` its own MSH-10;
    `text` is ERR-8 or MSA-3, for the store only."""

    code: str
    control_id: str
    reference: str
    text: str
    error_code: str

    @property
    def positive(self) -> bool:
        return self.code in ("AA", "CA")

    @property
    def is_commit(self) -> bool:
        """An accept acknowledgment of enhanced mode, not the application's answer."""
        return self.code.startswith("C")


def read(body: bytes) -> Acknowledgement:
    """Raises ParseError when it is not an acknowledgment."""
    start = body.find(b"\rMSA") + 1
    if start and body.find(b"\rERR") < 0 and body.isascii() and body[3:9] == b"|^~\\&|":
        fields = body[start : body.find(b"\r", start) if body.find(b"\r", start) > 0 else len(body)].decode().split("|")
        reference = body[: body.find(b"\r")].split(b"|", 10)
        if len(fields) > 2 and len(reference) > 9:
            return Acknowledgement(fields[1], fields[2], reference[9].decode(), fields[3] if len(fields) > 3 else "", "")
    return _read_whole(body)


def _read_whole(body: bytes) -> Acknowledgement:
    message = decode(body, fallback="latin-1")
    msa = message.first("MSA")
    if msa is None or not msa.field(1):
        raise ParseError("the answer has no MSA segment", location="MSA", hl7_code="100")
    text = message.get("ERR-8") or message.get("MSA-3") or ""
    error = message.get("ERR-3.1") or message.get("MSA-6.1") or ""
    return Acknowledgement(msa.field(1), message.separators.unescape(msa.field(2)), read_header(body).control_id, text, error)
