"""Whether a unit is one of UCUM (Unified Code for Units of Measure 2.1, case sensitive) that clinical documents have."""

from __future__ import annotations

import re
from typing import Final

_METRIC: Final = (
    "m|s|g|K|C|cd|rad|mol|sr|Hz|N|Pa|J|W|A|V|F|Ohm|S|Wb|Cel|T|H|lm|lx|Bq|Gy|Sv|L|l|bar|u|eV|t|eq|osm|U|kat|cal|Ci|R|"
    r"\[IU\]|\[iU\]|m\[Hg\]|m\[H2O\]"
)
_PLAIN: Final = r"%|min|h|d|wk|mo|mo_j|a|a_j|deg|'|''|B|Np|\[[A-Za-z0-9_.:'/-]+\]|10\*|10\^"
_PREFIX: Final = "da|[YZEPTGMkhdcmunpfazy]"
_NOTE: Final = r"\{[!-z|~]*\}"
_SIMPLE: Final = rf"(?:(?:(?:{_PREFIX})?(?:{_METRIC})|{_PLAIN})(?:[+-]?\d+)?|[1-9]\d*)"
_PART: Final = rf"(?:{_SIMPLE}(?:{_NOTE})?|{_NOTE})"
_UNIT: Final = re.compile(rf"/?(?:{_PART}|\({_PART}(?:[./]{_PART})*\))(?:[./](?:{_PART}|\({_PART}(?:[./]{_PART})*\)))*")
"""The grammar (clause 2.1), parentheses one deep; units of the tables that no document has are left out."""
_LONGEST: Final = 40


def is_ucum(unit: str) -> bool:
    return len(unit) <= _LONGEST and _UNIT.fullmatch(unit) is not None
