"""WS-Security on an envelope that goes out: Timestamp, X.509 signature, UsernameToken.

The signature is as the X.509 Token Profile 1.1 clause 3.3.2 and the Basic Security Profile 1.1 have it, which every toolkit checks: the
certificate in a BinarySecurityToken, referred to directly; references by wsu:Id; Exclusive C14N; SHA-256 unless said otherwise. The
token stands before the signature that needs it, so that a reader need not go back.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from adapters.soap.security.algorithms import DIGEST_URIS, PrivateKey, method_for, sign
from adapters.soap.security.canonical import ContentOf, canonical, digest, no_parts
from adapters.soap.security.instants import instant
from adapters.soap.security.names import ADDRESSING as ADDRESSING_NAMESPACES
from adapters.soap.security.names import (
    BASE64,
    DS,
    EXCLUSIVE_C14N,
    PASSWORD_DIGEST,
    PASSWORD_TEXT,
    ROLE,
    WSSE,
    WSU,
    X509V3,
    ds,
    wsse,
    wsu,
)
from adapters.soap.security.username import password_digest
from adapters.soap.security.verify import ADDRESSING, BODY, TIMESTAMP

_NONCE_BYTES: Final = 16
_ID: Final = wsu("Id")
_READER: Final = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
"""Of what is our own."""


@dataclass(frozen=True)
class Signer:
    """`digest` is ``sha256``, ``sha384`` or ``sha512``."""

    certificate: x509.Certificate
    key: PrivateKey
    digest: str = "sha256"


@dataclass(frozen=True)
class Login:
    """A UsernameToken to say. `password` reveals the secret; as text only where the connection is TLS."""

    name: str
    password: Callable[[], str]
    text: bool = False


@dataclass(frozen=True)
class Outgoing:
    """What to put on each envelope. `signer` gives the certificate and key of now, None to sign nothing. `lifetime` is in µs, 0 for no
    Timestamp. `clock`, `new_id` and `random` are the engine's and os.urandom. Also what zeep calls a wsse object."""

    clock: Callable[[], int]
    new_id: Callable[[], str]
    random: Callable[[int], bytes]
    signer: Callable[[], Signer] | None = None
    parts: Sequence[str] = (BODY, TIMESTAMP, ADDRESSING)
    login: Login | None = None
    lifetime: int = 300_000_000
    role: str = ""

    def apply(self, envelope: etree._Element, headers: Any) -> tuple[etree._Element, Any]:
        """zeep's hook: called with the finished envelope. What is signed is what a reader will see of it: lxml can write elements that
        were moved together in other prefixes than they have in memory."""
        written = etree.fromstring(etree.tostring(envelope), _READER)
        self.secure(written)
        return written, headers

    def verify(self, envelope: etree._Element) -> None:
        """zeep's hook for answers: what they prove, TLS has proven."""

    def secure(self, envelope: etree._Element, content_of: ContentOf = no_parts) -> None:
        """Add a Security header to an envelope as it was parsed, not as it was put together (`apply` does that). Nothing of it may be
        changed afterwards, white space included. Raises ConfigError where the key or the password is not there."""
        header, body = _header_and_body(envelope)
        now = self.clock()
        security = self._header(envelope, header)
        timestamp = self._timestamp(security, now) if self.lifetime else None
        if self.login is not None:
            self._user(security, self.login, now)
        if self.signer is None:
            return
        blocks = [block for block in header if etree.QName(block).namespace in ADDRESSING_NAMESPACES]
        elements = {BODY: [body], TIMESTAMP: [timestamp] if timestamp is not None else [], ADDRESSING: blocks}
        self._sign(security, self.signer(), [element for part in self.parts for element in elements[part]], content_of)

    def _header(self, envelope: etree._Element, header: etree._Element) -> etree._Element:
        namespace = str(etree.QName(envelope).namespace)
        security = etree.SubElement(header, wsse("Security"), nsmap={"wsse": WSSE, "wsu": WSU})
        security.set(f"{{{namespace}}}mustUnderstand", "1")
        if self.role:
            security.set(ROLE[namespace], self.role)
        return security

    def _timestamp(self, security: etree._Element, now: int) -> etree._Element:
        timestamp = etree.SubElement(security, wsu("Timestamp"))
        etree.SubElement(timestamp, wsu("Created")).text = instant(now)
        etree.SubElement(timestamp, wsu("Expires")).text = instant(now + self.lifetime)
        return timestamp

    def _user(self, security: etree._Element, login: Login, now: int) -> None:
        nonce, created, password = self.random(_NONCE_BYTES), instant(now), login.password()
        said = password if login.text else password_digest(nonce, created, password)
        token = etree.SubElement(security, wsse("UsernameToken"))
        etree.SubElement(token, wsse("Username")).text = login.name
        etree.SubElement(token, wsse("Password"), Type=PASSWORD_TEXT if login.text else PASSWORD_DIGEST).text = said
        etree.SubElement(token, wsse("Nonce"), EncodingType=BASE64).text = b64encode(nonce).decode("ascii")
        etree.SubElement(token, wsu("Created")).text = created

    def _sign(self, security: etree._Element, signer: Signer, elements: Sequence[etree._Element], content_of: ContentOf) -> None:
        token = etree.SubElement(security, wsse("BinarySecurityToken"), ValueType=X509V3, EncodingType=BASE64)
        token.set(_ID, f"token-{self.new_id()}")
        token.text = b64encode(signer.certificate.public_bytes(Encoding.DER)).decode("ascii")
        signature = etree.SubElement(security, ds("Signature"), nsmap={"ds": DS})
        info = etree.SubElement(signature, ds("SignedInfo"))
        etree.SubElement(info, ds("CanonicalizationMethod"), Algorithm=EXCLUSIVE_C14N)
        etree.SubElement(info, ds("SignatureMethod"), Algorithm=method_for(signer.key, signer.digest))
        for element in elements:
            self._identify(element)  # before the digest, which holds it
            self._refer(info, element, digest(element, signer.digest, (), content_of), signer.digest)
        value = sign(signer.key, signer.digest, canonical(info))
        etree.SubElement(signature, ds("SignatureValue")).text = b64encode(value).decode("ascii")
        reference = etree.SubElement(etree.SubElement(signature, ds("KeyInfo")), wsse("SecurityTokenReference"))
        etree.SubElement(reference, wsse("Reference"), URI=f"#{token.get(_ID)}", ValueType=X509V3)

    def _identify(self, element: etree._Element) -> None:
        if element.get(_ID) is None:
            element.set(_ID, f"part-{self.new_id()}")

    def _refer(self, info: etree._Element, element: etree._Element, value: bytes, algorithm: str) -> None:
        reference = etree.SubElement(info, ds("Reference"), URI=f"#{element.get(_ID)}")
        transforms = etree.SubElement(reference, ds("Transforms"))
        etree.SubElement(transforms, ds("Transform"), Algorithm=EXCLUSIVE_C14N)
        etree.SubElement(reference, ds("DigestMethod"), Algorithm=DIGEST_URIS[algorithm])
        etree.SubElement(reference, ds("DigestValue")).text = b64encode(value).decode("ascii")


def _header_and_body(envelope: etree._Element) -> tuple[etree._Element, etree._Element]:
    """The Header is made where there is none."""
    namespace = etree.QName(envelope).namespace
    body = envelope.find(f"{{{namespace}}}Body")
    header = envelope.find(f"{{{namespace}}}Header")
    if header is None:
        header = etree.Element(f"{{{namespace}}}Header")
        envelope.insert(0, header)
    assert body is not None
    return header, body
