"""The delimiters of one message, and the escape sequences they make necessary (HL7 v2.5 clauses 2.5.4 and 2.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from string import punctuation
from typing import Final

from engine.errors import ParseError

_USABLE: Final = frozenset(punctuation) - {'"'}  # a quotation mark would make the null "" ambiguous
_FORMATTING: Final = re.compile(r"\.(br|sp|ce|sk|fi|nf|in|ti)([+-]?\d{0,3})")
_SEQUENCE: Final = re.compile(r"[CMXZ][0-9A-Za-z]*|\.[A-Za-z]{2}[+-]?\d*")
_CONTROL: Final = r"\x00-\x08\x0b\x0c\x0e-\x1f"
"""Control characters that would break MLLP's frame; a tab may stay, and the line ends are breaks."""


@dataclass(frozen=True, slots=True)
class Separators:
    """MSH-1 and MSH-2. `escape`, `subcomponent` and `truncation` are "" where the message declares none."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""

    @classmethod
    def of(cls, msh: str) -> Separators:
        """Read them from an MSH, FHS or BHS segment (without its terminator). Raises ParseError where they cannot be used."""
        if len(msh) < 5:
            raise ParseError("the header segment is too short to declare its delimiters", location="MSH-1", hl7_code="101")
        field = msh[3]
        declared = msh[4:].split(field, 1)[0]
        everything = field + declared
        if not 1 <= len(declared) <= 5 or len(set(everything)) != len(everything) or not _USABLE.issuperset(everything):
            text = "the delimiters are not usable: one to five, each a different ASCII punctuation character"
            raise ParseError(text, location="MSH-2", hl7_code="102")
        return cls(field, *declared, *[""] * (5 - len(declared)))

    @property
    def declared(self) -> str:
        """MSH-1 and MSH-2 as they are written after the segment name."""
        return self.field + self.component + self.repetition + self.escape + self.subcomponent + self.truncation

    def components(self, text: str) -> list[str]:
        return text.split(self.component)

    def subcomponents(self, text: str) -> list[str]:
        return text.split(self.subcomponent) if self.subcomponent else [text]

    def repetitions(self, text: str) -> list[str]:
        return text.split(self.repetition) if self.repetition else [text]

    def unescape(self, text: str, charset: str = "utf-8") -> str:
        """The text that a leaf stands for; `charset` is that of the message, for ``\\X..\\``.

        Highlighting is dropped, line breaks become a newline. A sequence without a meaning here (``\\Z..\\``, ``\\C..\\``, ``\\M..\\``, hex
        that is no text) stays as it is, and so does an escape character that begins no sequence, as in a file path.
        """
        if not self.escape or self.escape not in text:
            return text
        pieces = text.split(self.escape)
        out = [pieces[0]]
        index, last = 1, len(pieces) - 1
        while index < last:
            code = pieces[index]
            meaning = self._meaning(code, charset)
            if meaning is None and _SEQUENCE.fullmatch(code):
                meaning = self.escape + code + self.escape
            if meaning is None:
                out.append(self.escape + code)
                index += 1
            else:
                out.append(meaning + pieces[index + 1])
                index += 2
        if index == last:
            out.append(self.escape + pieces[last])
        return "".join(out)

    def _meaning(self, code: str, charset: str) -> str | None:
        """What stands between two escape characters, None where that is no sequence or has no meaning as text."""
        match code:
            case "F":
                return self.field
            case "S":
                return self.component
            case "R":
                return self.repetition or None
            case "T":
                return self.subcomponent or None
            case "E":
                return self.escape
            case "P":
                return self.truncation or "#"
            case "H" | "N":
                return ""
        if code[:1] == "X" and len(code) > 1:
            return _hex(code[1:], charset)
        command = _FORMATTING.fullmatch(code)
        return _formatted(command[1], command[2]) if command else None

    def escape_text(self, text: str) -> str:
        """`text` as a leaf: delimiters escaped, line ends as ``.br``, other control characters in hex.

        Raises ValueError where the message has no escape character for that. Not called `escape` since that is the delimiter.
        """
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        special, codes = _special(self)
        if not special.search(text):
            return text
        escape = self.escape
        if not escape:
            raise ValueError("this message declares no escape character, so its delimiters cannot be written as text")
        return special.sub(lambda found: f"{escape}{codes.get(found[0]) or f'X{ord(found[0]):02X}'}{escape}", text)


@lru_cache(maxsize=64)
def _special(separators: Separators) -> tuple[re.Pattern[str], dict[str, str]]:
    """What cannot stand in a leaf, and the code of each such character; a control character has none and is written in hex, as
    is a line end where the full stop of ``.br`` is a delimiter."""
    names = ("field", "component", "repetition", "subcomponent", "truncation", "escape")
    codes = {getattr(separators, name): code for name, code in zip(names, "FSRTPE", strict=True)}
    codes.pop("", None)
    if "." not in codes:
        codes["\n"] = ".br"
    return re.compile(f"[{re.escape(''.join(codes))}\n{_CONTROL}]"), codes


def _hex(digits: str, charset: str) -> str | None:
    try:
        return bytes.fromhex(digits).decode(charset) if digits.isalnum() else None
    except (ValueError, LookupError):
        return None


def _formatted(command: str, count: str) -> str:
    """Formatting commands of FT (clause 2.7.6): breaks as newlines, skipped positions as spaces, indents and fill mode as nothing."""
    number = abs(int(count)) if count.strip("+-") else 0
    if command in ("br", "sp", "ce"):
        return "\n" * (number or 1)
    return " " * (number or 1) if command == "sk" else ""


STANDARD: Final = Separators()
