"""Attribute matching (PS3.4 C.2.2.2) over DICOM JSON: single value, list of UIDs, universal, wild card, range, sequence.

Where the standard leaves a choice: person's names are compared without regard to case and width (Unicode NFKC), group by group, and a
key without ``=`` may match any of the groups; decimal and integer strings are compared as numbers; a key of several values matches
where one of them does, whatever its VR; of a multi-valued attribute one value must match (C.2.2.3).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from adapters.dicom.archive.elements import Elements, number

Matcher = Callable[[Any], bool]
"""Tells whether one value (None: the attribute has none) matches a key."""

WILDCARD_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
"""C.2.2.2.4"""
RANGE_VRS: Final = frozenset(("DA", "TM", "DT"))
"""C.2.2.2.5"""
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_ZONE: Final = re.compile(r"(?P<time>[0-9.]*)(?P<zone>[+-](?:0\d|1[0-4])[0-5]\d)?")
_LOW: Final = {"DA": "00000101", "TM": "000000000000", "DT": "00000101000000000000"}
_HIGH: Final = {"DA": "99991231", "TM": "235959999999", "DT": "99991231235959999999"}


def matches(keys: Elements, elements: Elements) -> bool:
    """Whether a data set has what every key asks for."""
    return all(element_matches(key, elements.get(tag, {}).get("Value", ())) for tag, key in keys.items())


def element_matches(key: dict[str, Any], values: Any) -> bool:
    """Whether the values of an attribute match a key."""
    if is_universal(key):
        return True
    if key["vr"] == "SQ":
        (item, *_) = key["Value"]
        return any(matches(item, one) for one in values)
    wanted = [matcher(key["vr"], value) for value in _hashable(key["Value"])]
    return any(match(value) for match in wanted for value in (values or (None,)))


def is_universal(key: dict[str, Any]) -> bool:
    """Without a value, with nothing but ``*``, or an item in which every key is universal (C.2.2.2.3, C.2.2.2.6)."""
    values = key.get("Value")
    if not values:
        return True
    if key["vr"] == "SQ":
        return all(is_universal(one) for one in values[0].values())
    return key["vr"] in WILDCARD_VRS and all(_text(value) == "*" for value in values)


def _hashable(values: list[Any]) -> list[Any]:
    return [tuple(value.items()) if isinstance(value, dict) else value for value in values if value is not None]


def _text(value: Any) -> str:
    return "=".join(value.get(name, "") for name in _GROUPS).rstrip("=") if isinstance(value, dict) else str(value)


@lru_cache(maxsize=1024)
def matcher(vr: str, wanted: Any) -> Matcher:
    """How one value of a key is matched. A person's name is given as items, so that it can be looked up."""
    if vr == "PN":
        return _name_matcher(dict(wanted) if not isinstance(wanted, str) else {"Alphabetic": wanted})
    if vr in RANGE_VRS and isinstance(wanted, str):
        return _range_matcher(vr, wanted)
    if vr in ("IS", "DS"):
        value = number(str(wanted))
        return lambda found: found is not None and number(str(found)) == value
    if vr in WILDCARD_VRS and isinstance(wanted, str) and ("*" in wanted or "?" in wanted):
        fits = wildcard(wanted)
        return lambda found: found is not None and fits(str(found))
    return lambda found: found == wanted


def wildcard(pattern: str) -> Callable[[str], bool]:
    """``*`` is any number of characters, ``?`` one (C.2.2.2.4). What stands between two stars is looked for once, from left to right, so
    that no pattern takes more than the length of the text times its own."""
    first, *rest = (re.compile(re.escape(part).replace(r"\?", "."), re.DOTALL) for part in pattern.split("*"))
    if not rest:
        return lambda text: first.fullmatch(text) is not None
    *middle, last = rest
    length = len(pattern) - pattern.rindex("*") - 1

    def fits(text: str) -> bool:
        found = first.match(text)
        for part in middle:
            found = found and part.search(text, found.end())
        return found is not None and len(text) - length >= found.end() and last.fullmatch(text, len(text) - length) is not None

    return fits


# --- persons' names --------------------------------------------------------------------------------


def fold(name: str) -> str:
    """A component group as it is compared: full and half width, composed and decomposed, upper and lower case are the same; the empty
    components at its end and spaces beside delimiters do not count."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r" *\^ *", "^", folded).strip(" ").rstrip("^ ")


def _name_matcher(wanted: dict[str, str]) -> Matcher:
    groups = {name: _group_matcher(text) for name, text in wanted.items() if text not in ("", "*")}
    if set(wanted) == {"Alphabetic"} and groups:
        only = groups["Alphabetic"]
        return lambda found: found is not None and any(only(text) for text in found.values())
    return lambda found: found is not None and all(match(found.get(name, "")) for name, match in groups.items())


def _group_matcher(text: str) -> Callable[[str], bool]:
    folded = fold(text)
    if "*" not in folded and "?" not in folded:
        return lambda found: fold(found) == folded
    fits = wildcard(folded)
    # `Doe^*` means everybody called Doe, also who has no given name: the delimiters at the end, which do not count, are put back
    return lambda found: fits(fold(found)) or fits(fold(found) + "^")


# --- dates and times -------------------------------------------------------------------------------


def _range_matcher(vr: str, wanted: str) -> Matcher:
    low, high = bounds(vr, wanted)
    return lambda found: found is not None and _within(vr, str(found), low, high)


def _within(vr: str, found: str, low: str, high: str) -> bool:
    """A value of less precision stands for its beginning, as in sorting."""
    value = digits(vr, found, _LOW[vr])
    return bool(value) and low <= value <= high


def bounds(vr: str, wanted: str) -> tuple[str, str]:
    """The first and last moment that a key allows, as digits; both included. A key of one value allows all that it begins."""
    text = wanted.replace(" ", "")
    if vr == "DT" and (whole := _ZONE.fullmatch(text)) and (whole["zone"] or "-" not in text):
        first = last = text
    elif "-" in text:
        first, _, last = _split(vr, text)
    else:
        first = last = text
    return digits(vr, first, _LOW[vr]) or _LOW[vr], (digits(vr, last, _HIGH[vr]) or _HIGH[vr]) if last or not first else _HIGH[vr]


def _split(vr: str, text: str) -> tuple[str, str, str]:
    """At the hyphen of the range; in DT one may also begin an offset from UTC."""
    if vr == "DT":
        for place in (index for index, character in enumerate(text) if character == "-"):
            before, after = text[:place], text[place + 1 :]
            if all(_ZONE.fullmatch(part) for part in (before, after)):
                return before, "-", after
    return text.partition("-")


def digits(vr: str, text: str, rest: str = "") -> str:
    """`text` in full precision, what it leaves open taken from `rest` (the beginning of the year, of the day); "" for nothing.
    The offset from UTC of a DT does not count.
    Dates as ``2026.11.26`` and times as ``08:15`` are those of ACR-NEMA (PS3.5 6.2, notes)."""
    rest = rest or _LOW[vr]
    zone = _ZONE.fullmatch(text)
    plain = zone["time"] if vr == "DT" and zone else text
    found = plain.replace(".", "").replace(":", "")
    return found + rest[len(found) :] if found else ""
