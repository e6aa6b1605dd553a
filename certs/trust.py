"""ca.pem and crl.pem of a folder, which may hold several authorities: one of them is changed, the others stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.files import write
from engine.certificates import REVOCATION_LIST, read_lists
from engine.errors import ConfigError


def certificate_of(key: Any, pem: bytes) -> x509.Certificate | None:
    """The certificate among those of `pem` that is this private key's, the one valid longest where it was renewed. Raises ValueError."""
    own = _spki(key.public_key())
    found = [one for one in x509.load_pem_x509_certificates(pem) if _spki(one.public_key()) == own]
    return max(found, key=lambda one: one.not_valid_after_utc, default=None)


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def add_authority(folder: Path, authority: x509.Certificate) -> None:
    """Trust one more authority. Raises ConfigError where what is there cannot be read."""
    file = folder / "ca.pem"
    try:
        known = file.read_bytes() if file.exists() else b""
        there = x509.load_pem_x509_certificates(known) if known.strip() else []
    except (OSError, ValueError):
        raise ConfigError(f"{file} cannot be read; nothing was changed") from None
    if authority not in there:
        between = b"" if not known or known.endswith(b"\n") else b"\n"
        write(file, known + between + authority.public_bytes(Encoding.PEM))


def put_list(folder: Path, authority: x509.Certificate, revocations: x509.CertificateRevocationList) -> None:
    """Put an authority's revocation list in the place of its last one. Whose a list is shows by its signature: two authorities may have
    the same name, and a folder that lost another's list would let in whom that one has revoked. Raises ConfigError."""
    file = folder / REVOCATION_LIST
    key: Any = authority.public_key()
    try:
        others = [one for one in read_lists(folder) if not one.is_signature_valid(key)]
    except (OSError, ValueError):
        raise ConfigError(f"{file} cannot be read; nothing was changed") from None
    write(file, b"".join(one.public_bytes(Encoding.PEM) for one in (*others, revocations)))


def own_list(folder: Path, authority: x509.Certificate) -> x509.CertificateRevocationList | None:
    """This authority's list among those of a folder. Raises OSError, ValueError."""
    key: Any = authority.public_key()
    return next((one for one in read_lists(folder) if one.is_signature_valid(key)), None)
