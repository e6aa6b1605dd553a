"""Public keys as OpenSSH writes them: ``ssh-ed25519 AAAA… comment`` (RFC 4253 clause 6.6, RFC 8709)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from engine.options import Faulty, Kind

_TYPES: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_LEAST_RSA_BITS: Final = 2048
_ALLOWED: Final = f"one line as in a .pub file: {' | '.join(_TYPES)}, a space, base64"


def public_key(raw: Any) -> str:
    """``TYPE BASE64``, without its comment. Raises Faulty."""
    parts = str(raw).split()
    if len(parts) < 2 or parts[0] not in _TYPES:
        raise Faulty("this is no public key", _ALLOWED)
    try:
        key = load_ssh_public_key(f"{parts[0]} {parts[1]}".encode())
    except (ValueError, UnsupportedAlgorithm):
        raise Faulty("this is no public key", _ALLOWED) from None
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise Faulty(f"an RSA key of {key.key_size} bits is too short", f"at least {_LEAST_RSA_BITS} bits")
    return f"{parts[0]} {parts[1]}"


def fingerprint(key: str) -> str:
    """As ``ssh-keygen -l`` shows it: ``SHA256:…``. Raises ValueError."""
    try:
        blob = base64.b64decode(key.split()[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise ValueError("this is no public key") from error
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


PUBLIC_KEY: Final = Kind("public key", _ALLOWED, public_key, {"type": "string"})
