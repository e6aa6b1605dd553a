"""Acknowledgments: worded for a judgement, and read from a receiver (HL7 v2.5 clauses 2.9.2, 2.9.3, 2.14.1, 2.15.5)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from engine.errors import ParseError
from engine.formats.hl7v2.charsets import codec_name, first_fitting
from engine.formats.hl7v2.header import Header, decoded_msh
from engine.formats.hl7v2.paths import parse_path
from engine.formats.hl7v2.separators import STANDARD, Separators
from engine.message import Judgement, Verdict
from engine.values import value

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
_REMEMBERED: Final = 1000
"""Of headers longer than this nothing is remembered, so that they cannot fill the memory."""
_LINES: Final = re.compile("[\r\n]+")
_LINE_END: Final = re.compile(b"[\r\n]")


def acknowledge(header: Header | None, judgement: Judgement, *, enhanced: bool, control_id: str, now: int) -> bytes:
    """The ACK for a message: MSA-1 AA/AE/AR, in enhanced mode CA/CE/CR; MSA-2 is the original control id; an ERR where it is negative.

    `header` None: there was no usable MSH; a minimal AR is made (AE where the store cannot take it). `now` in microseconds UTC.
    In the separators, version and character set of the message. `control_id` becomes MSH-10.
    """
    stamp = _stamp(now // 1_000_000)
    if header is None:
        return _without_header(judgement, control_id, stamp)
    verdict, separators, msh = judgement.verdict, header.separators, header.fields
    codec = _codec(header)
    if separators is not STANDARD:  # a delimiter may be any punctuation, even that of a date
        stamp, control_id = _sayable(stamp, separators, "ascii"), _sayable(control_id, separators, "ascii")
    frame = _frame if header.content_offset < _REMEMBERED else _frame.__wrapped__
    before, kind, after = frame(separators, header.message_type, msh[3], msh[4], msh[5], msh[6], msh[11], msh[12], msh[18], enhanced)
    ack = f"{before}{stamp}{kind}{control_id}{after}{_CODES[verdict]}{separators.field}{header.control_id}"
    if verdict is Verdict.ACCEPTED:
        return f"{ack}\r".encode(codec)
    reason = _sayable(judgement.reason, separators, codec)
    old = "" < header.version < "2.5"  # such an ERR has no place for text, so MSA-3 says it
    return f"{ack}{separators.field + reason if old else ''}\r{_err(judgement, reason, separators, old)}\r".encode(codec)


def no_data_found(header: Header, content: bytes, *, control_id: str, now: int) -> bytes:
    """RSP^K11 for a QBP^Q11 of which nothing is known (clauses 5.3.1.2, 5.5.2): QAK-2 is NF, QPD as asked. `content` is the query."""
    codec, c = _codec(header), header.separators.component
    field = header.separators.field.encode(codec)
    accepted = acknowledge(header, Judgement(Verdict.ACCEPTED), enhanced=False, control_id=control_id, now=now)
    asked = next((line for line in _LINE_END.split(content) if line[:3] == b"QPD"), b"QPD")
    name, tag = [*asked.split(field)[1:3], b"", b""][:2]
    said, meant = (field + kind.encode(codec) + field for kind in (f"ACK{c}Q11{c}ACK", f"RSP{c}K11{c}RSP_K11"))
    return accepted.replace(said, meant, 1) + field.join((b"QAK", tag, b"NF", name)) + b"\r" + asked + b"\r"


@lru_cache(maxsize=1024)
def _frame(
    separators: Separators,
    message_type: str,
    application: str,
    facility: str,
    to_application: str,
    to_facility: str,
    processing: str,
    version: str,
    charset: str,
    enhanced: bool,
) -> tuple[str, str, str]:
    """What is the same in all acknowledgments of one kind to one sender: up to MSH-7, up to MSH-10, and up to MSA-1's second letter."""
    f, c = separators.field, separators.component
    _, _, trigger = message_type.partition("^")
    kind = f"ACK{c}{trigger}{c}ACK" if trigger else "ACK"
    if separators is STANDARD:
        version = version or "2.5"
    return (
        f"MSH{separators.declared}{f}{to_application}{f}{to_facility}{f}{application}{f}{facility}{f}",
        f"{f}{f}{kind}{f}",
        f"{f}{processing or 'P'}{f}{version}{f * 6 + charset if charset else ''}\rMSA{f}{'C' if enhanced else 'A'}",
    )


def _without_header(judgement: Judgement, control_id: str, stamp: str) -> bytes:
    code = "AE" if judgement.verdict is Verdict.UNAVAILABLE else "AR"
    err = _err(judgement, _sayable(judgement.reason, STANDARD, "utf-8"), STANDARD, False)
    return f"MSH|^~\\&|||||{stamp}||ACK|{control_id}|P|2.5\rMSA|{code}|\r{err}\r".encode()


