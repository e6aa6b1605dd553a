"""Specific Character Set (0008,0005): bytes to text, strictly (PS3.3 clause C.12.1.1.2, PS3.5 clause 6.1 and annexes H to K).

What is not in the set that a data set declares is never taken for something else in silence: the text comes with a fault. The one mistake
that bytes alone cannot prove is another 8-bit set under the name of ISO 8859; UTF-8 there, control characters, and signs where a letter
must be are recognized.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

_TERM: Final = re.compile(r"ISO[ _-]?(?:2022[ _-]?)?IR[ _-]?(\d+)")
_WHOLE: Final = {"192": "utf-8"}
_NAMED: Final = {"GB18030": "gb18030", "GBK": "gbk", "UTF-8": "utf-8", "UTF8": "utf-8"}
_SINGLE: Final = {
    "100": "latin_1", "101": "iso8859_2", "109": "iso8859_3", "110": "iso8859_4", "144": "iso8859_5", "127": "iso8859_6",
    "126": "iso8859_7", "138": "iso8859_8", "148": "iso8859_9", "203": "iso8859_15", "13": "shift_jis", "166": "iso8859_11",
}  # fmt: skip
"""8-bit sets by their ISO-IR number: ASCII in G0, these in G1. JIS X 0201's katakana stand in Shift JIS at the same places."""
_DOUBLE: Final = {"149": "euc_kr", "58": "gb2312"}
"""94x94 sets that are designated to G1."""
_DESIGNATIONS: Final[dict[bytes, tuple[int, str]]] = {
    b"(B": (0, "ascii"), b"(J": (0, "ascii"), b")I": (1, "shift_jis"), b"-A": (1, "latin_1"), b"-B": (1, "iso8859_2"),
    b"-C": (1, "iso8859_3"), b"-D": (1, "iso8859_4"), b"-L": (1, "iso8859_5"), b"-G": (1, "iso8859_6"), b"-F": (1, "iso8859_7"),
    b"-H": (1, "iso8859_8"), b"-M": (1, "iso8859_9"), b"-b": (1, "iso8859_15"), b"-T": (1, "iso8859_11"), b"$B": (0, "iso2022_jp"),
    b"$(D": (0, "iso2022_jp_2"), b"$)C": (1, "euc_kr"), b"$)A": (1, "gb2312"),
}  # fmt: skip
"""Escape sequence (without ESC) -> (G0 or G1, codec): PS3.3 tables C.12-3 and C.12-4."""
_PIECE: Final = re.compile(
    rb"\x1b(\$\([A-Z]|\$\)[A-Z]|\$[A-Z]|[()-][A-Za-z])|([\x21-\x7e]+)|([\x80-\xff]+)|([\x00-\x1a\x1c-\x20\x7f]+)|(\x1b)"
)
_RESET: Final = re.compile(rb"[\t\n\f\r]")
_ODD: Final = re.compile("[\x80-\x9f]|[\u00a1-\u00bf\u00d7\u00f7]")
_CONTROL_1: Final = re.compile("[\x80-\x9f]")
_NUL: Final = re.compile("\x00+$")


