"""Scopes of SMART App Launch 2.2 for systems: ``system/Observation.cu``, ``system/*.write``. Pure.

Permissions are c create, r read, u update, d delete, s search; version 1 wrote read (rs), write (cud) and ``*`` (cruds). Scopes with a
query (``?category=…``), and those for users and patients, are none that could be granted here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from engine.parties.snapshot import Standing

INTERACTIONS: Final = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}
_SCOPE: Final = re.compile(r"system/([A-Z][A-Za-z]{1,63}|\*)\.(read|write|\*|c?r?u?d?s?)")
_VERSION_1: Final = {"read": "rs", "write": "cud", "*": "cruds"}
MOST: Final = 50
"""Scopes asked for at once."""

Scope = tuple[str, str]
"""Type of resource or ``*``, and permissions."""


def parse(text: str) -> Scope | None:
    """None for what is no scope that could be granted."""
    match = _SCOPE.fullmatch(text)
    if match is None or not match[2]:
        return None
    return match[1], _VERSION_1.get(match[2], match[2])


def granted(asked: str, party: Standing) -> list[str]:
    """Of what is asked for, divided by spaces, what the party may by its `may_send`; nothing asked for: all of it. Each in the words in
    which it was asked for where it is granted as a whole, otherwise as its part in the words of version 2."""
    found: dict[str, None] = {}
    for text in asked.split()[:MOST] or ["system/*.cruds"]:
        scope = parse(text)
        if scope is not None:
            found |= dict.fromkeys(_part(text, scope, party))
    return list(found)


def _part(text: str, scope: Scope, party: Standing) -> Iterable[str]:
    name, letters = scope
    types = [name] if name != "*" or _all(letters, party) == letters else _named(party)
    for one in types:
        may = letters if one == "*" else "".join(letter for letter in letters if party.sends(f"{one} {INTERACTIONS[letter]}"))
        if may:
            yield text if one == name and may == letters else f"system/{one}.{may}"


def _all(letters: str, party: Standing) -> str:
    """What the party may with resources of any type."""
    return letters if "" in party.prefixes else ""


def _named(party: Standing) -> list[str]:
    """The types of resources that the party's `may_send` names."""
    words = (one.partition(" ")[0] for one in (*party.exact, *party.prefixes))
    return sorted({word for word in words if word.isalpha() and word[0].isupper()})


def permits(scopes: frozenset[str] | None, interactions: Iterable[str]) -> bool:
    """Whether each of these (``Observation create``) is within the scopes; None has no limits."""
    return scopes is None or all(one in _permitted(scopes) or f"* {one.rpartition(' ')[2]}" in _permitted(scopes) for one in interactions)


@lru_cache(maxsize=256)
def _permitted(scopes: frozenset[str]) -> frozenset[str]:
    parsed = filter(None, map(parse, scopes))
    return frozenset(f"{name} {INTERACTIONS[letter]}" for name, letters in parsed for letter in letters)
