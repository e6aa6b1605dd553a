"""The `when` column: conditions over message elements, compiled to closures.

    ORC-2 empty                      PV1-2.1 = P                    OBX-2 in (ST, FT, TX)
    PID-7 longer 8                   OBX-5 repeats 2                not (MSH-9.2 = A08) and PV1-45 valued
    OBR-2 differs ORC-2

An element is SEGMENT-field[.component]; a segment alone (`ORC valued`) asks whether it is there. Words with
blanks or brackets are quoted. HL7's null `""` counts as empty. `and` binds closer than `or`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

View = Mapping[str, list[str]]
"""What conditions read in HL7 v2: segment name -> its fields as raw text, the name itself at 0, so that PID-3 is at 3 (MSH too)."""

Condition = Callable[[View], bool]

_TOKEN: Final = re.compile(r'\s*("(?:[^"]*)"|!=|[=(),]|[^\s=(),!]+)')
ELEMENT: Final = re.compile(r"([A-Z][A-Z0-9]{1,2})(?:-(\d+)(?:\.(\d+))?)?")
NULL: Final = '""'


class Unreadable(ValueError):
    """A condition or path that does not follow its syntax; the text says what was expected."""


def element(text: str) -> Callable[[View], str]:
    """A reader of one element: its raw text ("" where there is none), the first repetition's for a component."""
    match = ELEMENT.fullmatch(text)
    if not match:
        raise Unreadable(f"{text!r} is not an element such as PID-3 or PID-3.4")
    segment, field, component = match[1], int(match[2] or 0), int(match[3] or 0)

    def whole(view: View) -> str:
        fields = view.get(segment)
        value = fields[field] if fields is not None and field < len(fields) else ""
        return "" if value == NULL else value

    def part(view: View) -> str:
        value = whole(view)
        if not value:
            return ""
        parts = (value.split("~", 1)[0] if "~" in value else value).split("^", component)
        value = parts[component - 1] if component <= len(parts) else ""
        return "" if value == NULL else value

    return part if component else whole


def condition(text: str, read: Callable[[str], Callable[[Any], str]] = element) -> Callable[[Any], bool]:
    """Compile `text`; `read` makes readers of elements, where they are not those of HL7 v2. Raises Unreadable."""
    tokens = _TOKEN.findall(text)
    if "".join(tokens).replace('"', "") != re.sub(r'[\s"]', "", text) and '"' not in text:
        raise Unreadable("has a character that belongs to no word")
    reader = _Reader(tokens, read)
    result = reader.either()
    if reader.tokens:
        raise Unreadable(f"{reader.tokens[0]!r} follows what was already complete")
    return result


class _Reader:
    """Recursive descent over the tokens that are left."""

    def __init__(self, tokens: list[str], read: Callable[[str], Callable[[Any], str]]) -> None:
        self.tokens, self.element = tokens, read

    def take(self, *expected: str) -> str:
        token = self.tokens.pop(0) if self.tokens else ""
        if not token or (expected and token not in expected):
            raise Unreadable(f"{' or '.join(expected) or 'a word'} was expected instead of {token or 'the end'!r}")
        return token

    def at(self, token: str) -> bool:
        if self.tokens and self.tokens[0] == token:
            self.tokens.pop(0)
            return True
        return False

    def either(self) -> Condition:
        options = [self.all()]
        while self.at("or"):
            options.append(self.all())
        if len(options) == 1:
            return options[0]
        if len(options) == 2:
            one, two = options
            return lambda view: one(view) or two(view)
        return lambda view: any(option(view) for option in options)

    def all(self) -> Condition:
        parts = [self.one()]
        while self.at("and"):
            parts.append(self.one())
        if len(parts) == 1:
            return parts[0]
        if len(parts) == 2:
            one, two = parts
            return lambda view: one(view) and two(view)
        return lambda view: all(part(view) for part in parts)

    def one(self) -> Condition:
        if self.at("not"):
            inner = self.one()
            return lambda view: not inner(view)
        if self.at("("):
            inner = self.either()
            self.take(")")
            return inner
        return self.test(self.element(self.take()))

    def test(self, read: Callable[[View], str]) -> Condition:
        word = self.take("valued", "empty", "=", "!=", "in", "not", "longer", "repeats", "differs")
        if word == "valued":
            return lambda view: bool(read(view))
        if word == "empty":
            return lambda view: not read(view)
        if word == "differs":
            other = self.element(self.take())
            return lambda view: read(view) != other(view)
        if word in ("longer", "repeats"):
            return self.measured(word, read)
        if word == "not":
            self.take("in")
        values = frozenset([self.word()] if word in ("=", "!=") else self.words())
        if word in ("!=", "not"):
            return lambda view: read(view) not in values
        return lambda view: read(view) in values

    def measured(self, word: str, read: Callable[[View], str]) -> Condition:
        token = self.take()
        if not token.isdecimal():
            raise Unreadable(f"a number was expected after {word} instead of {token!r}")
        limit = int(token)
        if word == "longer":
            return lambda view: len(read(view)) > limit
        return lambda view: read(view).count("~") + 1 >= limit

    def word(self) -> str:
        return self.take().strip('"')

    def words(self) -> list[str]:
        self.take("(")
        found = [self.word()]
        while self.take(",", ")") == ",":
            found.append(self.word())
        return found
