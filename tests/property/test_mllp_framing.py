"""MLLP framing under any chunking, and under garbage."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from adapters.mllp.framing import END, START, Frame, MllpFramer
from engine.errors import FramingError

contents = st.lists(
    st.binary(min_size=1, max_size=60).filter(lambda b: START not in b and END not in b and not b.endswith(b"\x1c")), max_size=6
)


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at `cuts`."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


@given(contents, st.lists(st.integers(0, 10_000), max_size=30), st.sampled_from([b"", b"\r\n", b"\x00"]))
def test_any_chunking_gives_the_same_frames(messages: list[bytes], cuts: list[int], between: bytes) -> None:
    """What is wrapped comes out, however the bytes are cut, with keep-alive bytes between frames or without."""
    framer = MllpFramer()
    stream = between.join(framer.wrap(message) for message in messages)
    frames = [frame for chunk in chunked(stream, cuts) for frame in framer.feed(chunk)]
    assert frames == [Frame(message) for message in messages]
    assert framer.finish() == b""


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([START, END, START + b"x" + END, b"\x1c"])), max_size=30))
def test_garbage_is_framed_refused_or_kept(chunks: list[bytes]) -> None:
    """Nothing but FramingError comes out of it, memory stays within the limit, and any two chunkings agree."""

    def run(pieces: list[bytes]) -> list[object]:
        framer, seen = MllpFramer(64), []
        try:
            for piece in pieces:
                seen += framer.feed(piece)
                assert len(framer.rest) <= 64 + 4096 + 2
            seen.append(framer.finish())
        except FramingError as error:
            seen.append(error.text)
        return seen

    whole = b"".join(chunks)
    one_by_one = run([whole[i : i + 1] for i in range(len(whole))])
    assert [f for f in run(chunks) if isinstance(f, Frame)] == [f for f in one_by_one if isinstance(f, Frame)] or len(whole) > 64
