"""When the commit process is given its groups; that they get to the disk is the store's contract suite's matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from engine.store.commit_process import CommitProcess
from engine.store.group_commit import LINGER


class Recorder(CommitProcess):
    """Its child is this test: `sent` has the works of each group, `answer` tells the outcome of the oldest."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sent: list[list[str]] = []
        super().__init__(Path(), 1000, 0, self.clock, lambda ids: None)

    def spawn(self, *_: Any, **__: Any) -> None:
        pass

    def send(self, value: Any) -> None:
        self.sent.append([work for work, *_ in value])

    def answer(self) -> None:
        self.heard(([None] * len(self._groups[0]), {}))


class CommitProcessTests(TestCase):
    def setUp(self) -> None:
        self.process = Recorder()
        self.process.start()

    def test_a_settlement_whose_time_came_while_a_group_was_under_way(self) -> None:
        """Nobody calls any more, and yet it goes to the disk."""
        self.process.submit("accept", None)
        settled = [self.process.submit("end", None, urgent=False) for _ in range(2)]
        self.process.clock.advance(LINGER)
        assert self.process.sent == [["accept"]]
        self.process.answer()
        self.process.clock.advance(LINGER)
        assert self.process.sent == [["accept"], ["end", "end"]]
        self.process.answer()
        assert [self.successResultOf(one) for one in settled] == [None, None]

    def test_settlements_ride_along(self) -> None:
        """With the next message that comes, so that they cost no commit of their own."""
        self.process.submit("end", None, urgent=False)
        self.process.submit("accept", None)
        assert self.process.sent == [["end", "accept"]]
