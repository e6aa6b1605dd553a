"""Envelopes signed by foreign hands (zeep with xmlsec), and the certificates of those who sign."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from adapters.soap.security.canonical import ContentOf, no_parts
from adapters.soap.security.instants import instant
from adapters.soap.security.names import ADDRESSING, DS, WSSE, WSU
from adapters.soap.security.refusal import Code, Refusal
from adapters.soap.security.trust import Trust, TrustFolder
from adapters.soap.security.verify import Proof, Rules, verify
from certs import Authority
from engine.contracts import Context
from engine.formats.xml import parse
from engine.observe import Metrics
from tests.support.soap import NS

xmlsec = pytest.importorskip("xmlsec")
from zeep.wsse import BinarySignature, Signature  # noqa: E402
from zeep.wsse.utils import WSU as WSU_MAKER  # noqa: E402
from zeep.wsse.utils import get_security_header  # noqa: E402

SECOND = 1_000_000
NOW = (int(time.time()) + 3600) * SECOND
"""The time of all these tests: when they began, since the authority's certificates are good from then on."""
CREATED, EXPIRES = instant(NOW - 10 * SECOND), instant(NOW + 290 * SECOND)
ACTION = f"<a:Action xmlns:a='{ADDRESSING[0]}'>urn:lab:order</a:Action><a:To xmlns:a='{ADDRESSING[0]}'>urn:x</a:To>"
PREFIXES = {"ds": DS, "wsse": WSSE, "wsu": WSU, "s11": NS["1.1"], "s12": NS["1.2"]}


class Signers:
    """One authority and who it has certified: ``lab`` with an RSA key, ``ward`` with an elliptic curve key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder / "authority", "test authority")

    def rsa(self, party: str = "lab", profile: str = "device", bits: int = 2048) -> Path:
        """The folder with node.pem and node.key."""
        out = self.folder / party
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        self.authority.issue_for(request.public_bytes(Encoding.PEM), party, profile, out)
        (out / f"{party}.pem").rename(out / "node.pem")
        (out / "node.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return out

    def curve(self, party: str = "ward", **more: Any) -> Path:
        out = self.folder / party
        issued = self.authority.issue(party, "device", out=out, **more)
        (out / f"{issued.stem}.pem").rename(out / "node.pem")
        (out / f"{issued.stem}.key").rename(out / "node.key")
        return out

    def trust(self, known: dict[str, str] | None = None, strict: bool = False) -> Trust:
        return TrustFolder(self.authority.folder, known=known or {}, strict=strict).read()


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "node.pem").read_bytes())


def made(folder: Path, issuer: tuple[x509.Name, Any] | None = None, *, san: str = "urn:meridian:party:lab", **what: Any) -> Path:
    """A certificate of whatever kind, from `issuer` (name, key) or by itself: `usage`, `purposes`, `ca`, `begin`, `end` (days from now)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, what.get("name", "somebody"))])
    now = datetime.fromtimestamp(NOW // SECOND, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0] if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=what.get("begin", -1)))
        .not_valid_after(now + timedelta(days=what.get("end", 1)))
        .add_extension(x509.BasicConstraints(ca=what.get("ca", False), path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(san)]), critical=False)
    if "purposes" in what:
        builder = builder.add_extension(x509.ExtendedKeyUsage(what["purposes"]), critical=False)
    if "usage" in what:
        builder = builder.add_extension(what["usage"], critical=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node.pem").write_bytes(builder.sign(issuer[1] if issuer else key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "node.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder


def plain(payload: str = "<o:Order xmlns:o='urn:lab'><o:id>17</o:id></o:Order>", version: str = "1.1", header: str = "") -> etree._Element:
    return etree.fromstring(f"<s:Envelope xmlns:s='{NS[version]}'><s:Header>{header}</s:Header><s:Body>{payload}</s:Body></s:Envelope>")


def signed(
    folder: Path,
    envelope: etree._Element | None = None,
    *,
    method: Any = None,
    digest: Any = None,
    binary: bool = True,
    created: str = CREATED,
    expires: str = EXPIRES,
) -> bytes:
    """By zeep: Body, and the Timestamp unless `created` is ""."""
    envelope = plain() if envelope is None else envelope
    security = get_security_header(envelope)
    if created:
        times = [WSU_MAKER.Created(created), *([WSU_MAKER.Expires(expires)] if expires else [])]
        security.append(WSU_MAKER.Timestamp(*times))
    kind = BinarySignature if binary else Signature
    method, digest = method or xmlsec.Transform.RSA_SHA256, digest or xmlsec.Transform.SHA256
    kind(str(folder / "node.key"), str(folder / "node.pem"), signature_method=method, digest_method=digest).apply(envelope, {})
    return etree.tostring(envelope)


def judged(
    message: bytes | etree._Element,
    trust: Trust,
    now: int = NOW,
    *,
    content_of: ContentOf = no_parts,
    encrypted: bool = False,
    **rules: Any,
) -> Proof:
    root = parse(message) if isinstance(message, bytes) else message
    return verify(root, Rules(**rules), trust, now, content_of=content_of, encrypted=encrypted)


def refused(message: bytes | etree._Element, trust: Trust, now: int = NOW, **more: Any) -> tuple[Code, str]:
    """Why it is refused; it must be."""
    with pytest.raises(Refusal) as raised:
        judged(message, trust, now, **more)
    return raised.value.fault, raised.value.text


def at(root: etree._Element, path: str) -> etree._Element:
    """The one element at an XPath."""
    (found,) = root.xpath(path, namespaces=PREFIXES)
    return found


def context(folder: Path, certs: Path, clock: Any = lambda: NOW) -> Context:
    ids = iter(range(1, 1_000_000))
    return Context(
        name="orders",
        reactor=None,
        site=folder,
        data=folder / "data",
        clock=clock,
        new_id=lambda: f"i{next(ids)}",
        log=logging.getLogger("test.wsse"),
        metrics=Metrics(),
        tls=SimpleNamespace(folder=certs),  # type: ignore[arg-type]
        audit=lambda event, **facts: None,
    )
