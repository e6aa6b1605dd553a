"""What every framer must do (engine.contracts.Framer): mix into a TestCase, and give it a framer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import FramingError, LocalProtocolError


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at `cuts`, taken modulo its length."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(places)]


CUTS = st.lists(st.integers(0, 100_000), max_size=40)


class FramerContract:
    """`make` gives a new framer; `payload` is a frame's content; `cannot_be_wrapped` are contents that would break the framing."""

    payloads: ClassVar[list[bytes]] = [b"one", b"two two", b"x" * 3000]
    cannot_be_wrapped: ClassVar[list[bytes]] = []

    def make(self) -> Any:
        raise NotImplementedError

    def payload(self, frame: Any) -> bytes:
        raise NotImplementedError

    def cut(self, chunks: list[bytes]) -> list[bytes]:
        framer = self.make()
        frames = [self.payload(frame) for chunk in chunks for frame in framer.feed(chunk)]
        framer.finish()
        return frames

    @settings(suppress_health_check=[HealthCheck.differing_executors])  # one for each class that is held to this
    @given(CUTS)
    def test_any_chunking_gives_the_same_frames(self, cuts: list[int]) -> None:
        """Every cut of the same bytes, also one byte at a time."""
        wrap = self.make().wrap
        stream = b"".join(map(wrap, self.payloads))
        self.assertEqual(self.cut(chunked(stream, cuts)), self.payloads)  # type: ignore[attr-defined]

    def test_one_byte_at_a_time(self) -> None:
        """The finest cut there is."""
        stream = b"".join(map(self.make().wrap, self.payloads))
        self.assertEqual(self.cut([stream[at : at + 1] for at in range(len(stream))]), self.payloads)  # type: ignore[attr-defined]

    @settings(suppress_health_check=[HealthCheck.differing_executors])  # one for each class that is held to this
    @given(st.lists(st.binary(max_size=60), max_size=20))
    def test_garbage_raises_nothing_but_framing_errors(self, chunks: list[bytes]) -> None:
        """Whatever comes, no other exception leaves a framer."""
        framer = self.make()
        try:
            for chunk in chunks:
                framer.feed(chunk)
            framer.finish()
        except FramingError:
            pass

    def test_an_end_inside_a_frame_is_told(self) -> None:
        """A frame that was cut in two is an error at the end of the stream, not a silence."""
        framer = self.make()
        framer.feed(framer.wrap(self.payloads[-1])[:-1])
        self.assertRaises(FramingError, framer.finish)  # type: ignore[attr-defined]

    def test_an_end_between_frames_is_none(self) -> None:
        """Nothing was lost, so nothing is said."""
        framer = self.make()
        framer.feed(framer.wrap(self.payloads[0]))
        framer.finish()

    def test_what_cannot_be_framed_is_our_own_fault(self) -> None:
        """LocalProtocolError before a byte leaves."""
        for content in self.cannot_be_wrapped:
            self.assertRaises(LocalProtocolError, self.make().wrap, content)  # type: ignore[attr-defined]
