"""Reads the files of a certs folder: revocation lists, and when what expires. Pure, but for reading the files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

REVOCATION_LIST: Final = "crl.pem"
_END: Final = b"-----END X509 CRL-----"


def x509_crls(pem: bytes) -> Sequence[x509.CertificateRevocationList]:
    """All revocation lists of a PEM file. Raises ValueError."""
    return [x509.load_pem_x509_crl(part + _END) for part in pem.split(_END) if part.strip()]


def read_lists(folder: Path) -> Sequence[x509.CertificateRevocationList]:
    """The revocation lists of a certs folder; none where there is no crl.pem. Raises OSError, ValueError."""
    file = folder / REVOCATION_LIST
    return x509_crls(file.read_bytes()) if file.exists() else ()


def expiries(folder: Path) -> dict[str, datetime]:
    """When each file of a folder expires: the first of its certificates or revocation lists. What cannot be read is left out."""
    found = {}
    for file in sorted(folder.glob("*.pem")):
        try:
            ends = _ends(file.read_bytes())
        except (OSError, ValueError):
            continue
        if ends:
            found[file.name] = min(ends)
    return found


def _ends(data: bytes) -> list[datetime]:
    if b"BEGIN X509 CRL" in data:
        return [crl.next_update_utc for crl in x509_crls(data) if crl.next_update_utc is not None]
    return [one.not_valid_after_utc for one in x509.load_pem_x509_certificates(data)] if b"BEGIN CERTIFICATE" in data else []
