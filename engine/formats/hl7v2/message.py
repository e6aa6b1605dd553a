"""A decoded HL7 v2 message: lazy and lossless.

Nothing is split before it is asked for, nothing unescaped before it is read. `encode(decode(x))` is x byte for byte: an unchanged
message gives its own bytes back; a changed one is written from its segments, each with its own terminator.

Paths address what the standard numbers (clause 2.16.3 style): ``PID-3[2].4.1`` is the second repetition's fourth component's first
subcomponent; ``OBX[3]-5`` the field of the third OBX; ``PID.3.1`` is taken for ``PID-3.1``. Absent indexes mean the first.
`get` gives None for what is not there, "" for what is there and empty, and ``""`` (two quotes) for HL7's null.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from engine.formats.hl7v2.charsets import codec_name, decode_text, named
from engine.formats.hl7v2.header import read_header
from engine.formats.hl7v2.separators import Separators

_BOM: Final = b"\xef\xbb\xbf"
_TERMINATORS: Final = re.compile(r"(\r\n|\r|\n)")
_PATH: Final = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<occurrence>\d{1,4})\])?[-.](?P<field>\d{1,3})(?:\[(?P<repetition>\d{1,4})\])?"
    r"(?:\.(?P<component>\d{1,3})(?:\.(?P<subcomponent>\d{1,3}))?)?"
)
NULL: Final = '""'
"""HL7's null: delete what you have (clause 2.5.3)."""


@dataclass(frozen=True, slots=True)
class Path:
    """A parsed path, 1-based; 0 for a component or subcomponent means the whole above it."""

    segment: str
    occurrence: int
    field: int
    repetition: int
    component: int
    subcomponent: int


