"""A whole node in this process: what its metrics say of certificates, whom its audit names, what `audit: strict` means."""

from __future__ import annotations

import errno
import itertools
import logging
import shutil
import socket
from pathlib import Path
from unittest import mock
from urllib.error import HTTPError
from urllib.request import urlopen

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from certs import Authority
from engine.audit import AuditLog, search, verify
from engine.cli.composition import compose
from engine.cli.opened import now
from engine.demo.sites import free_ports
from engine.observe import Metrics
from engine.service import Node
from engine.store.sqlite import SqliteStore
from engine.tls import TlsProvider
from tests.support.pages import ROOT

CHANNEL = """\
name: {name}
source: {source}
destinations:
  - name: out
    mllp: {{connect: "127.0.0.1:1"}}
"""
SOURCES = {
    "plain": 'mllp: {{listen: "127.0.0.1:{plain}"}}',
    "locked": 'mllp: {{listen: "127.0.0.1:{locked}", tls: {{}}}}',
    "reads": 'fhir: {{listen: "127.0.0.1:{reads}", repository: r.db}}',
}
FRAME = b"\x0b" + (ROOT / "examples/adt-pass-through/tests/adt/outpatient.hl7").read_bytes().replace(b"\n", b"\r") + b"\x1c\x0d"


class NodeTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.site = Path(self.mktemp()).resolve()
        (self.site / "channels").mkdir(parents=True)
        self.ports = dict(zip(SOURCES, free_ports(3), strict=True))
        for name, source in SOURCES.items():
            text = CHANNEL.format(name=name, source="{" + source.format(**self.ports) + "}")
            (self.site / f"channels/{name}.yaml").write_text(text)
        authority = Authority.create(self.site / "authority", "county CA")
        authority.issue("node", out=self.site / "certs", dns=("localhost",))
        self.log = logging.getLogger("test.node")

    @inlineCallbacks
    def start(self, node: str = ""):  # type: ignore[no-untyped-def]
        (self.site / "meridian.yaml").write_text(f"name: n\nparty: node\nworkers: 0\nhttp: 127.0.0.1:0\n{node}")
        parts, metrics, numbers = compose(self.site), Metrics(), itertools.count(1)
        self.audit = AuditLog(parts.settings.data / "audit", reactor=reactor, clock=now, log=self.log, metrics=metrics)
        tls = TlsProvider(parts.certs, reactor=reactor, log=self.log, metrics=metrics, audit=self.audit.record)
        store = SqliteStore(parts.settings.data, reactor=reactor, clock=now, **parts.store_options)
        self.node = Node(
            parts.settings, parts.channels, store, reactor=reactor, clock=now, random=lambda: 0.5, new_id=lambda: f"i{next(numbers)}",
            log=self.log, metrics=metrics, tls=tls, audit=self.audit.record,
            unaudited=lambda: self.audit.failing if parts.settings.audit_strict else "",
        )  # fmt: skip
        yield self.node.start()
        tls.start()
        self.addCleanup(self.audit.close)
        self.addCleanup(self.node.stop)
        self.addCleanup(tls.stop)

    def get(self, port: int, path: str):  # type: ignore[no-untyped-def]
        """Status and body."""

        def ask() -> tuple[int, str]:
            try:
                with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                    return answer.status, answer.read().decode()
            except HTTPError as error:
                return error.code, error.read().decode()

        return deferToThread(ask)

    def send(self, channel: str, wire: bytes):  # type: ignore[no-untyped-def]
        """What comes back first."""

        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", self.ports[channel]), timeout=30) as line:
                line.sendall(wire)
                return line.recv(65536)

        return deferToThread(ask)

    @inlineCallbacks
    def test_metrics_show_the_days_left(self):  # type: ignore[no-untyped-def]
        """Our own certificate, the authority, its revocation list."""
        yield self.start()
        _, text = yield self.get(self.node.http_port, "/metrics")
        for labels, least in (
            ('certificate="node.pem",kind="own",subject="node"', 390),
            ('certificate="ca.pem",kind="authority",subject="county CA"', 3600),
            ('certificate="crl.pem",kind="revocation list",subject="county CA"', 29),
        ):
            (line,) = [one for one in text.splitlines() if labels in one]
            self.assertGreater(float(line.rpartition(" ")[2]), least)

    @inlineCallbacks
    def test_a_refused_handshake_names_its_channel(self):  # type: ignore[no-untyped-def]
        """Which listener it was, in the words of the site."""
        yield self.start()
        yield self.send("locked", FRAME)
        yield self.audit.flush()
        folder = self.site / "data/audit"
        self.assertEqual([record.facts["channel"] for record in search(folder, event="tls.refused")], ["locked"])
        self.assertEqual(verify(folder), [])

    @inlineCallbacks
    def fail_to_audit(self):  # type: ignore[no-untyped-def]
        """The disk says no to the audit log alone."""
        patch = mock.patch("engine.audit.writing._write_head", side_effect=OSError(errno.ENOSPC, "No space left on device"))
        patch.start()
        self.addCleanup(patch.stop)
        self.audit.record("node.started")
        yield self.audit.flush()
        return patch

    @inlineCallbacks
    def test_strict_takes_and_hands_out_nothing_unaudited(self):  # type: ignore[no-untyped-def]
        """AE with 207, /readyz and reads 503; as before once the log can be written again."""
        yield self.start("audit: strict\n")
        patch = yield self.fail_to_audit()
        answer = yield self.send("plain", FRAME)
        self.assertIn(b"MSA|AE|", answer)
        for port, path in ((self.node.http_port, "/readyz"), (self.ports["reads"], "/fhir/Patient/1")):
            status, text = yield self.get(port, path)
            self.assertEqual((status, "No space left on device" in text), (503, True))
        patch.stop()
        yield self.audit.flush()
        answer = yield self.send("plain", FRAME)
        self.assertIn(b"MSA|AA|", answer)
        self.assertEqual((yield self.get(self.node.http_port, "/readyz"))[0], 200)

    @inlineCallbacks
    def test_tolerant_goes_on_and_says_so(self):  # type: ignore[no-untyped-def]
        """The default: results go on, the metrics alert."""
        yield self.start()
        yield self.fail_to_audit()
        answer = yield self.send("plain", FRAME)
        self.assertIn(b"MSA|AA|", answer)
        _, text = yield self.get(self.node.http_port, "/metrics")
        self.assertIn("meridian_audit_failures_total 1.0", text)
        self.assertIn("meridian_audit_unwritten 1.0", text)

    def tearDown(self) -> None:
        mock.patch.stopall()
        self.addCleanup(shutil.rmtree, self.site, ignore_errors=True)
