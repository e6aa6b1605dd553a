"""The header facts that can be read cheaply from raw bytes: MSH, and the patient identifiers of PID-3.

On the hottest path: no decoding of the whole message, no regular expression. The trail bytes of the multi-byte sets taken here are
never CR or LF, and segment names are ASCII, so cutting segments out of bytes is safe; a segment is decoded before it is split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.errors import ParseError
from engine.formats.hl7v2.charsets import codec_name, first_fitting, named
from engine.formats.hl7v2.separators import STANDARD, Separators
from engine.values import value

BOM: Final = b"\xef\xbb\xbf"
_FIELDS: Final = 21
_PID: Final = b"\rPID|"
_MULTI_BYTE: Final = ("gb18030", "big5hkscs", "shift_jis", "euc_kr", "iso2022_jp_ext")
_ELSEWHERE: Final = (
    (b"\xff\xfe", "the message is in UTF-16, which is not taken: send UTF-8 and say so in MSH-18"),
    (b"\xfe\xff", "the message is in UTF-16, which is not taken: send UTF-8 and say so in MSH-18"),
    (b"\x0bMSH", "the bytes still carry their MLLP frame (0B ... 1C 0D)"),
    (b"FHS", "this is a batch file (FHS), not a message"),
    (b"BHS", "this is a batch (BHS), not a message"),
)


@value(frozen=True, slots=True)
class Header:
    """`fields[n]` is MSH-n as raw text (MSH-1 the separator itself), "" where it is absent, at least up to MSH-21.

    `message_type` is ``ADT^A01`` whatever the delimiters; `sender` is ``application|facility`` by their namespaces (raw text);
    `content_offset`: the first byte after the MSH segment; `codec` is Python's name of what the header was decoded with.
    """

    fields: Sequence[str]
    separators: Separators
    message_type: str
    control_id: str
    sender: str
    patient_ids: tuple[str, ...]
    content_offset: int
    codec: str = "ascii"

    @property
    def receiver(self) -> str:
        """MSH-5 and MSH-6, as `sender`."""
        component = self.separators.component
        return f"{_namespace(self.fields[5], component)}|{_namespace(self.fields[6], component)}"

    @property
    def structure(self) -> str:
        """MSH-9.3, "" where it is absent."""
        parts = self.separators.components(self.fields[9])
        return parts[2] if len(parts) > 2 else ""

    @property
    def datetime(self) -> str:
        return self.fields[7]

    @property
    def processing_id(self) -> str:
        return self.fields[11]

    @property
    def version(self) -> str:
        """MSH-12.1."""
        return self.separators.components(self.fields[12])[0]

    @property
    def sequence_number(self) -> str:
        return self.fields[13]

    @property
    def accept_ack(self) -> str:
        return self.fields[15]

    @property
    def application_ack(self) -> str:
        return self.fields[16]

    @property
    def charset(self) -> str:
        """MSH-18 with all its repetitions, separated by ``~`` whatever the message's own separator."""
        return _repeated(self.fields[18], self.separators)

    @property
    def enhanced(self) -> bool:
        """Either of MSH-15 and MSH-16 present means enhanced mode (clause 2.9.2)."""
        return bool(self.fields[15] or self.fields[16])


def read_header(body: bytes, charset: str | None = None) -> Header:
    """`charset` rules over MSH-18. Raises ParseError when there is no usable MSH: what is missing, with its table 0357 code."""
    end, msh, codec = _msh(body, charset)
    separators = STANDARD if msh[3:9] == "|^~\\&|" else Separators.of(msh)
    field, component = separators.field, separators.component
    fields = ["MSH", field, *msh[4:].split(field)]
    if len(fields) < 11:
        raise ParseError("the MSH segment ends before MSH-10", location="MSH", hl7_code="101")
    kind = fields[9].split(component)
    if not kind[0]:
        raise ParseError("MSH-9 (message type) is empty", location="MSH-9", hl7_code="101")
    if len(fields) <= _FIELDS:
        fields += [""] * (_FIELDS + 1 - len(fields))
    return Header(
        fields,
        separators,
        f"{kind[0]}^{kind[1]}" if len(kind) > 1 else kind[0],
        fields[10],
        f"{_namespace(fields[3], component)}|{_namespace(fields[4], component)}",
        _patient_ids(body, end, separators, charset or fields[18]),
        _next_segment(body, end),
        codec,
    )