class Text(NamedTuple):
    """What bytes say; `fault` is "" where that is sure."""

    text: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Charset:
    """A declared Specific Character Set. `terms` as declared; `whole` is the codec of a set that knows no escape sequences."""

    terms: tuple[str, ...]
    whole: str = ""
    g1: str = ""
    unknown: str = ""
    known: frozenset[str] = field(default_factory=frozenset)

    @property
    def weak(self) -> bool:
        """Whether nothing is declared, or only what any bytes would fit: the site may know better."""
        return not self.whole and self.g1 in ("", "ascii", "latin_1") and len([term for term in self.terms if term]) <= 1

    def decode(self, raw: bytes, *, fallback: str = "", name: bool = False) -> Text:
        """`raw` as text. `fallback` is the character set that somebody who should know has named for this sender; `name` says that only
        letters are to be expected (PN)."""
        if raw.isascii() and b"\x1b" not in raw:
            return Text(raw.decode("ascii"))
        if fallback and self.weak:
            return _named(raw, fallback, "") or self._failed(raw, "")
        text = self._strict(raw, name)
        return Text(text) if text is not None else self._failed(raw, fallback)

    def _strict(self, raw: bytes, name: bool) -> str | None:
        try:
            if self.whole:
                return raw.decode(self.whole)
            if self.unknown or (not self.g1 and not self.known):
                return None
            text = _extended(raw, self.g1, name) if b"\x1b" in raw else raw.decode(self.g1)
        except (UnicodeDecodeError, LookupError):
            return None
        if self.g1 == "latin_1" and b"\x1b" not in raw and (_is_utf8(raw) or (_ODD if name else _CONTROL_1).search(text)):
            return None
        return text

    def _failed(self, raw: bytes, fallback: str) -> Text:
        declared = "\\".join(self.terms) or "none"
        said = f"not in the declared character set ({declared})" if any(self.terms) else "no character set is declared"
        for codec in (fallback, "utf-8"):
            found = _named(raw, codec, f"{said}; read as {codec}") if codec else None
            if found is not None:
                return found
        return Text(raw.decode("ascii", "replace"), f"{said}; what is not ASCII is replaced")


def _named(raw: bytes, codec: str, fault: str) -> Text | None:
    try:
        return Text(raw.decode(codec), fault)
    except (UnicodeDecodeError, LookupError):
        return None


def _is_utf8(raw: bytes) -> bool:
    """Whether the bytes that are not ASCII make UTF-8: in ISO 8859-1 that would be capital letters followed by signs only."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _extended(raw: bytes, g1: str, name: bool) -> str:
    """Text with code extensions (ISO 2022). At a line end or a delimiter the first value's sets are in force again."""
    out: list[str] = []
    sets = ["ascii", g1]
    delimiters = b"\\^=" if name else b"\\"
    for match in _PIECE.finditer(raw):
        designation, low, high, control, bare = match.groups()
        if designation is not None:
            which, codec = _DESIGNATIONS.get(designation) or _missing(raw, match.start())
            sets[which] = codec
        elif low is not None:
            out.append(low.decode("ascii") if sets[0] == "ascii" else (_entry(sets[0]) + low).decode(sets[0]))
            if sets[0] == "ascii" and any(mark in delimiters for mark in low):
                sets[1] = g1
        elif high is not None:
            out.append(high.decode(sets[1]))
        elif control is not None:
            out.append(control.decode("ascii"))
            if _RESET.search(control):
                sets = ["ascii", g1]
        elif bare is not None:
            _missing(raw, match.start())
    return "".join(out)


def _entry(codec: str) -> bytes:
    return b"\x1b$B" if codec == "iso2022_jp" else b"\x1b$(D"


def _missing(raw: bytes, at: int) -> tuple[int, str]:
    raise UnicodeDecodeError("dicom", raw, at, at + 1, "no escape sequence of DICOM")


def charset(terms: Sequence[str]) -> Charset:
    """The character set for the values of (0008,0005)."""
    return _charset(tuple(term.strip() for term in terms))


@lru_cache(maxsize=256)
def _charset(terms: tuple[str, ...]) -> Charset:
    g1, known = "", set()
    for number, term in enumerate(terms):
        if not term:
            continue
        match = _TERM.fullmatch(term.upper())
        register = match[1] if match else ""
        whole = _NAMED.get(term.upper()) or _WHOLE.get(register)
        if whole and number == 0:
            return Charset(terms, whole=whole)
        codec = _SINGLE.get(register, "")
        if not codec and register not in _DOUBLE and register not in ("6", "14", "87", "159"):
            return Charset(terms, unknown=term)
        known.add(register)
        if number == 0:
            g1 = codec
    # some write the Korean or Chinese set without the escape sequence that announces it
    g1 = g1 or next((_DOUBLE[register] for register in ("149", "58") if register in known), "") or ("ascii" if known else "")
    return Charset(terms, g1=g1, known=frozenset(known))


UNICODE: Final = Charset(("ISO_IR 192",), whole="utf-8")
