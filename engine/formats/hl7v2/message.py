"""A decoded HL7 v2 message: lazy and lossless.

Nothing is split before it is asked for, nothing unescaped before it is read. `encode(decode(x))` is x byte for byte: an unchanged
message gives its own bytes back, and in a changed one only the segments that were changed are written anew.

`get` gives None for what is not there, "" for what is there and empty, and `NULL` (two quotation marks) for HL7's null, which
tells a receiver to delete what it has. The paths are those of engine.formats.hl7v2.paths.
"""

from __future__ import annotations

import re
from typing import Final

from engine.errors import ParseError
from engine.formats.hl7v2.charsets import codec_name, decode_text
from engine.formats.hl7v2.header import BOM, separators_and_charset
from engine.formats.hl7v2.paths import Path, check_repeating, parse_path
from engine.formats.hl7v2.separators import Separators

_LINE_END: Final = re.compile("\r\n|\r|\n")
_BYTE_LINES: Final = re.compile(b"(\r\n|\r|\n)")
_HEADERS: Final = frozenset(("MSH", "FHS", "BHS"))
NULL: Final = '""'
"""HL7's null: delete what you have (clause 2.5.3)."""


class _Writing:
    """What the segments of a message share. They do not know the message itself: that circle would be left to the garbage collector."""

    __slots__ = ("ascii_only", "charset", "separators")

    def __init__(self, separators: Separators, charset: str, ascii_only: bool) -> None:
        self.separators, self.charset, self.ascii_only = separators, charset, ascii_only

    def declare(self, charset: str) -> None:
        """Take another MSH-18 for the same bytes. Raises ValueError where they are not in that character set."""
        try:
            codec = codec_name(charset.replace(self.separators.repetition or "~", "~"))
        except ParseError as error:
            raise ValueError(str(error)) from None
        if codec != self.charset and not self.ascii_only:
            raise ValueError(f"MSH-18: the message is in {self.charset}, not in this character set")
        self.charset = codec


class Segment:
    """One segment as text; its fields are split when one is asked for."""

    __slots__ = ("_fields", "_writing", "changed", "name")

    def __init__(self, name: str, text: str, writing: _Writing) -> None:
        self.name = name
        self.changed = False
        self._writing = writing
        self._fields: str | list[str] = text  # text until it is first split

    @property
    def is_header(self) -> bool:
        """MSH, FHS and BHS count their first separator as field 1."""
        return self.name in _HEADERS

    @property
    def text(self) -> str:
        """The whole segment, raw, without its terminator."""
        fields = self._fields
        if isinstance(fields, str):
            return fields
        return self._writing.separators.field.join([fields[0], *fields[2:]] if self.is_header else fields)

    @property
    def fields(self) -> list[str]:
        """All fields as raw text; index 0 is the name, so that index n is field n. To be read only."""
        fields = self._fields
        if isinstance(fields, str):
            separator = self._writing.separators.field
            fields = fields.split(separator)
            if self.name in _HEADERS:
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
        return [text] if self.is_header and number < 3 else self._writing.separators.repetitions(text)

    def set_field(self, number: int, raw: str) -> None:
        """Replace a field by raw text: delimiters below the field count as such.

        Raises ValueError for the delimiters themselves (MSH-1, MSH-2), a field separator or line end in `raw`, a character
        that the message's character set does not have, and an MSH-18 that the bytes are not in.
        """
        writing = self._writing
        if number < (3 if self.is_header else 1):
            raise ValueError(f"{self.name}-{number} cannot be set")
        if writing.separators.field in raw or "\r" in raw or "\n" in raw:
            raise ValueError(f"{self.name}-{number}: a field cannot hold a field separator or a line end; escape the text first")
        if self.name == "MSH" and number == 18:
            writing.declare(raw)
        try:
            raw.encode(writing.charset)
        except UnicodeEncodeError:
            raise ValueError(f"{self.name}-{number}: the text has characters that are not in {writing.charset}") from None
        fields = self.fields
        fields.extend([""] * (number + 1 - len(fields)))
        fields[number] = raw
        self.changed = True

    def __repr__(self) -> str:
        return f"<Segment {self.name}>"


