"""OpenSSL's command line reads what the authority issues, and acts as the server that our client must not trust."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from certs import Authority
from engine.tls import CLIENT_TLS, SERVER_TLS
from tests.support.certs import Trust
from tests.support.peers import require


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    require(shutil.which("openssl") is not None, "the openssl command line")
    return Authority.create(tmp_path / "authority", "test authority")


def openssl(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_a_node_as_openssl_reads_it(authority: Authority, tmp_path: Path) -> None:
    """Curve, usages, constraints and names (RFC 5280 clause 4.2.1)."""
    authority.issue("hospital", dns=["hospital.example"], ips=["10.0.0.5"], out=tmp_path / "hospital")
    text = openssl("x509", "-in", str(tmp_path / "hospital/node.pem"), "-noout", "-text")
    for fact in (
        "ASN1 OID: prime256v1",
        "ecdsa-with-SHA256",
        "CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "URI:urn:meridian:party:hospital, DNS:hospital.example, IP Address:10.0.0.5",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ):
        assert fact in text


def test_the_authority_as_openssl_reads_it(authority: Authority) -> None:
    """It may sign certificates and lists, and no authority below it."""
    text = openssl("x509", "-in", str(authority.folder / "ca.pem"), "-noout", "-text")
    for fact in ("CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign"):
        assert fact in text


def test_purposes(authority: Authority, tmp_path: Path) -> None:
    """A device is a client and no server."""
    authority.issue("analyzer-7", "device", out=tmp_path / "out")
    verify = ("verify", "-CAfile", str(authority.folder / "ca.pem"), "-purpose")
    assert "analyzer-7.pem: OK" in openssl(*verify, "sslclient", str(tmp_path / "out/analyzer-7.pem"))
    assert "unsuitable certificate purpose" in openssl(*verify, "sslserver", str(tmp_path / "out/analyzer-7.pem"))


def test_a_request_that_openssl_made(authority: Authority, tmp_path: Path) -> None:
    """The device's key never leaves it."""
    request, key = tmp_path / "device.csr", tmp_path / "device.key"
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", "/CN=anything", "-keyout", str(key), "-out", str(request))  # fmt: skip
    authority.issue_for(request.read_bytes(), "analyzer-7", "device", tmp_path / "out")
    ours = openssl("x509", "-in", str(tmp_path / "out/analyzer-7.pem"), "-noout", "-pubkey")
    assert ours == openssl("pkey", "-in", str(key), "-pubout")
    assert "OK" in openssl("verify", "-CAfile", str(authority.folder / "ca.pem"), str(tmp_path / "out/analyzer-7.pem"))


class Silent(Protocol):
    """Says when it was lost."""

    def __init__(self) -> None:
        self.heard, self.lost = Deferred(), Deferred()

    def dataReceived(self, data: bytes) -> None:
        if not self.heard.called:
            self.heard.callback(data)

    def connectionLost(self, reason) -> None:  # type: ignore[no-untyped-def]
        self.lost.callback(None)


