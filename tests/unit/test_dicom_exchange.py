"""Requests and responses over an association, between our requestor and our acceptor, on wires that the test carries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from adapters.dicom.upper import dimse, pdu
from adapters.dicom.upper.acceptor import Acceptor
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.exchange import Gathered, Request, Response
from adapters.dicom.upper.failures import ConnectionGone, NoResponse, PeerAborted, PeerBroke, Rejected, Released, WeAborted
from adapters.dicom.upper.negotiation import EXPLICIT_LE, IMPLICIT_LE
from adapters.dicom.upper.protocol import Times
from adapters.dicom.upper.requestor import Proposal
from adapters.dicom.upper.states import State
from engine.errors import LocalProtocolError
from tests.support.dicom import CT, VERIFICATION, Host, Pair, associate_pdu, data_set, store_request

TIMES = Times(artim=10, idle=100, receive_within=50)


class Scripted:
    """A Service that gathers, and answers when the test says so, or at once."""

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.requests: list[Request] = []
        self.data: list[bytes] = []
        self.lost_count = 0

    def begin(self, request: Request) -> Any:
        self.requests.append(request)
        if not request.command.has_data:
            self._done(request, b"")
            return None
        gathered = Gathered(request, lambda data: self._done(request, data))
        lost, gathered.lost = gathered.lost, self._lost  # type: ignore[method-assign]
        assert lost is not None
        return gathered

    def _lost(self) -> None:
        self.lost_count += 1

    def _done(self, request: Request, data: bytes) -> None:
        self.data.append(data)
        if self.at_once:
            request.respond(Status.SUCCESS)


class ExchangeCase(SynchronousTestCase):
    def pair(self, at_once: bool = True, window: int = 1, **proposal: Any) -> Pair:
        self.service = Scripted(at_once)
        self.clock = Clock()
        self.host = Host({CT: self.service, VERIFICATION: self.service})
        acceptor = Acceptor(self.host, self.clock, TIMES, secure=False, window=window)
        contexts = [(CT, [EXPLICIT_LE]), (VERIFICATION, [IMPLICIT_LE])]
        pair = Pair(acceptor, self.clock, Proposal("A", "B", contexts, **proposal), times=TIMES)
        pair.flow()
        self.assertIs(self.successResultOf(pair.requestor.established), pair.requestor)
        return pair


class ExchangeTests(ExchangeCase):
    def test_an_echo(self) -> None:
        """C-ECHO, and both know who is who."""
        pair = self.pair()
        (response,) = pair.result(pair.requestor.request(dimse.request(Field.C_ECHO, VERIFICATION)))
        self.assertEqual(response.status, 0)
        self.assertEqual((pair.acceptor.parties.calling, pair.acceptor.parties.called), ("A", "B"))

    def test_a_data_set_of_any_size_in_any_chunking(self) -> None:
        """In fragments that fit the peer's PDUs, odd and empty ones included."""
        for size, chunk in ((0, 1), (1, 3), (4096, 7), (300_001, 4099)):
            pair = self.pair(max_length=16384)
            pair.chunk = chunk
            (response,) = pair.result(pair.requestor.request(store_request(), data_set(pixels=bytes(size))))
            self.assertEqual((response.status, self.service.data), (0, [data_set(pixels=bytes(size))]))

    def test_a_data_set_is_read_as_the_wire_takes_it(self) -> None:
        """A file of any size does not come into memory."""
        pair = self.pair()
        asked: list[int] = []

        def pieces() -> Iterator[bytes]:
            for number in range(10):
                asked.append(number)
                yield bytes([number]) * 1000

        pair.near.producer.pauseProducing()
        done = pair.requestor.request(store_request(), pieces())
        self.assertEqual(asked, [])
        pair.near.producer.resumeProducing()
        (response,) = pair.result(done)
        self.assertEqual((response.status, self.service.data), (0, [b"".join(bytes([n]) * 1000 for n in range(10))]))

    def test_a_file_that_cannot_be_read_on_aborts(self) -> None:
        """Half a data set must not be taken for a whole one."""
        pair = self.pair()

        def pieces() -> Iterator[bytes]:
            yield b"half"
            yield b"of it"
            raise OSError("disk")

        (failure,) = pair.result(pair.requestor.request(store_request(), pieces()))
        self.assertTrue(failure.check(WeAborted))
        self.assertEqual((self.service.data, self.service.lost_count), ([], 1))

    def test_operations_wait_for_each_other(self) -> None:
        """One at a time, unless more were negotiated."""
        for window, under_way in ((1, 1), (3, 3)):
            pair = self._with_window(window)
            for number in range(5):
                pair.requestor.request(store_request(str(number)), b"")
            pair.flow()
            self.assertEqual(len(self.service.requests), under_way)
            self.service.requests[0].respond(0)
            pair.flow()
            self.assertEqual(len(self.service.requests), under_way + 1)

    def _with_window(self, window: int) -> Pair:
        self.service = Scripted(at_once=False)
        self.clock = Clock()
        self.host = Host({CT: self.service})
        self.host.offer = type(self.host.offer)(self.host.offer.taken, window=8)
        pair = Pair(
            Acceptor(self.host, self.clock, TIMES, secure=False, window=8),
            self.clock,
            Proposal("A", "B", [(CT, [EXPLICIT_LE])], window=window),
        )
        pair.flow()
        return pair

    def test_a_peer_that_overtakes_the_window_is_not_read(self) -> None:
        """Memory is bounded whatever is sent."""
        pair = self.pair(at_once=False)
        pair.requestor.may_invoke = 50
        for number in range(50):
            pair.requestor.request(store_request(str(number)), b"x" * 100)
        pair.chunk = 400
        sent = pair.near.taken()
        for at in range(0, len(sent), 400):
            if pair.far.paused:
                break
            pair.acceptor.dataReceived(sent[at : at + 400])
        self.assertLess(len(self.service.requests), 5)
        self.assertTrue(pair.far.paused)

    def test_many_pending_responses_and_a_cancel(self) -> None:
        """C-FIND: pending ones with data sets, then a C-CANCEL ends it."""
        pair = self.pair(at_once=False)
        heard: list[Response] = []
        done = pair.requestor.request(dimse.request(Field.C_FIND, CT), b"identifier", on_pending=heard.append)
        pair.flow()
        (request,) = self.service.requests
        for number in range(3):
            request.respond(Status.PENDING, data=b"match %d" % number)
        pair.flow()
        self.assertEqual([one.data for one in heard], [b"match 0", b"match 1", b"match 2"])
        pair.requestor.cancel_request(request.command.message_id, request.context.context_id)
        pair.flow()
        self.assertTrue(request.cancelled)
        request.respond(Status.CANCEL)
        self.assertEqual([one.status for one in pair.result(done)], [0xFE00])
        request.respond(Status.PENDING, data=b"late")
        self.assertEqual(pair.far.sent, [])

    def test_the_acceptor_may_ask_on_the_same_association(self) -> None:
        """N-EVENT-REPORT, or C-STORE as part of a C-GET."""
        pair = self.pair()
        asked = Scripted()
        pair.requestor.services = {CT: asked}
        (response,) = pair.result(pair.acceptor.request(store_request("9.9"), data_set("9.9")))
        self.assertEqual((response.status, asked.data), (0, [data_set("9.9")]))

    def test_what_was_not_agreed_on_is_not_sent(self) -> None:
        pair = self.pair()
        (failure,) = pair.result(pair.requestor.request(dimse.request(Field.C_ECHO, "1.2.3")))
        self.assertTrue(failure.check(LocalProtocolError))

    def test_a_data_set_too_long_for_memory(self) -> None:
        """0110H, once it has all come."""
        pair = self.pair()
        (response,) = pair.result(pair.requestor.request(store_request(), bytes(5 << 20)))
        self.assertEqual(response.status, Status.PROCESSING_FAILURE)