class Message:
    """engine.contracts.Document for HL7 v2. `charset` is Python's name of the codec that its bytes are in."""

    __slots__ = ("_body", "_lines", "_made", "_names", "_places", "_text", "_writing", "separators")

    def __init__(self, body: bytes, text: str, charset: str, separators: Separators) -> None:
        self._body, self._text, self.separators = body, text, separators
        self._writing = _Writing(separators, charset, body.isascii() and "\x1b" not in text)
        self._lines: list[str] = []
        self._made: dict[int, Segment] = {}
        self._names: list[str] = []
        self._places: dict[str, list[int]] = {}

    @property
    def charset(self) -> str:
        return self._writing.charset

    def _split(self) -> list[str]:
        """Cut the text into lines; gives the name of each in upper case, whatever the sender wrote. A blank line's name is ""."""
        text = self._text
        self._lines = _LINE_END.split(text) if "\n" in text else text.split("\r")
        self._names = [line[:3].upper() for line in self._lines]
        return self._names

    def _where(self, name: str, occurrence: int) -> int:
        """The line of a segment, -1 where there is none."""
        names = self._names or self._split()
        if occurrence == 1:
            return names.index(name) if name in names else -1
        places = self._all_places(name)
        return places[occurrence - 1] if occurrence <= len(places) else -1

    def _all_places(self, name: str) -> list[int]:
        places = self._places.get(name)
        if places is None:
            names = self._names or self._split()
            places = self._places[name] = [index for index, one in enumerate(names) if one == name]
        return places

    def _segment(self, index: int) -> Segment:
        segment = self._made.get(index)
        if segment is None:
            segment = self._made[index] = Segment(self._names[index], self._lines[index], self._writing)
        return segment

    @property
    def segments(self) -> list[Segment]:
        """All segments in their order; blank lines are none."""
        names = self._names or self._split()
        return [self._segment(index) for index, name in enumerate(names) if name]

    def all(self, name: str) -> list[Segment]:
        """Every segment called `name`, in order."""
        return [self._segment(index) for index in self._all_places(name)]

    def first(self, name: str) -> Segment | None:
        index = self._where(name, 1)
        return self._segment(index) if index >= 0 else None

    def indexes(self, path: str) -> range:
        """The indexes that there are of a segment (``OBX``) or of a field's repetitions (``PID-3``). Raises ValueError."""
        if check_repeating(path):
            return range(1, len(self._all_places(path)) + 1)
        name, occurrence, number, *_ = parse_path(path)
        index = self._where(name, occurrence)
        fields = self._segment(index).fields if index >= 0 else []
        field = fields[number] if number < len(fields) else ""
        mark = self.separators.repetition
        return range(1, (field.count(mark) if mark else 0) + 2) if field else range(0)

    def get(self, path: str) -> str | None:
        """The text at `path`: unescaped where it is a leaf, raw where it has parts below. Raises ValueError for an impossible path."""
        name, occurrence, number, repetition, component, subcomponent = parse_path(path)
        index = self._where(name, occurrence)
        if index < 0:
            return None
        fields = self._segment(index).fields
        if number >= len(fields):
            return None
        found: str | None = fields[number]
        if number < 3 and name in _HEADERS:
            return found
        separators = self.separators
        if repetition > 1 or (separators.repetition and separators.repetition in fields[number]):
            found = _part(fields[number], separators.repetition, repetition)
        if component and found is not None:
            found = _part(found, separators.component, component)
            if subcomponent and found is not None:
                found = _part(found, separators.subcomponent, subcomponent)
        if found is None or not separators.escape or separators.escape not in found:
            return found
        if (not component and separators.component in found) or (
            not subcomponent and separators.subcomponent and separators.subcomponent in found
        ):
            return found
        return separators.unescape(found, self.charset)

    def set(self, path: str, value: str) -> None:
        """Write `value`, escaped, at `path`; what is missing before it is filled with empty parts. `NULL` writes HL7's null.

        Raises ValueError for an impossible path, a segment that is not there, and for what `Segment.set_field` refuses.
        """
        where = parse_path(path)
        index = self._where(where.segment, where.occurrence)
        if index < 0:
            raise ValueError(f"{path}: the message has no such segment")
        segment = self._segment(index)
        leaf = value if value == NULL else self.separators.escape_text(value)
        segment.set_field(where.field, self._with(segment.field(where.field), where, leaf))

    def _with(self, field: str, where: Path, leaf: str) -> str:
        """`field` with `leaf` put where the path points."""
        separators = self.separators
        repetition = _part(field, separators.repetition, where.repetition) or ""
        if where.subcomponent:
            component = _part(repetition, separators.component, where.component) or ""
            leaf = _replaced(component, separators.subcomponent, where.subcomponent, leaf)
        if where.component:
            leaf = _replaced(repetition, separators.component, where.component, leaf)
        return _replaced(field, separators.repetition, where.repetition, leaf)

    def encode(self) -> bytes:
        """The message as bytes in its own character set: every segment that was not changed, and every terminator, as it came."""
        changed = {index: segment for index, segment in self._made.items() if segment.changed}
        if not changed:
            return self._body
        bom = BOM if self._body.startswith(BOM) else b""
        pieces = _BYTE_LINES.split(self._body[len(bom) :])  # line, terminator, line, ... in step with the lines of the text
        for index, segment in changed.items():
            pieces[2 * index] = segment.text.encode(self.charset)
        return bom + b"".join(pieces)


def _part(text: str, separator: str, number: int) -> str | None:
    """The `number`-th part of `text`, None where it has fewer."""
    if number == 1:
        return text.partition(separator)[0] if separator else text
    parts = text.split(separator) if separator else [text]
    return parts[number - 1] if number <= len(parts) else None


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
    separators, declared = separators_and_charset(body, charset)
    text, codec = decode_text(body[3:] if body.startswith(BOM) else body, declared, charset, fallback)
    return Message(body, text, codec, separators)


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

    def check_repeating(self, path: str) -> None:
        check_repeating(path)


codec: Final = Codec()
