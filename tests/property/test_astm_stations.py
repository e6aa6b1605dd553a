"""Two stations on one line that flips and loses bytes, or doubles frames: every message arrives once, whatever happens, and nothing hangs.

Not both: a sender cannot know whether an ACK is for the first or the second copy of a frame, so that a line which doubles one frame and
spoils the last one deceives any sender that follows the standard.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.astm.link import Answer, Complete
from adapters.astm.sending import NotTaken, Taken
from adapters.astm.station import Station
from tests.support.astm_instrument import content

SPOILED = st.sampled_from(["flip", "lose", "split", "noise"])
DOUBLED = st.sampled_from(["double", "split"])


def spoils(kinds: st.SearchStrategy[str]) -> st.SearchStrategy[dict[int, str]]:
    return st.dictionaries(st.integers(0, 60), kinds, max_size=12)


TIME_LIMIT = 4 * 3600.0


class Side:
    """One end: it offers its messages until they are taken, and keeps what comes, once."""

    def __init__(self, role: str, messages: list[bytes]) -> None:
        self.station = Station(role=role)
        self.to_send = messages
        self.kept: list[bytes] = []
        self.taken: set[int] = set()


class World:
    """A line with a clock. `spoils`: what happens to the n-th transmission."""

    def __init__(self, sides: tuple[Side, Side], spoils: dict[int, str]) -> None:
        self.sides, self.spoils = sides, spoils
        self.now, self.count, self.transmissions = 0.0, 0, 0
        self.events: list[tuple[float, int, Any]] = []
        self.turns: dict[tuple[int, str], int] = {}
        self.arrived = [0.0, 0.0]

    def at(self, when: float, call: Any) -> None:
        self.count += 1
        heappush(self.events, (when, self.count, call))

    def run(self) -> None:
        for index, side in enumerate(self.sides):
            for number, message in enumerate(side.to_send):
                self.carry_out(index, side.station.offer(message, number))
        while self.events:  # what is under way when all is taken still arrives
            self.now, _, call = heappop(self.events)
            assert self.now < TIME_LIMIT, "the line hangs"
            call()

    def carry_out(self, index: int, steps: Any) -> None:
        side = self.sides[index]
        for step in steps:
            if isinstance(step, Answer):
                self.transmit(index, step.data)
            elif isinstance(step, Complete):
                side.kept += [message for message in step.messages if message not in side.kept]
                self.carry_out(index, side.station.kept(True))
            elif isinstance(step, Taken):
                side.taken.add(step.tag)
            elif isinstance(step, NotTaken):
                self.at(self.now + 30.0, lambda tag=step.tag: self.carry_out(index, side.station.offer(side.to_send[tag], tag)))
        self.wait(index, "receiver", side.station.receiver.patience, side.station.receiver_late)
        self.wait(index, "sender", side.station.sender.patience, side.station.sender_late)

    def wait(self, index: int, name: str, patience: float | None, late: Any) -> None:
        key = (index, name)
        if name == "sender" and self.turns.get(key, 0) == self.sides[index].station.sender.turn:
            return
        turn = self.turns[key] = self.sides[index].station.sender.turn if name == "sender" else self.turns.get(key, 0) + 1
        if patience is not None:
            self.at(self.now + patience, lambda: self.carry_out(index, late()) if self.turns[key] == turn else None)

    def transmit(self, index: int, data: bytes) -> None:
        spoil = self.spoils.get(self.transmissions)
        self.transmissions += 1
        chunks = {
            "flip": [bytes([data[0]]) + bytes([data[len(data) // 2] ^ 1]) + data[2:] if len(data) > 2 else b"\x7f"],
            "lose": [],
            "double": [data, data] if len(data) > 1 else [data],
            "split": [data[n : n + 1] for n in range(len(data))],
            "noise": [b"\xfe", data],
        }.get(spoil or "", [data])
        other = 1 - index
        for number, chunk in enumerate(chunks):  # on a line nothing overtakes what was sent before
            self.arrived[other] = max(self.now + 0.01 + 0.001 * number, self.arrived[other])
            self.at(self.arrived[other], lambda chunk=chunk: self.carry_out(other, self.sides[other].station.feed(chunk)))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3), st.integers(0, 3), spoils(SPOILED) | spoils(DOUBLED))
def test_every_message_arrives_once(host_sends: int, instrument_sends: int, spoiled: dict[int, str]) -> None:
    host = Side("host", [content(f"H|\\^&|h{n}", "O|1|S1", "L|1|N") for n in range(host_sends)])
    instrument = Side("instrument", [content(f"H|\\^&|i{n}", "R|1|x|1", "L|1|N") for n in range(instrument_sends)])
    World((host, instrument), spoiled).run()
    assert sorted(instrument.kept) == sorted(host.to_send)
    assert sorted(host.kept) == sorted(instrument.to_send)
