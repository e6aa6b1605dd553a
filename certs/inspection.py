"""Looks through a certs folder for what will go wrong: expired, soon to expire, readable keys, keys that do not fit, stale lists."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certs.files import is_encrypted
from engine.certificates import x509_crls
from engine.identity import party_of

SOON_DAYS: Final = 30
HOW: Final = "make them with: meridian certs init --ca authority; meridian certs issue PARTY --ca authority --out FOLDER"


@dataclass(frozen=True)
class Finding:
    """One file. `problem` is "" when all is well; `fatal` when TLS will not work with it."""

    file: str
    subject: str
    party: str
    days_left: float | None
    problem: str = ""
    fatal: bool = False


def check(folder: Path) -> list[Finding]:
    """One finding for each certificate, key and revocation list of a folder."""
    findings = []
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            findings += [_key(file)] if file.suffix == ".key" else _pem(file) if file.suffix == ".pem" else []
        except OSError as error:
            findings.append(Finding(file.name, "", "", None, f"cannot be read: {error.strerror}", True))
    if not findings:
        findings.append(Finding("", "", "", None, f"there are no certificates here; {HOW}", True))
    return findings


def _pem(file: Path) -> list[Finding]:
    data = file.read_bytes()
    try:
        if b"BEGIN X509 CRL" in data:
            return [_crl(file, crl) for crl in x509_crls(data)]
        return [_certificate(file, one) for one in x509.load_pem_x509_certificates(data)]
    except ValueError:
        return [Finding(file.name, "", "", None, "cannot be read as PEM", True)]


def _certificate(file: Path, certificate: x509.Certificate) -> Finding:
    days = (certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds() / 86400
    problem = "has expired" if days < 0 else f"expires in {days:.0f} days" if days < SOON_DAYS else ""
    return Finding(file.name, certificate.subject.rfc4514_string(), party_of(certificate), round(days, 1), problem, days < 0)


def _crl(file: Path, crl: x509.CertificateRevocationList) -> Finding:
    until = crl.next_update_utc
    days = (until - datetime.now(UTC)).total_seconds() / 86400 if until else None
    problem = "the revocation list has expired: renew it with meridian certs renew --list" if days is not None and days < 0 else ""
    return Finding(file.name, f"{crl.issuer.rfc4514_string()}, {len(list(crl))} revoked", "", days and round(days, 1), problem)


def _key(file: Path) -> Finding:
    open_to = stat.S_IMODE(file.stat().st_mode) & 0o077
    if open_to:
        return Finding(file.name, "private key", "", None, "others can read it: chmod 600")
    content, beside = file.read_bytes(), file.with_suffix(".pem")
    if is_encrypted(file):  # whether it fits shows when the site is checked, which knows its passphrase
        return Finding(file.name, "private key, encrypted", "", None)
    if beside.exists():
        try:
            public = load_pem_private_key(content, None).public_key()
            fits = x509.load_pem_x509_certificates(beside.read_bytes())[0].public_key() == public
        except (ValueError, TypeError):
            return Finding(file.name, "private key", "", None, "cannot be read", True)
        if not fits:
            return Finding(file.name, "private key", "", None, f"is not the key of {beside.name}", True)
    return Finding(file.name, "private key", "", None)
