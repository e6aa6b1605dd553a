"""Answers on their way out: small ones at once, large ones and those of files as the client takes them."""

import pytest
from twisted.internet.defer import Deferred

from engine.http_answers import Answer, FilePiece
from engine.http_sending import BLOCK
from tests.support.http_desk import Wire, answers


@pytest.fixture
def wire(tmp_path):
    return Wire(tmp_path)


def get(path="/"):
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


def test_a_crowd_of_requests_at_once(wire):
    """As many as fit into what the transport gives us; each is answered, in order."""
    paths = [f"/{number}" for number in range(3000)]
    found = wire.send(b"".join(map(get, paths)))
    assert [body.decode() for _, body, _ in found] == paths


def test_what_was_asked_before_a_fault_is_answered_first(wire):
    """In one piece with it, too: the client would take the refusal for the answer to its first request."""
    assert [status for status, _, _ in wire.send(get() + get() + b"\0\r\n\r\n")] == [200, 200, 400]


def test_a_client_that_asks_and_does_not_read(wire):
    """What waits for it in memory is bounded; it is asked no further until it has taken that."""
    wire.desk.say = lambda message: Answer(200, [bytes(10_000)])
    connection, transport = wire.connect()
    connection.dataReceived(get() * 1000)
    assert len(transport.value()) <= BLOCK
    assert transport.producerState == "paused"
    assert len(answers(transport)) == 1000
    assert transport.producerState == "producing"


def test_an_answer_out_of_memory_and_files(wire, tmp_path):
    """Piece by piece, with its length said before; HEAD has that and nothing else."""
    file = tmp_path / "pixels"
    file.write_bytes(bytes(range(256)) * 4000)
    answer = Answer(200, [b"before", FilePiece(file, 100, 1_000_000), b"after"], "image/x", {"X-A": "b"})
    wire.desk.say = lambda message: answer
    ((status, body, head),) = wire.send(get())
    assert (status, body) == (200, b"before" + file.read_bytes()[100:1_000_100] + b"after")
    assert "Content-Type: image/x\r\nContent-Length: 1000011" in head
    (heard,) = wire.send(get().replace(b"GET", b"HEAD"))
    assert (heard[0], heard[1], "1000011" in heard[2]) == (200, b"", True)


def test_a_file_that_is_gone_ends_the_connection(wire, tmp_path):
    """The client must not take half an answer for a whole one."""
    file = tmp_path / "short"
    file.write_bytes(bytes(100))
    wire.desk.say = lambda message: Answer(200, [FilePiece(file, 0, 200)])
    connection, transport = wire.connect()
    connection.dataReceived(get())
    while transport.producer is not None:
        transport.producer.resumeProducing()
    assert transport.aborted


def test_a_client_that_takes_nothing_of_its_answer(wire):
    """Is cut off after `idle`; one that takes a block in each such time is not."""
    wire.desk.say = lambda message: Answer(200, [bytes(BLOCK)] * 3)
    connection, transport = wire.connect()
    connection.dataReceived(get())
    for _ in range(3):
        transport.producer.resumeProducing()
        wire.clock.advance(60)
        assert not transport.aborted
    wire.clock.advance(60)
    assert transport.aborted


def test_an_answer_that_comes_when_the_client_is_gone(wire):
    """Goes nowhere, and the request is not under way any more."""
    later = Deferred()
    wire.desk.say = lambda message: later
    connection, transport = wire.connect()
    connection.dataReceived(get())
    connection.connectionLost()
    later.callback(Answer(200, [b"late"]))
    assert (transport.value(), wire.under_way()) == (b"", 0)


def test_senders_without_a_certificate_are_counted_by_host(tmp_path):
    """However many connections they have."""
    wire = Wire(tmp_path, requests_per_peer=2)
    wire.desk.say = lambda message: Deferred()
    for _ in range(2):
        assert wire.send(get()) == []
    ((status, _, head),) = wire.send(get())
    assert (status, "Retry-After: 1" in head, "close" in head) == (429, True, False)
    other, transport = wire.connect("10.0.0.8")
    other.dataReceived(get())
    assert transport.value() == b""


def test_every_answer_is_counted(wire):
    """Also the refusals of what never was a request."""
    wire.send(get(), b"\0\r\n\r\n")
    samples = [one for family in wire.desk.context.metrics.registry.collect() for one in family.samples]
    counted = {one.labels["status"]: one.value for one in samples if one.name == "meridian_keep_answers_total"}
    assert counted == {"200": 1, "400": 1}
