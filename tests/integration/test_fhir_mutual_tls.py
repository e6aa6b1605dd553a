"""FHIR over loopback with real mutual TLS: who may send, who is refused, and what a long run of Bundles comes to."""

import json
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.trial.unittest import TestCase

from adapters.fhir.outcome import Answer
from adapters.fhir.repository import Reading
from adapters.fhir.search import parse_query
from engine.errors import TransientDelivery
from tests.support.certs import Trust
from tests.support.fhir import (
    SYSTEM,
    RepositoryIntake,
    body_of,
    bundle,
    context,
    destination,
    entry,
    identified,
    parcel,
    repository_destination,
    source,
)


class Raw(Protocol):
    """Sends bytes and gathers what comes back until the connection ends."""

    def __init__(self, wire):
        self.wire, self.received, self.ended = wire, b"", Deferred()

    def connectionMade(self):
        self.transport.write(self.wire)

    def dataReceived(self, data):
        self.received += data
        if b"\r\n\r\n" in self.received:
            self.transport.loseConnection()

    def connectionLost(self, reason=None):
        self.ended.callback(self.received)


class MutualTlsTests(TestCase):
    """A county node sends to a province platform."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.trust = Trust(self.folder / "trust", reactor)
        self.audited = []
        self.platform = self.context(self.trust.provider("province"))
        self.intake = RepositoryIntake(repository_destination(self.platform))
        self.source = None
        return self.intake.to.open()

    def context(self, tls):
        return context(self.folder, reactor, tls=tls, audit=lambda event, **facts: self.audited.append((event, facts)))

    def listen(self, **tls):
        options = {"listen": "127.0.0.1:0", "repository": "fhir-repository.db", "reads": "all", "tls": {"client_auth": "required", **tls}}
        self.source = source(options, self.platform)
        return self.source.start(self.intake)

    def client(self, provider, **options):
        made = destination({"url": f"https://localhost:{self.source.port}/fhir", "tls": {}, **options}, self.context(provider))
        return made.open().addCallback(lambda _: made)

    @inlineCallbacks
    def tearDown(self):
        if self.source is not None:
            yield self.source.stop()
        yield self.intake.to.close()

    def kept(self):
        reading = Reading(self.folder / "fhir-repository.db")
        self.addCleanup(reading.close)
        return reading.read(lambda rows: rows.count(parse_query("Patient", ""), 1000))

    @inlineCallbacks
    def test_two_hundred_bundles_arrive_once_each_from_who_sent_them(self):
        """Eight connections at once; the envelope has the party that the certificate proved."""
        yield self.listen()
        client = yield self.client(self.trust.provider("county"), connections=8)
        bodies = [bundle(entry("PUT", f"Patient?identifier={SYSTEM}|{n}", identified("Patient", str(n)))) for n in range(200)]
        receipts = yield gatherResults([client.deliver(parcel(body, f"k{n}", n)) for n, body in enumerate(bodies)])
        self.assertEqual({body_of(Answer.decode(receipt.answer))["type"] for receipt in receipts}, {"transaction-response"})
        self.assertEqual(self.kept(), 200)
        self.assertEqual({envelope.peer for envelope in self.intake.envelopes}, {"urn:meridian:party:county"})
        self.assertTrue(self.intake.envelopes[0].idempotency_key.startswith("urn:meridian:party:county|"))
        yield client.close()

    @inlineCallbacks
    def refuse(self, provider):
        """Delivery by this node is refused, in a way that loses nothing: it is tried again when the certificates are right."""
        client = yield self.client(provider)
        error = yield self.assertFailure(client.deliver(parcel(bundle())), TransientDelivery)
        self.assertTrue(error.whole_destination, error.text)
        self.assertEqual(self.intake.envelopes, [])
        yield client.close()

    @inlineCallbacks
    def test_a_party_that_is_not_allowed_is_refused_and_audited(self):
        yield self.listen(allow=["county"])
        yield self.refuse(self.trust.provider("stranger"))
        self.assertIn("tls.refused", [event for event, _ in self.trust.audited])
        self.assertEqual({facts["channel"] for event, facts in self.trust.audited if event.startswith("tls.")}, {"platform"})

    @inlineCallbacks
    def test_a_certificate_of_another_authority_is_refused(self):
        """By both: neither knows the other's authority."""
        yield self.listen()
        yield self.refuse(Trust(self.folder / "elsewhere", reactor).provider("county"))

    @inlineCallbacks
    def test_a_server_that_is_not_who_it_must_be_is_not_sent_anything(self):
        yield self.listen()
        client = yield self.client(self.trust.provider("county"), tls={"peer": "nation"})
        error = yield self.assertFailure(client.deliver(parcel(bundle())), TransientDelivery)
        self.assertTrue(error.whole_destination)
        self.assertEqual(self.intake.envelopes, [])
        yield client.close()

    @inlineCallbacks
    def test_a_client_without_certificate_hears_nothing(self):
        yield self.listen()
        received = yield self.raw(b"GET /fhir/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(received, b"")

    @inlineCallbacks
    def test_where_a_certificate_is_optional_but_parties_are_named_none_is_401(self):
        yield self.listen(client_auth="optional", allow=["county"])
        received = yield self.raw(b"GET /fhir/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue(received.startswith(b"HTTP/1.1 401 "), received[:60])
        self.assertIn(("fhir.refused"), [event for event, _ in self.audited])

    def raw(self, wire):
        """What a client without a certificate gets back."""
        endpoint = wrapClientTLS(_creator(), HostnameEndpoint(reactor, "127.0.0.1", self.source.port))
        connected = endpoint.connect(Factory.forProtocol(lambda: Raw(wire)))
        return connected.addCallback(lambda protocol: protocol.ended)

    @inlineCallbacks
    def test_plain_http_to_a_tls_listener_is_transient(self):
        """A wrong scheme in the channel file is a fault of the configuration, not of the messages."""
        yield self.listen()
        client = yield self.client(self.trust.provider("county"), url=f"http://localhost:{self.source.port}/fhir", tls=None)
        error = yield self.failureOf(client.deliver(parcel(bundle())))
        self.assertNotEqual(type(error).__name__, "PermanentDelivery")
        yield client.close()

    @inlineCallbacks
    def test_a_server_that_is_gone_is_transient_and_comes_back(self):
        yield self.listen()
        port = self.source.port
        client = yield self.client(self.trust.provider("county"))
        yield client.deliver(parcel(bundle(), "one"))
        yield self.source.stop()
        error = yield self.failureOf(client.deliver(parcel(bundle(), "two")))
        self.assertIn(type(error).__name__, ("TransientDelivery", "UncertainDelivery"))
        options = {"listen": f"127.0.0.1:{port}", "tls": {}}
        self.source = source(options, self.platform)
        yield self.source.start(self.intake)
        yield client.deliver(parcel(bundle(), "two"))
        yield client.close()

    def failureOf(self, deferred):
        return deferred.addCallbacks(lambda _: self.fail("it should not have been delivered"), lambda failure: failure.value)

    @inlineCallbacks
    def test_reads_are_audited_with_the_party(self):
        yield self.listen()
        client = yield self.client(self.trust.provider("county"))
        yield client.deliver(parcel(bundle(entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}))))
        creator = self.trust.provider("reader").client(None, "localhost")
        wire = b"GET /fhir/Patient/p HTTP/1.1\r\nHost: localhost\r\n\r\n"
        endpoint = wrapClientTLS(creator, HostnameEndpoint(reactor, "localhost", self.source.port))
        protocol = yield endpoint.connect(Factory.forProtocol(lambda: Raw(wire)))
        received = yield protocol.ended
        self.assertEqual(json.loads(received.partition(b"\r\n\r\n")[2])["id"], "p")
        (facts,) = [facts for event, facts in self.audited if event == "fhir.read"]
        self.assertEqual((facts["peer"], facts["resource"]), ("urn:meridian:party:reader", "Patient/p"))
        yield client.close()


def _creator():
    """A client that shows nothing and asks nothing."""
    from OpenSSL import SSL
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
    from zope.interface import implementer

    @implementer(IOpenSSLClientConnectionCreator)
    class Anonymous:
        def clientConnectionForTLS(self, protocol):
            return SSL.Connection(CertificateOptions(verify=False).getContext(), None)

    return Anonymous()
