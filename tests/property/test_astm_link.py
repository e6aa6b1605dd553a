"""The line of an instrument under any chunking and any bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.astm.link import ENQ, EOT, Complete, Limits, Receiver, Step
from engine.errors import ParseError
from engine.formats.astm import codec
from tests.contracts.framer_contract import CUTS, chunked
from tests.support.astm_instrument import content, frames

SIGNALS = st.sampled_from([ENQ, EOT, b"\x02", b"\x03", b"\x17", b"\r", b"\n", b"1", b"H|\\^&\r", b"L|1\r", *frames(content())])


def steps_of(chunks: list[bytes]) -> list[Step]:
    receiver, steps = Receiver(Limits(message=4000)), []
    for chunk in chunks:
        found = receiver.feed(chunk)
        while found:
            steps += found
            found = receiver.kept(True) if isinstance(found[-1], Complete) else []
        assert sum(map(len, receiver._records)) + len(receiver._open) <= 4000 >= len(receiver._records)
    return steps


@given(CUTS)
def test_any_chunking_gives_the_same_messages(cuts: list[int]) -> None:
    """Two transfers of two messages each."""
    transfer = ENQ + b"".join(frames(content() * 2)) + EOT
    found = [step for step in steps_of(chunked(transfer * 2, cuts)) if isinstance(step, Complete)]
    assert [message for step in found for message in step.messages] == [content()] * 4


@given(st.lists(st.one_of(SIGNALS, st.binary(max_size=30)), max_size=60))
def test_whatever_comes_nothing_is_raised_and_memory_is_bounded(chunks: list[bytes]) -> None:
    """And what is handed out as a message begins anywhere, but ends with a record L."""
    for step in steps_of(chunks):
        if isinstance(step, Complete):
            assert all(message.split(b"\r")[-2].lstrip(b"\n")[:1] in b"Ll" for message in step.messages)


@given(st.binary(max_size=200))
def test_decoding_is_lossless_or_refused(body: bytes) -> None:
    """encode(decode(x)) is x, whatever the delimiters."""
    for prefix in (b"H|\\^&", b"H@^\\|"):
        try:
            assert codec.decode_with(prefix + body, "latin-1").encode() == prefix + body
        except ParseError as error:
            assert error.location