@lru_cache(maxsize=4096)
def parse_path(path: str) -> Path:
    """Raises ValueError for what can never be a path of HL7 v2."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"{path!r} is not an HL7 v2 path such as PID-3[1].4 or OBX[2]-5")
    number = {name: int(match[name]) if match[name] else 1 for name in ("occurrence", "field", "repetition")}
    deep = [int(match[name]) if match[name] else 0 for name in ("component", "subcomponent")]
    if 0 in number.values() or any(match[name] == "0" for name in ("component", "subcomponent")):
        raise ValueError(f"{path!r}: everything is counted from 1")
    return Path(match["segment"], number["occurrence"], number["field"], number["repetition"], *deep)


class Segment:
    """One segment as text; its fields are split when one is asked for."""

    __slots__ = ("_fields", "_message", "name", "terminator")

    def __init__(self, text: str, terminator: str, message: Message) -> None:
        self.name = text[:3].upper()
        self.terminator = terminator
        self._message = message
        self._fields: str | list[str] = text  # text until it is first split

    @property
    def text(self) -> str:
        fields = self._fields
        return fields if isinstance(fields, str) else self._joined(fields)

    def _joined(self, fields: list[str]) -> str:
        separator = self._message.separators.field
        return separator.join([fields[0], *fields[2:]] if self.is_header else fields)

    @property
    def is_header(self) -> bool:
        """MSH, FHS and BHS count their first separator as field 1."""
        return self.name in ("MSH", "FHS", "BHS")

    @property
    def fields(self) -> list[str]:
        """All fields as raw text; index 0 is the name, so that index n is field n."""
        fields = self._fields
        if isinstance(fields, str):
            separator = self._message.separators.field
            fields = fields.split(separator)
            if self.is_header:
                fields.insert(1, separator)
            self._fields = fields
        return fields

    def field(self, number: int) -> str:
        """Field `number` as raw text, "" where it is absent."""
        fields = self.fields
        return fields[number] if number < len(fields) else ""

    def repetitions(self, number: int) -> list[str]:
        """The repetitions of a field as raw text; none for an empty field. MSH-1 and MSH-2 have one."""
        text = self.field(number)
        if not text:
            return []
        return [text] if self.is_header and number < 3 else self._message.separators.repetitions(text)

    def set_field(self, number: int, raw: str) -> None:
        """Replace a field by raw text (delimiters in it count as such)."""
        fields = self.fields
        fields.extend([""] * (number + 1 - len(fields)))
        fields[number] = raw
        self._message.changed = True

    def __repr__(self) -> str:
        return f"<Segment {self.name}>"


class Message:
    """engine.contracts.Document for HL7 v2."""

    __slots__ = ("_body", "_bom", "_by_name", "_segments", "_text", "changed", "charset", "separators")

    def __init__(self, body: bytes, text: str, charset: str, separators: Separators) -> None:
        self._body, self._text = body, text
        self._bom = _BOM if body[:3] == _BOM else b""
        self.charset, self.separators = charset, separators
        self.changed = False
        self._segments: list[Segment] | None = None
        self._by_name: dict[str, list[Segment]] | None = None

    @property
    def segments(self) -> list[Segment]:
        """All segments in their order; empty lines are none."""
        if self._segments is None:
            self._segments = self._split()
        return self._segments

    def _split(self) -> list[Segment]:
        if "\n" not in self._text:
            lines = self._text.split("\r")
            last = lines.pop()
            segments = [Segment(line, "\r", self) for line in lines]
            if last:
                segments.append(Segment(last, "", self))
        else:
            pieces = [*_TERMINATORS.split(self._text), ""]
            segments = [Segment(*pair, self) for pair in zip(pieces[::2], pieces[1::2], strict=False) if any(pair)]
        return segments

    def all(self, name: str) -> list[Segment]:
        """Every segment called `name`, in order."""
        if self._by_name is None:
            self._by_name = {}
            for segment in self.segments:
                self._by_name.setdefault(segment.name, []).append(segment)
        return self._by_name.get(name, [])

    def first(self, name: str) -> Segment | None:
        found = self.all(name)
        return found[0] if found else None

    def get(self, path: str) -> str | None:
        """The text at `path`: unescaped where it is a leaf, raw where it has parts below. Raises ValueError for an impossible path."""
        where = parse_path(path)
        segments = self.all(where.segment)
        if where.occurrence > len(segments):
            return None
        segment = segments[where.occurrence - 1]
        if where.field >= len(segment.fields):
            return None
        if segment.is_header and where.field < 3:
            return segment.field(where.field)
        return self._inside(segment.field(where.field), where)

    def _inside(self, field: str, where: Path) -> str | None:
        separators = self.separators
        repetitions = separators.repetitions(field)
        if where.repetition > len(repetitions):
            return None
        text = repetitions[where.repetition - 1]
        if where.component:
            parts = separators.components(text)
            if where.component > len(parts):
                return None
            text = parts[where.component - 1]
        if where.subcomponent:
            parts = separators.subcomponents(text)
            if where.subcomponent > len(parts):
                return None
            text = parts[where.subcomponent - 1]
        if not where.component and separators.component in text:
            return text
        if not where.subcomponent and separators.subcomponent and separators.subcomponent in text:
            return text
        return separators.unescape(text, self.charset)

    def set(self, path: str, value: str) -> None:
        """Write `value`, escaped, at `path`; what is missing before it is filled with empty parts.

        Raises ValueError for an impossible path, a segment that is not there, MSH-1 and MSH-2.
        """
        where = parse_path(path)
        segments = self.all(where.segment)
        if where.occurrence > len(segments):
            raise ValueError(f"{path}: the message has no such segment")
        segment = segments[where.occurrence - 1]
        if segment.is_header and where.field < 3:
            raise ValueError(f"{path}: the delimiters of a message cannot be set")
        separators = self.separators
        leaf = value if value == NULL else separators.escape_text(value)
        if where.subcomponent:
            part = self._part(self._part(segment.field(where.field), where.repetition, "repetition"), where.component, "component")
            leaf = _replaced(part, separators.subcomponent, where.subcomponent, leaf)
        if where.component:
            repetition = self._part(segment.field(where.field), where.repetition, "repetition")
            leaf = _replaced(repetition, separators.component, where.component, leaf)
        segment.set_field(where.field, _replaced(segment.field(where.field), separators.repetition, where.repetition, leaf))

    def _part(self, text: str, number: int, level: str) -> str:
        parts = text.split(getattr(self.separators, level))
        return parts[number - 1] if number <= len(parts) else ""

    def encode(self) -> bytes:
        """The message as bytes in its own character set. Raises UnicodeEncodeError where a value that was set has no place in it."""
        if not self.changed:
            return self._body
        return self._bom + "".join(segment.text + segment.terminator for segment in self.segments).encode(self.charset)


def _replaced(text: str, separator: str, number: int, part: str) -> str:
    """`text` with its `number`-th part replaced, filled up with empty parts before it."""
    if not separator:
        if number > 1:
            raise ValueError("this message declares no delimiter for that level")
        return part
    parts = text.split(separator)
    parts.extend([""] * (number - len(parts)))
    parts[number - 1] = part
    return separator.join(parts)


def decode(body: bytes, *, charset: str | None = None, fallback: str | None = None) -> Message:
    """Decode the character set first, then split (GB18030 trail bytes may equal a delimiter).

    `charset` overrides MSH-18; `fallback` is tried where the bytes do not fit. Both by table 0211 or Python's name.
    Raises ParseError: no usable MSH, an unknown character set, or bytes that are not in it (with their offset).
    """
    header = read_header(body)
    bom = body[:3] == _BOM
    text, used = decode_text(body[3:] if bom else body, _codecs(header.charset, charset, fallback))
    return Message(body, text, used, header.separators)


def _codecs(declared: str, charset: str | None, fallback: str | None) -> list[str]:
    """What to try, in order. Without a declaration: ASCII, or UTF-8 where the bytes prove to be that (no other set's text does by accident)."""
    first = [named(charset)] if charset else [codec_name(declared)] if declared else ["ascii", "utf-8"]
    return first + ([named(fallback)] if fallback else [])


class Codec:
    """engine.contracts.Codec for HL7 v2."""

    content_type = "application/hl7-v2+er7"

    def decode(self, body: bytes) -> Message:
        return decode(body)

    def decode_with(self, body: bytes, charset: str) -> Message:
        """In the character set that the source found to be the right one."""
        return decode(body, charset=charset or None)

    def check_path(self, path: str) -> None:
        parse_path(path)


codec: Final = Codec()
