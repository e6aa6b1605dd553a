"""What identifies one person, gathered from a message before it is changed, and sought in what is to leave.

A search has to find what is there in another spelling, and not find the patient Li in a liver. So: case, accents and the width of letters
do not count; a name's part counts from three letters on (two ideographs), as a whole word; an identifier from four characters on, where no
letter joins its letters and no digit its digits; a telephone number whatever stands between its digits. Shorter names count together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from typing import Final

from engine.deidentify.dates import notations

_SPLIT: Final = re.compile(r"[\s^=,;.'’\"()\-/&·・]+")
_BETWEEN: Final = r"[\s^=,.'\-·・]*"
_IDEOGRAPHIC: Final = re.compile("[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_PLACEHOLDERS: Final = frozenset(("anonymous", "anonymized", "anonymised", "unknown", "removed", "noname", "name", "patient", "test"))
"""What stands where no name is; real names that look like it (Null, None) are sought."""

_LEAST_ADDRESS: Final = 5
_LEAST_IDENTIFIER: Final = 4
_LEAST_BYTES: Final = 5
_LEAST_DIGITS: Final = 7
REMOVED: Final = "REMOVED"
_PATTERNS: Final = re.compile(
    r"[\w.+-]+@[\w-]+\.[\w.-]+"  # an address of electronic mail
    r"|\d{1,4}[-./年]\s?\d{1,2}[-./月]\s?\d{1,4}日?"  # a date
    r"|\d(?:[\s().-]?\d){5,}"  # a number long enough for an identifier, a telephone, a date in digits
    r"|https?://\S+"
)


def plain(text: str) -> str:
    """Without what does not count in a comparison: case, accents, width."""
    if text.isascii():
        return text.lower()
    spread = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(letter for letter in spread if not unicodedata.combining(letter))).casefold()


class Traces:
    """Gathered with `name`, `identifier` …; the first search ends the gathering."""

    def __init__(self) -> None:
        self._words: set[str] = set()
        self._spelled: set[str] = set()
        self._dates: set[str] = set()
        self._patterns: dict[str, tuple[str, ...]] = {}  # and what a text must hold for it to be worth a search
        self._short: set[str] = set()

    # --- gathering -------------------------------------------------------------------------------

    def name(self, *parts: str) -> None:
        """A person's name: its components, or the whole with whatever delimits them. Representations (``=``) may stand in one."""
        for group in "^".join(parts).split("="):
            spelled = [word for word in _SPLIT.split(group) if word and plain(word) not in _PLACEHOLDERS]
            words = [plain(word) for word in spelled]
            for word, spelling in zip(words, spelled, strict=True):
                if len(word) >= (2 if _IDEOGRAPHIC.search(word) else 3) and not word.isdigit():
                    self._add(word, spelling)
            for first, second in pairwise(words):
                if len(first) + len(second) >= (2 if _IDEOGRAPHIC.search(first + second) else 4):
                    if _IDEOGRAPHIC.search(first + second):
                        self._add(first + second, first + second)
                    both = re.escape(first), re.escape(second)
                    for pair, ends in ((both, first + second), (both[::-1], second + first)):
                        self._patterns[_edged(_BETWEEN.join(pair), ends)] = first, second

    def identifier(self, value: str) -> None:
        word = plain(value).strip()
        if not word or word in _PLACEHOLDERS or not word.strip("0 "):
            return
        if len(word) >= _LEAST_IDENTIFIER:
            self._add(word, value.strip())
        elif len(word) == _LEAST_IDENTIFIER - 1:
            self._short.add(word)

    def date(self, text: str) -> None:
        """A date of birth, in any notation."""
        self._dates.update(plain(form) for form in notations(text))

    def telephone(self, text: str) -> None:
        digits = re.sub(r"\D", "", unicodedata.normalize("NFKD", text))
        if len(digits) >= _LEAST_DIGITS:
            self._patterns[_edged(r"[\s().\-/]*".join(digits), digits)] = tuple(set(digits))
        elif "@" in text:
            self.identifier(text)

    def address(self, *parts: str) -> None:
        for part in re.split(r"[\^,;&\r\n]+", "^".join(parts)):
            word = plain(part).strip()
            if len(word) >= (2 if _IDEOGRAPHIC.search(word) else _LEAST_ADDRESS) and word not in _PLACEHOLDERS:
                self._add(word, part.strip())

    def _add(self, word: str, spelling: str) -> None:
        self._words.add(word)
        self._spelled.update((spelling, spelling.upper(), spelling.lower()))

    # --- searching -------------------------------------------------------------------------------

    @cached_property
    def _searches(self) -> list[tuple[tuple[str, ...], re.Pattern[str]]]:
        words = [((word,), re.compile(_edged(re.escape(word), word))) for word in sorted(self._words | self._dates)]
        return words + [(parts, re.compile(pattern)) for pattern, parts in sorted(self._patterns.items())]

    def within(self, text: str) -> bool:
        """Whether the text holds any of it."""
        simple = plain(text)
        for parts, pattern in self._searches:
            if all(part in simple for part in parts) and pattern.search(simple) is not None:
                return True
        return bool(simple) and simple.strip() in self._short

    def in_bytes(self, content: bytes, codecs: Iterable[str], dates: bool = True) -> bool:
        """Whether the bytes hold any of it, in any of these character sets; short words are not sought in what may be numbers. Without
        `dates` the date of birth is not sought: where dates may stay, another may be the same."""
        pattern = self._byte_search(tuple(dict.fromkeys(codecs)), dates)
        return pattern is not None and pattern.search(content) is not None

    def _byte_search(self, codecs: tuple[str, ...], dates: bool) -> re.Pattern[bytes] | None:
        forms: set[bytes] = set()
        for word in self._words | self._spelled | (self._dates if dates else set()):
            for codec in codecs:
                forms.update(_encoded(word, codec))
        return re.compile(b"|".join(sorted(forms)), re.IGNORECASE) if forms else None

    def cleaned(self, text: str) -> str:
        """Free text without what identifies: nothing is left of one that names the person, and of others no date, number or address."""
        return REMOVED if self.within(text) else _PATTERNS.sub("***", text)


def _edged(pattern: str, word: str) -> str:
    """`pattern` where it is not a part of a longer word or number; ideographs know no words."""
    return _edge(word[0], r"(?<!{})") + pattern + _edge(word[-1], r"(?!{})")


def _edge(letter: str, form: str) -> str:
    if letter.isdigit():
        return form.format(r"\d")
    return form.format(r"[^\W\d_]") if letter.isalpha() and not _IDEOGRAPHIC.match(letter) else ""


def _encoded(word: str, codec: str) -> Iterable[bytes]:
    try:
        raw = word.encode(codec)
    except (UnicodeEncodeError, LookupError):
        return
    if len(raw) < (_LEAST_BYTES if word.isascii() else _LEAST_BYTES - 1):
        return
    before = rb"(?<![0-9])" if raw[:1].isdigit() else rb"(?<![A-Za-z])"
    if word.isascii() and "16" not in codec:
        last = rb"(?![0-9])" if raw[-1:].isdigit() else rb"(?![A-Za-z])" if raw[-1:].isalpha() else b""
        yield (before if raw[:1].isalnum() else b"") + re.escape(raw) + last
    else:
        yield re.escape(raw)
