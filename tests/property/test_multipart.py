"""Multipart bodies: any chunking of any parts, and nothing but FramingError for anything else."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import FramingError, LocalProtocolError
from engine.formats.multipart import MultipartFramer, PartBegin, PartContent, PartEnd
from tests.contracts.framer_contract import CUTS, chunked

BOUNDARY = "b1=:?"
# what may look like a delimiter, or like the beginning of one
TRICKY = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"\r\n", b"\r\n-", b"\r\n--", b"\r\n--b", b"\r\n--b1=:", b"--b1=:?", b"x", b"\0"]), max_size=30
).map(b"".join)
CONTENT = st.one_of(TRICKY, st.binary(max_size=3000)).filter(lambda content: b"--b1=:?" not in content)
HEADERS = st.dictionaries(st.sampled_from(["content-type", "content-location", "x-a"]), st.sampled_from(["application/dicom", "a b", ""]))


def wire(parts, preamble=b"", epilogue=b"", padding=b""):
    cut = b"".join(
        b"\r\n--%b%b\r\n%b\r\n%b"
        % (BOUNDARY.encode(), padding, b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items()), content)
        for headers, content in parts
    )
    text = preamble + cut + b"\r\n--%b--" % BOUNDARY.encode() + epilogue
    return text if preamble else text.removeprefix(b"\r\n")


def parts_of(chunks, **limits):
    framer = MultipartFramer(BOUNDARY, **limits)
    found, inside = [], False
    for chunk in chunks:
        for event in framer.feed(chunk):
            if isinstance(event, PartBegin):
                assert not inside
                found.append((dict(event.headers), bytearray()))
                inside = True
            elif isinstance(event, PartContent):
                assert inside
                assert event.content
                found[-1][1].extend(event.content)
            else:
                assert isinstance(event, PartEnd)
                inside = False
    framer.finish()
    assert not inside
    return [(headers, bytes(content)) for headers, content in found]


@given(
    st.lists(st.tuples(HEADERS, CONTENT), min_size=1, max_size=6),
    CUTS,
    st.sampled_from([b"", b"this is ignored\r\n"]),
    st.sampled_from([b"", b" \t"]),
)
def test_any_chunking_gives_the_same_parts(parts, cuts, preamble, padding):
    """Whatever is in the contents, also what nearly is a delimiter; the epilogue does not matter."""
    stream = wire(parts, preamble, b"\r\nepilogue", padding)
    assert parts_of(chunked(stream, cuts)) == parts


@given(st.lists(st.tuples(HEADERS, CONTENT), min_size=1, max_size=6), CUTS, st.sampled_from([b"", b"this is ignored\r\n"]))
def test_the_contents_can_be_looked_up_in_the_body(parts, cuts, preamble):
    """Where each begins, and how many bytes it has, in any chunking."""
    stream = wire(parts, preamble, b"\r\nepilogue")
    framer = MultipartFramer(BOUNDARY)
    events = [event for chunk in chunked(stream, cuts) for event in framer.feed(chunk)]
    starts = [event.start for event in events if isinstance(event, PartBegin)]
    sizes = [event.size for event in events if isinstance(event, PartEnd)]
    assert [stream[start : start + size] for start, size in zip(starts, sizes, strict=True)] == [content for _, content in parts]


@given(CUTS)
def test_folded_header_fields(cuts):
    """One field where that is allowed, refused where not."""
    stream = b'--b1=:?\r\nContent-Type: application/xop+xml;\r\n\ttype="text/xml"\r\nContent-ID: <a@b>\r\n\r\nx\r\n--b1=:?--'
    headers = {"content-type": 'application/xop+xml; type="text/xml"', "content-id": "<a@b>"}
    assert parts_of(chunked(stream, cuts), folded=True) == [(headers, b"x")]
    with pytest.raises(FramingError):
        parts_of(chunked(stream, cuts))


def test_one_byte_at_a_time():
    """The finest cut there is."""
    parts = [({"content-type": "application/dicom"}, b"a\r\n--b1=:\r\r\n"), ({}, b""), ({"x-a": ""}, b""), ({}, b"\r\n")]
    stream = wire(parts)
    assert parts_of([stream[at : at + 1] for at in range(len(stream))]) == parts


@given(st.lists(st.one_of(st.binary(max_size=40), TRICKY, st.just(b"\r\n--b1=:?"), st.just(b"\r\n\r\n")), max_size=30))
def test_garbage_raises_nothing_but_framing_errors(chunks):
    """Whatever comes."""
    try:
        parts_of(chunks, most_head=200, most_parts=5)
    except FramingError:
        pass


@given(st.lists(st.tuples(HEADERS, CONTENT), min_size=1, max_size=3), st.data())
def test_a_body_that_is_cut_short_is_told(parts, data):
    """A part whose delimiter is missing is never taken for complete."""
    stream = wire(parts)
    end = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(FramingError):
        parts_of([stream[:end]])


def test_content_is_given_on_as_it_comes():
    """What is held back is shorter than a delimiter, whatever the size of the part."""
    framer = MultipartFramer(BOUNDARY)
    list(framer.feed(b"--b1=:?\r\n\r\n"))
    given_on = sum(len(event.content) for _ in range(1000) for event in framer.feed(b"\r\n--b1" * 200))
    assert 1000 * 200 * 6 - given_on < 20


@pytest.mark.parametrize(
    ("stream", "limits"),
    [
        (b"--b1=:?x\r\n\r\n", {}),  # a line that begins as the delimiter does
        (b"--b1=:? x\r\n\r\n", {}),
        (b"--b1=:?" + b" " * 100, {}),
        (b"x" * 300, {"most_head": 200}),  # no delimiter in sight
        (b"--b1=:?\r\n" + b"a: b\r\n" * 60 + b"\r\n", {"most_head": 200}),
        (b"--b1=:?\r\n" + b"".join(b"a%d: b\r\n" % number for number in range(30)) + b"\r\n", {}),
        (b"--b1=:?\r\na: b\r\na: c\r\n\r\n", {}),  # twice the same field
        (b"--b1=:?\r\na : b\r\n\r\n", {}),
        (b"--b1=:?\r\na: b\r\n c\r\n\r\n", {}),  # folded
        (b"--b1=:?\r\na: b\r\n--b1=:?\r\n\r\n", {}),  # ends within its header
        (b"--b1=:?\r\n\r\n\r\n" * 4, {"most_parts": 3}),
    ],
)
def test_what_two_readers_could_see_differently_is_refused(stream, limits):
    """And what is too much."""
    with pytest.raises(FramingError) as refused:
        list(MultipartFramer(BOUNDARY, **limits).feed(stream))
    assert refused.value.reply_hint in ("400", "413")


@pytest.mark.parametrize("boundary", ["", "x" * 201, "ends with a space ", "line\r\nend", "ünicode", 'quo"te'])
def test_a_boundary_is_one_of_rfc_2046(boundary):
    """Clause 5.1.1."""
    with pytest.raises(FramingError):
        MultipartFramer(boundary)


def test_what_contains_the_delimiter_cannot_be_wrapped():
    """Our own fault, before a byte leaves."""
    framer = MultipartFramer(BOUNDARY)
    assert parts_of([framer.wrap(b"one"), framer.wrap(b""), framer.close()]) == [({}, b"one"), ({}, b"")]
    with pytest.raises(LocalProtocolError):
        framer.wrap(b"a\r\n--b1=:?")


@given(st.lists(st.tuples(HEADERS, CONTENT), min_size=1, max_size=3), CUTS)
def test_what_was_complete_before_a_fault_is_given_in_any_chunking(parts, cuts):
    """So that what becomes of an instance does not depend on how the network cut the request."""
    stream = wire(parts).removesuffix(b"--") + b"garbage"
    framer, complete, broken = MultipartFramer(BOUNDARY), 0, False
    try:
        for chunk in chunked(stream, cuts):
            for event in framer.feed(chunk):
                complete += isinstance(event, PartEnd)
    except FramingError:
        broken = True
    assert (complete, broken) == (len(parts), True)


def test_a_line_of_blanks_costs_no_more_than_its_length():
    """Whatever comes after them."""
    began = time.process_time()
    with pytest.raises(FramingError):
        list(MultipartFramer("b").feed(b"--b\r\nA:" + b" " * 1500 + b"\n\r\n\r\n"))
    assert time.process_time() - began < 0.2
