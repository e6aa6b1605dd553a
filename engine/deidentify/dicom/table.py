"""PS3.15 table E.1-1 as rules: what becomes of each attribute under a policy."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from engine.deidentify import policy as p

_CHOICE: Final = {"keep": "full_dates", "shift": "modified_dates"}
_COLUMNS: Final = {
    p.UIDS: "uids",
    p.DEVICE: "device",
    p.INSTITUTION: "institution",
    p.CHARACTERISTICS: "characteristics",
    p.DESCRIPTORS: "descriptors",
    p.STRUCTURE: "structure",
    p.GRAPHICS: "graphics",
}
SAFE_UIDS: Final = frozenset(
    ("CodingSchemeUID", "ContextUID", "MappingResourceUID", "ContextGroupExtensionCreatorUID", "PrivateInformationCreatorUID")
)
"""UIDs that name no instance, though they may be of anybody's root."""


@dataclass(frozen=True, slots=True)
class Row:
    """`action` is D, Z, X or U; `options` gives K or C for a column; `pseudonym` is what an identifier is replaced by."""

    action: str
    options: dict[str, str]
    pseudonym: str = ""


@cache
def rows() -> dict[int, Row]:
    """By tag; the groups of curves and overlays stand by their first group."""
    text = files("engine.deidentify").joinpath("tables/attributes.csv").read_text(encoding="utf-8")
    found = {}
    for line in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        group, element = line["tag"].replace("xx,", "00,").replace("xxxx", "0000").split(",")
        options = {name: line[name] for name in (*_COLUMNS.values(), *_CHOICE.values()) if line[name]}
        found[int(group, 16) << 16 | int(element, 16)] = Row(line["action"].rstrip("*").rpartition("/")[2], options, line["as"])
    return found


def row_of(tag: int) -> Row | None:
    """The row of an attribute of the standard; any attribute of a curve has the one of curves (PS3.5 §7.6)."""
    if tag >> 24 == 0x50 and tag >> 16 <= 0x50FF:
        return rows()[0x50000000]
    if tag >> 24 == 0x60 and tag >> 16 <= 0x60FF:
        return rows().get(0x60000000 | tag & 0xFFFF)
    return rows().get(tag)


def actions(policy: p.Policy, dates: str) -> dict[int, str]:
    """The action for each tag of the table: D, Z, X, U, K, C, or S for a date that is moved. K rules over C, and both over the profile."""
    wanted = [column for option, column in _COLUMNS.items() if policy.retains(option)]
    found = {}
    for tag, row in rows().items():
        given = {row.options[column] for column in wanted if column in row.options}
        action = "K" if "K" in given else "C" if "C" in given else row.action
        if dates in _CHOICE and _CHOICE[dates] in row.options:
            action = "K" if dates == "keep" else "S"
        found[tag] = action
    return found
