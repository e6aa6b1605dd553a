"""Certificates as they lie in a certs folder (revocation lists, when what expires), and as a peer shows them. Pure, but for files."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

REVOCATION_LIST: Final = "crl.pem"
LIST: Final = "revocation list"
_END: Final = b"-----END X509 CRL-----"


def x509_crls(pem: bytes) -> Sequence[x509.CertificateRevocationList]:
    """All revocation lists of a PEM file. Raises ValueError."""
    return [x509.load_pem_x509_crl(part + _END) for part in pem.split(_END) if part.strip()]


def read_lists(folder: Path) -> Sequence[x509.CertificateRevocationList]:
    """The revocation lists of a certs folder; none where there is no crl.pem. Raises OSError, ValueError."""
    file = folder / REVOCATION_LIST
    return x509_crls(file.read_bytes()) if file.exists() else ()


@dataclass(frozen=True)
class Expiry:
    """When something of a certs folder ends. `kind` is ``own`` (or any party's), ``authority`` or ``revocation list``; `name` is the
    common name of its subject, of its issuer for a list."""

    file: str
    kind: str
    name: str
    until: datetime


def expiries(folder: Path, more: Iterable[str] = ()) -> list[Expiry]:
    """Of every certificate and revocation list in the folder's .pem files, and in `more` of its files. What cannot be read is left out."""
    found: list[Expiry] = []
    for name in sorted({file.name for file in folder.glob("*.pem")} | set(more)):
        try:
            found += _ends(name, (folder / name).read_bytes())
        except (OSError, ValueError):
            continue
    return found


def _ends(file: str, data: bytes) -> list[Expiry]:
    if b"BEGIN X509 CRL" in data:
        lists = [(crl.issuer, crl.next_update_utc) for crl in x509_crls(data)]
        return [Expiry(file, LIST, _common_name(issuer), until) for issuer, until in lists if until is not None]
    certificates = x509.load_pem_x509_certificates(data) if b"BEGIN CERTIFICATE" in data else []
    return [Expiry(file, _kind(one), _common_name(one.subject), one.not_valid_after_utc) for one in certificates]


def _kind(certificate: x509.Certificate) -> str:
    try:
        return "authority" if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca else "own"
    except (x509.ExtensionNotFound, ValueError):
        return "own"


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def shown(transport: Any) -> x509.Certificate | None:
    """The certificate that the other end of a connection has shown."""
    get = getattr(transport, "getPeerCertificate", None)
    found = get() if get is not None else None
    return found.to_cryptography() if found is not None else None


def thumbprint(certificate: x509.Certificate) -> str:
    """Its digest as RFC 8705 clause 3.1 writes it (x5t#S256)."""
    return urlsafe_b64encode(certificate.fingerprint(SHA256())).rstrip(b"=").decode()


def file_stamp(file: Path) -> tuple[str, int, int, int]:
    """Differs when the file does: its name, inode, time in nanoseconds and size; zeros while it is not there."""
    try:
        state = file.stat()
    except OSError:  # gone, or not there yet
        return str(file), 0, 0, 0
    return str(file), state.st_ino, state.st_mtime_ns, state.st_size
