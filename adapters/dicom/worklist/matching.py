"""Whether a step matches the keys of a query: PS3.4 clause C.2.2.2, with the ranges of table K.6-1. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from unicodedata import normalize

from adapters.dicom.worklist.attributes import CHARSET, DATE, STATION, STEPS, TIME, below
from adapters.dicom.worklist.elements import Item
from engine.errors import ValidationError

_WILD: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_LONGEST: Final = 256
"""Characters of a key: more than any value in the worklist has, and so little that no pattern takes long."""
_DATE: Final = re.compile("[0-9]{8}")
_TIME: Final = re.compile(r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?)?)?")
_OLD_DATE: Final = re.compile(r"[0-9]{4}\.[0-9]{2}\.[0-9]{2}")
_LATEST: Final = "235959.999999"


def check(keys: Item, sequence: int = 0) -> None:
    """Raises ValidationError, its location the tag, for a key that cannot be one: a date that is none, several items of a sequence."""
    for tag, key in keys.items():
        vr = below(sequence).get(tag)
        if vr == "SQ" and isinstance(key, list):
            if len(key) > 1:
                raise ValidationError("a sequence has one item in a query", location=f"{tag:08X}")
            for one in key:
                check(one, tag)
        elif vr in _WILD and len(_text(key)) > _LONGEST:
            raise ValidationError(f"a key has at most {_LONGEST} characters", location=f"{tag:08X}")
        elif vr in ("DA", "TM"):
            for end in _ends(_text(key)):
                if end and not (_DATE if vr == "DA" else _TIME).fullmatch(end):
                    raise ValidationError("this is no date, time or range", location=f"{tag:08X}")


def matches(keys: Item, item: Item, sequence: int = 0) -> bool:
    """`item` is everything that is known of a step. Keys that are not known are not matched."""
    together = sequence == STEPS and all(len(_ends(_text(keys.get(tag, ())))) == 2 for tag in (DATE, TIME))
    if together and not _between(keys, item):
        return False
    names = below(sequence)
    for tag, key in keys.items():
        if tag not in names or tag == CHARSET or (together and tag in (DATE, TIME)):
            continue
        values = item.get(tag, ())
        if isinstance(key, list):
            inner = [one for one in values if isinstance(one, dict)]
            if any(key) and not _universal(key[0]) and not any(matches(key[0], one, tag) for one in inner):
                return False
        elif any(key) and not _matched(names[tag], tag, key, [one for one in values if isinstance(one, str)]):
            return False
    return True


def bounds(keys: Item) -> tuple[str, str]:
    """The first and last day that a query asks for, "" for any."""
    inner = keys.get(STEPS, ())
    key = inner[0].get(DATE, ()) if inner and isinstance(inner[0], dict) else ()
    ends = _ends(_text(key))
    return ends[0], ends[-1]


def single(keys: Item, tag: int) -> str:
    """The key's value where it is a single one without wildcards, else ""."""
    text = _text(keys.get(tag, ()))
    return "" if set("*?\\") & set(text) else text


def inner(keys: Item) -> Item:
    """The keys in the Scheduled Procedure Step Sequence."""
    found = keys.get(STEPS, ())
    return found[0] if found and isinstance(found[0], dict) else {}


def _text(key: object) -> str:
    return "\\".join(key) if isinstance(key, tuple) else ""


def _universal(keys: Item) -> bool:
    return all(all(map(_universal, key)) if isinstance(key, list) else not any(key) for key in keys.values())


def _matched(vr: str, tag: int, key: tuple[str, ...], values: list[str]) -> bool:
    """One attribute: any of its values that matches. A list of keys is a list of UIDs (C.2.2.2.2); of others it is one value."""
    if not values:
        return tag == STATION or not any(key)  # a step without a station is for every one
    if vr == "DA":
        return any(_within(value, *_both(key[0])) for value in values)
    if vr == "TM":
        return any(_at(value, key[0]) for value in values)
    if vr == "UI":
        return bool(set(key) & set(values))
    if vr == "PN":
        return any(_named(key[0], value) for value in values)
    return any(_like(one, value) if vr in _WILD else one == value for one in key for value in values)


def _like(pattern: str, text: str) -> bool:
    """Wild cards: * any run of characters, ? any one (C.2.2.2.4). Takes time in proportion to the product of the lengths."""
    at, place = 0, 0
    star, mark = -1, 0
    while place < len(text):
        wanted = pattern[at] if at < len(pattern) else ""
        if wanted == "*":
            star, mark = at, place
            at += 1
        elif wanted and wanted in ("?", text[place]):
            at, place = at + 1, place + 1
        elif star >= 0:  # the last * takes one more
            mark += 1
            at, place = star + 1, mark
        else:
            return False
    return not pattern[at:].strip("*")


def _named(key: str, value: str) -> bool:
    """A key without = is compared with each component group; case and width do not count (C.2.2.2.1.1)."""
    wanted, groups = _groups(key), _groups(value)
    if len(wanted) == 1:
        return any(_like(wanted[0], group) for group in groups if group) or not wanted[0]
    return all(not one or _like(one, group) for one, group in zip(wanted, [*groups, "", ""], strict=False))


def _groups(name: str) -> list[str]:
    folded = normalize("NFKC", name).casefold()
    return ["^".join(part.strip() for part in group.split("^")).rstrip("^") for group in folded.split("=")]


def _ends(key: str) -> list[str]:
    """A range's two ends, or the one value. Dots in a date and colons in a time are those of ACR-NEMA (PS3.5 clause 6.2)."""
    first, dash, last = key.partition("-")
    ends = [first.strip(), last.strip()] if dash else [first.strip()]
    return [end.replace(".", "") if _OLD_DATE.fullmatch(end) else end.replace(":", "") for end in ends]


def _both(key: str) -> tuple[str, str]:
    ends = _ends(key)
    return ends[0], ends[-1]


def _within(value: str, first: str, last: str) -> bool:
    return (not first or first <= value) and (not last or value <= last)


def _at(value: str, key: str) -> bool:
    """A single time matches as far as it is given; the ends of a range belong to it."""
    ends = _ends(key)
    if len(ends) == 1:
        return value.startswith(ends[0]) or _early(value) == _early(ends[0])
    return _within(_early(value), ends[0] and _early(ends[0]), ends[1] and _late(ends[1]))


def _early(time: str) -> str:
    return time + "000000.000000"[len(time) :]


def _late(time: str) -> str:
    return time + _LATEST[len(time) :]


def _between(keys: Item, item: Item) -> bool:
    """Ranges of both date and time are one period from the first to the last (table K.6-1)."""
    (days, times) = (_both(_text(keys[tag])) for tag in (DATE, TIME))
    moments = [date + _early(time) for date, time in _pairs(item)]
    first = days[0] and days[0] + _early(times[0])
    last = days[1] and days[1] + _late(times[1])
    return any(_within(one, first, last) for one in moments)


def _pairs(item: Item) -> Iterator[tuple[str, str]]:
    yield _text(item.get(DATE, ())), _text(item.get(TIME, ()))
