"""One XML signature over parts of an envelope (XML Signature 1.1 clauses 3.2 and 4, narrowed by WSS 1.1 clause 8).

What is taken: references to ids in this document, digested after Exclusive C14N. The enveloped-signature transform is taken where it
does nothing, as npm soap writes it for a Body. No other transform, no Object, no Manifest: nothing that chooses what is signed.
The elements that come back are those of the tree that was given, not copies of them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lxml import etree

from adapters.soap.security.algorithms import check_key, check_signature, digest_name, signature_method
from adapters.soap.security.canonical import ContentOf, canonical, digest
from adapters.soap.security.encoding import decoded
from adapters.soap.security.layout import Layout, children, only, text
from adapters.soap.security.names import ENVELOPED, EXCLUSIVE_C14N, ds
from adapters.soap.security.refusal import Code, Refusal

_MOST_REFERENCES: Final = 32
_MOST_PREFIXES: Final = 32
_INCLUSIVE: Final = f"{{{EXCLUSIVE_C14N}}}InclusiveNamespaces"


@dataclass(frozen=True)
class _Reference:
    element: etree._Element
    digest: str
    expected: bytes
    prefixes: Sequence[str]


def check_signed(
    layout: Layout, signature: etree._Element, certificate: x509.Certificate, sha1: bool, content_of: ContentOf
) -> tuple[list[etree._Element], bytes]:
    """The elements that the certificate's key has signed, and a mark that any repetition has too, however it is encoded: the signature
    value is none, since for ECDSA anyone can make a second one, and nor is the certificate, which may be signed so. Raises Refusal."""
    info, value, _ = children(signature, [ds("SignedInfo"), ds("SignatureValue"), ds("KeyInfo")])
    how = only(info, ds("CanonicalizationMethod"))
    if how.get("Algorithm") != EXCLUSIVE_C14N:
        raise Refusal(Code.UNSUPPORTED_ALGORITHM, "a canonicalization other than Exclusive C14N")
    method = signature_method(only(info, ds("SignatureMethod")).get("Algorithm", ""), sha1)
    said = canonical(info, _prefixes(how, info))
    key = check_key(certificate.public_key())
    check_signature(key, method, decoded(text(value), Code.FAILED_CHECK, "the signature"), said)
    references = info.findall(ds("Reference"))
    if not 0 < len(references) <= _MOST_REFERENCES:
        raise Refusal(Code.INVALID_SECURITY, f"a signature of {len(references)} references")
    signed = [_checked(_read(layout, one, sha1), content_of) for one in references]
    return signed, hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) + said).digest()


def _checked(reference: _Reference, content_of: ContentOf) -> etree._Element:
    found = digest(reference.element, reference.digest, reference.prefixes, content_of)
    if not hmac.compare_digest(found, reference.expected):
        raise Refusal(Code.FAILED_CHECK, f"{etree.QName(reference.element).localname} is not what was signed")
    return reference.element


def _read(layout: Layout, reference: etree._Element, sha1: bool) -> _Reference:
    uri = reference.get("URI")
    if uri is None or not uri.startswith("#") or len(uri) < 2 or "(" in uri:
        raise Refusal(Code.INVALID_SECURITY, "a reference that is not to an id in this message")
    transforms, method, value = children(reference, [ds("Transforms"), ds("DigestMethod"), ds("DigestValue")])
    element = layout.named(uri[1:])
    name = digest_name(method.get("Algorithm", ""), sha1)
    return _Reference(element, name, decoded(text(value), Code.FAILED_CHECK, "a digest"), _transformed(element, transforms))


def _transformed(element: etree._Element, transforms: etree._Element) -> Sequence[str]:
    """The prefixes to include. Raises Refusal for any transform that would change what is signed."""
    steps = list(transforms)
    if any(step.tag != ds("Transform") for step in steps):
        raise Refusal(Code.INVALID_SECURITY, "Transforms that hold something else")
    if len(steps) == 2 and steps[0].get("Algorithm") == ENVELOPED and not len(steps[0]):
        if next(element.iter(ds("Signature")), None) is not None:
            raise Refusal(Code.UNSUPPORTED_ALGORITHM, "a transform that leaves a signature out of what it signs")
        steps = steps[1:]
    if len(steps) != 1 or steps[0].get("Algorithm") != EXCLUSIVE_C14N:
        raise Refusal(Code.UNSUPPORTED_ALGORITHM, "a transform other than Exclusive C14N")
    return _prefixes(steps[0], element)


def _prefixes(method: etree._Element, element: etree._Element) -> Sequence[str]:
    """Of InclusiveNamespaces (Exclusive C14N clause 3). ``#default`` says nothing where there is no default namespace; where there is
    one, lxml cannot do it. Raises Refusal."""
    if not len(method):
        return ()
    (inclusive,) = children(method, [_INCLUSIVE])
    prefixes: list[str] = inclusive.get("PrefixList", "").split()
    if len(prefixes) > _MOST_PREFIXES:
        raise Refusal(Code.INVALID_SECURITY, f"more than {_MOST_PREFIXES} prefixes to include")
    if "#default" in prefixes:
        if element.nsmap.get(None):
            raise Refusal(Code.UNSUPPORTED_ALGORITHM, "the default namespace is to be included")
        prefixes.remove("#default")
    return prefixes
