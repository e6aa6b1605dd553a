"""Both ends of one half-duplex line: a `Receiver`, a `Sender`, and the messages that wait for the line to be free. Pure.

What comes in belongs to the sender while it speaks, else to the receiver. A message that lost the contention, or met a busy receiver,
stays at the head of what waits and is bid for again; what is told as NotTaken is for whoever offered it to offer again.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from adapters.astm.link import ACK, ENQ, EOT, NAK, Fault, Limits, Receiver, State, Step
from adapters.astm.sending import SHORT_TEXT, NotTaken, Sender, SendingState, SendingStep, Taken, check_sendable

_ANSWERS: Final = ACK + NAK + ENQ + EOT
StationStep = Step | SendingStep


class Station:
    """One line. Every method gives steps, to be carried out in their order."""

    def __init__(self, limits: Limits | None = None, role: str = "host", size: int = SHORT_TEXT) -> None:
        self.receiver = Receiver(limits)
        self.sender = Sender(role, size)
        self._waiting: deque[tuple[bytes, Any]] = deque()

    def offer(self, message: bytes, tag: Any = None) -> list[StationStep]:
        """Send a message when the line is free. Raises LocalProtocolError for bytes that cannot be sent."""
        check_sendable(message)
        self._waiting.append((message, tag))
        return self._begin()

    def feed(self, data: bytes) -> list[StationStep]:
        """Bytes have come."""
        steps: list[StationStep] = []
        at = 0
        while at < len(data) and self.sender.speaks:
            byte = data[at : at + 1]
            at += 1
            if byte in _ANSWERS:
                steps += self._settled(self.sender.heard(byte))
            elif Fault("noise") not in steps:
                steps.append(Fault("noise"))
        if at < len(data):
            steps += self.receiver.feed(data[at:])
        return [*steps, *self._begin()]

    def kept(self, positive: bool, *, again: bool = True) -> list[StationStep]:
        """See Receiver.kept."""
        return [*self.receiver.kept(positive, again=again), *self._begin()]

    def receiver_late(self) -> list[StationStep]:
        return [*self.receiver.late(), *self._begin()]

    def sender_late(self) -> list[StationStep]:
        return [*self._settled(self.sender.late()), *self._begin()]

    def lost(self) -> list[StationStep]:
        """The line is gone: nothing that waits will be sent."""
        steps: list[StationStep] = [*self.receiver.lost(), *self._settled(self.sender.lost())]
        steps += [NotTaken(tag, "the line was lost") for _, tag in self._waiting]
        self._waiting.clear()
        return steps

    def _begin(self) -> list[StationStep]:
        if not self._waiting or self.sender.state is not SendingState.IDLE or self.receiver.state is not State.NEUTRAL:
            return []
        message, tag = self._waiting[0]
        return [*self.sender.begin(message, tag)]

    def _settled(self, steps: list[SendingStep]) -> list[SendingStep]:
        """A message leaves what waits once its fate is known."""
        for step in steps:
            if isinstance(step, Taken | NotTaken):
                self._waiting.popleft()
        return steps
