"""Bodies that are kept whole, and uploads of any behaviour: what the client hears, what stays, what is under way."""

import gzip
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail

from engine.errors import FramingError, ParseError, StoreFull
from engine.http_answers import Answer, HttpRefusal
from engine.http_server import LEAST
from engine.http_uploads import IN_MEMORY
from engine.message import BodyRef
from tests.support.http_desk import MOST, Wire, answers, post

BIG = b"<big/>" * 50_000


@pytest.fixture
def wire(tmp_path):
    return Wire(tmp_path)


# --- what is kept --------------------------------------------------------------------------------------


def test_a_small_body_is_bytes_and_a_big_one_a_file(wire):
    """Both with what is to stand before them."""
    wire.desk.first = b"Content-Type: text/xml\r\n\r\n"
    assert [answer[:2] for answer in wire.send(post(b"<a/>"), post(BIG))] == [(200, b"taken")] * 2
    small, big = wire.desk.taken
    assert small == wire.desk.first + b"<a/>"
    assert isinstance(big, BodyRef)
    assert wire.desk.context.body_file(big).read_bytes() == wire.desk.first + BIG
    assert wire.under_way() == 0


def test_a_body_of_exactly_the_size_that_stays_in_memory(wire):
    """And one byte more."""
    wire.send(post(bytes(IN_MEMORY)), post(bytes(IN_MEMORY + 1)))
    assert [type(one) for one in wire.desk.taken] == [bytes, BodyRef]


def test_a_compressed_body_is_kept_as_it_was_before(wire):
    """Big and small, in one piece and by the byte."""
    wire.send(post(gzip.compress(b"<a/>"), Content_Encoding="gzip"), post(gzip.compress(BIG), Content_Encoding="gzip"))
    whole = post(gzip.compress(b"<b/>"), Content_Encoding="gzip")
    wire.send(*(whole[at : at + 1] for at in range(len(whole))))
    small, big, bytewise = wire.desk.taken
    assert (small, bytewise) == (b"<a/>", b"<b/>")
    assert Path(wire.spool / big.digest).read_bytes() == BIG


@pytest.mark.parametrize(
    ("content", "coding", "status"),
    [
        (b"plain", "gzip", 400),
        (gzip.compress(b"cut", mtime=0)[:-2], "gzip", 400),
        (gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0), "gzip", 400),
        (gzip.compress(bytes(MOST + 1), mtime=0), "gzip", 413),
        (bytes(MOST + 1), "", 413),
        (b"a", "br", 415),
    ],
)
def test_bodies_that_are_not_taken(wire, content, coding, status):
    """Nothing of them stays, nothing is handed on, and the client is told."""
    ((heard, *_),) = wire.send(post(content, Content_Encoding=coding))
    assert heard == status
    assert (wire.desk.taken, wire.spooled(), wire.under_way()) == ([], [], 0)


def test_a_bomb_in_chunks_ends_as_soon_as_it_is_one(wire):
    """Without waiting for the rest."""
    connection, transport = wire.connect()
    bomb = gzip.compress(bytes(MOST * 10), 9)
    head = post(b"", Content_Length="", Transfer_Encoding="chunked", Content_Encoding="gzip")
    connection.dataReceived(head + b"%x\r\n" % 100_000 + bomb)
    ((status, _, text),) = answers(transport)
    assert status == 413
    assert "Connection: close" in text
    connection.dataReceived(b"x" * 1000)
    assert (wire.spooled(), wire.under_way()) == ([], 0)
    wire.clock.advance(2)
    assert transport.aborted


# --- what uploads raise --------------------------------------------------------------------------------


class Odd:
    """An upload that does what the test says."""

    def __init__(self, content=None, ended=None):
        self.full = self.over = False
        self.wake = lambda: None
        self.calls = []
        self._content, self._ended = content, ended
        self.left = None

    def content(self, data):
        self.calls.append("content")
        if self._content is not None:
            raise self._content

    def ended(self):
        self.calls.append("ended")
        if isinstance(self._ended, Exception):
            raise self._ended
        return self._ended

    def cut(self):
        self.calls.append("cut")
        raise HttpRefusal(503, "stops")

    def gone(self):
        self.calls.append("gone")
        return self.left


FAILURES = [
    (HttpRefusal(409, "a conflict"), 409, b"a conflict\n"),
    (FramingError("not so", reply_hint="415"), 415, b"not so\n"),
    (FramingError("not so"), 400, b"not so\n"),
    (StoreFull("no room"), 503, b"no room\n"),
    (ParseError("a bug, where nobody expects it"), 500, b"an error in the server\n"),
    (ZeroDivisionError("patient Miller"), 500, b"an error in the server\n"),
]


@pytest.mark.parametrize(("error", "status", "text"), FAILURES)
def test_what_fails_at_the_end_is_the_answer(wire, error, status, text):
    """Raised, or by the Deferred; the connection goes on."""
    for ended in (error, fail(error)):
        wire.desk.make = lambda headers, ended=ended: Odd(ended=ended)
        found = wire.send(post(b"x"), b"GET /next HTTP/1.1\r\n\r\n")
        assert [one[:2] for one in found] == [(status, text), (200, b"/next")]
    assert wire.under_way() == 0


@pytest.mark.parametrize(("error", "status", "text"), FAILURES)
def test_what_fails_within_the_body_ends_the_connection(wire, error, status, text):
    """The upload hears that no more comes, once."""
    odd = Odd(content=error)
    wire.desk.make = lambda headers: odd
    connection, transport = wire.connect()
    connection.dataReceived(post(b"some", Content_Length="1000"))
    ((*heard, head),) = answers(transport)
    assert (heard, "Connection: close" in head) == ([status, text], True)
    connection.dataReceived(b"more")
    connection.connectionLost()
    assert (odd.calls, wire.under_way()) == (["content", "gone"], 0)


