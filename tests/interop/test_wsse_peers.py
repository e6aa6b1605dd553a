"""WS-Security of a foreign toolkit, npm soap with xml-crypto: what it signs is taken, and it verifies what we sign."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree

from adapters.soap.security.outgoing import Outgoing, Signer
from adapters.soap.security.refusal import Code
from adapters.soap.security.username import User
from engine.formats.xml import parse
from tests.support.peers import ForeignPeer, node_script
from tests.support.wsse import NOW, SECOND, Signers, at, certificate, judged, plain, refused

SCRIPT = Path(__file__).parent / "soap_peers" / "wsse.mjs"
SHA512 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512"
DEAD = "http://127.0.0.1:9/"


def now() -> int:
    """What a peer has signed with the system's time is looked at with the system's time."""
    return int(time.time()) * SECOND


"""The peer has its own clock, which is a little later than that of the tests."""


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    made = Signers(tmp_path_factory.mktemp("peers"))
    made.rsa()
    return made


def peer(folder: Path, **asked: Any) -> list[Any]:
    with ForeignPeer(node_script(SCRIPT, "soap", folder), folder=str(folder), endpoint=DEAD, **asked) as process:
        return process.all_heard()


def said(folder: Path, signers: Signers, **asked: Any) -> bytes:
    files = {"key": str(signers.folder / "lab" / "node.key"), "certificate": str(signers.folder / "lab" / "node.pem")}
    return peer(folder, **files, **asked)[0]["envelope"].encode()


class TestNpmSoapSends:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"signerOptions": {"idMode": "wssecurity"}},
            {"signatureAlgorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"},
            {"signatureAlgorithm": SHA512, "digestAlgorithm": "http://www.w3.org/2001/04/xmlenc#sha512"},
            {"signerOptions": {"prefix": "ds"}},
        ],
    )
    @pytest.mark.parametrize("soap12", [False, True])
    def test_signed(self, tmp_path: Path, signers: Signers, options: dict[str, Any], soap12: bool) -> None:
        root = parse(said(tmp_path, signers, how="cert", options=options, soap12=soap12))
        proof = judged(root, signers.trust(), now())
        assert proof.party == "urn:meridian:party:lab"
        assert proof.covers(root[1])
        assert at(root, "//*[local-name() = 'id']").text == "17"

    def test_signed_and_then_changed(self, tmp_path: Path, signers: Signers) -> None:
        message = said(tmp_path, signers, how="cert")
        assert b">17<" in message
        assert refused(message.replace(b">17<", b">18<"), signers.trust(), now()) == (Code.FAILED_CHECK, "Body is not what was signed")

    @pytest.mark.parametrize("kind", ["PasswordDigest", "PasswordText"])
    def test_a_user(self, tmp_path: Path, signers: Signers, kind: str) -> None:
        users = {"lab-system": User("urn:meridian:party:lab", lambda: "a & b")}
        message = said(tmp_path, signers, how="user", user="lab-system", password="a & b", type=kind)
        proof = judged(message, signers.trust(), now(), require="username", users=users, encrypted=kind == "PasswordText")
        assert (proof.party, proof.user) == ("urn:meridian:party:lab", "lab-system")

    def test_a_user_and_a_signature(self, tmp_path: Path, signers: Signers) -> None:
        message = said(tmp_path, signers, how="both", user="x", password="y", type="PasswordDigest", userTimestamp=False)
        assert judged(message, signers.trust(), now()).party == "urn:meridian:party:lab"
        twice = said(tmp_path, signers, how="both", user="x", password="y", type="PasswordDigest")
        assert refused(twice, signers.trust(), now()) == (Code.INVALID_SECURITY, "Security has 2 of Timestamp")


class TestXmlCryptoVerifies:
    def test_what_we_sign(self, tmp_path: Path, signers: Signers) -> None:
        lab = signers.folder / "lab"
        key: Any = load_pem_private_key((lab / "node.key").read_bytes(), None)
        envelope = plain("<o:Order xmlns:o='urn:lab'><o:id>17</o:id> 张三 &amp; &lt;</o:Order>")
        Outgoing(lambda: NOW, iter("abcdef").__next__, bytes, lambda: Signer(certificate(lab), key)).secure(envelope)
        message = etree.tostring(envelope, encoding="unicode")
        files = {"how": "verify", "certificate": str(lab / "node.pem")}
        assert peer(tmp_path, envelope=message, **files) == [{"right": True, "references": 2}]
        assert peer(tmp_path, envelope=message.replace(">17<", ">18<"), **files) == [{"right": False, "references": 0}]
