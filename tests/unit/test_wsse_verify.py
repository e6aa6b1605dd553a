"""What a signature proves, and when: certificates, algorithms, times, tokens, attachments. Signed by zeep and xmlsec."""

from __future__ import annotations

import datetime
from base64 import b64decode, b64encode
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from lxml import etree

from adapters.soap.security.instants import instant, microseconds
from adapters.soap.security.names import DS, EXCLUSIVE_C14N, KEY_IDENTIFIERS, THUMBPRINT, WSSE, X509V3, ds, wsse, wsu
from adapters.soap.security.outgoing import Outgoing, Signer
from adapters.soap.security.refusal import Code
from adapters.soap.security.trust import Trust, TrustFolder
from adapters.soap.security.watched import Watched
from engine.errors import ConfigError
from engine.formats.xml import parse
from tests.support.wsse import NOW, SECOND, Signers, at, certificate, judged, made, plain, refused, signed

EC = xmlsec.Transform.ECDSA_SHA256
P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of the curve's group."""
LAB, WARD = "urn:meridian:party:lab", "urn:meridian:party:ward"


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    made_signers = Signers(tmp_path_factory.mktemp("verify"))
    made_signers.rsa()
    made_signers.curve()
    return made_signers


@pytest.fixture(scope="module")
def lab(signers: Signers) -> Path:
    return signers.folder / "lab"


@pytest.fixture(scope="module")
def ward(signers: Signers) -> Path:
    return signers.folder / "ward"


@pytest.fixture(scope="module")
def trust(signers: Signers) -> Trust:
    return signers.trust()