class EndTests(ExchangeCase):
    def test_a_release_waits_for_what_is_under_way(self) -> None:
        """And is confirmed; then nothing more can be asked."""
        pair = self.pair(at_once=False)
        done = pair.requestor.request(store_request(), b"data")
        released = pair.requestor.release()
        pair.flow()
        self.assertNoResult(released)
        self.service.requests[0].respond(0)
        pair.flow()
        self.successResultOf(released)
        self.assertEqual(self.successResultOf(done).status, 0)
        self.assertEqual(self.host.ends, [None])
        self.failureResultOf(pair.requestor.request(store_request(), b""), Released)
        self.assertTrue(pair.near.closed)

    def test_a_release_asked_by_both(self) -> None:
        """The collision of PS3.8 clause 7.2.2.7: requestor answers first."""
        pair = self.pair()
        released = pair.requestor.release()
        pair.acceptor._run(pair.acceptor.association.release())
        pair.flow()
        self.successResultOf(released)
        self.assertIs(pair.requestor.association.state, State.Sta1)

    def test_an_abort_is_heard(self) -> None:
        """By the operations under way, and by the service."""
        pair = self.pair(at_once=False)
        cancelled: list[bool] = []
        done = pair.requestor.request(store_request(), b"data")
        pair.flow()
        self.service.requests[0].on_cancel = lambda: cancelled.append(True)
        pair.acceptor.abort()
        pair.flow()
        self.failureResultOf(done, PeerAborted)
        self.assertEqual(cancelled, [True])

    def test_a_connection_that_is_lost(self) -> None:
        pair = self.pair()
        done = pair.requestor.request(store_request(), b"data")
        pair.requestor.connectionLost()
        self.failureResultOf(done, ConnectionGone)
        self.assertIsNotNone(self.successResultOf(pair.requestor.closed))

    def test_no_response_in_time(self) -> None:
        """The association is aborted: a late response could be taken for another's."""
        pair = self.pair(at_once=False)
        done = pair.requestor.request(store_request(), b"data", timeout=5)
        pair.flow()
        self.clock.advance(5.1)
        self.failureResultOf(done, NoResponse)
        pair.flow()
        self.assertEqual([str(end) for end in self.host.ends], ["aborted by the peer"])

    def test_a_rejection(self) -> None:
        service = Scripted()
        clock, host = Clock(), Host({CT: service})
        host.refusal = lambda acceptor, request: pdu.CALLED_NOT_RECOGNIZED  # type: ignore[assignment, method-assign]
        pair = Pair(Acceptor(host, clock, TIMES, secure=False), clock, Proposal("A", "B", [(CT, [EXPLICIT_LE])]))
        pair.flow()
        failure = self.failureResultOf(pair.requestor.established, Rejected)
        self.assertEqual(failure.value.reject, (1, 1, 7))
        self.assertIn("called AE title", str(failure.value))

    def test_a_stop_answers_what_was_taken(self) -> None:
        """And forgets what has not come whole."""
        pair = self.pair(at_once=False)
        done = pair.requestor.request(store_request(), b"data")
        pair.flow()
        pair.acceptor.stop()
        pair.flow()
        self.assertNoResult(done)
        self.service.requests[0].respond(0)
        pair.flow()
        self.assertEqual(self.successResultOf(done).status, 0)
        self.assertIsInstance(pair.requestor.ended, PeerAborted)


