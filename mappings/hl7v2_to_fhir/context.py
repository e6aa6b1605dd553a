"""What the data type maps may know of the message at hand, and the text primitives they share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final

from mappings.conditions import NULL
from mappings.hl7v2_to_fhir.terminology import Assigners, Codes, CodingSystems
from mappings.transaction import Transaction

Convert = Callable[[str, "V2Transaction"], Any]

_CACHED: Final = 4096
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ESCAPED: Final = str.maketrans({"\\": "\\E\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "|": "\\F\\"})


@dataclass(frozen=True, slots=True)
class Terms:
    """All tables a converter may look things up in."""

    codes: dict[str, Codes]
    systems: CodingSystems
    assigners: Assigners


@dataclass(slots=True)
class V2Transaction(Transaction):
    """One message's transaction. `unescape` is the codec's, `facility` MSH-4.1, `zone` the offset for times without one, `source` what the
    message is and of what type where that is no HL7 v2 message with its MSH-9."""

    unescape: Callable[[str], str] = field(default=str)
    facility: str = ""
    zone: str = ""
    sender: str = ""
    control_id: str = ""
    event: str = ""
    event_message: str = ""
    source: tuple[str, str] = ("", "")

    def text(self, raw: str) -> str:
        """`raw` as a person reads it."""
        return self.unescape(raw) if "\\" in raw else raw


def clean(text: str) -> str:
    """`text` without control characters, which no FHIR string may have."""
    return _CONTROL.sub(" ", text).replace("\r\n", "\n").replace("\r", "\n").strip()


def escaped(text: str) -> str:
    """`text` of another format as a component of HL7 v2 (2.5.1 clause 2.7): names and numbers of all formats go through the same rules, so
    that the same one is the same."""
    return clean(text).translate(_ESCAPED)


def parted(text: str, tx: V2Transaction, count: int) -> list[str]:
    """The components as text, null ones empty, at least `count` of them. One that has subcomponents stays as it was sent."""
    parts = text.split("^")
    if "\\" in text:
        parts = [part if "&" in part else tx.text(part) for part in parts]
    if NULL in text:
        parts = ["" if part == NULL else part for part in parts]
    if len(parts) < count:
        parts += [""] * (count - len(parts))
    return parts


def part(parts: list[str], number: int) -> str:
    """Component `number` (from 1), "" where it is absent or HL7 null."""
    if number > len(parts):
        return ""
    value = parts[number - 1]
    return "" if value == NULL else value


def components(text: str) -> list[str]:
    """The components of a field, or of a component that stands for a whole data type (then its subcomponents)."""
    return text.split("^") if "^" in text else text.split("&") if "&" in text else [text]


def first(text: str) -> str:
    """The first component."""
    value = text.split("^", 1)[0]
    return "" if value == NULL else value


def cached(convert: Convert) -> Convert:
    """Remember what `convert` made of a text for a facility. For values that recur between messages and are never changed; what an escape
    stands for may be another text in the next message."""
    store: dict[tuple[str, str], Any] = {}

    @wraps(convert)
    def remembered(text: str, transaction: V2Transaction) -> Any:
        if transaction.losses is not None or "\\" in text:
            return convert(text, transaction)
        key = (text, transaction.facility)
        try:
            return store[key]
        except KeyError:
            pass
        if len(store) >= _CACHED:
            store.clear()
        value = store[key] = convert(text, transaction)
        return value

    return remembered
