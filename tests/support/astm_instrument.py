"""A laboratory instrument as LIS01-A2 clause 6 has it, on a line that the test can spoil. No socket, no clock: a time limit that the
standard gives the sender is an answer that does not come."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from adapters.astm.link import ACK, ENQ, EOT, Answer, Complete, Fault, Incomplete, Receiver, Step, frame

RECORDS = (
    "H|\\^&|77||cobas^6000|||||LIS||P|1|20261124081500",
    "P|1|P1|L1||王^小明||19800101|M",
    "O|1|S1||^^^GLU|R||20261124080000",
    "R|1|^^^GLU|5.4|mmol/L|3.9^6.1|N||F||||20261124081400|D1",
    "L|1|N",
)

Spoil = Callable[[int, bytes], list[bytes]]
"""What becomes of the n-th transmission (from 0) of one side: chunks, in their order; none where it is lost."""


def content(*records: str, charset: str = "utf-8") -> bytes:
    """A message as it is kept."""
    return "".join(record + "\r" for record in records or RECORDS).encode(charset)


def frames(message: bytes, size: int = 240) -> Iterator[bytes]:
    """One record a frame, longer ones in several."""
    number = 0
    for record in message.splitlines(keepends=True):
        for at in range(0, len(record), size):
            number += 1
            yield frame(number, record[at : at + size], last=at + size >= len(record))


def clean(number: int, data: bytes) -> list[bytes]:
    return [data]


class Line:
    """A `Receiver` with a store behind it that knows a message that it has: what is kept in it is kept once."""

    def __init__(self, to_host: Spoil = clean, to_instrument: Spoil = clean) -> None:
        self.receiver = Receiver()
        self.kept: list[bytes] = []
        self.incomplete: list[bytes] = []
        self.faults: list[str] = []
        self.taken_by_store = 0
        self.store_takes: Callable[[int], bool] = lambda attempt: True
        self._to_host, self._to_instrument = to_host, to_instrument
        self._sent = self._answered = 0
        self._heard = b""

    def send(self, data: bytes) -> bytes:
        """What the instrument hears of it, b"" for nothing in time."""
        chunks, self._sent = self._to_host(self._sent, data), self._sent + 1
        for chunk in chunks:
            self.carry_out(self.receiver.feed(chunk))
        heard, self._heard = self._heard, b""
        return heard

    def carry_out(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Answer):
                self._heard += b"".join(self._to_instrument(self._answered, step.data))
                self._answered += 1
            elif isinstance(step, Complete):
                self._keep(step)
            elif isinstance(step, Incomplete):
                self.incomplete.append(step.content)
            elif isinstance(step, Fault):
                self.faults.append(step.kind)

    def _keep(self, step: Complete) -> None:
        takes = self.store_takes(self.taken_by_store)
        self.taken_by_store += 1
        if takes:
            self.kept += [message for message in step.messages if message not in self.kept]
        self.carry_out(self.receiver.kept(takes))


class Instrument:
    """Sends until it is told that it was heard; `transfers` counts how often it had to begin."""

    TRIES = 7  # the first, and six repetitions (clause 6.5.1.2)

    def __init__(self, line: Line, size: int = 240) -> None:
        self._line, self._size = line, size
        self.transfers = 0

    def send(self, message: bytes) -> None:
        for _ in range(10):
            self.transfers += 1
            if self._transfer(message):
                return
        raise AssertionError("the instrument gave up")

    def _transfer(self, message: bytes) -> bool:
        if self._line.send(ENQ)[-1:] != ACK:
            return False
        good = all(self._frame(data) for data in frames(message, self._size))
        self._line.send(EOT)
        return good

    def _frame(self, data: bytes) -> bool:
        for _ in range(self.TRIES):
            answer = self._line.send(data)[-1:]
            if answer != b"\x15":
                return answer == ACK  # silence: 15 s are over, EOT follows
        return False
