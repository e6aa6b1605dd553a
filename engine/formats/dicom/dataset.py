"""A data set: attributes by tag, their values as text, sequences as further data sets. The same whether it came as PS3.10 or as JSON.

Values are decoded when they are asked for. What could not be decoded as declared is noted at the root's `faults`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from engine.errors import ParseError
from engine.formats.dicom.charsets import UNICODE, Charset, charset

SPECIFIC_CHARACTER_SET: Final = 0x00080005
PIXEL_DATA: Final = 0x7FE00010
DEEPEST: Final = 32
"""Levels of sequences; the deepest templates of PS3.16 have about ten."""
BULK: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
TEXT: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
"""Value representations that Specific Character Set governs (PS3.5 clause 6.1.2.2)."""
_WHOLE: Final = frozenset(("LT", "ST", "UT", "UR"))
"""Value representations in which a backslash is a character."""
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


@dataclass(slots=True)
class Root:
    """What the data sets of one instance share: the character set that somebody named for its sender, and what could not be read right."""

    fallback: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    read: set[tuple[int, int]] | None = None
    """While explaining: (id of the data set, tag) of all that was asked for."""


class DataSet:
    """Attributes by tag (``0x00100020``)."""

    __slots__ = ("_charset", "elements", "path", "root")

    def __init__(self, root: Root, outer: Charset | None = None, path: str = "") -> None:
        self.elements: dict[int, Element] = {}
        self.root, self.path = root, path
        self._charset = outer

    @property
    def charset(self) -> Charset:
        """Its own, else that of what it is an item of (PS3.3 clause C.12.1.1.2)."""
        own = self.elements.get(SPECIFIC_CHARACTER_SET)
        if own is not None and not own.unicode:
            return charset(own.plain())
        return self._charset or (UNICODE if own is not None else charset(()))

    def values(self, tag: int) -> tuple[str, ...]:
        """Every value as text, () where the attribute is absent, empty, or bulk data. Empty values among others keep their place."""
        element = self.elements.get(tag)
        if element is None:
            return ()
        if self.root.read is not None:
            self.root.read.add((id(self), tag))
        return element.values(self, tag)

    def text(self, tag: int) -> str:
        """The first value, "" where there is none."""
        return next(iter(self.values(tag)), "")

    def items(self, tag: int) -> tuple[DataSet, ...]:
        """The items of a sequence."""
        element = self.elements.get(tag)
        if element is None:
            return ()
        if self.root.read is not None:
            self.root.read.add((id(self), tag))
        return element.items(self, tag)

    def valued(self) -> Iterator[tuple[DataSet, int, Element]]:
        """Every attribute that has a value, those of items included."""
        for tag, element in self.elements.items():
            if items := element.items(self, tag):
                for item in items:
                    yield from item.valued()
            elif not element.empty:
                yield self, tag, element


@dataclass(slots=True)
class Element:
    """One attribute as it lies in the bytes (or in JSON)."""

    vr: str
    raw: bytes = b""
    inner: tuple[DataSet, ...] = ()
    little: bool = True
    unicode: bool = False
    cache: tuple[str, ...] | None = None

    @property
    def empty(self) -> bool:
        return not (self.raw if self.vr in _NUMBERS or self.vr in BULK or self.vr == "AT" else self.raw.strip(b" \x00"))

    def plain(self) -> tuple[str, ...]:
        """Values of a VR that is ASCII whatever the character set."""
        return tuple(part.strip(" \x00") for part in self.raw.decode("latin-1").split("\\"))

    def items(self, owner: DataSet, tag: int) -> tuple[DataSet, ...]:
        return self.inner

    def values(self, owner: DataSet, tag: int) -> tuple[str, ...]:
        if self.cache is None:
            self.cache = self._decoded(owner, tag)
        return self.cache

    def _decoded(self, owner: DataSet, tag: int) -> tuple[str, ...]:
        if self.vr in BULK or self.vr == "SQ" or self.empty:
            return ()
        if self.vr in _NUMBERS:
            return self._numbers(_NUMBERS[self.vr])
        if self.vr == "AT":
            pairs = self._numbers("H")
            return tuple(f"{int(one):04X}{int(two):04X}" for one, two in zip(pairs[::2], pairs[1::2], strict=False))
        if self.vr not in TEXT:
            text = self.raw.decode("latin-1").strip(" \x00")
            return (text,) if self.vr in _WHOLE else tuple(part.strip(" \x00") for part in text.split("\\"))
        found = owner.charset.decode(self.raw.rstrip(b"\x00"), fallback=owner.root.fallback, name=self.vr == "PN")
        if found.fault:
            owner.root.faults.setdefault(owner.path + keyword(tag), found.fault)
        if self.vr in _WHOLE:
            return (found.text.rstrip(" \x00"),)
        return tuple(part.strip(" \x00") for part in found.text.split("\\"))

    def _numbers(self, code: str) -> tuple[str, ...]:
        size = struct.calcsize(code)
        count = len(self.raw) // size
        numbers = struct.unpack(f"{'<' if self.little else '>'}{count}{code}", self.raw[: count * size])
        return tuple(_single(number) if code == "f" else repr(number) for number in numbers)


def _single(number: float) -> str:
    """A number of single precision with as few digits as tell it from its neighbours."""
    packed = struct.pack("<f", number)
    texts = (f"{number:.{digits}g}" for digits in range(6, 10))
    return next((text for text in texts if struct.pack("<f", float(text)) == packed), repr(number))


class JsonElement(Element):
    """One attribute of the DICOM JSON model (PS3.18 clause F.2.2)."""

    __slots__ = ("_value",)

    def __init__(self, vr: str, value: Any) -> None:
        super().__init__(vr, unicode=True)
        self._value = value if isinstance(value, list) else []

    @property
    def empty(self) -> bool:
        return all(one is None or one in ("", {}) for one in self._value)

    def items(self, owner: DataSet, tag: int) -> tuple[DataSet, ...]:
        if self.vr == "SQ" and not self.inner and self._value:
            name = owner.path + keyword(tag)
            if name.count("[") > DEEPEST:
                raise ParseError(f"sequences are nested deeper than {DEEPEST}", location=name[:60])
            self.inner = tuple(
                of_json(one if isinstance(one, dict) else {}, owner.root, f"{name}[{number}].") for number, one in enumerate(self._value, 1)
            )
        return self.inner

    def _decoded(self, owner: DataSet, tag: int) -> tuple[str, ...]:
        if self.vr == "SQ" or self.vr in BULK or self.empty:
            return ()
        found = tuple(map(_json_text, self._value))
        if any("\ufffd" in text for text in found):
            owner.root.faults.setdefault(owner.path + keyword(tag), "characters were lost before the instances became JSON")
        return found


def _json_text(value: Any) -> str:
    if isinstance(value, dict):
        groups = [str(value.get(name) or "") for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return "" if value is None else str(value)


def of_json(model: Any, root: Root, path: str = "") -> DataSet:
    """A data set of the DICOM JSON model. Raises ParseError where it is none."""
    made = DataSet(root, UNICODE, path)
    for key, attribute in model.items():
        try:
            tag = int(key, 16)
        except ValueError:
            tag = -1
        if len(key) != 8 or tag < 0 or not isinstance(attribute, dict) or not isinstance(attribute.get("vr"), str):
            raise ParseError("this is no data set of the DICOM JSON model", location=path[:60])
        element = made.elements[tag] = JsonElement(attribute["vr"], attribute.get("Value"))
        if element.vr == "SQ":
            element.items(made, tag)  # at once, so that what is wrong deep inside is refused before anything is made of it
    return made


def keyword(tag: int) -> str:
    """``PatientID``; ``(0009,1001)`` for what the dictionary has not."""
    from engine.formats.dicom.dictionary import keyword_of

    return keyword_of(tag)
