"""The algorithms that are taken (XML Signature 1.1 clause 6, RFC 9231), and those that only a legacy vendor may use. HMAC and DSA never.

RSA keys have 2048 bits at least; elliptic curves are P-256, P-384, P-521. An ECDSA signature is r and s side by side, each as long as
the curve's order (RFC 4050 as corrected by XML Signature 1.1 clause 6.4.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from adapters.soap.security.names import DS
from adapters.soap.security.refusal import Code, Refusal

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"
_ENC: Final = "http://www.w3.org/2001/04/xmlenc#"
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - where a site allows it
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
LEAST_BITS: Final = 2048
DIGESTS: Final = {_ENC + "sha256": "sha256", _MORE + "sha384": "sha384", _ENC + "sha512": "sha512", DS + "sha1": "sha1"}


@dataclass(frozen=True)
class Method:
    """`kind` is ``rsa``, ``pss`` or ``ecdsa``."""

    kind: str
    hash: str


SIGNATURES: Final = {
    **{_MORE + f"rsa-sha{bits}": Method("rsa", f"sha{bits}") for bits in (256, 384, 512)},
    **{f"http://www.w3.org/2007/05/xmldsig-more#sha{bits}-rsa-MGF1": Method("pss", f"sha{bits}") for bits in (256, 384, 512)},
    **{_MORE + f"ecdsa-sha{bits}": Method("ecdsa", f"sha{bits}") for bits in (256, 384, 512)},
    DS + "rsa-sha1": Method("rsa", "sha1"),
    _MORE + "ecdsa-sha1": Method("ecdsa", "sha1"),
}
_URIS: Final = {method: uri for uri, method in SIGNATURES.items()}
DIGEST_URIS: Final = {name: uri for uri, name in DIGESTS.items()}


def digest_name(uri: str, sha1: bool) -> str:
    """The name for hashlib. Raises Refusal."""
    name = DIGESTS.get(uri, "")
    if not name or (name == "sha1" and not sha1):
        raise Refusal(Code.UNSUPPORTED_ALGORITHM, "digested with SHA-1" if name else "digested with an algorithm that is not taken")
    return name


def signature_method(uri: str, sha1: bool) -> Method:
    """Raises Refusal."""
    method = SIGNATURES.get(uri)
    if method is None or (method.hash == "sha1" and not sha1):
        raise Refusal(Code.UNSUPPORTED_ALGORITHM, "signed with SHA-1" if method else "signed with an algorithm that is not taken")
    return method


def check_key(key: object) -> PublicKey:
    """Raises Refusal for a key that is of another kind, or too weak."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < LEAST_BITS:
            raise Refusal(Code.INVALID_TOKEN, f"an RSA key of {key.key_size} bits")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    raise Refusal(Code.INVALID_TOKEN, "a key that is neither RSA nor on one of the NIST curves")


def check_signature(key: PublicKey, method: Method, signature: bytes, data: bytes) -> None:
    """Raises Refusal."""
    chosen = _HASHES[method.hash]
    try:
        if isinstance(key, rsa.RSAPublicKey) and method.kind != "ecdsa":
            key.verify(signature, data, _padding(method), chosen)
        elif isinstance(key, ec.EllipticCurvePublicKey) and method.kind == "ecdsa":
            key.verify(_der(signature, key.key_size), data, ec.ECDSA(chosen))
        else:
            raise Refusal(Code.FAILED_CHECK, "the algorithm does not fit the certificate's key")
    except InvalidSignature:
        raise Refusal(Code.FAILED_CHECK, "the signature is wrong") from None


def _padding(method: Method) -> padding.AsymmetricPadding:
    chosen = _HASHES[method.hash]
    return padding.PSS(padding.MGF1(chosen), chosen.digest_size) if method.kind == "pss" else padding.PKCS1v15()


def _der(signature: bytes, bits: int) -> bytes:
    half = (bits + 7) // 8
    if len(signature) != 2 * half:
        raise Refusal(Code.FAILED_CHECK, "the signature has a wrong length")
    return encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))


def method_for(key: PrivateKey, digest: str) -> str:
    """The URI that `key` signs with."""
    return _URIS[Method("rsa" if isinstance(key, rsa.RSAPrivateKey) else "ecdsa", digest)]


def sign(key: PrivateKey, digest: str, data: bytes) -> bytes:
    chosen = _HASHES[digest]
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), chosen)
    half = (key.key_size + 7) // 8
    return b"".join(number.to_bytes(half, "big") for number in decode_dss_signature(key.sign(data, ec.ECDSA(chosen))))
