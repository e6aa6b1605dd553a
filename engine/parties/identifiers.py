"""Identifiers of institutions, checked. Each is taken only as its standard writes it, so that equal ones are equal text.

uscc    unified social credit code, GB 32100-2015: 18 characters without I, O, S, V, Z, the last a check character modulo 31.
ws218   institution code, WS 218-2002: 22 characters = organisation code GB 11714 (9, the last a check character modulo 11) +
        administrative division GB/T 2260 (6 digits) + registration type GB/T 12402 (2 digits) + institution class (a letter and
        3 digits) + management class (1 non-profit, 2 for profit, 9 other). It covers neither Hong Kong, Macao nor Taiwan.
        Of the attributes only the form is checked: the tables change, and they have no check character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from stdnum.cn import uscc
from stdnum.exceptions import InvalidChecksum, ValidationError

_ORGANISATION: Final = re.compile(r"[0-9A-Z]{8}[0-9X]")
_ATTRIBUTES: Final = re.compile(r"[1-6][0-9]{5}[0-9]{2}[A-Z][0-9]{3}[129]")
_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)
_CHECK: Final = "0X987654321"


def check_uscc(value: str) -> None:
    """GB 32100-2015. Raises ValueError."""
    if len(value) != 18:
        raise ValueError(f"has {len(value)} characters, a unified social credit code has 18")
    try:
        found = uscc.validate(value)
    except InvalidChecksum:
        raise ValueError("has a wrong check character") from None
    except ValidationError:
        raise ValueError("is not 8 digits and 10 digits or letters other than I, O, S, V, Z") from None
    if found != value:
        raise ValueError("is written in plain digits and capital letters, without spaces or dashes")


def check_organisation(value: str) -> None:
    """GB 11714-1997, without its hyphen: check character = 11 - sum modulo 11, 10 is X and 11 is 0. Raises ValueError."""
    if not _ORGANISATION.fullmatch(value):
        raise ValueError("does not begin with an organisation code (8 digits or capital letters, and a digit or X)")
    total = sum(int(character, 36) * weight for character, weight in zip(value[:8], _WEIGHTS, strict=True))
    if value[8] != _CHECK[total % 11]:
        raise ValueError("has a wrong check character in its organisation code")


def check_ws218(value: str) -> None:
    """WS 218-2002. Raises ValueError."""
    if len(value) != 22:
        raise ValueError(f"has {len(value)} characters, an institution code has 22")
    check_organisation(value[:9])
    if not _ATTRIBUTES.fullmatch(value[9:]):
        raise ValueError("does not go on with division (6 digits), registration type (2), class (letter, 3 digits) and 1, 2 or 9")


IDENTIFIERS: Final[Mapping[str, Callable[[str], None]]] = {"uscc": check_uscc, "ws218": check_ws218}
"""By the names of their systems; any other system is a URI, whose values are taken as they are."""
