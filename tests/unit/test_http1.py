"""HTTP/1.1 framing: what is read, what is refused, with which status."""

import time
from contextlib import suppress

import pytest

from engine.errors import FramingError
from engine.http1 import HttpFramer, head


def request(wire, **limits):
    return HttpFramer(responses=False, **{"most_body": 1000, **limits}).feed(wire)


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"hello\r\n\r\n", "400"),
        (b"GET / HTTP/2\r\n\r\n", "400"),
        (b"GET /a b HTTP/1.1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "400"),
        (b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", "400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1 2\r\n\r\nabc", "400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3,\r\n\r\nabc", "400"),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", "400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 300, "400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", "413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", "413"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", "431"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 20000, "431"),
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(wire, status):
    """Request smuggling begins where a reader is lenient (RFC 9112 11.2)."""
    with pytest.raises(FramingError) as caught:
        request(wire)
    assert caught.value.reply_hint == status


def test_a_line_of_blanks_costs_no_more_than_its_length():
    """It is read on the reactor thread: an expression that tries every way to leave blanks out would hold the node for an hour."""
    for line in (b"A:" + b" " * 1500 + b"\n", b"A: b" + b" " * 15_000 + b"c"):
        began = time.process_time()
        with suppress(FramingError):
            request(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")
        assert time.process_time() - began < 0.2
    (message,) = request(b"GET / HTTP/1.1\r\nA: \t b  c\t \r\n\r\n")
    assert message.headers == {"a": "b  c"}


def test_a_content_length_with_zeros_before_it():
    """Not what is left when a long number is cut: the rest of the body would be read as another request."""
    wire = b"POST / HTTP/1.1\r\nContent-Length: 0000000000000000000000003\r\n\r\nabc"
    assert request(wire)[0].body == b"abc"
    with pytest.raises(FramingError) as caught:
        request(b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
    assert caught.value.reply_hint == "413"


def test_equal_content_lengths_are_one():
    assert request(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc")[0].body == b"abc"


@pytest.mark.parametrize(
    ("lines", "keep"),
    [
        (b"HTTP/1.1\r\n", True),
        (b"HTTP/1.1\r\nConnection: Close\r\n", False),
        (b"HTTP/1.0\r\n", False),
        (b"HTTP/1.0\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_whether_a_connection_goes_on(lines, keep):
    assert request(b"GET / " + lines + b"\r\n")[0].keep_alive is keep


def test_the_sender_that_waits_for_continue_is_seen():
    framer = HttpFramer(responses=False, most_body=10)
    assert framer.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n") == []
    assert framer.expects_continue
    assert framer.feed(b"ok")[0].body == b"ok"
    assert framer.idle


def test_interim_responses_are_passed_over():
    """100 and 103 come before the answer."""
    framer = HttpFramer(responses=True, most_body=10)
    wire = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"
    (message,) = framer.feed(wire)
    assert (message.start[1], message.body) == ("201", b"ok")


def test_a_204_has_no_body():
    framer = HttpFramer(responses=True, most_body=10)
    assert len(framer.feed(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")) == 2


def test_a_response_without_length_ends_with_the_connection():
    framer = HttpFramer(responses=True, most_body=10)
    assert framer.feed(b"HTTP/1.1 200 OK\r\n\r\nab") == []
    assert framer.feed(b"c") == []
    (message,) = framer.finish()
    assert (message.body, message.keep_alive) == (b"abc", False)


def test_a_message_cut_in_two_is_an_error():
    framer = HttpFramer(responses=True, most_body=10)
    framer.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
    with pytest.raises(FramingError):
        framer.finish()


def test_a_header_value_cannot_begin_another_header():
    """Values may come from messages; a line end in one would be header injection."""
    assert head("GET / HTTP/1.1", {"A": "x\r\nB: y"}) == b"GET / HTTP/1.1\r\nA: x  B: y\r\n\r\n"
