"""Content codings: any chunking gives the same body, and nothing gives more than is allowed."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import FramingError
from engine.http_coding import GRACE, decoder
from tests.contracts.framer_contract import CUTS, chunked

GZIP = {"content-encoding": "gzip"}
CONTENT = st.binary(max_size=3000) | st.integers(0, 600_000).map(bytes)


def undone(chunks, headers=GZIP, most=1 << 20, **limits):
    undoing = decoder(headers, most, **limits)
    pieces = [piece for chunk in chunks for piece in undoing.feed(chunk)]
    undoing.finish()
    assert all(len(piece) <= 256 << 10 for piece in pieces)
    return b"".join(pieces)


def pieces(undoing, chunks):
    """The size of each piece."""
    return (len(piece) for chunk in chunks for piece in undoing.feed(chunk))


@given(CONTENT, st.integers(0, 9), CUTS)
def test_any_chunking_gives_the_same_body(content, level, cuts):
    assert undone(chunked(gzip.compress(content, level), cuts)) == content


@given(CONTENT, st.data())
def test_a_body_that_is_cut_short_is_told(content, data):
    whole = gzip.compress(content)
    with pytest.raises(FramingError) as refused:
        undone([whole[: data.draw(st.integers(0, len(whole) - 1))]])
    assert refused.value.reply_hint == "400"


@given(st.binary(max_size=300), CUTS, st.booleans())
def test_garbage_raises_nothing_but_framing_errors(garbage, cuts, begins_well):
    try:
        undone(chunked((gzip.compress(b"x")[:10] if begins_well else b"") + garbage, cuts))
    except FramingError as error:
        assert error.reply_hint in ("400", "413")


@given(st.integers(0, 5000), CUTS)
def test_no_more_comes_out_than_is_allowed(most, cuts):
    """A byte more is refused, in either coding; the limit itself is not."""
    for headers, wrap in ((GZIP, gzip.compress), ({}, bytes)):
        assert undone(chunked(wrap(bytes(most)), cuts), headers, most) == bytes(most)
        given_out = []
        with pytest.raises(FramingError) as refused:
            given_out.extend(pieces(decoder(headers, most), chunked(wrap(bytes(most + 1)), cuts)))
        assert (refused.value.reply_hint, sum(given_out) <= most) == ("413", True)


def test_what_unfolds_too_well_is_refused():
    """Beyond a first megabyte, which costs nothing; unless that is not to be judged."""
    bomb = gzip.compress(bytes(4 * GRACE))
    assert undone([gzip.compress(bytes(GRACE))], most=1 << 30) == bytes(GRACE)
    with pytest.raises(FramingError) as refused:
        undone([bomb], most=1 << 30)
    assert refused.value.reply_hint == "413"
    assert undone([bomb], most=1 << 30, ratio=0) == bytes(4 * GRACE)


@pytest.mark.parametrize("headers", [{"content-length": "1001"}, {"content-length": "1" * 50}, {"content-length": "1001", **GZIP}])
def test_what_says_that_it_is_too_much(headers):
    with pytest.raises(FramingError) as refused:
        decoder(headers, 1000)
    assert refused.value.reply_hint == "413"


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "gzip, identity"])
def test_codings_that_are_not_known(coding):
    with pytest.raises(FramingError) as refused:
        decoder({"content-encoding": coding}, 1000)
    assert refused.value.reply_hint == "415"
