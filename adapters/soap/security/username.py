"""UsernameToken Profile 1.1 clause 3.1: a password digest with nonce and creation time, or a password as text where TLS hides it.

A digest without nonce or without creation time could be said by anyone who has heard it once, so that both are asked for. A password
as text needs neither: what protects it is TLS, and whoever has heard it could make new ones anyway; those that are there are looked at.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lxml import etree

from adapters.soap.security.encoding import decoded
from adapters.soap.security.layout import at_most_one, only, text
from adapters.soap.security.names import BASE64, PASSWORD_DIGEST, PASSWORD_TEXT, wsse, wsu
from adapters.soap.security.refusal import Code, Refusal

_LEAST_NONCE, _MOST_NONCE = 8, 256
_NOBODY: Final = "a password that nobody has"


@dataclass(frozen=True)
class User:
    """`party` is the party URI that the user's name stands for; `password` reveals the secret."""

    party: str
    password: Callable[[], str]


@dataclass(frozen=True)
class Token:
    """`created` is as written, "" for none; `mark` is the same whenever this token comes again, b"" where it has no nonce."""

    party: str
    name: str
    created: str
    mark: bytes


def password_digest(nonce: bytes, created: str, password: str) -> str:
    """Base64(SHA-1(nonce + created + password))."""
    return b64encode(hashlib.sha1(nonce + created.encode() + password.encode(), usedforsecurity=False).digest()).decode("ascii")


def check_user(token: etree._Element, users: Mapping[str, User], encrypted: bool) -> Token:
    """`encrypted` says that the message came by TLS. Raises Refusal: for who is unknown and for a wrong password the same one; and
    ConfigError where the password's secret is not there."""
    name, password = text(only(token, wsse("Username"))), only(token, wsse("Password"))
    nonce, created = _nonce(token), _created(token)
    kind = password.get("Type", PASSWORD_TEXT)
    user = users.get(name)
    secret = user.password() if user is not None else _NOBODY
    if kind == PASSWORD_DIGEST:
        if not nonce or not created:
            raise Refusal(Code.INVALID_TOKEN, "a password digest without nonce or creation time")
        expected = password_digest(nonce, created, secret)
    elif kind == PASSWORD_TEXT:
        if not encrypted:
            raise Refusal(Code.UNSUPPORTED_TOKEN, "a password as text without TLS")
        expected = secret
    else:
        raise Refusal(Code.UNSUPPORTED_TOKEN, "a kind of password that is not supported")
    said = (password.text or "") if kind == PASSWORD_TEXT else text(password)
    right = hmac.compare_digest(said.encode(), expected.encode()) and not len(password)
    if user is None or not right:
        raise Refusal(
            Code.FAILED_AUTHENTICATION, "the password is wrong" if user else "the user is unknown", party=user.party if user else ""
        )
    mark = hashlib.sha256(b"\0".join((user.party.encode(), nonce, created.encode()))).digest() if nonce else b""
    return Token(user.party, name, created, mark)


def _nonce(token: etree._Element) -> bytes:
    element = at_most_one(token, wsse("Nonce"))
    if element is None:
        return b""
    if element.get("EncodingType", BASE64) != BASE64:
        raise Refusal(Code.INVALID_TOKEN, "a nonce that is not in base64")
    nonce = decoded(text(element), Code.INVALID_TOKEN, "a nonce")
    if not _LEAST_NONCE <= len(nonce) <= _MOST_NONCE:
        raise Refusal(Code.INVALID_TOKEN, f"a nonce of {len(nonce)} bytes")
    return nonce


def _created(token: etree._Element) -> str:
    element = at_most_one(token, wsu("Created"))
    return "" if element is None else text(element)