class TimeTests(ExchangeCase):
    def test_an_idle_association_is_aborted(self) -> None:
        pair = self.pair()
        self.clock.advance(101)
        pair.flow()
        self.assertEqual(self.host.faults, ["idle"])
        self.assertIsInstance(pair.requestor.ended, PeerAborted | WeAborted)

    def test_it_is_not_idle_while_we_are_slow(self) -> None:
        pair = self.pair(at_once=False)
        pair.requestor.request(store_request(), b"data", timeout=10_000)
        pair.flow()
        for _ in range(10):
            self.clock.advance(99)
        pair.flow()
        self.assertIsNone(pair.requestor.ended)

    def test_a_data_set_that_trickles(self) -> None:
        """One byte now and then does not move its deadline."""
        pair = self.pair()
        sent = b"".join(
            bytes(one)
            for one in pair.requestor.association.send(
                1, dimse.encode({**store_request(), "MessageID": 1, "CommandDataSetType": 1}), is_command=True
            )
        )
        pair.acceptor.dataReceived(sent)
        for _ in range(6):
            pair.acceptor.dataReceived(
                b"".join(bytes(one) for one in pair.requestor.association.send(1, b"xx", is_command=False, is_last=False))
            )
            self.clock.advance(9)
        self.assertEqual((self.host.faults, self.service.lost_count), (["slow"], 1))

    def test_a_peer_that_says_nothing(self) -> None:
        """ARTIM, from the connection to the A-ASSOCIATE-RQ."""
        clock, host = Clock(), Host({})
        pair = Pair(Acceptor(host, clock, TIMES, secure=False), clock, Proposal("A", "B", [(CT, [EXPLICIT_LE])]))
        clock.advance(10.1)
        self.assertEqual(host.faults, ["artim"])
        self.assertTrue(pair.far.aborted)

    def test_a_peer_that_does_not_close_after_its_abort(self) -> None:
        """It is cut off."""
        pair = self.pair()
        pair.acceptor.dataReceived(b"garbage")
        self.assertFalse(pair.far.closed)
        self.clock.advance(10.1)
        self.assertTrue(pair.far.aborted)

    def test_a_peer_that_does_not_read(self) -> None:
        """Responses pile up on our side: not for ever."""
        pair = self.pair(at_once=False)
        pair.requestor.request(dimse.request(Field.C_FIND, CT), b"identifier", timeout=10_000)
        pair.flow()
        pair.far.producer.pauseProducing()
        for _ in range(1000):
            self.service.requests[0].respond(Status.PENDING, data=bytes(1000))
        self.assertEqual(pair.far.sent, [])
        waits = self.service.requests[0].writable()
        self.assertNoResult(waits)
        self.clock.advance(150)
        self.assertEqual(self.host.faults, ["slow"])
        self.successResultOf(waits)


