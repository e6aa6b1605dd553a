"""Who a certificate names: a party URI ``urn:meridian:party:NAME`` and hosts, as subject alternative names (RFC 5280 clause 4.2.1.6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final

import service_identity
from cryptography import x509
from service_identity.hazmat import DNS_ID, DNSPattern, IPAddress_ID, IPAddressPattern, verify_service_identity

PREFIX: Final = "urn:meridian:party:"
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def party_uri(name: str) -> str:
    """``county-hospital`` -> ``urn:meridian:party:county-hospital``; a URI stays one. Raises ValueError for what is no party name."""
    short = name.removeprefix(PREFIX)
    if not _NAME.fullmatch(short):
        raise ValueError(f"{name!r} is not a party name: lower-case letters, digits, dot, dash and underscore, at most 64")
    return PREFIX + short


def party_name(uri: str) -> str:
    """The short name of a party URI."""
    return uri.removeprefix(PREFIX)


def party_of(certificate: x509.Certificate) -> str:
    """The party URI that a certificate names, "" when it names none or several."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    uris = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(PREFIX)]
    return uris[0] if len(uris) == 1 else ""


def is_allowed(party: str, allow: Sequence[str]) -> bool:
    """Whether `party` (a URI) is among `allow` (names or URIs); an empty list allows every party that was proven."""
    return bool(party) and (not allow or party in {PREFIX + name.removeprefix(PREFIX) for name in allow})


class HostIdentity:
    """The DNS name or address that a server's certificate must be for (RFC 9525). Raises ValueError for what is neither."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._wanted: DNS_ID | IPAddress_ID
        try:
            self._wanted = IPAddress_ID(ip_address(host))
        except ValueError:
            self._wanted = _dns_id(host)

    def __str__(self) -> str:
        return self._host

    @property
    def server_name(self) -> bytes:
        """What goes into the server_name extension; empty for an address (RFC 6066 clause 3)."""
        return self._wanted.hostname if isinstance(self._wanted, DNS_ID) else b""

    def named_by(self, certificate: x509.Certificate) -> bool:
        """By its DNS names and addresses alone: service_identity refuses a whole certificate for the party URI, which has no host."""
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            patterns: list[Any] = [DNSPattern.from_bytes(name.encode()) for name in names.get_values_for_type(x509.DNSName)]
            patterns += [IPAddressPattern(ip_address(str(ip))) for ip in names.get_values_for_type(x509.IPAddress)]
            verify_service_identity(patterns, [self._wanted], [])
        except (x509.ExtensionNotFound, ValueError, service_identity.CertificateError, service_identity.VerificationError):
            return False
        return True


def _dns_id(host: str) -> DNS_ID:
    try:
        return DNS_ID(host)
    except (ValueError, TypeError):
        raise ValueError(f"{host!r} is no host name that a certificate could be for") from None
