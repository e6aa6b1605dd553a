"""The delimiters of one message, and the escape sequences they make necessary (HL7 v2.5 clauses 2.5.4 and 2.7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.errors import ParseError

_BREAKS: Final = {".br": "\n", ".sp": "\n", ".ce": "\n"}
_IGNORED: Final = frozenset({"H", "N", ".fi", ".nf", ".in", ".ti", ".sk"})


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
        """Read them from the head of an MSH, FHS or BHS segment. Raises ParseError where they cannot be used."""
        if len(msh) < 5:
            raise ParseError("the header segment is too short to declare its delimiters", location="MSH-1", hl7_code="101")
        field = msh[3]
        declared = msh[4:].split(field, 1)[0].rstrip("\r\n")
        everything = field + declared
        if not 1 <= len(declared) <= 5 or len(set(everything)) != len(everything) or any(c.isalnum() or c in "\r\n" for c in everything):
            raise ParseError(
                "the delimiters are not usable: each must be a different punctuation character", location="MSH-2", hl7_code="102"
            )
        padded = [*declared, "", "", "", ""]
        return cls(field, padded[0], padded[1], padded[2], padded[3], padded[4])

    def components(self, text: str) -> list[str]:
        return text.split(self.component)

    def subcomponents(self, text: str) -> list[str]:
        return text.split(self.subcomponent) if self.subcomponent else [text]

    def repetitions(self, text: str) -> list[str]:
        return text.split(self.repetition) if self.repetition else [text]

    def unescape(self, text: str, charset: str = "utf-8") -> str:
        """The text that a leaf stands for. Highlighting is dropped, line breaks become a newline, an unknown sequence stays as it is."""
        if not self.escape or self.escape not in text:
            return text
        pieces = text.split(self.escape)
        out = [pieces[0]]
        index = 1
        while index < len(pieces):
            meaning = self._meaning(pieces[index], charset) if index + 1 < len(pieces) else None
            if meaning is None:  # not a sequence: the escape character stands for itself, the text goes on
                out.append(self.escape + pieces[index])
                index += 1
            else:
                out.append(meaning + pieces[index + 1])
                index += 2
        return "".join(out)

    def _meaning(self, code: str, charset: str) -> str | None:
        """What stands between two escape characters, None where that is no sequence of the standard."""
        known = {
            "F": self.field,
            "S": self.component,
            "R": self.repetition,
            "T": self.subcomponent,
            "E": self.escape,
            "P": self.truncation or "#",
        }.get(code)
        if known is not None:
            return known
        if code[:1] == "X" and len(code) % 2 and len(code) > 1:
            return _hex(code[1:], charset)
        head = code[:3]
        if head in _BREAKS and _count(code[3:]) is not None:
            return "\n" * (_count(code[3:]) or 1)
        if code in _IGNORED or (head in _IGNORED and _count(code[3:]) is not None):
            return " " * (_count(code[3:]) or 0) if head == ".sk" else ""
        return None

    def escape_text(self, text: str) -> str:
        """`text` as a leaf: delimiters escaped, line ends as ``.br``. Raises ValueError where there is no escape character for it."""
        special = {
            self.field: "F",
            self.component: "S",
            self.repetition: "R",
            self.subcomponent: "T",
            self.truncation: "P",
            "\r": ".br",
            "\n": ".br",
        }
        special.pop("", None)
        text = text.replace("\r\n", "\n")
        if not self.escape:
            if any(character in text for character in special):
                raise ValueError("this message declares no escape character, so its delimiters cannot be written as text")
            return text
        special[self.escape] = "E"
        if not any(character in text for character in special):
            return text
        return "".join(f"{self.escape}{special[c]}{self.escape}" if c in special else c for c in text)


def _hex(digits: str, charset: str) -> str | None:
    try:
        return bytes.fromhex(digits).decode(charset)
    except (ValueError, LookupError):
        return None


def _count(text: str) -> int | None:
    """The count after a formatting command: "" is 0, anything but a small number is None."""
    digits = text.lstrip("+-")
    if not digits:
        return 0
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 4 else None


STANDARD: Final = Separators()
