"""What an envelope proves: who has sent it, and which of its elements that holds for.

The order is the cheapest first, and nothing that only a stranger has said costs much: the layout, the token and its certificate, the
signature over SignedInfo, and only then the digests of what may be a large Body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from lxml import etree

from adapters.soap.security.canonical import ContentOf, no_parts
from adapters.soap.security.instants import microseconds
from adapters.soap.security.layout import Layout, at_most_one, lay_out, only, text
from adapters.soap.security.names import ds, wsse, wsu
from adapters.soap.security.refusal import Code, Refusal
from adapters.soap.security.signature import check_signed
from adapters.soap.security.tokens import signing_certificate
from adapters.soap.security.trust import Trust
from adapters.soap.security.username import User, check_user
from engine.identity import is_allowed

BODY, TIMESTAMP, ADDRESSING = "body", "timestamp", "addressing"
_SECOND: Final = 1_000_000


@dataclass(frozen=True)
class Rules:
    """What an endpoint asks for. `signed` are the parts that must be; times are in microseconds; `allow` are party names or URIs, empty
    for every party that was proven; `role` is the SOAP role that we are."""

    require: str = "signature"
    signed: Sequence[str] = (BODY, TIMESTAMP, ADDRESSING)
    allow: Sequence[str] = ()
    users: Mapping[str, User] = field(default_factory=dict)
    freshness: int = 600 * _SECOND
    skew: int = 60 * _SECOND
    sha1: bool = False
    role: str = ""


@dataclass(frozen=True)
class Proof:
    """`party` is a party URI. `signed` are elements of the tree that was given. `mark` is the same for every repetition of what was
    proven, b"" where it has nothing to be known again by, and means nothing after `until` (µs): what comes later is too old anyway.
    `token` says for the audit what it was proven by, `user` is the name in a UsernameToken."""

    party: str
    signed: Sequence[etree._Element] = ()
    mark: bytes = b""
    until: int = 0
    token: str = ""
    user: str = ""

    def covers(self, element: etree._Element) -> bool:
        """Whether this very element was signed, with all that is in it."""
        return any(one is element for one in self.signed)


def verify(
    envelope: etree._Element, rules: Rules, trust: Trust, now: int, *, content_of: ContentOf = no_parts, encrypted: bool = False
) -> Proof:
    """`content_of` gives what an xop:Include stands for; `encrypted` says that it came by TLS. Raises Refusal."""
    layout = lay_out(envelope, rules.role)
    proof = _by_user(layout, rules, now, encrypted) if rules.require == "username" else _by_signature(layout, rules, trust, now, content_of)
    if not is_allowed(proof.party, rules.allow):
        raise Refusal(Code.FAILED_AUTHENTICATION, f"{proof.party or 'a certificate without a party'} may not send here", party=proof.party)
    return proof


def _by_signature(layout: Layout, rules: Rules, trust: Trust, now: int, content_of: ContentOf) -> Proof:
    signature = only(layout.security, ds("Signature"))
    until = _checked_timestamp(layout, rules, now, TIMESTAMP in rules.signed)
    certificate = signing_certificate(layout, only(signature, ds("KeyInfo")), [one for _, one in trust.known])
    party = trust.party(certificate, now)
    try:
        signed, mark = check_signed(layout, signature, certificate, rules.sha1, content_of)
        _check_all(layout, rules, signed)
    except Refusal as refusal:
        refusal.party = party
        raise
    return Proof(party, tuple(signed), mark, until, _called(certificate))


def _check_all(layout: Layout, rules: Rules, signed: Sequence[etree._Element]) -> None:
    """That every part that must be signed is."""
    timestamp = layout.security.find(wsu("Timestamp"))
    wanted = {BODY: [layout.body], TIMESTAMP: [timestamp], ADDRESSING: layout.addressing}
    for part in rules.signed:
        if not all(any(one is element for one in signed) for element in wanted[part]):
            raise Refusal(Code.FAILED_CHECK, f"not signed: {part}")


def _by_user(layout: Layout, rules: Rules, now: int, encrypted: bool) -> Proof:
    """The time of a Timestamp is looked at, though nobody has signed it."""
    _checked_timestamp(layout, rules, now, needed=False)
    token = check_user(only(layout.security, wsse("UsernameToken")), rules.users, encrypted)
    until = _fresh_until(_instant(token.created), None, rules, now) if token.created else now + rules.freshness + rules.skew
    return Proof(token.party, (), token.mark, until, "UsernameToken", token.name)


def _checked_timestamp(layout: Layout, rules: Rules, now: int, needed: bool) -> int:
    """Until when the message could come again and be fresh (WSS 1.1 clause 10). Raises Refusal."""
    timestamp = at_most_one(layout.security, wsu("Timestamp"))
    if timestamp is None:
        if needed:
            raise Refusal(Code.INVALID_SECURITY, "no Timestamp in our Security header")
        return now + rules.freshness + rules.skew
    expires = at_most_one(timestamp, wsu("Expires"))
    return _fresh_until(_instant(text(only(timestamp, wsu("Created")))), None if expires is None else _instant(text(expires)), rules, now)


def _fresh_until(created: int, expires: int | None, rules: Rules, now: int) -> int:
    if created > now + rules.skew:
        raise Refusal(Code.INVALID_SECURITY, "created in the future")
    if expires is not None and expires <= created:
        raise Refusal(Code.INVALID_SECURITY, "expired before it was created")
    if expires is not None and expires - created > rules.freshness:
        raise Refusal(Code.INVALID_SECURITY, "meant to be good for longer than messages are taken here")
    until = (created + rules.freshness if expires is None else expires) + rules.skew
    if now > until:
        raise Refusal(Code.EXPIRED, "expired")
    return until


def _instant(written: str) -> int:
    try:
        return microseconds(written)
    except ValueError:
        raise Refusal(Code.INVALID_SECURITY, "a time that is none") from None


def _called(certificate: x509.Certificate) -> str:
    return f"certificate {certificate.serial_number:x} of {certificate.issuer.rfc4514_string()}"
