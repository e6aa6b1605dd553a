"""Client assertions: a JWT by which a party proves itself to the token endpoint (RFC 7523 clause 3, SMART backend services). Pure.

Only RS384 and ES384, each with a key that is registered for just that algorithm: what the token says of its own algorithm chooses
among nothing. The key is looked for by `iss` and `kid`; nothing else of the token is believed before its signature is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import jwt

from engine.errors import SecurityError
from engine.parties.keys import key_id, read_key
from engine.parties.snapshot import Standing

MOST_BYTES: Final = 8192
MOST_LIFETIME: Final = 300
"""Seconds that `exp` may lie ahead."""
_ALGORITHMS: Final = ("RS384", "ES384")
_UNCHECKED: Final = {
    "verify_signature": False, "verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_iss": False,
    "verify_sub": False, "verify_jti": False,
}  # fmt: skip
_CHECKED: Final = {**_UNCHECKED, "verify_signature": True, "require": ["iss", "sub", "aud", "exp", "jti"]}


class NotProven(SecurityError):
    """An assertion is not acceptable. `party` is the id that was claimed, where it is registered."""

    code = "security.assertion"

    def __init__(self, text: str, party: str = "") -> None:
        super().__init__(text)
        self.party = party


@dataclass(frozen=True, slots=True)
class Assertion:
    """What was proven: the party, and that the assertion with this `jti` was used, which must not be again before `until` (seconds)."""

    party: Standing
    jti: str
    until: float
    kid: str


def verified(
    assertion: str, *, audience: Collection[str], now: float, skew: float, standing: Callable[[str], Standing | None]
) -> Assertion:
    """`audience` are the names of the token endpoint, `now` and `skew` in seconds, `standing` finds a party by its id. Raises NotProven."""
    if len(assertion) > MOST_BYTES:
        raise NotProven("the assertion is too long")
    try:
        header = jwt.get_unverified_header(assertion)
        claimed = jwt.decode(assertion, options=_UNCHECKED).get("iss")  # type: ignore[arg-type]
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise NotProven("the assertion is no signed JWT") from None
    if header.get("alg") not in _ALGORITHMS or "crit" in header or "b64" in header:
        raise NotProven(f"the algorithm is not one of {', '.join(_ALGORITHMS)}")
    party = standing(claimed) if isinstance(claimed, str) else None
    if party is None or party.id != claimed:
        raise NotProven("the client is not known")
    key = _key(party, header)
    try:
        claims = jwt.decode(assertion, key, algorithms=[header["alg"]], options=_CHECKED)  # type: ignore[arg-type]
    except (jwt.PyJWTError, ValueError, TypeError):
        raise NotProven("the signature is wrong, or a claim is missing", party.id) from None
    if fault := _fault(claims, party.id, audience, now, skew):
        raise NotProven(fault, party.id)
    return Assertion(party, claims["jti"], claims["exp"] + skew, header["kid"])


def _key(party: Standing, header: dict[str, Any]) -> Any:
    for text in party.party.keys:
        if key_id(text) == header.get("kid"):
            _, algorithm, key = read_key(text)
            if algorithm == header["alg"]:
                return key
    raise NotProven("the client has no such key (kid) for this algorithm", party.id)


def _fault(claims: dict[str, Any], client: str, audience: Collection[str], now: float, skew: float) -> str:
    """What is wrong with claims whose signature is right, "" when nothing is."""
    said = claims["aud"]
    named = [said] if isinstance(said, str) else said
    if claims["sub"] != client:
        return "iss and sub are both the client's id"
    if not isinstance(named, list) or not named or not all(one in audience for one in named):
        return "aud is not the address of this token endpoint"
    if not _is_time(claims["exp"]) or not all(_is_time(claims[name]) for name in ("nbf", "iat") if name in claims):
        return "exp, nbf or iat is no time"
    if claims["exp"] + skew <= now:
        return "the assertion has expired"
    if claims["exp"] > now + MOST_LIFETIME + skew:
        return "exp is more than five minutes ahead"
    if any(claims[name] > now + skew for name in ("nbf", "iat") if name in claims):
        return "the assertion is from the future: the clocks differ"
    if not isinstance(claims["jti"], str) or not 1 <= len(claims["jti"]) <= 256:
        return "jti is a text of 1 to 256 characters"
    return ""


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
