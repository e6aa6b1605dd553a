"""WS-Security of foreign toolkits against a running node, both ways: gSOAP, npm soap and zeep send signed and as users, and hear signed answers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import xmlsec
import zeep
from lxml import etree
from zeep.wsse import BinarySignature, UsernameToken
from zeep.wsse.signature import verify_envelope
from zeep.wsse.utils import WSU, get_security_header

from adapters.soap.security.instants import instant
from tests.integration.test_wsse_node import LAB, PASSWORD, Place, now
from tests.support.peers import ForeignPeer, node_script, require
from tests.support.wsse import SECOND

PEERS = Path(__file__).parent / "soap_peers"
PLUGIN, CUSTOM = Path("/usr/share/gsoap/plugin"), Path("/usr/share/gsoap/custom")
DEFINES = ["-DWITH_OPENSSL", "-DWITH_DOM", "-DWITH_GZIP", "-DWITH_IPV6"]
TEMPLATE = '<o:OrderResponse xmlns:o="urn:lab"><o:code>${code}</o:code></o:OrderResponse>'
USERS = {"require": "username", "users": {"lab-system": {"party": "lab", "password": "env:WSSE_PASSWORD"}}}


@pytest.fixture(scope="session")
def gsoap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, compiled with gSOAP's plugin."""
    require(all(map(shutil.which, ("soapcpp2", "cc"))), "gsoap, libgsoap-dev and a C compiler")
    require(Path("/usr/include/openssl/ssl.h").exists() and (PLUGIN / "wsseapi.c").exists(), "libgsoap-dev and libssl-dev")
    folder = tmp_path_factory.mktemp("gsoap")
    for name in ("order.h", "gsoap_wsse.c"):
        shutil.copy(PEERS / name, folder)
    subprocess.run(
        ["soapcpp2", "-c", "-C", "-x", "-L", "-I/usr/share/gsoap/import", "order.h"], cwd=folder, check=True, capture_output=True
    )
    sources = ["gsoap_wsse.c", "soapC.c", "soapClient.c", CUSTOM / "struct_timeval.c"]
    sources += [PLUGIN / f"{name}.c" for name in ("wsseapi", "smdevp", "mecevp", "threads")]
    libraries = ["-lgsoapssl", "-lssl", "-lcrypto", "-lz"]
    command = ["cc", "-w", *DEFINES, "-I.", f"-I{PLUGIN}", f"-I{CUSTOM.parent}", "-o", "gsoap_wsse", *sources, *libraries]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "gsoap_wsse"


def place(folder: Path, security: dict[str, Any]) -> Place:
    """Its site answers with the element that the peers expect."""
    made = Place(folder, security, response={"template": "order-response.xml"})
    (made.site.folder / "order-response.xml").write_text(TEMPLATE)
    return made


