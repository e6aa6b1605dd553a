"""ASTM E1394 / CLSI LIS02-A2: the records that laboratory instruments exchange. A pure codec; what frames them is adapters.astm.link.

A message is a header record H, its patients P, their orders O, the results R of each, comments C, manufacturer records M, queries Q,
and a terminator L; each record ends in CR. The header says which characters separate (clause 5.4.5): field, repeat, component, escape.

``O-3.1`` is the first component of the third field of the first order, ``R[2]-4`` the fourth field of the second result,
``R-3[2].4`` a component of a repetition. As in the standard field 1 is the record's type, and everything is counted from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from engine.errors import ParseError
from engine.message import ASTM

TYPES: Final = frozenset("HPORCQLMS")
CR: Final = "\r"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PATH: Final = re.compile(
    r"(?P<record>[A-Z])(?:\[(?P<occurrence>\d{1,4})\])?-(?P<field>\d{1,3})(?:\[(?P<repeat>\d{1,4})\])?(?:\.(?P<component>\d{1,3}))?",
    re.ASCII,
)


class Path(NamedTuple):
    """A parsed path, 1-based; component 0 means the whole repetition."""

    record: str
    occurrence: int
    field: int
    repeat: int
    component: int


@lru_cache(maxsize=1024)
def parse_path(path: str) -> Path:
    """Raises ValueError for what can never be a path of an ASTM record."""
    match = _PATH.fullmatch(path)
    if match is None or match["record"] not in TYPES:
        raise ValueError(f"{path!r} is not a path such as O-3.1 or R[2]-4, with a record type of {' '.join(sorted(TYPES))}")
    if any(number is not None and not int(number) for number in match.groups()[1:]):
        raise ValueError(f"{path!r}: everything is counted from 1")
    record, *numbers = match.groups()
    occurrence, field, repeat, component = (int(number) if number else None for number in numbers)
    return Path(record, occurrence or 1, field or 1, repeat or 1, component or 0)


@dataclass(frozen=True, slots=True)
class Delimiters:
    """What a header record declares; ``H|\\^&`` is usual, vendors have others (``H@^\\`` …)."""

    field: str = "|"
    repeat: str = "\\"
    component: str = "^"
    escape: str = "&"

    def unescape(self, text: str) -> str:
        """Clause 5.4.6: ``&F& &S& &R& &E&`` stand for the delimiters, ``&Xhh&`` for bytes; other sequences stay as they are."""
        if not self.escape or self.escape not in text:
            return text
        mark = re.escape(self.escape)
        return re.sub(f"{mark}([FSRE]|X(?:[0-9A-Fa-f]{{2}})+){mark}", self._meant, text)

    def escape_text(self, text: str) -> str:
        """`text` as a leaf; control characters become blanks. Without an escape character, delimiters become blanks too."""
        text = _CONTROL.sub(" ", text)
        if self.escape:
            text = text.replace(self.escape, f"{self.escape}E{self.escape}")
        for mark, letter in ((self.field, "F"), (self.component, "S"), (self.repeat, "R")):
            text = text.replace(mark, f"{self.escape}{letter}{self.escape}" if self.escape else " ")
        return text

    def _meant(self, found: re.Match[str]) -> str:
        code = found[1]
        if code[0] == "X":
            return bytes.fromhex(code[1:]).decode("latin-1")
        return {"F": self.field, "S": self.component, "R": self.repeat, "E": self.escape}[code]


def delimiters_of(header: str) -> Delimiters:
    """What the header record declares. Raises ParseError where there is none, or two are the same character."""
    if header[:1] != "H":
        raise ParseError("an ASTM message begins with a header record H", location="H")
    declared = header[1:2] + header[2:].split(header[1:2], 1)[0] if len(header) > 1 else ""
    if not 3 <= len(declared) <= 4 or len(set(declared)) < len(declared) or any(mark.isalnum() or mark.isspace() for mark in declared):
        raise ParseError("the header record declares no usable delimiters", location="H-2")
    return Delimiters(*declared, *([""] if len(declared) == 3 else []))


class Record:
    """One record: its type, and its fields, split when they are asked for."""

    __slots__ = ("_delimiters", "_fields", "text")

    def __init__(self, text: str, delimiters: Delimiters) -> None:
        self.text, self._delimiters = text, delimiters
        self._fields: list[str] | None = None

    @property
    def type(self) -> str:
        return self.text[:1].upper()

    @property
    def fields(self) -> list[str]:
        """As they stand, escapes and all; the first is the type (and, in some vendors' records, more)."""
        if self._fields is None:
            self._fields = self.text.split(self._delimiters.field)
        return self._fields

    def get(self, field: int, repeat: int = 1, component: int = 0) -> str:
        """The text of a field's repetition, or of one of its components, unescaped; "" where there is none."""
        whole = self.fields[field - 1] if field <= len(self.fields) else ""
        if self.type == "H" and field == 2:
            return whole if repeat == 1 and component == 0 else ""
        one = _part(whole, self._delimiters.repeat, repeat)
        return self._delimiters.unescape(_part(one, self._delimiters.component, component) if component else one)

    def repeats(self, field: int) -> int:
        """How many repetitions a field has; none for an empty one."""
        whole = self.fields[field - 1] if field <= len(self.fields) else ""
        return whole.count(self._delimiters.repeat) + 1 if whole else 0

    def components(self, field: int, repeat: int = 1) -> int:
        """How many components a field's repetition has; one where it is not divided."""
        whole = self.fields[field - 1] if field <= len(self.fields) else ""
        return _part(whole, self._delimiters.repeat, repeat).count(self._delimiters.component) + 1


def _part(text: str, mark: str, number: int) -> str:
    parts = text.split(mark) if mark else [text]
    return parts[number - 1] if number <= len(parts) else ""


class Message:
    """engine.contracts.Document. Lossless: `encode` gives the bytes that were decoded."""

    content_type = ASTM

    def __init__(self, text: str, charset: str) -> None:
        self._text, self.charset = text, charset
        lines = text.split(CR)
        self.delimiters = delimiters_of(lines[0].lstrip("\n"))
        self.records = tuple(Record(line.strip("\n"), self.delimiters) for line in lines if line.strip("\n"))
        for number, record in enumerate(self.records, 1):
            if record.type not in TYPES:
                raise ParseError("a record of a type that the standard does not have", location=f"record {number}")

    def of(self, kind: str) -> Iterator[Record]:
        """The records of one type, in order."""
        return (record for record in self.records if record.type == kind)

    def get(self, path: str) -> str | None:
        """None where there is no such record, or nothing in the field."""
        wanted = parse_path(path)
        found = list(self.of(wanted.record))
        if len(found) < wanted.occurrence:
            return None
        return found[wanted.occurrence - 1].get(wanted.field, wanted.repeat, wanted.component) or None

    def encode(self) -> bytes:
        return self._text.encode(self.charset)


class AstmCodec:
    """engine.contracts.Codec. What a message's character set is, the message does not say: the channel does."""

    content_type = ASTM

    def decode(self, body: bytes) -> Message:
        return self.decode_with(body, "utf-8")

    def decode_with(self, body: bytes, charset: str) -> Message:
        """Raises ParseError: not in the character set, no header, a record type that does not exist."""
        try:
            text = body.decode(charset)
        except (UnicodeDecodeError, LookupError):
            raise ParseError(f"the bytes are not in the character set {charset}", hl7_code="102") from None
        return Message(text, charset)

    def check_path(self, path: str) -> None:
        parse_path(path)


codec = AstmCodec()
