"""Which certificates may sign: those of the site's authorities, and those that the site has been given and knows by party.

The same folder, and the same rules, as for TLS (engine.tls): a revoked certificate is refused also by a list that has expired; a list
that is missing or has expired is tolerated unless ``crl: strict``. A certificate that is known needs no authority, since a hospital's
vendor often has it from one that nobody here would trust for anything else; the folder says whose it is.

Sources: RFC 5280 clauses 4.2.1.3 (digitalSignature), 4.2.1.9, 4.2.1.12, 6.1 (by OpenSSL) and 6.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from adapters.soap.security.algorithms import check_key
from adapters.soap.security.refusal import Code, Refusal
from engine.certificates import REVOCATION_LIST, read_lists
from engine.errors import ConfigError
from engine.identity import party_of, party_uri

_DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # RFC 9336
_PURPOSES: Final = frozenset((ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, _DOCUMENT_SIGNING))
_BROKEN: Final = (hashes.MD5, hashes.SHA1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Trust:
    """`known` gives certificates with the party URI that each is for."""

    authorities: Sequence[x509.Certificate] = ()
    lists: Sequence[x509.CertificateRevocationList] = ()
    known: Sequence[tuple[str, x509.Certificate]] = ()
    strict: bool = False

    def party(self, certificate: x509.Certificate, now: int) -> str:
        """The party that `certificate` proves at `now` (µs), "" where it names none. Raises Refusal where it proves nothing."""
        try:
            return self._party(certificate, now)
        except (ValueError, UnsupportedAlgorithm, crypto.Error):  # what cannot be read of it is found only when it is looked at
            raise Refusal(Code.INVALID_TOKEN, "a certificate that cannot be read") from None

    def _party(self, certificate: x509.Certificate, now: int) -> str:
        check_key(certificate.public_key())
        at = _EPOCH + timedelta(microseconds=now)
        party = next((party for party, one in self.known if one == certificate), "")
        chain = self._chain(certificate, at) if not party else [certificate]
        _check_validity(certificate, at)
        _check_use(certificate)
        for one, issuer in zip(chain, [*chain[1:], None], strict=True):
            self._check_revocation(one, issuer, at)
        return party or party_of(certificate)

    def _chain(self, certificate: x509.Certificate, at: datetime) -> list[x509.Certificate]:
        store = crypto.X509Store()
        for authority in self.authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        store.set_time(at.replace(tzinfo=None))
        try:
            found = crypto.X509StoreContext(store, crypto.X509.from_cryptography(certificate)).get_verified_chain()
        except crypto.X509StoreContextError as error:
            raise Refusal(Code.FAILED_AUTHENTICATION, f"the certificate: {error}") from None
        chain = [one.to_cryptography() for one in found]
        if any(isinstance(one.signature_hash_algorithm, _BROKEN) for one in chain[:-1]):
            raise Refusal(Code.FAILED_AUTHENTICATION, "the certificate is signed with a hash that is broken")
        return chain

    def _check_revocation(self, certificate: x509.Certificate, issuer: x509.Certificate | None, at: datetime) -> None:
        """Of a known certificate the issuer may not be here: its list is then not one to believe in `strict`, and believed otherwise."""
        if issuer is None and certificate.issuer == certificate.subject:
            return
        named = [one for one in self.lists if one.issuer == certificate.issuer]
        lists = [one for one in named if issuer is None or one.is_signature_valid(issuer.public_key())]  # type: ignore[arg-type]
        if named and not lists:  # an authority with a new key has the lists of both
            raise Refusal(Code.FAILED_AUTHENTICATION, "the signature of the revocation list is wrong")
        for one in lists:
            if one.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                raise Refusal(Code.FAILED_AUTHENTICATION, "the certificate has been revoked")
        if self.strict and not any(_is_current(one, at) for one in lists):
            raise Refusal(Code.FAILED_AUTHENTICATION, "there is no current revocation list of the certificate's authority")


def _is_current(revocations: x509.CertificateRevocationList, at: datetime) -> bool:
    until = revocations.next_update_utc
    return revocations.last_update_utc <= at and (until is None or at <= until)


def _check_validity(certificate: x509.Certificate, at: datetime) -> None:
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise Refusal(Code.FAILED_AUTHENTICATION, "the certificate: not yet valid, or expired")


def _check_use(certificate: x509.Certificate) -> None:
    """Raises Refusal, and ValueError where the extensions cannot be read."""
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if constraints is not None and constraints.ca:
        raise Refusal(Code.FAILED_AUTHENTICATION, "the certificate is an authority's")
    if usage is not None and not usage.digital_signature:
        raise Refusal(Code.FAILED_AUTHENTICATION, "the certificate's key usage is not digitalSignature")
    if purposes is not None and not _PURPOSES.intersection(purposes):
        raise Refusal(Code.FAILED_AUTHENTICATION, "the certificate is not meant for this purpose")


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    """None where there is no such extension."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


@dataclass(frozen=True)
class TrustFolder:
    """Trust from a certs folder. `known` gives file names by party."""

    folder: Path
    ca: str = "ca.pem"
    known: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False

    @property
    def files(self) -> Sequence[Path]:
        return [self.folder / name for name in (self.ca, REVOCATION_LIST, *self.known.values())]

    def read(self) -> Trust:
        """Raises ConfigError."""
        try:
            authorities = x509.load_pem_x509_certificates((self.folder / self.ca).read_bytes())
            known = [(party_uri(party), self._first(name)) for party, name in self.known.items()]
            return Trust(authorities, read_lists(self.folder), known, self.strict)
        except OSError as error:
            raise ConfigError(f"{Path(str(error.filename)).name} in {self.folder} cannot be read: {error.strerror}") from None
        except ValueError:
            raise ConfigError(f"the certificates or revocation lists in {self.folder} cannot be used") from None

    def _first(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / name).read_bytes())