def by_gsoap(program: Path, where: Place, how: str, who: Path) -> str:
    ca = where.signers.authority.folder / "ca.pem"
    files = [who / "node.key", who / "node.pem", ca, "1.1"]
    done = subprocess.run(
        [program, f"http://127.0.0.1:{where.site.soap}/soap", how, *files], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


class TestGsoap:
    def test_signed_both_ways(self, gsoap: Path, tmp_path: Path) -> None:
        """It verifies the node's signature over the answer's Body, and the node's certificate by our authority; with RSA keys."""
        where = place(tmp_path, {"answers": {}})
        who, node = where.signers.rsa("pharmacy"), where.signers.rsa("site")
        for name in ("node.pem", "node.key"):
            shutil.copy(node / name, where.site.certs / name)
        with where.site.running():
            assert by_gsoap(gsoap, where, "sign", who) == '{"code": "accepted", "verified": true}'
        assert [kept.peer for kept in where.site.kept()] == ["urn:meridian:party:pharmacy"]
        assert where.refusals() == []

    def test_its_elliptic_curve_signatures_are_not_those_of_the_standard(self, gsoap: Path, tmp_path: Path) -> None:
        """In DER, where XML Signature has r and s side by side: such a sender needs an RSA key."""
        where = place(tmp_path, {})
        with where.site.running():
            by_gsoap(gsoap, where, "sign", where.lab)
        assert where.refusals() == ["the signature has a wrong length"]

    def test_an_answer_that_nobody_has_signed_is_none_to_it(self, gsoap: Path, tmp_path: Path) -> None:
        """So that what it says above says something."""
        where = place(tmp_path, {})
        with where.site.running():
            assert "FailedCheck" in by_gsoap(gsoap, where, "sign", where.signers.rsa("pharmacy"))
        assert [kept.verdict for kept in where.site.kept()] == ["accepted"]

    def test_of_another_authority(self, gsoap: Path, tmp_path: Path) -> None:
        where = place(tmp_path / "a", {})
        other = place(tmp_path / "b", {})
        with where.site.running():
            by_gsoap(gsoap, where, "sign", other.signers.rsa("pharmacy"))
        assert where.site.kept() == []
        (reason,) = where.refusals()
        assert "unable to get local issuer" in reason

    def test_a_user(self, gsoap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSSE_PASSWORD", "a password")
        where = place(tmp_path, USERS)
        with where.site.running():
            assert '"code": "accepted"' in by_gsoap(gsoap, where, "user", where.lab)
        assert [kept.peer for kept in where.site.kept()] == [LAB]


class TestNpmSoap:
    def test_signed(self, tmp_path: Path) -> None:
        where = place(tmp_path, {})
        rsa = where.signers.rsa("pharmacy")
        asked = {"how": "cert", "key": str(rsa / "node.key"), "certificate": str(rsa / "node.pem")}
        with where.site.running():
            said = self._say(where, tmp_path, **asked)
        assert said["answer"] == {"code": "accepted"}
        assert [kept.peer for kept in where.site.kept()] == ["urn:meridian:party:pharmacy"]

    def test_a_fault_is_understood(self, tmp_path: Path) -> None:
        """The standard's code, by which a toolkit knows what to do."""
        where = place(tmp_path / "a", {})
        rsa = place(tmp_path / "b", {}).signers.rsa("pharmacy")
        asked = {"how": "cert", "key": str(rsa / "node.key"), "certificate": str(rsa / "node.pem")}
        with where.site.running():
            said = self._say(where, tmp_path, **asked)
        assert said["status"] == 500
        assert said["fault"]["faultcode"].endswith(":FailedAuthentication")

    def test_a_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSSE_PASSWORD", PASSWORD)
        where = place(tmp_path, USERS)
        with where.site.running():
            said = self._say(where, tmp_path, how="user", user="lab-system", password=PASSWORD, type="PasswordDigest")
        assert said["answer"] == {"code": "accepted"}

    @staticmethod
    def _say(where: Place, folder: Path, **asked: Any) -> Any:
        endpoint = f"http://127.0.0.1:{where.site.soap}/soap"
        with ForeignPeer(node_script(PEERS / "wsse.mjs", "soap", folder), folder=str(folder), endpoint=endpoint, **asked) as peer:
            return peer.all_heard()[-1]


class TestZeep:
    """By the WSDL that the node gives."""

    def test_signed_both_ways(self, tmp_path: Path) -> None:
        where = Place(tmp_path, {"answers": {}})
        security = _Both(where.lab, where.site.certs / "node.pem")
        with where.site.running():
            self._submit(where, security)
        assert security.verified == 1
        assert [kept.peer for kept in where.site.kept()] == [LAB]

    def test_a_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSSE_PASSWORD", PASSWORD)
        where = Place(tmp_path, USERS)
        with where.site.running():
            self._submit(where, UsernameToken("lab-system", PASSWORD, use_digest=True))
            with pytest.raises(zeep.exceptions.Fault) as raised:
                self._submit(where, UsernameToken("lab-system", "guessed", use_digest=True))
        assert raised.value.message == "The security token could not be authenticated or authorized"
        assert len(where.site.kept()) == 1

    @staticmethod
    def _submit(where: Place, security: Any) -> None:
        """One element of whatever kind."""
        client = zeep.Client(f"http://127.0.0.1:{where.site.soap}/soap?wsdl", wsse=security)
        order = etree.fromstring("<o:Order xmlns:o='urn:lab'><o:id>17</o:id></o:Order>")
        client.service.Submit(order)


class _Both(BinarySignature):
    """Signs with one key, verifies with another, with a Timestamp, which zeep leaves to others."""

    verified = 0

    def __init__(self, who: Path, peer: Path) -> None:
        super().__init__(
            str(who / "node.key"),
            str(who / "node.pem"),
            signature_method=xmlsec.Transform.ECDSA_SHA256,
            digest_method=xmlsec.Transform.SHA256,
        )
        self._peer = peer

    def apply(self, envelope: Any, headers: Any) -> Any:
        when = now()
        get_security_header(envelope).append(WSU.Timestamp(WSU.Created(instant(when)), WSU.Expires(instant(when + 60 * SECOND))))
        return super().apply(envelope, headers)

    def verify(self, envelope: Any) -> Any:
        verify_envelope(envelope, str(self._peer))
        self.verified += 1
        return envelope
