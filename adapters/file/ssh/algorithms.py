"""Which algorithms of SSH are spoken: those that OpenSSH 8.2 and newer offers, and old ones only where a channel names them. Pure.

RFC 9142 (key exchange), RFC 8332 (RSA with SHA-2), RFC 8709 (Ed25519), RFC 5647 (AES-GCM). No SHA-1, no CBC, no DSS, no compression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_KEX: Final = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group-exchange-sha256",
)
_CIPHERS: Final = (
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
_MACS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
_SIGNATURES: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
OLD: Final[Mapping[str, str]] = {
    "ssh-rsa": "signature",
    "diffie-hellman-group14-sha1": "kex",
    "diffie-hellman-group-exchange-sha1": "kex",
    "diffie-hellman-group1-sha1": "kex",
    "hmac-sha1": "mac",
    "aes256-cbc": "encryption",
    "aes128-cbc": "encryption",
    "3des-cbc": "encryption",
}
"""What old servers and senders may still need, by what it is for."""


def algorithms(old: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """asyncssh's arguments. `old` are names out of OLD, preferred last; `known` are the key exchanges that this installation can do."""
    asked = {kind: [name for name in old if OLD[name] == kind] for kind in ("kex", "encryption", "mac", "signature")}
    return {
        "kex_algs": [name for name in (*_KEX, *asked["kex"]) if name in known],
        "encryption_algs": [*_CIPHERS, *asked["encryption"]],
        "mac_algs": [*_MACS, *asked["mac"]],
        "signature_algs": [*_SIGNATURES, *asked["signature"]],
        "compression_algs": ["none"],
    }


def host_key_algorithms(old: Sequence[str], types: Sequence[str]) -> list[str]:
    """The signatures that keys of these types (``ssh-ed25519``, ``ssh-rsa`` …) can make, so that a server shows the key that is pinned."""
    allowed = [*_SIGNATURES, *(name for name in old if OLD[name] == "signature")]
    return [name for name in allowed if ("ssh-rsa" if name.startswith("rsa-") else name) in types]
