"""Which certificate a signature says it is by (WSS 1.1 clause 7, X.509 Token Profile 1.1 clause 3.2).

One that the message carries: a BinarySecurityToken by direct reference, or an X509Certificate in the reference itself. One that the
site knows: by subject key identifier, SHA-1 thumbprint, or issuer and serial number. That a message says which it is proves nothing;
`trust` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from lxml import etree

from adapters.soap.security.encoding import decoded
from adapters.soap.security.layout import Layout, at_most_one, children, only, text
from adapters.soap.security.names import BASE64, DS, KEY_IDENTIFIERS, THUMBPRINT, X509V3, ds, wsse
from adapters.soap.security.refusal import Code, Refusal

_MOST: Final = 16 << 10
_BLANKS: Final = re.compile(r"(?<!\\)([,+])\s+")


def signing_certificate(layout: Layout, key_info: etree._Element, known: Sequence[x509.Certificate]) -> x509.Certificate:
    """Raises Refusal."""
    (reference,) = children(key_info, [wsse("SecurityTokenReference")])
    if len(reference) != 1:
        raise Refusal(Code.INVALID_SECURITY, "a SecurityTokenReference must refer to one token")
    (how,) = reference
    if how.tag == wsse("Reference"):
        return _carried(layout, how)
    if how.tag == wsse("KeyIdentifier"):
        return _identified(how, known)
    if how.tag == ds("X509Data"):
        return _described(how, known)
    raise Refusal(Code.UNSUPPORTED_TOKEN, "a way to refer to a token that is not supported")


def _carried(layout: Layout, reference: etree._Element) -> x509.Certificate:
    uri = reference.get("URI", "")
    if not uri.startswith("#"):
        raise Refusal(Code.TOKEN_UNAVAILABLE, "a token outside the message")
    if reference.get("ValueType", X509V3) != X509V3:
        raise Refusal(Code.UNSUPPORTED_TOKEN, "a token that is no X.509 version 3 certificate")
    token = layout.named(uri[1:])
    if token.tag != wsse("BinarySecurityToken") or token.getparent() is not layout.security:
        raise Refusal(Code.INVALID_SECURITY, "what is referred to is no BinarySecurityToken in our Security header")
    if token.get("ValueType") != X509V3 or token.get("EncodingType", BASE64) != BASE64:
        raise Refusal(Code.UNSUPPORTED_TOKEN, "a token that is no X.509 version 3 certificate in base64")
    return _certificate(text(token))


def _certificate(encoded: str) -> x509.Certificate:
    if len(encoded) > _MOST:
        raise Refusal(Code.INVALID_TOKEN, "a certificate that is too long")
    try:
        return x509.load_der_x509_certificate(decoded(encoded, Code.INVALID_TOKEN, "a certificate"))
    except (ValueError, x509.InvalidVersion):
        raise Refusal(Code.INVALID_TOKEN, "a token that is no certificate") from None


def _identified(identifier: etree._Element, known: Sequence[x509.Certificate]) -> x509.Certificate:
    kind = identifier.get("ValueType", "")
    if kind == X509V3:  # the certificate itself, as WSS4J writes it for X509KeyIdentifier
        return _certificate(text(identifier))
    wanted = decoded(text(identifier), Code.INVALID_TOKEN, "a key identifier")
    if kind == THUMBPRINT:
        return _known([one for one in known if one.fingerprint(hashes.SHA1()) == wanted])  # noqa: S303 - names, does not protect
    if kind in KEY_IDENTIFIERS:
        return _known([one for one in known if _key_identifier(one) == wanted])
    raise Refusal(Code.UNSUPPORTED_TOKEN, "a kind of key identifier that is not supported")


def _described(data: etree._Element, known: Sequence[x509.Certificate]) -> x509.Certificate:
    if any(etree.QName(child).namespace != DS for child in data):
        raise Refusal(Code.UNSUPPORTED_TOKEN, "X509Data with what is not supported")
    carried = at_most_one(data, ds("X509Certificate"))
    if carried is not None:
        return _certificate(text(carried))
    serial = text(only(only(data, ds("X509IssuerSerial")), ds("X509SerialNumber")))
    issuer = text(only(only(data, ds("X509IssuerSerial")), ds("X509IssuerName")))
    return _known([one for one in known if str(one.serial_number) == serial and _is_called(one.issuer, issuer)])


def _known(found: Sequence[x509.Certificate]) -> x509.Certificate:
    if len(found) != 1:
        raise Refusal(Code.TOKEN_UNAVAILABLE, "a certificate that is not carried, and not known here")
    return found[0]


def _is_called(name: x509.Name, written: str) -> bool:
    """RFC 4514; toolkits put blanks behind commas, and some write the name in its encoded order."""
    try:
        wanted = x509.Name.from_rfc4514_string(
            _BLANKS.sub(r"\1", written), {"E": x509.NameOID.EMAIL_ADDRESS, "EMAILADDRESS": x509.NameOID.EMAIL_ADDRESS}
        )
    except ValueError:
        return False
    ours = [(one.oid, one.value) for one in name]
    theirs = [(one.oid, one.value) for one in wanted]
    return theirs in (ours, ours[::-1])


def _key_identifier(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        return b""
