"""Who a certificate names: a party URI ``urn:meridian:party:NAME`` in its subject alternative names (RFC 5280 clause 4.2.1.6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from cryptography import x509

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