class TestWhoSigns:
    @pytest.mark.parametrize("binary", [True, False])
    def test_a_party_of_our_authority(self, lab: Path, trust: Trust, binary: bool) -> None:
        """The certificate in a BinarySecurityToken, or within the reference."""
        assert judged(signed(lab, binary=binary), trust).party == LAB

    def test_by_soap_1_2(self, ward: Path, trust: Trust) -> None:
        assert judged(signed(ward, plain(version="1.2"), method=EC), trust).party == WARD

    def test_only_parties_that_are_allowed(self, lab: Path, trust: Trust) -> None:
        assert judged(signed(lab), trust, allow=["ward", "lab"]).party == LAB
        assert refused(signed(lab), trust, allow=["ward"]) == (Code.FAILED_AUTHENTICATION, f"{LAB} may not send here")

    def test_a_certificate_that_names_no_party(self, tmp_path: Path, signers: Signers, trust: Trust) -> None:
        folder = made(tmp_path, _issuer(signers), san="")
        assert refused(signed(folder, method=EC), trust)[1] == "a certificate without a party may not send here"

    def test_of_another_authority(self, tmp_path: Path, trust: Trust) -> None:
        other = Signers(tmp_path).curve()
        fault, why = refused(signed(other, method=EC), trust)
        assert fault is Code.FAILED_AUTHENTICATION
        assert "unable to get local issuer" in why

    def test_self_signed(self, tmp_path: Path, trust: Trust) -> None:
        fault, why = refused(signed(made(tmp_path), method=EC), trust)
        assert fault is Code.FAILED_AUTHENTICATION
        assert "self-signed" in why

    def test_with_the_name_of_our_authority_but_not_its_key(self, tmp_path: Path, signers: Signers, trust: Trust) -> None:
        name = signers.authority.certificate.subject
        other = load_pem_private_key((made(tmp_path / "other") / "node.key").read_bytes(), None)
        fault, _ = refused(signed(made(tmp_path / "made", (name, other)), method=EC), trust)
        assert fault is Code.FAILED_AUTHENTICATION

    @pytest.mark.parametrize(
        ("what", "why"),
        [
            ({"end": -0.5}, "certificate has expired"),
            ({"begin": 0.5}, "not yet valid"),
            ({"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]}, "not meant for this purpose"),
            ({"purposes": [ExtendedKeyUsageOID.CODE_SIGNING]}, "not meant for this purpose"),
            ({"ca": True}, "an authority's"),
        ],
    )
    def test_not_by_a_certificate_that(self, tmp_path: Path, signers: Signers, trust: Trust, what: dict[str, Any], why: str) -> None:
        folder = made(tmp_path, _issuer(signers), **what)
        fault, said = refused(signed(folder, method=EC), trust)
        assert fault is Code.FAILED_AUTHENTICATION
        assert why in said

    def test_not_by_a_key_for_encipherment(self, tmp_path: Path, signers: Signers, trust: Trust) -> None:
        flags = dict.fromkeys(
            ("digital_signature", "content_commitment", "data_encipherment", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
            False,
        )
        folder = made(tmp_path, _issuer(signers), usage=x509.KeyUsage(key_encipherment=True, key_agreement=True, **flags))
        assert refused(signed(folder, method=EC), trust)[1] == "the certificate's key usage is not digitalSignature"

    def test_not_by_a_key_that_is_too_short(self, tmp_path: Path) -> None:
        other = Signers(tmp_path)
        assert refused(signed(other.rsa(bits=1024)), other.trust()) == (Code.INVALID_TOKEN, "an RSA key of 1024 bits")

    def test_a_revoked_certificate(self, tmp_path: Path) -> None:
        own = Signers(tmp_path)
        message = signed(own.curve(), method=EC)
        folder = TrustFolder(own.authority.folder)
        assert judged(message, folder.read()).party == WARD
        own.authority.revoke("ward")
        assert refused(message, folder.read()) == (Code.FAILED_AUTHENTICATION, "the certificate has been revoked")

    def test_a_missing_list_is_tolerated_unless_strict(self, tmp_path: Path) -> None:
        own = Signers(tmp_path)
        message = signed(own.curve(), method=EC)
        assert judged(message, own.trust(strict=True)).party == WARD
        (own.authority.folder / "crl.pem").unlink()
        assert judged(message, own.trust()).party == WARD
        assert "no current revocation list" in refused(message, own.trust(strict=True))[1]

    def test_an_expired_list_still_refuses_whom_it_names(self, tmp_path: Path) -> None:
        own = Signers(tmp_path)
        mine = certificate(own.curve())
        name, key = _issuer(own)
        begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40)
        gone = x509.RevokedCertificateBuilder().serial_number(mine.serial_number).revocation_date(begin).build()
        builder = (
            x509.CertificateRevocationListBuilder().issuer_name(name).last_update(begin).next_update(begin + datetime.timedelta(days=1))
        )
        listed = builder.add_revoked_certificate(gone).sign(key, hashes.SHA256())
        (own.authority.folder / "crl.pem").write_bytes(listed.public_bytes(Encoding.PEM))
        assert "revoked" in refused(signed(tmp_path / "ward", method=EC), own.trust())[1]

    def test_a_list_that_somebody_else_has_signed(self, tmp_path: Path) -> None:
        own = Signers(tmp_path)
        name, _ = _issuer(own)
        other = load_pem_private_key((made(tmp_path / "other") / "node.key").read_bytes(), None)
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now).next_update(now + datetime.timedelta(days=1))
        (own.authority.folder / "crl.pem").write_bytes(builder.sign(other, hashes.SHA256()).public_bytes(Encoding.PEM))  # type: ignore[arg-type]
        assert "signature of the revocation list" in refused(signed(own.curve(), method=EC), own.trust())[1]

    def test_the_lists_of_two_keys_of_one_authority(self, tmp_path: Path) -> None:
        """It has been renewed under its name; the list of the other key is not in the way."""
        own, other = Signers(tmp_path / "a"), Signers(tmp_path / "b")
        message = signed(own.curve(), method=EC)
        both = [(one.authority.folder / "crl.pem").read_bytes() for one in (other, own)]
        (own.authority.folder / "crl.pem").write_bytes(b"".join(both))
        assert judged(message, own.trust()).party == WARD
        own.authority.revoke("ward")
        (own.authority.folder / "crl.pem").write_bytes(both[0] + (own.authority.folder / "crl.pem").read_bytes().removeprefix(both[0]))
        assert "revoked" in refused(message, own.trust())[1]

    def test_keyinfo_of_another_certificate(self, lab: Path, signers: Signers, trust: Trust) -> None:
        """Both are ours; the message says that it was the other."""
        root = parse(signed(lab))
        other = certificate(signers.rsa("pharmacy")).public_bytes(Encoding.PEM).decode()
        at(root, "//wsse:BinarySecurityToken").text = "".join(other.splitlines()[1:-1])
        assert refused(root, trust) == (Code.FAILED_CHECK, "the signature is wrong")
        at(root, "//wsse:BinarySecurityToken").text = "".join((signers.folder / "ward" / "node.pem").read_text().splitlines()[1:-1])
        assert refused(root, trust) == (Code.FAILED_CHECK, "the algorithm does not fit the certificate's key")


def _issuer(signers: Signers) -> tuple[x509.Name, Any]:
    return signers.authority.certificate.subject, load_pem_private_key((signers.authority.folder / "ca.key").read_bytes(), None)


class TestKnownCertificates:
    """Of an authority that nobody here trusts, given to the site in a file."""

    @pytest.fixture
    def vendor(self, tmp_path: Path) -> Path:
        return made(tmp_path / "vendor", san="", name="vendor, somewhere")

    @pytest.fixture
    def trust(self, tmp_path: Path, signers: Signers, vendor: Path) -> Trust:
        (tmp_path / "ca.pem").write_bytes((signers.authority.folder / "ca.pem").read_bytes())
        (tmp_path / "partner.pem").write_bytes((vendor / "node.pem").read_bytes())
        return TrustFolder(tmp_path, known={"vendor": "partner.pem"}).read()

    def test_it_proves_the_party_that_the_site_says(self, vendor: Path, trust: Trust) -> None:
        assert judged(signed(vendor, method=EC), trust).party == "urn:meridian:party:vendor"

    def test_its_time_counts_all_the_same(self, tmp_path: Path) -> None:
        old = made(tmp_path / "old", san="", end=-0.5)
        known = Trust(known=[("urn:meridian:party:old", certificate(old))])
        assert "expired" in refused(signed(old, method=EC), known)[1]

    @pytest.mark.parametrize("kind", [THUMBPRINT, *KEY_IDENTIFIERS])
    def test_by_an_identifier(self, vendor: Path, trust: Trust, kind: str) -> None:
        """The message need not carry it."""
        mine = certificate(vendor)
        key = mine.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        identifier = etree.Element(wsse("KeyIdentifier"), ValueType=kind)
        identifier.text = _base64(mine.fingerprint(hashes.SHA1()) if kind == THUMBPRINT else key)
        assert judged(_referring(signed(vendor, method=EC), identifier), trust).party == "urn:meridian:party:vendor"
        identifier.text = _base64(b"x" * 20)
        assert refused(_referring(signed(vendor, method=EC), identifier), trust)[0] is Code.TOKEN_UNAVAILABLE

    def test_by_issuer_and_serial_number(self, vendor: Path, trust: Trust) -> None:
        mine = certificate(vendor)
        data = etree.Element(ds("X509Data"))
        issuer_serial = etree.SubElement(data, ds("X509IssuerSerial"))
        etree.SubElement(issuer_serial, ds("X509IssuerName")).text = mine.issuer.rfc4514_string()
        etree.SubElement(issuer_serial, ds("X509SerialNumber")).text = str(mine.serial_number)
        assert judged(_referring(signed(vendor, method=EC), data), trust).party == "urn:meridian:party:vendor"
        issuer_serial[0].text = "CN=somebody else"
        assert refused(_referring(signed(vendor, method=EC), data), trust)[0] is Code.TOKEN_UNAVAILABLE

    def test_the_certificate_as_a_key_identifier(self, lab: Path, trust: Trust) -> None:
        identifier = etree.Element(wsse("KeyIdentifier"), ValueType=X509V3)
        identifier.text = _base64(certificate(lab).public_bytes(Encoding.DER))
        assert judged(_referring(signed(lab), identifier), trust).party == LAB

    @pytest.mark.parametrize(
        ("how", "fault"),
        [
            (etree.Element(wsse("Embedded")), Code.UNSUPPORTED_TOKEN),
            (etree.Element(wsse("KeyIdentifier"), ValueType="urn:x"), Code.INVALID_TOKEN),
            (etree.Element(wsse("Reference"), URI="http://x/"), Code.TOKEN_UNAVAILABLE),
            (etree.Element(wsse("Reference"), URI="#x", ValueType="urn:saml"), Code.UNSUPPORTED_TOKEN),
            (etree.Element(ds("KeyName")), Code.UNSUPPORTED_TOKEN),
        ],
    )
    def test_other_references_are_not_followed(self, lab: Path, trust: Trust, how: etree._Element, fault: Code) -> None:
        assert refused(_referring(signed(lab), how), trust)[0] is fault

    def test_a_token_that_is_none(self, lab: Path, trust: Trust) -> None:
        root = parse(signed(lab))
        for text in ("", "****", "AAAA", "A" * 20000):
            at(root, "//wsse:BinarySecurityToken").text = text
            assert refused(root, trust)[0] is Code.INVALID_TOKEN


def _base64(content: bytes) -> str:
    return b64encode(content).decode()


def _referring(message: bytes, how: etree._Element) -> etree._Element:
    """Another way to say whose the key is; KeyInfo is not signed."""
    root = parse(message)
    reference = at(root, "//wsse:SecurityTokenReference")
    reference[:] = [how]
    return root


class TestAlgorithms:
    @pytest.mark.parametrize("bits", [256, 384, 512])
    def test_what_is_taken(self, lab: Path, ward: Path, trust: Trust, bits: int) -> None:
        of = xmlsec.Transform.__dict__
        digest = of[f"SHA{bits}"]
        assert judged(signed(lab, method=of[f"RSA_SHA{bits}"], digest=digest), trust).party == LAB
        assert judged(signed(ward, method=of[f"ECDSA_SHA{bits}"], digest=digest), trust).party == WARD

    @pytest.mark.parametrize("bits", [256, 384, 512])
    def test_rsa_pss(self, lab: Path, trust: Trust, bits: int) -> None:
        """By cryptography over what xmlsec has digested: this xmlsec cannot (RFC 9231 clause 2.3.9: salt as long as the digest)."""
        root = parse(signed(lab))
        at(root, "//ds:SignatureMethod").set("Algorithm", f"http://www.w3.org/2007/05/xmldsig-more#sha{bits}-rsa-MGF1")
        said = etree.tostring(at(root, "//ds:SignedInfo"), method="c14n", exclusive=True)
        chosen = {256: hashes.SHA256(), 384: hashes.SHA384(), 512: hashes.SHA512()}[bits]
        at(root, "//ds:SignatureValue").text = _base64(_key(lab).sign(said, PSS(MGF1(chosen), bits // 8), chosen))
        assert judged(root, trust).party == LAB
        at(root, "//ds:SignatureValue").text = _base64(_key(lab).sign(said, PKCS1v15(), chosen))
        assert refused(root, trust) == (Code.FAILED_CHECK, "the signature is wrong")

    @pytest.mark.parametrize("what", [{"method": xmlsec.Transform.RSA_SHA1}, {"digest": xmlsec.Transform.SHA1}])
    def test_sha_1_only_where_the_site_allows_it(self, lab: Path, trust: Trust, what: dict[str, Any]) -> None:
        assert refused(signed(lab, **what), trust)[0] is Code.UNSUPPORTED_ALGORITHM
        assert judged(signed(lab, **what), trust, sha1=True).party == LAB

    @pytest.mark.parametrize("name", ["hmac-sha1", "dsa-sha1"])
    def test_never(self, lab: Path, trust: Trust, name: str) -> None:
        root = parse(signed(lab))
        at(root, "//ds:SignatureMethod").set("Algorithm", DS + name)
        assert refused(root, trust, sha1=True)[0] is Code.UNSUPPORTED_ALGORITHM

    def test_a_canonical_form_that_nobody_takes(self, lab: Path, trust: Trust) -> None:
        root = parse(signed(lab))
        at(root, "//ds:CanonicalizationMethod").set("Algorithm", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315")
        assert refused(root, trust)[0] is Code.UNSUPPORTED_ALGORITHM

    def test_prefixes_that_are_to_be_included(self, ward: Path, trust: Trust) -> None:
        """As .NET and WSS4J write them: namespaces that are only used in values. xmlsec is who digests here."""
        envelope = etree.fromstring(etree.tostring(plain()).replace(b"xmlns:s=", b"xmlns:xs='urn:xs' xmlns:s=", 1))
        root = _by_xmlsec(ward, envelope, "xs s")
        assert judged(root, trust).party == WARD
        message = root.replace(b'xmlns:xs="urn:xs"', b'xmlns:xs="urn:other"')
        assert refused(message, trust) == (Code.FAILED_CHECK, "Body is not what was signed")

    def test_a_default_namespace_to_be_included_cannot_be(self, ward: Path, trust: Trust) -> None:
        envelope = etree.fromstring(etree.tostring(plain()).replace(b"xmlns:s=", b"xmlns='urn:d' xmlns:s=", 1))
        assert refused(_by_xmlsec(ward, envelope, "#default s"), trust)[0] is Code.UNSUPPORTED_ALGORITHM
        assert judged(_by_xmlsec(ward, plain(), "#default s"), trust).party == WARD


def _by_xmlsec(folder: Path, envelope: etree._Element, prefixes: str) -> bytes:
    """Signed once by zeep, then by xmlsec again with InclusiveNamespaces in the transform of the Body."""
    root = etree.fromstring(signed(folder, envelope, method=EC))
    transform = at(root, "//ds:Reference[1]/ds:Transforms/ds:Transform")
    etree.SubElement(transform, f"{{{EXCLUSIVE_C14N}}}InclusiveNamespaces", PrefixList=prefixes)
    context = xmlsec.SignatureContext()
    for element in root.xpath("//*[@u:Id]", namespaces={"u": wsu("x")[1:].partition("}")[0]}):
        context.register_id(element, "Id", wsu("x")[1:].partition("}")[0])
    context.key = xmlsec.Key.from_file(str(folder / "node.key"), xmlsec.KeyFormat.PEM)
    context.sign(at(root, "//ds:Signature"))
    return etree.tostring(root)


class TestTimes:
    @pytest.mark.parametrize(
        ("created", "expires", "fault"),
        [
            (-10, 290, None),
            (-10, None, None),
            (-599, None, None),
            (30, 330, None),  # within the skew
            (-310, -10, None),
            (-700, None, Code.EXPIRED),
            (-400, -100, Code.EXPIRED),
            (120, 400, Code.INVALID_SECURITY),
            (-10, 3600, Code.INVALID_SECURITY),  # longer than is remembered
            (-10, -20, Code.INVALID_SECURITY),
        ],
    )
    def test_freshness(self, ward: Path, trust: Trust, created: int, expires: int | None, fault: Code | None) -> None:
        times = [instant(NOW + seconds * SECOND) if seconds is not None else "" for seconds in (created, expires)]
        message = signed(ward, method=EC, created=times[0], expires=times[1])
        if fault is None:
            assert judged(message, trust).until == NOW + SECOND * ((created + 600 if expires is None else expires) + 60)
        else:
            assert refused(message, trust)[0] is fault

    def test_none_at_all(self, ward: Path, trust: Trust) -> None:
        message = signed(ward, method=EC, created="")
        assert refused(message, trust) == (Code.INVALID_SECURITY, "no Timestamp in our Security header")
        assert judged(message, trust, signed=["body"]).party == WARD

    def test_one_that_is_not_signed(self, ward: Path, trust: Trust) -> None:
        """Anybody could have put it there."""
        root = parse(signed(ward, method=EC, created=""))
        timestamp = etree.SubElement(at(root, "//wsse:Security"), wsu("Timestamp"))
        etree.SubElement(timestamp, wsu("Created")).text = instant(NOW)
        assert refused(root, trust) == (Code.FAILED_CHECK, "not signed: timestamp")

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("1970-01-01T00:00:01Z", 1),
            ("1970-01-01T08:00:01+08:00", 1),
            ("1969-12-31T23:00:01-01:00", 1),
            ("1970-01-01T00:00:01.25Z", 1.25),
            (" 1970-01-01T00:00:01.1234567Z\n", 1.123456),
        ],
    )
    def test_instants(self, text: str, seconds: float) -> None:
        assert microseconds(text) == round(seconds * SECOND)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "now",
            "1970-01-01T00:00:01",
            "1970-01-01",
            "1970-13-01T00:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00+15:00",
            "٢٠٢٦-01-01T00:00:00Z",
        ],
    )
    def test_no_instants(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - what it says is nobody's business
            microseconds(text)

    def test_an_instant_that_is_none_is_refused(self, ward: Path, trust: Trust) -> None:
        assert refused(signed(ward, method=EC, created="soon", expires=""), trust)[0] is Code.INVALID_SECURITY


class TestMark:
    """What a repetition is known by."""

    def test_the_other_form_of_an_ecdsa_signature_is_the_same(self, ward: Path, trust: Trust) -> None:
        """(r, n - s) is right where (r, s) is, and anyone can compute it."""
        root = parse(signed(ward, method=EC))
        first = judged(root, trust)
        value = at(root, "//ds:SignatureValue")
        raw = b64decode("".join(value.text.split()))
        value.text = _base64(raw[:32] + (P256 - int.from_bytes(raw[32:], "big")).to_bytes(32, "big"))
        assert judged(root, trust).mark == first.mark

    def test_so_is_the_other_form_of_a_certificate(self, ward: Path, trust: Trust) -> None:
        """Its authority has signed it with ECDSA too."""
        root = parse(signed(ward, method=EC))
        first, mine = judged(root, trust), certificate(ward)
        r, s = decode_dss_signature(mine.signature)
        der, other = mine.public_bytes(Encoding.DER), encode_dss_signature(r, P256 - s)
        body = der[4 : -len(mine.signature) - 3] + b"\x03" + bytes([len(other) + 1]) + b"\x00" + other
        changed = b"\x30\x82" + len(body).to_bytes(2, "big") + body
        assert changed != der
        at(root, "//wsse:BinarySecurityToken").text = _base64(changed)
        assert judged(root, trust).mark == first.mark

    def test_two_messages_have_two(self, ward: Path, trust: Trust) -> None:
        assert judged(signed(ward, method=EC), trust).mark != judged(signed(ward, method=EC), trust).mark


class TestAttachments:
    """A signature is over what an xop:Include stands for."""

    PAYLOAD = "<p xmlns='urn:p'><d><xop:Include xmlns:xop='http://www.w3.org/2004/08/xop/include' href='cid:a'/></d><d>x</d></p>"

    def _by_zeep(self, folder: Path, content: bytes) -> etree._Element:
        """Signed with the base64 in place, as every toolkit sees it; then packaged."""
        root = parse(signed(folder, plain(f"<p xmlns='urn:p'><d>{_base64(content)}</d><d>x</d></p>"), method=EC))
        holder = at(root, "//*[local-name() = 'd'][1]")
        holder.text = None
        etree.SubElement(holder, "{http://www.w3.org/2004/08/xop/include}Include", href="cid:a")
        return root

    @pytest.mark.parametrize("pieces", [[b"abcdefgh"], [b"a", b"bc", b"defg", b"h"], [b"ab", b"", b"cdefgh"]])
    def test_digested_in_place_whatever_the_pieces(self, ward: Path, trust: Trust, pieces: list[bytes]) -> None:
        root = self._by_zeep(ward, b"abcdefgh")
        proof = judged(root, trust, content_of=lambda include: pieces if include.get("href") == "cid:a" else [])
        assert proof.covers(at(root, "//s11:Body"))
        assert at(root, "//*[local-name() = 'Include']").getparent().tag == "{urn:p}d"

    def test_another_attachment_is_not_what_was_signed(self, ward: Path, trust: Trust) -> None:
        root = self._by_zeep(ward, b"abcdefgh")
        assert refused(root, trust, content_of=lambda _: [b"abcdefgX"]) == (Code.FAILED_CHECK, "Body is not what was signed")

    def test_a_signature_over_the_reference_alone_proves_nothing(self, ward: Path, trust: Trust) -> None:
        message = signed(ward, plain(self.PAYLOAD), method=EC)
        assert refused(message, trust, content_of=lambda _: [b"anything"])[0] is Code.FAILED_CHECK

    def test_without_parts(self, ward: Path, trust: Trust) -> None:
        assert refused(signed(ward, plain(self.PAYLOAD), method=EC), trust)[0] is Code.INVALID_SECURITY

    def test_text_that_looks_like_the_mark(self, ward: Path, trust: Trust) -> None:
        root = parse(signed(ward, plain(f"<p><d>{_base64(b'abc')}</d><d>xop-include-0</d></p>"), method=EC))
        holder = at(root, "//d[1]")
        holder.text = None
        etree.SubElement(holder, "{http://www.w3.org/2004/08/xop/include}Include", href="cid:a")
        assert judged(root, trust, content_of=lambda _: [b"abc"]).party == WARD


class TestCost:
    def test_a_canonical_form_that_would_be_gigabytes_ends_early(self, ward: Path, trust: Trust) -> None:
        """A long name of a namespace, declared once and written for each of many elements. By one who has a certificate."""
        long = b"xmlns:a='urn:" + b"u" * 100_000 + b"'"
        envelope = parse(
            etree.tostring(plain("<p/>")).replace(b"<p/>", b"<p>" + b"<a:x/>" * 3000 + b"</p>").replace(b"xmlns:s=", long + b" xmlns:s=")
        )
        outgoing = Outgoing(lambda: NOW, iter("abcdefgh").__next__, bytes, lambda: Signer(certificate(ward), _key(ward)))
        with pytest.raises(Exception, match="a canonical form of more than"):
            outgoing.secure(envelope)

    def test_many_namespaces_in_scope(self, ward: Path, trust: Trust) -> None:
        declared = " ".join(f"xmlns:n{number}='urn:{number}'" for number in range(300))
        assert "namespaces in scope" in refused(signed(ward, plain(f"<p {declared}/>"), method=EC), trust)[1]

    def test_ids(self, trust: Trust) -> None:
        """Counted before they are gathered, since nothing is proven yet."""
        message = etree.tostring(plain("<p/>", header=f"<w:Security xmlns:w='{WSSE}'/>")).replace(
            b"<p/>", b"<p>" + b"<a id='1'/>" * 100_001 + b"</p>"
        )
        assert refused(message, trust) == (Code.INVALID_SECURITY, "more than 100000 ids")

    @pytest.mark.parametrize("count", [0, 33])
    def test_references(self, ward: Path, trust: Trust, count: int) -> None:
        root = etree.fromstring(signed(ward, method=EC))
        info = at(root, "//ds:SignedInfo")
        references = info.findall(ds("Reference"))
        for one in references:
            info.remove(one)
        for _ in range(count):
            info.append(deepcopy(references[0]))
        context = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_file(str(ward / "node.key"), xmlsec.KeyFormat.PEM)
        context.register_id(at(root, "//s11:Body"), "Id", wsu("x")[1:].partition("}")[0])
        if count:
            context.sign(at(root, "//ds:Signature"))
            assert refused(etree.tostring(root), trust) == (Code.INVALID_SECURITY, f"a signature of {count} references")
        else:
            assert refused(etree.tostring(root), trust)[0] is Code.FAILED_CHECK


def _key(folder: Path) -> Any:
    return load_pem_private_key((folder / "node.key").read_bytes(), None)


def watched(folder: Path, warnings: list[str]) -> Watched[Trust]:
    trust = TrustFolder(folder)
    return Watched(trust.files, trust.read, warnings.append)


class TestWatched:
    def test_new_files_are_read(self, tmp_path: Path, signers: Signers, ward: Path) -> None:
        folder = tmp_path / "certs"
        folder.mkdir()
        other = Signers(tmp_path / "other")
        (folder / "ca.pem").write_bytes((other.authority.folder / "ca.pem").read_bytes())
        trust = watched(folder, [])
        refused(signed(ward, method=EC), trust.current())
        (folder / "new").write_bytes((signers.authority.folder / "ca.pem").read_bytes())
        (folder / "new").rename(folder / "ca.pem")
        assert judged(signed(ward, method=EC), trust.current()).party == WARD

    @pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_text("no certificate")])
    def test_files_that_cannot_be_read_leave_those_before(self, tmp_path: Path, signers: Signers, spoil: Callable[[Path], Any]) -> None:
        """Which is said once, until they change again."""
        good = (signers.authority.folder / "ca.pem").read_bytes()
        (tmp_path / "ca.pem").write_bytes(good)
        warnings: list[str] = []
        trust = watched(tmp_path, warnings)
        before = trust.current()
        spoil(tmp_path / "ca.pem")
        assert [trust.current(), trust.current()] == [before, before]
        assert len(warnings) == 1
        with pytest.raises(ConfigError):
            watched(tmp_path, []).current()
        (tmp_path / "ca.pem").write_bytes(good)
        assert trust.current() is not before
        assert len(warnings) == 1
