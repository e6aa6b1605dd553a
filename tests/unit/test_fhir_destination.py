"""The FHIR client without sockets: what each answer, and each way of not answering, means for a parcel."""

import gzip
import json
from pathlib import Path

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from adapters.fhir.outcome import Answer
from engine.errors import PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.http1 import HttpFramer
from engine.message import BodyRef
from tests.support.fhir import START, bundle, context, destination, parcel

BODY = bundle()


class Transport(StringTransport):
    """Tells its protocol when it is closed, as a socket does."""

    protocol = None

    def loseConnection(self):
        super().loseConnection()
        self.end(ConnectionDone())

    def abortConnection(self):
        super().abortConnection()
        self.end(ConnectionLost())

    def end(self, reason):
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(reason))


class FhirDestinationTests(SynchronousTestCase):
    """One destination on a reactor that is moved by hand."""

    def setUp(self):
        self.reactor = MemoryReactorClock()
        self.make()

    def make(self, **options):
        made = context(Path("unused"), self.reactor, clock=lambda: START)
        self.destination = destination({"url": "http://127.0.0.1:8080/fhir", **options}, made)
        self.successResultOf(self.destination.open())

    def connect(self):
        """Accept the newest connection."""
        factory = self.reactor.tcpClients[-1][2]
        protocol = factory.buildProtocol(None)
        transport = Transport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def answer(self, transport, status, body=b"", **headers):
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        wire = f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
        transport.protocol.dataReceived(wire)

    def delivered(self, status, body=b"", **headers):
        """Deliver a parcel that is answered so."""
        before = len(self.reactor.tcpClients)
        result = self.destination.deliver(parcel(BODY))
        if len(self.reactor.tcpClients) > before:
            self.transport = self.connect()
        self.answer(self.transport, status, body, **headers)
        return result

    def test_the_request_says_all_it_should(self):
        """POST to the base, with the idempotency key, which makes a repeat harmless."""
        self.destination.deliver(parcel(BODY, "key-7"))
        (message,) = HttpFramer(responses=False, most_body=9999).feed(self.connect().value())
        self.assertEqual(message.start, ("POST", "/fhir", "HTTP/1.1"))
        self.assertEqual(message.headers["idempotency-key"], "key-7")
        self.assertEqual(message.headers["content-type"], "application/fhir+json")
        self.assertEqual(message.headers["host"], "127.0.0.1:8080")
        self.assertEqual(message.headers["prefer"], "return=minimal")
        self.assertEqual(message.body, BODY)

    def test_gzip(self):
        """Compressed where the channel says so."""
        self.make(gzip=True)
        self.destination.deliver(parcel(BODY))
        (message,) = HttpFramer(responses=False, most_body=9999).feed(self.connect().value())
        self.assertEqual(message.headers["content-encoding"], "gzip")
        self.assertEqual(gzip.decompress(message.body), BODY)

    def test_2xx_settles(self):
        """The receipt has the Location, and keeps status and body."""
        receipt = self.successResultOf(self.delivered(201, b"{}", Location="Patient/1/_history/1"))
        self.assertEqual(receipt.reference, "Patient/1/_history/1")
        self.assertEqual(Answer.decode(receipt.answer), Answer(201, b"{}", {"Location": "Patient/1/_history/1"}))

    def test_4xx_is_permanent_and_keeps_the_operation_outcome(self):
        for status in (301, 400, 404, 409, 410, 412, 413, 415, 422):
            outcome = b'{"resourceType":"OperationOutcome"}'
            error = self.failureResultOf(self.delivered(status, outcome), PermanentDelivery).value
            self.assertEqual(Answer.decode(error.answer).body, outcome)

    def test_busy_servers_are_tried_again_after_the_time_they_ask_for(self):
        """Seconds or a date (RFC 9110 10.2.3); START is 2023-11-14T22:13:20Z."""
        for value, seconds in (("7", 7.0), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0), ("Tue, 14 Nov 2000 22:13:50 GMT", 0.0), ("soon", None)):
            error = self.failureResultOf(self.delivered(503, Retry_After=value), TransientDelivery).value
            self.assertEqual(error.retry_after, seconds)
            self.assertTrue(error.whole_destination)

    def test_408_425_429_and_5xx_are_transient(self):
        for status, whole in ((408, False), (425, False), (429, True), (500, False), (502, False), (503, True), (504, False)):
            error = self.failureResultOf(self.delivered(status), TransientDelivery).value
            self.assertEqual(error.whole_destination, whole)

    def test_401_and_403_pause_the_destination(self):
        """Not one message is at fault but the agreement between the sites: no dead letters for an expired permission."""
        for status in (401, 403):
            self.assertTrue(self.failureResultOf(self.delivered(status), TransientDelivery).value.whole_destination)

    def authorization(self):
        """What the last request showed."""
        (message,) = HttpFramer(responses=False, most_body=9999).feed(self.transport.value()[self.seen :])
        self.seen = len(self.transport.value())
        return message.headers["authorization"]

    def test_a_token_is_shown_and_read_again_after_a_401(self):
        """The file was replaced while the node ran: the next attempt shows what it now holds; a missing file changes nothing."""
        token, self.seen = Path(self.mktemp()), 0
        token.write_text("old\n")
        self.make(auth={"bearer": f"file:{token.resolve()}"})
        self.failureResultOf(self.delivered(500), TransientDelivery)
        token.write_text("new\n")
        self.assertEqual(self.authorization(), "Bearer old")
        self.failureResultOf(self.delivered(401), TransientDelivery)
        self.assertEqual(self.authorization(), "Bearer old")
        self.successResultOf(self.delivered(200))
        self.assertEqual(self.authorization(), "Bearer new")
        token.unlink()
        self.failureResultOf(self.delivered(401), TransientDelivery)
        self.assertEqual(self.authorization(), "Bearer new")

    def entries(self, *statuses):
        parts = [{"response": {"status": status}} for status in statuses]
        return json.dumps({"resourceType": "Bundle", "type": "batch-response", "entry": parts}).encode()

    def test_a_batch_is_judged_by_its_entries(self):
        """200 for the batch says nothing of its entries (R4 3.1.0.11.1)."""
        self.successResultOf(self.delivered(200, self.entries("201 Created", "304")))
        error = self.failureResultOf(self.delivered(200, self.entries("201", "422 No", "503")), PermanentDelivery).value
        self.assertEqual(error.location, "Bundle.entry[1]")
        self.failureResultOf(self.delivered(200, self.entries("201", "503 Later")), TransientDelivery)

    def test_a_batch_answer_that_cannot_be_read_is_uncertain(self):
        self.failureResultOf(self.delivered(200, b'{"type":"batch-response"'), UncertainDelivery)
        self.failureResultOf(self.delivered(200, self.entries("fine")), UncertainDelivery)

    def test_no_connection_pauses_the_destination(self):
        result = self.destination.deliver(parcel(BODY))
        self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.reactor.advance(1)
        self.assertTrue(self.failureResultOf(result, TransientDelivery).value.whole_destination)

    def test_silence_is_uncertain(self):
        """The server may have taken it: it is repeated with the same key."""
        self.make(timeout="5s")
        result = self.destination.deliver(parcel(BODY))
        transport = self.connect()
        self.reactor.advance(4.9)
        self.assertNoResult(result)
        self.reactor.advance(0.2)
        self.failureResultOf(result, UncertainDelivery)
        self.assertIsNone(transport.protocol)

    def test_a_connection_lost_before_the_answer_is_uncertain(self):
        result = self.destination.deliver(parcel(BODY))
        self.connect().end(ConnectionLost())
        self.failureResultOf(result, UncertainDelivery)

    def test_a_tls_alert_on_a_fresh_connection_pauses_the_destination(self):
        """In TLS 1.3 the server's word on our certificate comes after we have sent; it has read nothing of it."""
        result = self.destination.deliver(parcel(BODY))
        self.connect().end(SSL.Error([("SSL routines", "", "tlsv13 alert certificate required")]))
        self.assertTrue(self.failureResultOf(result, TransientDelivery).value.whole_destination)

    def test_a_connection_lost_within_the_answer_is_uncertain(self):
        result = self.destination.deliver(parcel(BODY))
        transport = self.connect()
        transport.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
        transport.end(ConnectionDone())
        self.failureResultOf(result, UncertainDelivery)

    def test_an_answer_that_ends_with_the_connection_is_an_answer(self):
        result = self.destination.deliver(parcel(BODY))
        transport = self.connect()
        transport.protocol.dataReceived(b"HTTP/1.0 200 OK\r\n\r\n{}")
        transport.end(ConnectionDone())
        self.successResultOf(result)

    def test_an_answer_that_is_not_http_is_uncertain(self):
        result = self.destination.deliver(parcel(BODY))
        self.connect().protocol.dataReceived(b"220 smtp ready\r\n\r\n")
        self.failureResultOf(result, UncertainDelivery)

    def test_an_answer_larger_than_allowed_is_uncertain(self):
        self.make(most_answer="1KB")
        result = self.destination.deliver(parcel(BODY))
        self.connect().protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")
        self.failureResultOf(result, UncertainDelivery)

    def test_connections_are_used_again(self):
        """Keep-alive: the second parcel goes over the first connection."""
        first = self.destination.deliver(parcel(BODY))
        transport = self.connect()
        self.answer(transport, 200)
        self.successResultOf(first)
        transport.clear()
        second = self.destination.deliver(parcel(BODY, "second"))
        self.assertIn(b"second", transport.value())
        self.answer(transport, 200)
        self.successResultOf(second)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_a_connection_that_the_server_ends_is_not_used_again(self):
        self.delivered(200, Connection="close")
        self.destination.deliver(parcel(BODY))
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_an_idle_connection_is_closed_in_time(self):
        """Before the server does it just when something is being sent."""
        self.make(idle="20s")
        first = self.destination.deliver(parcel(BODY))
        transport = self.connect()
        self.answer(transport, 200)
        self.successResultOf(first)
        self.reactor.advance(20)
        self.assertIsNone(transport.protocol)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_an_idle_connection_that_the_server_closes_is_forgotten(self):
        first = self.destination.deliver(parcel(BODY))
        transport = self.connect()
        self.answer(transport, 200)
        self.successResultOf(first)
        transport.end(ConnectionDone())
        self.destination.deliver(parcel(BODY))
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_an_unasked_answer_ends_the_connection(self):
        """What answers nothing would otherwise be taken for the answer to the next parcel."""
        first = self.destination.deliver(parcel(BODY))
        transport = self.connect()
        self.answer(transport, 200)
        self.successResultOf(first)
        self.answer(transport, 200)
        self.assertIsNone(transport.protocol)

    def test_close_waits_for_what_is_under_way(self):
        result = self.destination.deliver(parcel(BODY))
        transport = self.connect()
        closed = self.destination.close()
        self.assertNoResult(closed)
        self.answer(transport, 200)
        self.successResultOf(result)
        self.successResultOf(closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_max_in_flight_follows_the_connections(self):
        self.make(connections=3)
        self.assertEqual(self.destination.max_in_flight, 3)

    def test_a_body_in_the_content_store_is_refused(self):
        self.failureResultOf(self.destination.deliver(parcel(BodyRef("00", 3))), PermanentDelivery)