class ClientTests(TestCase):
    """Our client against `openssl s_server`."""

    timeout = 120

    def setUp(self) -> None:
        require(shutil.which("openssl") is not None, "the openssl command line")
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.trust = Trust(self.folder, reactor)
        self.tls = self.trust.provider("county")

    def serve(self, folder: Path) -> int:
        """A server that wants a client certificate; gives its port once it listens."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        process = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-Verify", "1", "-verify_return_error", "-rev",
             "-CAfile", str(folder / "ca.pem"), "-cert", str(folder / "node.pem"), "-key", str(folder / "node.key")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        for line in process.stdout:
            if line.startswith(b"ACCEPT"):
                break
        return port

    def connect(self, port: int, host: str = "localhost", **options: object):  # type: ignore[no-untyped-def]
        creator = self.tls.client(CLIENT_TLS.defaults(**options), host)
        return connectProtocol(wrapClientTLS(creator, HostnameEndpoint(reactor, "127.0.0.1", port)), Silent())

    @inlineCallbacks
    def refused(self, port: int, host: str = "localhost", **options: object):  # type: ignore[no-untyped-def]
        """The audited reason for which our client hung up."""
        protocol = yield self.connect(port, host, **options)
        yield protocol.lost
        return [facts["reason"] for event, facts in self.trust.audited if event == "tls.failed"]

    @inlineCallbacks
    def test_the_right_server(self):  # type: ignore[no-untyped-def]
        """Called as it should be, of the party it should be."""
        port = yield deferToThread(self.serve, self.trust.issue("platform"))
        protocol = yield self.connect(port, peer="platform")
        protocol.transport.write(b"abc\n")
        heard = yield protocol.heard
        self.assertEqual(heard, b"cba\n")
        self.assertEqual(self.tls.peer(protocol.transport), "urn:meridian:party:platform")
        protocol.transport.loseConnection()
        yield protocol.lost
        self.assertEqual(self.trust.audited, [])

    @inlineCallbacks
    def test_a_server_of_another_party(self):  # type: ignore[no-untyped-def]
        """A good certificate of our authority, for the right host, that names somebody else."""
        port = yield deferToThread(self.serve, self.trust.issue("laboratory"))
        reasons = yield self.refused(port, peer="platform")
        self.assertEqual(reasons, ["the server is urn:meridian:party:laboratory, not platform"])

    @inlineCallbacks
    def test_a_server_with_another_name(self):  # type: ignore[no-untyped-def]
        """A good certificate of our authority for another host, DNS name or address."""
        port = yield deferToThread(self.serve, self.trust.issue("platform"))
        reasons = yield self.refused(port, "platform.example")
        self.assertEqual(reasons, ["the server's certificate is not for platform.example"])
        reasons = yield self.refused(port, "10.9.9.9")
        self.assertEqual(reasons[1:], ["the server's certificate is not for 10.9.9.9"])

    @inlineCallbacks
    def test_a_server_of_another_authority(self):  # type: ignore[no-untyped-def]
        """Everything right but who signed it."""
        port = yield deferToThread(self.serve, Trust(self.folder / "elsewhere", reactor).issue("platform"))
        reasons = yield self.refused(port, peer="platform")
        self.assertEqual(reasons, ["the chain ends in an unknown self-signed certificate"])

    @inlineCallbacks
    def test_a_revoked_server(self):  # type: ignore[no-untyped-def]
        """The list counts for servers as well."""
        folder = self.trust.issue("platform")
        self.trust.authority.revoke("platform")
        self.trust.authority.copy_trust(self.tls.folder)
        port = yield deferToThread(self.serve, folder)
        reasons = yield self.refused(port)
        self.assertEqual(reasons, ["the certificate has been revoked"])

    @inlineCallbacks
    def test_a_device_is_no_server(self):  # type: ignore[no-untyped-def]
        """Extended key usage counts for servers as well."""
        port = yield deferToThread(self.serve, self.trust.issue("analyzer-7", "device"))
        reasons = yield self.refused(port)
        self.assertEqual(reasons, ["the certificate is not meant for this purpose"])

    @inlineCallbacks
    def test_no_session_is_taken_up_again(self):  # type: ignore[no-untyped-def]
        """Every connection proves itself: `s_client -reconnect` never resumes, nor is there a ticket."""
        listening = reactor.listenSSL(0, Factory.forProtocol(Protocol), self.tls.server(SERVER_TLS.defaults()), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        client = self.trust.issue("hospital")
        output = yield deferToThread(
            openssl, "s_client", "-connect", f"127.0.0.1:{listening.getHost().port}", "-reconnect", "-tls1_2",
            "-cert", str(client / "node.pem"), "-key", str(client / "node.key"), "-CAfile", str(client / "ca.pem"),
        )  # fmt: skip
        self.assertIn("New, TLSv1.2", output)
        self.assertNotIn("Reused", output)
        self.assertNotIn("TLS session ticket", output)
