"""OpenSSL's own command line against our listener: the right one is let in, every wrong one is refused and audited with its reason."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from engine.tls import SERVER_TLS
from tests.support.certs import Trust
from tests.support.peers import require


class Greeter(Protocol):
    """Answers the first bytes with who the peer is, and stays open."""

    def connectionMade(self) -> None:
        self.factory.seen.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"hello " + self.factory.tls.peer(self.transport).encode() + b"\n")

    def connectionLost(self, reason) -> None:  # type: ignore[no-untyped-def]
        self.factory.lost.append(self)


class OpensslTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        require(shutil.which("openssl") is not None, "the openssl command line")
        self.trust = Trust(Path(self.mktemp()).resolve(), reactor)
        self.tls = self.trust.provider("platform")
        self.factory = Factory.forProtocol(Greeter)
        self.factory.tls, self.factory.seen, self.factory.lost = self.tls, [], []

    def listen(self, **options: object) -> int:
        port = reactor.listenSSL(0, self.factory, self.tls.server(SERVER_TLS.defaults(**options)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def s_client(self, port: int, folder: Path | None, *more: str):  # type: ignore[no-untyped-def]
        """Connect, say something, give what came back (stdout and stderr)."""
        certificate = ["-cert", str(folder / "node.pem"), "-key", str(folder / "node.key")] if folder else []
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(self.trust.folder / "authority/ca.pem")]

        def run() -> str:
            done = subprocess.run(
                [*command, *certificate, "-quiet", *more],
                input="hi\n", capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            return done.stdout + done.stderr

        return deferToThread(run)

    def s_client_kept_open(self, port: int, folder: Path) -> subprocess.Popen:
        process = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-cert", str(folder / "node.pem"), "-key", str(folder / "node.key"), "-quiet"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def reasons(self) -> list[str]:
        return [facts["reason"] for event, facts in self.trust.audited if event == "tls.refused"]

    @inlineCallbacks
    def test_the_right_certificate_is_let_in_and_named(self):  # type: ignore[no-untyped-def]
        """The party of the SAN URI is what the listener sees."""
        port = self.listen()
        process = self.s_client_kept_open(port, self.trust.issue("hospital"))
        process.stdin.write(b"hi\n")
        process.stdin.flush()
        line = yield deferToThread(process.stdout.readline)
        self.assertEqual(line, b"hello urn:meridian:party:hospital\n")

    @inlineCallbacks
    def test_no_certificate(self):  # type: ignore[no-untyped-def]
        """Nothing shown: refused with the alert of TLS 1.3."""
        output = yield self.s_client(self.listen(), None)
        self.assertIn("certificate required", output)
        self.assertEqual(self.reasons(), ["no certificate shown"])

    @inlineCallbacks
    def test_a_foreign_authority(self):  # type: ignore[no-untyped-def]
        """A certificate from somebody else's authority."""
        stranger = Trust(Path(self.mktemp()).resolve(), reactor).issue("hospital")
        output = yield self.s_client(self.listen(), stranger)
        self.assertIn("alert unknown ca", output)
        self.assertEqual(self.reasons(), ["the issuer of the certificate is unknown"])

    @inlineCallbacks
    def test_expired(self):  # type: ignore[no-untyped-def]
        """Valid until yesterday."""
        begin = datetime.now(UTC) - timedelta(days=10)
        expired = self.trust.issue("hospital", valid_for=timedelta(days=1), valid_from=begin)
        output = yield self.s_client(self.listen(), expired)
        self.assertIn("certificate expired", output)
        self.assertEqual(self.reasons(), ["the certificate has expired"])

    @inlineCallbacks
    def test_revoked_while_running(self):  # type: ignore[no-untyped-def]
        """Revocation takes effect without a restart: new connections get the alert, the party's open one is closed, others stay."""
        port = self.listen()
        hospital, other = self.trust.issue("hospital"), self.trust.issue("laboratory")
        open_ones = [self.s_client_kept_open(port, folder) for folder in (hospital, other)]
        for process in open_ones:
            process.stdin.write(b"hi\n")
            process.stdin.flush()
            yield deferToThread(process.stdout.readline)
        self.trust.authority.revoke("hospital", "keyCompromise")
        self.trust.authority.copy_trust(self.tls.folder)
        self.tls.look_again()
        yield deferToThread(open_ones[0].wait)
        self.assertEqual(len(self.factory.lost), 1)
        output = yield self.s_client(port, hospital)
        self.assertIn("certificate revoked", output)
        self.assertIn("the certificate has been revoked", self.reasons())
        open_ones[1].stdin.write(b"still there\n")
        open_ones[1].stdin.flush()
        line = yield deferToThread(open_ones[1].stdout.readline)
        self.assertEqual(line, b"hello urn:meridian:party:laboratory\n")

    @inlineCallbacks
    def test_a_party_that_is_not_allowed(self):  # type: ignore[no-untyped-def]
        """A good certificate of the wrong party is refused, with the party's name in the audit."""
        output = yield self.s_client(self.listen(allow=["county-hospital"]), self.trust.issue("laboratory"))
        self.assertIn("alert", output)
        self.assertEqual(self.reasons(), ["urn:meridian:party:laboratory may not connect here"])

    @inlineCallbacks
    def test_a_server_only_certificate_is_no_client(self):  # type: ignore[no-untyped-def]
        """Extended key usage counts: what is made for a server may not act as a client."""
        from cryptography.x509.oid import ExtendedKeyUsageOID

        from certs import profiles

        server_only = profiles.Profile("server", (ExtendedKeyUsageOID.SERVER_AUTH,), timedelta(days=1))
        self.patch(profiles, "PROFILES", profiles.PROFILES)
        profiles.PROFILES["server"] = server_only
        self.addCleanup(profiles.PROFILES.pop, "server")
        yield self.s_client(self.listen(), self.trust.issue("hospital", "server"))
        self.assertEqual(self.reasons(), ["the certificate is not meant for this purpose"])

    @inlineCallbacks
    def test_old_tls(self):  # type: ignore[no-untyped-def]
        """TLS 1.1 is not spoken."""
        output = yield self.s_client(self.listen(), self.trust.issue("hospital"), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        self.assertIn("alert protocol version", output)

    @inlineCallbacks
    def test_renewal_while_running(self):  # type: ignore[no-untyped-def]
        """A renewed certificate is shown to the next connection; the open one goes on."""
        port, hospital = self.listen(), self.trust.issue("hospital")
        process = self.s_client_kept_open(port, hospital)
        process.stdin.write(b"hi\n")
        process.stdin.flush()
        yield deferToThread(process.stdout.readline)
        before = (self.tls.folder / "node.pem").read_bytes()
        (renewed,) = self.trust.authority.renew("platform")
        self.assertNotEqual(before, (self.tls.folder / "node.pem").read_bytes())
        self.tls.look_again()
        shown = yield deferToThread(self.serial_at, port, hospital)
        self.assertEqual(shown.lower().lstrip("0"), renewed.serial)
        process.stdin.write(b"again\n")
        process.stdin.flush()
        line = yield deferToThread(process.stdout.readline)
        self.assertEqual(line, b"hello urn:meridian:party:hospital\n")

    def serial_at(self, port: int, folder: Path) -> str:
        shown = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-cert", str(folder / "node.pem"), "-key", str(folder / "node.key")],
            input="", capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        read = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=shown.stdout, capture_output=True, text=True, check=True)
        return read.stdout.strip().removeprefix("serial=")

    def test_what_is_issued_verifies(self) -> None:
        """openssl verify accepts the chain with the revocation list, and refuses it after the revocation."""
        folder, authority = self.trust.issue("hospital"), self.trust.folder / "authority"
        command = ["openssl", "verify", "-crl_check", "-CAfile", str(authority / "ca.pem"), "-CRLfile", str(authority / "crl.pem")]
        good = subprocess.run([*command, str(folder / "node.pem")], capture_output=True, text=True, check=False)
        self.assertEqual(good.returncode, 0, good.stderr)
        self.trust.authority.revoke("hospital")
        bad = subprocess.run([*command, str(folder / "node.pem")], capture_output=True, text=True, check=False)
        self.assertIn("certificate revoked", bad.stdout + bad.stderr)
