"""The MLLP client, rule by rule, without a network."""

import logging

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from adapters.mllp import adapter
from adapters.mllp.client import MllpClient
from adapters.mllp.framing import COMMIT, NOT_COMMITTED, MllpFramer
from engine.errors import PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.message import Parcel
from tests.support.mllp import Transport, message


def parcel(control_id: str, body: bytes | None = None) -> Parcel:
    return Parcel(
        int(control_id), int(control_id), body or message(control_id), "application/hl7-v2+er7", "ADT^A01", control_id, "k" + control_id
    )


def ack(code: str, control_id: str, more: str = "") -> bytes:
    return f"MSH|^~\\&|PLAT|CITY|LAB|HOSP|2026||ACK|R{control_id}|P|2.5\rMSA|{code}|{control_id}\r{more}".encode()


class ClientTests(SynchronousTestCase):
    def client(self, **options: object) -> MllpClient:
        self.clock, self.wire = Clock(), Transport()
        settings = adapter.destination_options.defaults(connect="h:1", **options)
        self.unexpected: list[None] = []
        client = MllpClient(
            settings,
            self.clock,
            logging.getLogger("test.mllp"),
            freed=lambda c: None,
            closed=lambda c: None,
            unexpected=lambda: self.unexpected.append(None),
        )
        client.makeConnection(self.wire)
        return client

    def answer(self, client: MllpClient, *answers: bytes) -> None:
        for one in answers:
            client.dataReceived(MllpFramer().wrap(one))

    def test_a_positive_answer_is_a_receipt(self) -> None:
        """AA settles; the reference is the acknowledgment's own control id."""
        client = self.client()
        done = client.send(parcel("1"))
        self.assertEqual(self.wire.value(), b"\x0b" + message("1") + b"\x1c\r")
        self.answer(client, ack("AA", "1"))
        self.assertEqual(self.successResultOf(done).reference, "R1")

    def test_answers_are_matched_by_control_id(self) -> None:
        """Out of order is fine."""
        client = self.client(in_flight=2)
        one, two = client.send(parcel("1")), client.send(parcel("2"))
        self.answer(client, ack("AA", "2"))
        self.assertNoResult(one)
        self.successResultOf(two)

    def test_an_answer_without_control_id_is_the_oldest_ones(self) -> None:
        """Sloppy receivers leave MSA-2 empty."""
        client = self.client()
        done = client.send(parcel("1"))
        self.answer(client, ack("AA", ""))
        self.successResultOf(done)

    def test_a_foreign_answer_settles_nothing(self) -> None:
        """A late answer of a message that was given up must not settle another."""
        client = self.client()
        done = client.send(parcel("1"))
        self.answer(client, ack("AA", "999"))
        self.assertNoResult(done)
        self.assertEqual(len(self.unexpected), 1)

    def test_error_and_reject_mean_what_the_channel_says(self) -> None:
        """By default dead letters, with the answer kept; `retry` makes them transient."""
        client = self.client()
        done = client.send(parcel("1"))
        self.answer(client, ack("AE", "1", "ERR|||102^x^HL70357|E\r"))
        failure = self.failureResultOf(done, PermanentDelivery)
        self.assertIn("102", failure.value.text)
        self.assertIn(b"MSA|AE|1", failure.value.answer)
        client = self.client(on_reject="retry")
        done = client.send(parcel("1"))
        self.answer(client, ack("AR", "1"))
        self.failureResultOf(done, TransientDelivery)

    def test_commit_acknowledgment(self) -> None:
        """CA settles, unless the channel waits for the application's answer."""
        client = self.client()
        done = client.send(parcel("1"))
        self.answer(client, ack("CA", "1"))
        self.successResultOf(done)
        client = self.client(wait_for_application=True)
        done = client.send(parcel("1"))
        self.answer(client, ack("CA", "1"))
        self.assertNoResult(done)
        self.answer(client, ack("AA", "1"))
        self.successResultOf(done)

    def test_release_2(self) -> None:
        """The commit acknowledgment alone does not settle, HL7's own after it does; where that does not come it is uncertain."""
        client = self.client(release=2, timeout="5s", in_flight=2)
        first, second = client.send(parcel("1")), client.send(parcel("2"))
        self.answer(client, COMMIT, ack("AA", "1"), COMMIT)
        self.successResultOf(first)
        self.assertNoResult(second)
        self.clock.advance(6)
        self.failureResultOf(second, UncertainDelivery)

    def test_release_2_could_not_commit(self) -> None:
        """Nothing was taken: it is sent again. The negative one is of the oldest message that is not committed."""
        client = self.client(release=2, in_flight=2)
        first, second = client.send(parcel("1")), client.send(parcel("2"))
        self.answer(client, COMMIT, NOT_COMMITTED)
        self.assertNoResult(first)
        self.failureResultOf(second, TransientDelivery)
        self.answer(client, COMMIT)
        self.assertNoResult(first)
        self.answer(client, COMMIT)
        self.assertEqual(len(self.unexpected), 2)

    def test_who_asks_for_no_answer(self) -> None:
        """MSH-15 and -16 NE: as the channel says, written is delivered (with release 2: committed), or an answer is waited for."""
        body = message("1", msh15="NE", msh16="ER")
        self.successResultOf(self.client(when_not_asked="settle").send(parcel("1", body)))
        client = self.client(when_not_asked="settle", release=2)
        done = client.send(parcel("1", body))
        self.assertNoResult(done)
        self.answer(client, COMMIT)
        self.successResultOf(done)
        client = self.client()
        done = client.send(parcel("1", body))
        self.assertNoResult(done)
        self.answer(client, ack("AE", "1"))
        self.failureResultOf(done, PermanentDelivery)

    def test_one_message_a_connection(self) -> None:
        """No room for another one; closed with the answer."""
        client = self.client(keep_open=False, in_flight=5)
        done = client.send(parcel("1"))
        self.assertEqual((client.room, self.wire.disconnecting), (0, False))
        self.answer(client, ack("AA", "1"))
        self.successResultOf(done)
        self.assertTrue(self.wire.disconnecting)

    def test_no_answer_in_time_is_uncertain(self) -> None:
        """It may have been taken: repeat with the same key, on a fresh connection."""
        client = self.client(timeout="5s")
        done = client.send(parcel("1"))
        self.clock.advance(6)
        self.failureResultOf(done, UncertainDelivery)
        self.assertTrue(self.wire.aborted)

    def test_a_lost_connection_is_uncertain(self) -> None:
        """For what was sent and not answered."""
        client = self.client()
        done = client.send(parcel("1"))
        client.connectionLost(Failure(ConnectionLost()))
        self.failureResultOf(done, UncertainDelivery)

    def test_nonsense_for_an_answer_is_uncertain(self) -> None:
        """A framed something that is no acknowledgment; and bytes that are no frame."""
        client = self.client()
        done = client.send(parcel("1"))
        self.answer(client, b"whatever")
        self.failureResultOf(done, UncertainDelivery)
        client = self.client()
        done = client.send(parcel("1"))
        client.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)
        self.failureResultOf(done, UncertainDelivery)

    def test_content_that_cannot_be_framed_is_a_dead_letter(self) -> None:
        """A start block inside the content would break the receiver's framing."""
        client = self.client()
        self.failureResultOf(client.send(parcel("1", b"MSH|\x0b")), PermanentDelivery)

    def test_an_unused_connection_is_closed(self) -> None:
        """After the idle time."""
        self.client(idle="20s", timeout="5s")
        for _ in range(25):
            self.clock.advance(1)
        self.assertTrue(self.wire.disconnecting)
