"""A node's private certificate authority: EC P-256, one folder.

ca.pem ca.key       the authority; the key never leaves this folder
crl.pem             who has been revoked, signed anew at every change
issued.jsonl        one line for every certificate: serial, party, profile, until when, where, revoked when and why
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.extensions import ExtensionType

from certs.files import is_encrypted, write
from certs.profiles import AUTHORITY_LIFETIME, LIST_LIFETIME, PROFILES, Profile, alternative_names, key_usage, subject
from certs.trust import add_authority, certificate_of, own_list, put_list
from engine.errors import ConfigError
from engine.identity import party_name, party_uri

_CLOCK_SKEW: Final = timedelta(minutes=5)
REASONS: Final = {reason.value: reason for reason in x509.ReasonFlags}


@dataclass(frozen=True)
class Issued:
    """A line of issued.jsonl. Times are ISO 8601 UTC; `folder` is "" for a certificate whose key was made elsewhere."""

    serial: str
    party: str
    profile: str
    until: str
    folder: str
    stem: str
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    revoked: str = ""
    reason: str = ""


class Authority:
    """Use `create` or `open`. `now` gives the time, so that tests can make expired certificates."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.folder, self.certificate, self._key = folder, certificate, key

    @classmethod
    def create(cls, folder: Path, name: str) -> Authority:
        """Make a new authority. Raises ConfigError where there is one already, or the name cannot be one."""
        if (folder / "ca.key").exists():
            raise ConfigError(f"{folder} already holds an authority; its certificates would become worthless")
        if not name.strip():
            raise ConfigError("an authority needs a name")
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        public, called = key.public_key(), subject(name)
        builder = (
            x509.CertificateBuilder()
            .subject_name(called)
            .issuer_name(called)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        authority = cls(folder, builder.sign(key, hashes.SHA256()), key)
        write(folder / "ca.key", _pem_key(key), secret=True)
        add_authority(folder, authority.certificate)
        authority._write_list([])
        return authority

    @classmethod
    def open(cls, folder: Path) -> Authority:
        """Raises ConfigError where there is none, or it cannot be read. ca.pem may hold other authorities too, in any order."""
        try:
            key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
            certificate = certificate_of(key, (folder / "ca.pem").read_bytes())
        except FileNotFoundError:
            raise ConfigError(f"{folder} holds no authority (ca.pem and ca.key); make one with: meridian certs init") from None
        except (OSError, ValueError, TypeError):
            raise ConfigError(f"the authority in {folder} cannot be read") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{folder}/ca.key is no elliptic curve key, so no authority that was made here")
        if certificate is None:
            raise ConfigError(f"{folder}/ca.pem does not hold the certificate of {folder}/ca.key")
        return cls(folder, certificate, key)

    # --- issuing ---------------------------------------------------------------------------------

    def issue(
        self,
        party: str,
        profile: str = "node",
        *,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        out: Path | None = None,
        valid_from: datetime | None = None,
        valid_for: timedelta | None = None,
        passphrase: str = "",
    ) -> Issued:
        """A new key and certificate for `party`, written to `out` as STEM.pem and STEM.key together with ca.pem and crl.pem; STEM
        is ``node`` for a node, else the party's name. With `passphrase` the key is encrypted. Raises ConfigError for a name or profile
        that cannot be."""
        kind = _profile(profile)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), party, kind, dns, ips, valid_from, valid_for)
        folder, stem = out or self.folder, "node" if profile == "node" else party_name(party)
        write(folder / f"{stem}.key", _pem_key(key, passphrase), secret=True)
        write(folder / f"{stem}.pem", certificate.public_bytes(Encoding.PEM))
        self.copy_trust(folder)
        return self._note(certificate, party, kind, str(folder.resolve()), stem, dns, ips)

    def issue_for(self, request: bytes, party: str, profile: str, out: Path, *, dns: Sequence[str] = (), ips: Sequence[str] = ()) -> Issued:
        """A certificate for a key made elsewhere, from its PEM certificate signing request. Only the key is taken from the request:
        names are those given here."""
        kind = _profile(profile)
        try:
            csr = x509.load_pem_x509_csr(request)
        except ValueError:
            raise ConfigError("this is not a certificate signing request in PEM form") from None
        if not csr.is_signature_valid:
            raise ConfigError("the request's signature is wrong: whoever made it does not hold the key")
        certificate = self._sign(csr.public_key(), party, kind, dns, ips, None, None)  # type: ignore[arg-type]
        write(out / f"{party_name(party)}.pem", certificate.public_bytes(Encoding.PEM))
        self.copy_trust(out)
        return self._note(certificate, party, kind, "", party_name(party), dns, ips)

    def renew(self, party: str, *, passphrase: str = "") -> list[Issued]:
        """New keys and certificates in the place of those that `party` has and that are not revoked. The old ones stay valid. Raises
        ConfigError where the old key is encrypted and there is no passphrase for the new one: the node expects one."""
        wanted = _party(party)
        current = {(one.folder, one.stem): one for one in self.issued() if one.party == wanted and not one.revoked and one.folder}
        if not current:
            raise ConfigError(
                f"no certificate of {party} to renew; known: {', '.join(sorted({one.party for one in self.issued()})) or 'none'}"
            )
        name = party_name(wanted)
        for one in current.values() if not passphrase else ():
            if is_encrypted(Path(one.folder) / f"{one.stem}.key"):
                raise ConfigError(
                    f"{one.folder}/{one.stem}.key is encrypted: say with --passphrase what the new one is to be encrypted with"
                )
        return [
            self.issue(name, one.profile, dns=one.dns, ips=one.ips, out=Path(one.folder), passphrase=passphrase) for one in current.values()
        ]

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        party: str,
        profile: Profile,
        dns: Sequence[str],
        ips: Sequence[str],
        valid_from: datetime | None,
        valid_for: timedelta | None,
    ) -> x509.Certificate:
        try:
            names = alternative_names(party, dns, ips)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        begin = valid_from or datetime.now(UTC) - _CLOCK_SKEW
        extensions: list[tuple[ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (key_usage(authority=False), True),
            (x509.ExtendedKeyUsage(profile.usages), False),
            (names, False),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (self._key_identifier(), False),
        ]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject(party_name(party_uri(party))))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(min(begin + (valid_for or profile.lifetime), self.certificate.not_valid_after_utc))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())

    # --- revoking --------------------------------------------------------------------------------

    def revoke(self, party_or_serial: str, reason: str = "unspecified") -> list[Issued]:
        """Revoke every certificate of a party, or the one with this serial (hex, as any tool prints it: colons, upper case, leading
        zeros). Gives those that this call has revoked."""
        if reason not in REASONS:
            raise ConfigError(f"{reason!r} is no reason; allowed: {', '.join(REASONS)}")
        known = self.issued()
        wanted = re.sub(r"[:\s]", "", party_or_serial.lower()).removeprefix("0x").lstrip("0")
        hits = [one for one in known if not one.revoked and (one.serial == wanted or party_or_serial in (one.party, party_name(one.party)))]
        if not hits:
            raise ConfigError(f"nothing to revoke: {party_or_serial!r} has no certificate that is not revoked already")
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        gone = [replace(one, revoked=stamp, reason=reason) for one in hits]
        after = [next((new for new in gone if new.serial == one.serial), one) for one in known]
        self._rewrite(after)
        self._write_list(after)
        for folder in {Path(one.folder) for one in after if one.folder}:
            if folder.is_dir():
                self.copy_trust(folder)
        return gone

    def renew_list(self) -> None:
        """Sign the revocation list anew; it is good for 30 days."""
        self._write_list(self.issued())

    def _write_list(self, issued: Sequence[Issued]) -> None:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - _CLOCK_SKEW)
            .next_update(now + LIST_LIFETIME)
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        for one in issued:
            if one.revoked:
                entry = (
                    x509.RevokedCertificateBuilder()
                    .serial_number(int(one.serial, 16))
                    .revocation_date(datetime.fromisoformat(one.revoked))
                    .add_extension(x509.CRLReason(REASONS[one.reason]), critical=False)
                )
                builder = builder.add_revoked_certificate(entry.build())
        put_list(self.folder, self.certificate, builder.sign(self._key, hashes.SHA256()))

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """Which key has signed (RFC 5280 clauses 4.2.1.1 and 5.2.1)."""
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)

    # --- the index -------------------------------------------------------------------------------

    def issued(self) -> list[Issued]:
        """Every certificate this authority has issued, oldest first."""
        file = self.folder / "issued.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        try:
            return [_issued(json.loads(line)) for line in lines if line]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{file} cannot be read: each line must be one certificate as this authority has written it") from None

    def _note(
        self,
        certificate: x509.Certificate,
        party: str,
        profile: Profile,
        folder: str,
        stem: str,
        dns: Sequence[str],
        ips: Sequence[str],
    ) -> Issued:
        until = certificate.not_valid_after_utc.isoformat(timespec="seconds")
        one = Issued(f"{certificate.serial_number:x}", party_uri(party), profile.name, until, folder, stem, tuple(dns), tuple(ips))
        self._rewrite([*self.issued(), one])
        return one

    def _rewrite(self, issued: Sequence[Issued]) -> None:
        write(self.folder / "issued.jsonl", "".join(json.dumps(asdict(one)) + "\n" for one in issued).encode())

    def copy_trust(self, folder: Path) -> None:
        """Put the authority's certificate and revocation list into another certs folder, leaving other authorities' there in place."""
        if folder.resolve() == self.folder.resolve():
            return
        add_authority(folder, self.certificate)
        try:
            own = own_list(self.folder, self.certificate)
        except (OSError, ValueError):
            raise ConfigError(f"{self.folder}/crl.pem cannot be read; sign it anew with: meridian certs renew --list") from None
        if own is not None:
            put_list(folder, self.certificate, own)


def _issued(line: dict[str, object]) -> Issued:
    return Issued(**{**line, "dns": tuple(line["dns"]), "ips": tuple(line["ips"])})  # type: ignore[arg-type]


def _party(name: str) -> str:
    try:
        return party_uri(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _profile(name: str) -> Profile:
    if name not in PROFILES:
        raise ConfigError(f"there is no profile {name!r}; allowed: {', '.join(PROFILES)}")
    return PROFILES[name]


def _pem_key(key: ec.EllipticCurvePrivateKey, passphrase: str = "") -> bytes:
    lock = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
