"""Public keys of a party, for its signed assertions (RFC 7523): RSA for RS384, EC on P-384 for ES384, as JWK (RFC 7517). Pure."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

PublicKey = RSAPublicKey | EllipticCurvePublicKey

_KID: Final = re.compile(r"[\x21-\x3a\x3c-\x7e]{1,200}")
_LEAST_BITS: Final = 2048
_MOST_BITS: Final = 8192
"""A larger one makes each check a burden."""


def public_keys(text: str) -> list[str]:
    """The keys that a PEM public key or certificate, a JWK or a JWK set holds, each as JSON with sorted members, its `alg` and `kid`.
    Raises ValueError, also for a private key, which is nobody's but its owner's."""
    if "PRIVATE KEY" in text:
        raise ValueError("this is a private key; register the public one, and keep this one on the device")
    if text.lstrip().startswith("-----BEGIN"):
        return [_canonical(_from_pem(text), "")]
    try:
        found = orjson.loads(text)
    except ValueError:
        raise ValueError("is no PEM public key or certificate, JWK or JWK set") from None
    keys = found.get("keys", [found]) if isinstance(found, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
        raise ValueError("is no JWK or JWK set (RFC 7517)")
    return [_canonical(_from_jwk(key), str(key.get("kid", ""))) for key in keys]


def read_key(text: str) -> tuple[str, str, PublicKey]:
    """Key id, algorithm and key of what `public_keys` wrote."""
    jwk = orjson.loads(text)
    return jwk["kid"], jwk["alg"], _from_jwk(jwk)


def key_id(text: str) -> str:
    """Of what `public_keys` wrote."""
    return str(orjson.loads(text)["kid"])


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638: the same for the same key, whatever it is called."""
    members = ("e", "kty", "n") if jwk["kty"] == "RSA" else ("crv", "kty", "x", "y")
    digest = sha256(orjson.dumps({name: jwk[name] for name in members})).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def key_thumbprint(text: str) -> str:
    """Of what `public_keys` wrote."""
    return thumbprint(orjson.loads(text))


def _from_pem(text: str) -> PublicKey:
    try:
        if "CERTIFICATE" in text:
            found: Any = x509.load_pem_x509_certificate(text.encode()).public_key()
        else:
            found = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("this PEM cannot be read as a public key or certificate") from None
    return _checked(found)


def _from_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    if "d" in jwk or jwk.get("kty") == "oct":
        raise ValueError("this is a private or secret key; register the public one")
    try:
        if jwk.get("kty") == "RSA":
            found: Any = RSAAlgorithm.from_jwk(dict(jwk))
        elif jwk.get("kty") == "EC":
            found = ECAlgorithm.from_jwk(dict(jwk))
        else:
            raise ValueError("a key is RSA or EC")
    except InvalidKeyError:
        raise ValueError("this JWK cannot be read") from None
    return _checked(found)


def _checked(key: Any) -> PublicKey:
    if isinstance(key, RSAPublicKey) and _LEAST_BITS <= key.key_size <= _MOST_BITS:
        return key
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP384R1):
        return key
    raise ValueError(f"a key is RSA of {_LEAST_BITS} to {_MOST_BITS} bits (RS384), or EC on P-384 (ES384)")


def _canonical(key: PublicKey, kid: str) -> str:
    """The public members, ``alg`` and ``kid`` (RFC 7638's thumbprint where it has none), sorted: equal keys are equal text."""
    jwk: dict[str, Any] = RSAAlgorithm.to_jwk(key, as_dict=True) if isinstance(key, RSAPublicKey) else ECAlgorithm.to_jwk(key, as_dict=True)
    plain: dict[str, Any] = {name: jwk[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in jwk}
    if kid and not _KID.fullmatch(kid):
        raise ValueError("a key id (kid) has 1 to 200 printable ASCII characters without spaces and semicolons")
    plain |= {"kid": kid or thumbprint(plain), "alg": "RS384" if isinstance(key, RSAPublicKey) else "ES384"}
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()