@pytest.mark.parametrize(("error", "status", "text"), FAILURES)
def test_what_fails_at_the_head(wire, error, status, text):
    """Nothing of the body is read."""

    def refuse(headers):
        raise error

    wire.desk.make = refuse
    ((*heard, head),) = wire.send(post(b"some", Content_Length="1000", Expect="100-continue"))
    assert (heard, "Connection: close" in head, "100" in head) == ([status, text], True, False)
    assert wire.under_way() == 0


def test_an_upload_that_is_not_admitted_is_gone(tmp_path):
    """429, and it hears nothing else."""
    wire = Wire(tmp_path, requests_per_peer=1)
    held = Odd(ended=Deferred())
    refused = Odd()
    uploads = [held, refused]
    wire.desk.make = lambda headers: uploads.pop(0)
    assert wire.send(post(b"x")) == []
    assert wire.send(post(b"x"))[0][0] == 429
    assert (held.calls, refused.calls) == (["content", "ended"], ["gone"])


# --- clients and ends ------------------------------------------------------------------------------------


def test_a_client_that_goes_away_leaves_nothing(wire):
    """In the middle of a body that is spooled already."""
    connection, _ = wire.connect()
    connection.dataReceived(post(BIG, Content_Length="9999999")[:200_000])
    assert (len(wire.spooled()), wire.under_way()) == (0, 0)  # it said that it would be too much
    connection, _ = wire.connect()
    connection.dataReceived(post(BIG)[:200_000])
    assert (len(wire.spooled()), wire.under_way()) == (1, 1)
    connection.connectionLost()
    assert (wire.spooled(), wire.under_way(), wire.desk.taken) == ([], 0, [])


def test_a_stop_waits_for_what_an_upload_has_handed_on(wire):
    """Also where its client is gone."""
    odd = Odd()
    odd.left = Deferred()
    wire.desk.make = lambda headers: odd
    connection, _ = wire.connect()
    connection.dataReceived(post(b"some", Content_Length="1000"))
    connection.connectionLost()
    stopped = []
    wire.reception.stop().addCallback(stopped.append)
    wire.clock.advance(1)
    assert stopped == []
    odd.left.callback(None)
    wire.clock.advance(1)
    assert stopped == [None]


def test_a_stop_within_a_body(wire):
    """503, and nothing is handed on, even where the rest comes a moment later."""
    connection, transport = wire.connect()
    connection.dataReceived(post(BIG)[:200_000])
    stopped = []
    wire.reception.stop().addCallback(stopped.append)
    connection.dataReceived(post(BIG)[200_000:])
    wire.clock.advance(0)
    wire.clock.advance(0)
    ((status, _, head),) = answers(transport)
    assert (status, "Retry-After" in head, stopped) == (503, True, [None])
    assert wire.desk.taken == []


def test_a_stop_while_a_body_goes_to_the_disk(wire):
    """It is let go of: nobody else would."""
    waiting = []

    def later(function):
        done = Deferred()
        waiting.append((done, function))
        return done

    wire.reception.in_thread = later
    connection, transport = wire.connect()
    connection.dataReceived(post(BIG))
    wire.reception.stop()
    ((done, finish),) = waiting
    ref = finish()
    done.callback(ref)
    assert (answers(transport)[0][0], wire.desk.taken, wire.unspooled) == (503, [], [ref])


def test_an_answer_waits_and_the_client_is_not_read(wire):
    """Until it is there: what comes meanwhile stays on the wire."""
    later = Deferred()
    wire.desk.take = lambda body: later
    connection, transport = wire.connect()
    connection.dataReceived(post(b"x") + post(b"y"))
    assert (transport.value(), transport.producerState, wire.under_way()) == (b"", "paused", 2)
    wire.desk.take = lambda body: Answer(200, [body])
    later.callback(Answer(200, [b"first"]))
    assert ([body for _, body, _ in answers(transport)], transport.producerState) == ([b"first", b"y"], "producing")


def test_a_body_has_its_time(tmp_path):
    """One that comes on steadily is given `complete_within`, and no more."""
    wire = Wire(tmp_path, complete_within=35)
    connection, transport = wire.connect()
    wire.desk.make = lambda headers: Odd()
    connection.dataReceived(post(b"some", Content_Length="99999999"))
    for _ in range(3):
        connection.dataReceived(bytes(LEAST))
        wire.clock.advance(10)
        assert transport.value() == b""
    connection.dataReceived(bytes(LEAST))
    wire.clock.advance(4)
    assert transport.value() == b""
    wire.clock.advance(1)
    assert answers(transport)[0][0] == 408
    assert wire.under_way() == 0


def test_what_we_are_waited_for_does_not_count(tmp_path):
    """An upload that is full is not held against its client."""
    wire = Wire(tmp_path, complete_within=35)
    odd = Odd(ended=Answer(204))
    wire.desk.make = lambda headers: odd
    connection, transport = wire.connect()
    odd.full = True
    connection.dataReceived(post(b"some", Content_Length="8"))
    assert transport.producerState == "paused"
    wire.clock.pump([10] * 20)
    assert transport.value() == b""
    odd.full = False
    odd.wake()
    assert transport.producerState == "producing"
    connection.dataReceived(b"more")
    assert answers(transport)[0][0] == 204
