"""HTTP/1.1 framing: any chunking of the same bytes gives the same messages."""

from hypothesis import given
from hypothesis import strategies as st

from engine.errors import FramingError
from engine.http1 import HttpFramer, head

bodies = st.binary(max_size=300)


def length_framed(body):
    return head("POST /fhir HTTP/1.1", {"Host": "h", "Content-Length": str(len(body))}) + body


@st.composite
def chunked(draw):
    parts = draw(st.lists(st.binary(min_size=1, max_size=60), max_size=4))
    wire = head("POST /fhir HTTP/1.1", {"Transfer-Encoding": "chunked"})
    wire += b"".join(b"%x%b\r\n%b\r\n" % (len(part), draw(st.sampled_from([b"", b";x=1"])), part) for part in parts)
    return wire + b"0\r\n" + draw(st.sampled_from([b"", b"Trailer: x\r\n"])) + b"\r\n", b"".join(parts)


requests = st.lists(bodies.map(lambda body: (length_framed(body), body)) | chunked(), max_size=4)


@given(requests, st.data())
def test_any_chunking_gives_the_same_messages(sent, data):
    """Pipelined requests, with lengths and with chunks, cut anywhere."""
    stream = b"".join(wire for wire, _ in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    framer = HttpFramer(responses=False, most_body=1 << 20)
    messages = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        messages += framer.feed(stream[start:end])
    framer.finish()
    assert [message.body for message in messages] == [body for _, body in sent]


@given(requests, st.data())
def test_a_sink_hears_what_would_have_been_collected(sent, data):
    """Any chunking; bodies longer than may be collected too, and messages without a sink among them."""
    stream = b"".join(wire for wire, _ in sent)
    heard, count = {}, iter(range(len(sent)))

    def begin(start, headers):
        assert start == ("POST", "/fhir", "HTTP/1.1")
        assert "content-length" in headers or "transfer-encoding" in headers
        number = next(count)
        return heard.setdefault(number, []).append if number % 2 == 0 else None

    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    framer = HttpFramer(responses=False, most_body=300 * 4, begin=begin)
    messages = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        messages += framer.feed(stream[start:end])
    framer.finish()
    bodies = [b"".join(heard.get(number, [])) or message.body for number, message in enumerate(messages)]
    assert bodies == [body for _, body in sent]
    assert all(message.body == b"" for message in messages[::2])


def test_a_sink_is_not_limited_and_may_refuse():
    """It counts for itself."""
    heard = []
    wire = b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n123456789"
    (message,) = HttpFramer(responses=False, most_body=1, begin=lambda start, headers: heard.append).feed(wire)
    assert (message.body, heard) == (b"", [b"123456789"])
    (message,) = HttpFramer(responses=True, most_body=1, begin=lambda start, headers: heard.append).feed(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
    )
    assert heard[1:] == [b"abcd"]


@given(st.binary(max_size=400), st.booleans(), st.integers(1, 50))
def test_garbage_is_refused_or_waited_for_and_never_breaks_the_framer(garbage, responses, step):
    """Only FramingError comes out, whatever comes in."""
    framer = HttpFramer(responses=responses, most_body=100, most_head=200)
    try:
        for start in range(0, len(garbage), step):
            framer.feed(garbage[start : start + step])
        framer.finish()
    except FramingError as error:
        hint = error.reply_hint
    else:
        hint = "200"
    assert hint.isdecimal()