def separators_and_charset(body: bytes, charset: str | None = None) -> tuple[Separators, str]:
    """What decoding needs of the header and no more. Raises ParseError as `read_header` does."""
    _, msh, _ = _msh(body, charset)
    separators = STANDARD if msh[3:9] == "|^~\\&|" else Separators.of(msh)
    fields = msh.split(separators.field, 18)
    if len(fields) < 10:
        raise ParseError("the MSH segment ends before MSH-10", location="MSH", hl7_code="101")
    if fields[8][:1] in ("", separators.component):
        raise ParseError("MSH-9 (message type) is empty", location="MSH-9", hl7_code="101")
    return separators, _repeated(fields[17], separators) if len(fields) > 17 else ""


def _msh(body: bytes, charset: str | None) -> tuple[int, str, str]:
    """Where the MSH segment ends, its text, and the codec of that text."""
    start = 3 if body[:3] == BOM else 0
    if body[start : start + 3] != b"MSH":
        text = next((text for head, text in _ELSEWHERE if body.startswith(head)), "the message does not begin with an MSH segment")
        raise ParseError(text, location="MSH", hl7_code="100")
    end = _segment_end(body, start)
    raw = body[start:end]
    if raw.isascii() and b"\x1b" not in raw:
        return end, raw.decode("ascii"), "ascii"
    return end, *decoded_msh(raw, charset)


def decoded_msh(raw: bytes, charset: str | None) -> tuple[str, str]:
    """An MSH with other than ASCII in it. Its character set stands in MSH-18, behind fields that may hold a delimiter as the second
    byte of a character: so the set that is sought is the one which the segment, decoded with it, declares."""
    if charset:
        return first_fitting(raw, (named(charset),))
    for guess in ("latin-1", *_MULTI_BYTE):
        codec = _declared_codec(raw, guess)
        if codec and codec == _declared_codec(raw, codec):
            return first_fitting(raw, (codec,))
    return first_fitting(raw, ("utf-8",))


def _declared_codec(raw: bytes, guess: str) -> str:
    """The codec for the MSH-18 that shows when `raw` is read as `guess`, "" for none."""
    text, _ = first_fitting(raw, (guess,))
    try:
        separators = Separators.of(text)
        parts = text.split(separators.field, 18)
        return codec_name(_repeated(parts[17], separators)) if len(parts) > 17 and parts[17] else ""
    except ParseError:
        return ""


def _repeated(msh18: str, separators: Separators) -> str:
    """MSH-18 with its repetitions separated by ``~``, as `codec_name` takes it."""
    return msh18 if separators.repetition in ("~", "") else msh18.replace(separators.repetition, "~")


def _namespace(field: str, component: str) -> str:
    """The first component of an HD; where it is empty the second (a universal id)."""
    if component not in field:
        return field
    parts = field.split(component)
    return parts[0] or parts[1]


def _segment_end(body: bytes, start: int) -> int:
    cr = body.find(b"\r", start)
    lf = body.find(b"\n", start, cr if cr >= 0 else len(body))
    return lf if lf >= 0 else cr if cr >= 0 else len(body)


def _next_segment(body: bytes, end: int) -> int:
    size = len(body)
    while end < size and body[end] in b"\r\n":
        end += 1
    return end


def _patient_ids(body: bytes, end: int, separators: Separators, charset: str) -> tuple[str, ...]:
    """PID-3.1 of every repetition of the first PID segment."""
    name = _PID if separators is STANDARD else f"\rPID{separators.field}".encode()
    start = body.find(name, end)
    if start < 0:
        start = body.find(b"\n" + name[1:], end)
        if start < 0:
            return ()
    raw = body[start + 1 : _segment_end(body, start + 1)]
    pid = raw.decode("ascii") if raw.isascii() and b"\x1b" not in raw else _decoded_pid(raw, _repeated(charset, separators))
    fields = pid.split(separators.field, 4)
    if len(fields) < 4 or not fields[3]:
        return ()
    field, component = fields[3], separators.component
    if separators.repetition and separators.repetition in field:
        ids = [one.split(component, 1)[0] for one in field.split(separators.repetition)]
    else:
        ids = [field.split(component, 1)[0]]
    return tuple([separators.unescape(one) for one in ids if one and one != '""'])


def _decoded_pid(raw: bytes, charset: str) -> str:
    try:
        return first_fitting(raw, (named(charset) if charset else "utf-8",))[0]
    except ParseError:
        return raw.decode("latin-1")