class HostileTests(ExchangeCase):
    def test_what_breaks_the_protocol_is_aborted_with_the_right_reason(self) -> None:
        """PS3.8 table 9-26: by the provider (source 2)."""
        p_data = bytes.fromhex
        cases = [
            (b"\x09\0\0\0\0\0", 1),  # unrecognized PDU
            (b"GET / HTTP/1.1\r\n", 1),
            (associate_pdu(), 2),  # unexpected PDU
            (p_data("0400 ffffffff 00000002 01 03".replace(" ", "")), 6),  # longer than agreed
            (p_data("0400 00000006 00000009 01 03".replace(" ", "")), 6),  # a fragment longer than its PDU
            (p_data("0400 00000006 00000002 05 03".replace(" ", "")), 6),  # context not agreed on
            (p_data("0400 00000006 00000002 01 02".replace(" ", "")), 5),  # a data set without a command
            (p_data("0400 00000006 00000002 01 03".replace(" ", "")), 6),  # an empty command
        ]
        for sent, reason in cases:
            pair = self.pair()
            pair.far.taken()
            pair.acceptor.dataReceived(sent)
            self.assertEqual(pair.far.taken(), pdu.encode(pdu.Abort(2, reason)), sent)
            pair.acceptor.dataReceived(b"more")
            pair.acceptor.connectionLost()
            self.assertIsInstance(self.host.ends[0], PeerBroke)

    def test_data_before_an_association(self) -> None:
        """PS3.8: AA-1, without an indication."""
        clock, host = Clock(), Host({})
        acceptor = Acceptor(host, clock, TIMES, secure=False)
        pair = Pair(acceptor, clock, Proposal("A", "B", [(CT, [EXPLICIT_LE])]))
        acceptor.dataReceived(bytes.fromhex("040000000006000000020103"))
        self.assertEqual(pair.far.taken(), pdu.encode(pdu.Abort(0, 0)))

    def test_a_message_id_used_twice(self) -> None:
        pair = self.pair(at_once=False, window=1)
        command = dimse.encode({**dimse.request(Field.C_ECHO, VERIFICATION), "MessageID": 1, "CommandDataSetType": 0x0101})
        for _ in range(2):
            pair.acceptor.dataReceived(b"".join(bytes(one) for one in pair.requestor.association.send(3, command, is_command=True)))
        self.assertEqual((self.host.faults, len(self.host.ends)), (["broke"], 1))

    def test_a_response_to_nothing_is_passed_over(self) -> None:
        pair = self.pair()
        command = dimse.encode({"CommandField": 0x8001, "MessageIDBeingRespondedTo": 9, "Status": 0, "CommandDataSetType": 0x0101})
        pair.acceptor.dataReceived(b"".join(bytes(one) for one in pair.requestor.association.send(1, command, is_command=True)))
        self.assertEqual((self.host.faults, self.host.ends), (["stray"], []))