@lru_cache(maxsize=16)
def _stamp(now: int) -> str:
    """`now` in seconds."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%d%H%M%S+0000")


def _codec(header: Header) -> str:
    """What the answer is written in: the fields taken from the header go back as the bytes they came in."""
    if header.codec != "ascii":
        return header.codec
    try:
        return codec_name(header.charset)
    except ParseError:
        return "ascii"


def _sayable(reason: str, separators: Separators, codec: str) -> str:
    """A reason as a field of the answer; what its character set lacks becomes a question mark (it is Meridian's text, not the sender's)."""
    text = reason.encode(codec, "replace").decode(codec)
    try:
        return separators.escape_text(text)
    except ValueError:  # no escape character is declared
        return re.sub(r"[^\w ]", " ", text)


def _err(judgement: Judgement, reason: str, separators: Separators, old: bool) -> str:
    """ERR-2 location, ERR-3 condition, ERR-4 severity and ERR-8 text from version 2.5 on; ERR-1 (an ELD) before."""
    f, c = separators.field, separators.component
    number = judgement.hl7_code or "207"
    name = _CONDITIONS.get(number, "")
    location = _location(judgement.location)
    if old:
        s = separators.subcomponent
        place = c.join([*location, "", "", ""][:3])
        return f"ERR{f}{place}{c}{number}{s + name + s + 'HL70357' if s else ''}"
    return f"ERR{f}{f}{c.join(location)}{f}{number}{c}{name}{c}HL70357{f}E{f * 4}{reason}"


def _location(path: str) -> list[str]:
    """``PID-3[1].4`` as an ERL: segment, sequence, field, repetition, component, subcomponent; only the segment where that is all."""
    try:
        where = parse_path(path)
    except ValueError:
        return [path] if len(path) == 3 and path.isalnum() and path.isascii() else []
    numbers = (where.occurrence, where.field, where.repetition, where.component, where.subcomponent)
    return [where.segment, *(str(number) for number in numbers if number)]


def wanted(condition: str, positive: bool) -> bool:
    """MSH-15 or MSH-16 (table 0155): AL always, NE never, ER on error, SU on success. Empty counts as never, as clause 2.9.3 has it."""
    return condition == "AL" or (condition == "SU" and positive) or (condition == "ER" and not positive)


@value(frozen=True, slots=True)
class Acknowledgement:
    """What a receiver said. `code` is MSA-1, `control_id` MSA-2 as raw text (the message it answers), `reference` its own MSH-10;
    `text` is ERR-8 or MSA-3, for the store only; `error_code` is from table 0357."""

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
    """Needs an MSH and an MSA and no more, since receivers leave out much. Raises ParseError when it is not an acknowledgment."""
    if body[:3] != b"MSH":
        raise ParseError("the answer does not begin with an MSH segment", location="MSH", hl7_code="100")
    text = body.decode("ascii") if body.isascii() and b"\x1b" not in body else _decoded(body)
    segments = text.split("\r") if "\n" not in text else _LINES.split(text)
    separators = STANDARD if text[3:9] == "|^~\\&|" else Separators.of(segments[0])
    lines = {line[:3]: line.split(separators.field) for line in reversed(segments)}  # the first of each name stays
    msa = lines.get("MSA")
    if msa is None or len(msa) < 2 or not msa[1]:
        raise ParseError("the answer has no MSA segment with a code", location="MSA", hl7_code="100")
    msh, err = lines["MSH"], lines.get("ERR")
    if err is None and len(msa) <= 3:  # it says no more, as most do
        return Acknowledgement(msa[1], _at(msa, 2), _at(msh, 9), "", "")
    said, number = _condition(err, separators) if err else ("", "")
    said = said or separators.unescape(_at(msa, 3))
    return Acknowledgement(msa[1], _at(msa, 2), _at(msh, 9), said, number or _at(msa, 6).split(separators.component)[0].strip())


def _decoded(body: bytes) -> str:
    """By its MSH-18 if that is known, else as UTF-8 or, keeping all bytes apart, Latin-1."""
    _, codec = decoded_msh(_LINE_END.split(body, maxsplit=1)[0], None)
    return first_fitting(body, (codec, "utf-8"))[0]


def _condition(err: list[str], separators: Separators) -> tuple[str, str]:
    """The text (ERR-8, ERR-7) and the table 0357 code (ERR-3.1; before version 2.5 ERR-1.4.1)."""
    said = separators.unescape(_at(err, 8) or _at(err, 7))
    number = separators.components(_at(err, 3))[0]
    if not number:
        place = separators.components(_at(err, 1))
        number = separators.subcomponents(place[3])[0] if len(place) > 3 else ""
    return said, number


def _at(fields: list[str], index: int) -> str:
    return fields[index] if index < len(fields) else ""
