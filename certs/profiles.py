"""What kinds of certificates there are: key usage, lifetime, names (RFC 5280)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from engine.identity import party_uri


@dataclass(frozen=True)
class Profile:
    """`usages` are extended key usages: which side of a TLS connection it may be."""

    name: str
    usages: tuple[x509.ObjectIdentifier, ...]
    lifetime: timedelta


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("node", (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH), timedelta(days=397)),
        Profile("device", (ExtendedKeyUsageOID.CLIENT_AUTH,), timedelta(days=1095)),
        Profile("operator", (ExtendedKeyUsageOID.CLIENT_AUTH,), timedelta(days=397)),
    )
}
AUTHORITY_LIFETIME: Final = timedelta(days=3650)
LIST_LIFETIME: Final = timedelta(days=30)


def subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Meridian"), x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def alternative_names(party: str, dns: Sequence[str], ips: Sequence[str]) -> x509.SubjectAlternativeName:
    """The party URI first. Raises ValueError for what is no party, host name or address."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(party_uri(party))]
    names += [x509.DNSName(name) for name in dns]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ips]
    return x509.SubjectAlternativeName(names)


def key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
