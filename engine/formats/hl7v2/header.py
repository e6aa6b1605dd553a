"""The header facts that can be read cheaply from raw bytes: MSH, and the patient identifiers of PID-3.

On the hottest path: no decoding of the whole message, no regular expression. GB18030 trail bytes are never CR or LF and segment names
are ASCII, so cutting segments out of bytes is safe; a field of one segment is decoded before it is split.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import ParseError
from engine.formats.hl7v2.charsets import codec_name
from engine.formats.hl7v2.separators import STANDARD, Separators

_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Header:
    """`fields[n]` is MSH-n as raw text (MSH-1 the separator itself). `content_offset`: the first byte after the MSH segment.

    Not frozen only because that doubles the cost of making one.
    """

    fields: tuple[str, ...]
    separators: Separators
    message_type: str
    control_id: str
    sender: str
    receiver: str
    patient_ids: tuple[str, ...]
    content_offset: int

    def field(self, number: int) -> str:
        """MSH-`number` as raw text, "" where it is absent."""
        return self.fields[number] if number < len(self.fields) else ""

    @property
    def structure(self) -> str:
        """MSH-9.3, "" where it is absent."""
        parts = self.separators.components(self.field(9))
        return parts[2] if len(parts) > 2 else ""

    @property
    def datetime(self) -> str:
        return self.field(7)

    @property
    def processing_id(self) -> str:
        return self.field(11)

    @property
    def version(self) -> str:
        return self.separators.components(self.field(12))[0]

    @property
    def sequence_number(self) -> str:
        return self.field(13)

    @property
    def accept_ack(self) -> str:
        return self.field(15)

    @property
    def application_ack(self) -> str:
        return self.field(16)

    @property
    def charset(self) -> str:
        return self.field(18)

    @property
    def enhanced(self) -> bool:
        """Either of MSH-15 and MSH-16 present means enhanced mode (clause 2.9.2)."""
        return bool(self.field(15) or self.field(16))


def read_header(body: bytes) -> Header:
    """Raises ParseError when there is no usable MSH: it says which part is missing, with its table 0357 code."""
    start = 3 if body[:3] == _BOM else 0
    if body[start : start + 3] != b"MSH":
        raise ParseError("the message does not begin with an MSH segment", location="MSH", hl7_code="100")
    end = _segment_end(body, start)
    raw = body[start:end]
    msh = raw.decode("ascii") if raw.isascii() else _decoded(raw)
    separators = STANDARD if msh[3:9] == "|^~\\&|" else Separators.of(msh)
    fields = ("MSH", separators.field, *msh[4:].split(separators.field))
    if len(fields) < 11:
        raise ParseError("the MSH segment ends before MSH-10", location="MSH", hl7_code="101")
    message_type = fields[9].split(separators.component)
    if not message_type[0]:
        raise ParseError("MSH-9 (message type) is empty", location="MSH-9", hl7_code="101")
    return Header(
        fields,
        separators,
        "^".join(message_type[:2]),
        fields[10],
        f"{_namespace(fields[3], separators)}|{_namespace(fields[4], separators)}",
        f"{_namespace(fields[5], separators)}|{_namespace(fields[6], separators)}",
        _patient_ids(body, end, separators, fields),
        _next_segment(body, end),
    )


def _namespace(field: str, separators: Separators) -> str:
    """The first component of an HD; where it is empty the second (a universal id)."""
    if separators.component not in field:
        return field
    parts = field.split(separators.component)
    return parts[0] or parts[1]


def _segment_end(body: bytes, start: int) -> int:
    cr = body.find(b"\r", start)
    lf = body.find(b"\n", start, cr if cr >= 0 else len(body))
    return lf if lf >= 0 else cr if cr >= 0 else len(body)


def _next_segment(body: bytes, end: int) -> int:
    while end < len(body) and body[end] in (10, 13):
        end += 1
    return end


def _decoded(raw: bytes) -> str:
    """A header segment with other than ASCII in it: by its own MSH-18, else as Latin-1, which keeps every byte apart."""
    field = raw[3:4]
    parts = raw.split(field)
    declared = parts[17].decode("ascii", "replace") if len(parts) > 17 else ""
    try:
        return raw.decode(codec_name(declared))
    except (ParseError, UnicodeDecodeError):
        return raw.decode("latin-1")


def _patient_ids(body: bytes, end: int, separators: Separators, msh: tuple[str, ...]) -> tuple[str, ...]:
    """PID-3.1 of every repetition of the first PID segment."""
    start = body.find(b"\rPID", end)
    if start < 0:
        start = body.find(b"\nPID", end)
        if start < 0:
            return ()
    raw = body[start + 1 : _segment_end(body, start + 1)]
    if raw.isascii():
        pid = raw.decode("ascii")
    else:
        try:
            pid = raw.decode(codec_name(msh[18] if len(msh) > 18 else ""))
        except (ParseError, UnicodeDecodeError):
            pid = raw.decode("latin-1")
    fields = pid.split(separators.field, 4)
    if len(fields) < 4 or not fields[3]:
        return ()
    ids = [separators.components(repetition)[0] for repetition in separators.repetitions(fields[3])]
    return tuple(separators.unescape(one) for one in ids if one and one != '""')
