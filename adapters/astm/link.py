"""The receiving end of a laboratory instrument's line: ASTM E1381 / CLSI LIS01-A2. Pure; knows no socket, no clock and no store.

What a sender does (clause 6): ENQ, answered ACK; frames ``STX FN text ETB|ETX C1 C2 CR LF``, each answered ACK or NAK; EOT. What comes in
and where the line stands give what is done:

              ENQ                  good frame, next FN     frame repeated   other frame EOT                 30 s, line lost
  NEUTRAL     ACK, TRANSFER        –                       –                –           –                   –
  TRANSFER    roll back, ACK       ACK, or COMMITTING      ACK              NAK         roll back, NEUTRAL  roll back, NEUTRAL
  COMMITTING  what comes waits until the store has spoken: then ACK or NAK, and on
  REFUSING    ACK, TRANSFER        NAK                     NAK              NAK         NEUTRAL             NEUTRAL

Invariants
1. The frame that ends a message (its record L) is answered ACK only when the message is on the disk; so is every frame after it.
   A sender that has given up meanwhile (EOT, ENQ) hears nothing, since it would take a late ACK for the answer to something else.
2. A message without its record L was never received as a whole: it is told as `Incomplete`, and rolls back to its last complete level
   (adapters.astm.levels). Of one that was refused nothing is taken.
3. A repetition has the bytes of the frame before it: one that only has its number is another frame, and would be lost.
4. Any chunking of the same bytes gives the same steps. Memory is bounded by `Limits`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

STX, ETX, EOT, ENQ, ACK, LF, CR, NAK, ETB = b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"\n", b"\r", b"\x15", b"\x17"
RECEIVER_WAITS: Final = 30.0
"""Seconds for the next frame or EOT (clause 6.5.2.4)."""
LONGEST_TEXT: Final = 63_993
"""Characters of a frame's text in LIS01-A2; 240 in E1381."""
_TAIL: Final = 5  # ETX or ETB, checksum, CR, LF
_SIGNAL: Final = re.compile(b"[%b]" % (STX + ETX + EOT + ENQ + ETB))
_BEGINNING: Final = re.compile(b"[%b]" % (STX + ENQ + EOT))


class State(Enum):
    NEUTRAL = auto()
    TRANSFER = auto()
    COMMITTING = auto()
    REFUSING = auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes: one message, and the text of one frame."""

    message: int = 4 << 20
    text: int = LONGEST_TEXT


class Answer(NamedTuple):
    """To be sent."""

    data: bytes


class Complete(NamedTuple):
    """Whole messages, each from H to L. The link does nothing more until `Receiver.kept` says what became of them."""

    messages: tuple[bytes, ...]


class Incomplete(NamedTuple):
    """What came of a message that did not end. `refused`: its sender was told that it is not taken."""

    content: bytes
    reason: str
    refused: bool = False


class Fault(NamedTuple):
    """Something to count: one of FAULTS in adapters.astm.connection."""

    kind: str


Step = Answer | Complete | Incomplete | Fault


def checksum(counted: bytes) -> bytes:
    """Two hex digits of the sum, modulo 256, from the frame number through ETX or ETB (clause 6.3.1.3)."""
    return b"%02X" % (sum(counted) % 256)


def frame(number: int, text: bytes, *, last: bool = True) -> bytes:
    """A frame as it goes onto the line. `number` is taken modulo 8."""
    counted = b"%d%b%b" % (number % 8, text, ETX if last else ETB)
    return STX + counted + checksum(counted) + CR + LF


class Receiver:
    """One line. `feed`, `late`, `lost` and `kept` give steps, to be carried out in their order."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.state = State.NEUTRAL
        self._buffer = bytearray()
        self._scanned = 0  # so much of the buffer has no signal in it but the first
        self._expected = 1
        self._records: list[bytes] = []
        self._open = bytearray()  # a record that goes on in the next frame
        self._size = 0
        self._after: list[bytes] = []  # records that are left when the store has spoken
        self._last = b""  # the frame that was acknowledged last
        self._judged: bytes | None = None  # a frame that was refused for good
        self._told = False  # the store has spoken on what is here: it is no incomplete message

    @property
    def patience(self) -> float | None:
        """Seconds without a byte after which `late` is to be called; None for ever."""
        return RECEIVER_WAITS if self.state in (State.TRANSFER, State.REFUSING) else None

    def feed(self, data: bytes) -> list[Step]:
        """Bytes have come."""
        self._buffer += data
        if self.state is State.COMMITTING:  # a sender that does not wait for its answer sends in vain
            del self._buffer[self._limits.text + 2 + _TAIL :]
        return self._go_on()

    def late(self) -> list[Step]:
        """The sender has been silent for `patience`."""
        return self._end("the sender fell silent before its terminator record")

    def lost(self) -> list[Step]:
        """The line is gone; what the store still has in hand is its own affair."""
        self._drop(len(self._buffer))
        return [] if self.state is State.COMMITTING else self._end("the line was lost before the terminator record")

    def kept(self, positive: bool, *, again: bool = True) -> list[Step]:
        """The messages of the last `Complete` are on the disk, or not. With `again` the sender may try the same frame once more;
        without, a repetition of it is answered NAK at once."""
        self.state = State.TRANSFER
        gave_up = EOT in self._buffer or ENQ in self._buffer
        answer: list[Step] = []
        if positive:
            self._last = self._judged or b""
            self._records = self._after
            self._open = bytearray()
            self._size = sum(len(record) + 1 for record in self._records)
            self._expected = (self._expected + 1) % 8
        self._told = not positive
        if positive or again:
            self._judged = None
        if not gave_up:
            answer = [Answer(ACK if positive else NAK)]
        return answer + self._go_on()

    # --- bytes to events -------------------------------------------------------------------------

    def _go_on(self) -> list[Step]:
        steps: list[Step] = []
        buffer = self._buffer
        while buffer and self.state is not State.COMMITTING:
            signal = bytes(buffer[:1])
            if signal == STX:
                end = self._frame_end()
                if end is None:
                    break
                steps += self._frame(self._drop(end))
                continue
            self._drop(1)
            if signal == ENQ:
                steps += self._enquired()
            elif signal == EOT:
                steps += self._end("the sender ended before its terminator record")
            elif signal not in (CR, LF):
                steps += self._noise()
        return steps

    def _frame_end(self) -> int | None:
        """Where the frame at the buffer's beginning ends, also a broken one; None while more must come."""
        buffer = self._buffer
        found = _SIGNAL.search(buffer, max(1, self._scanned))
        if found is None:
            self._scanned = len(buffer)
            return len(buffer) if len(buffer) > self._limits.text + 2 else None
        at = found.start()
        if found[0] not in (ETX, ETB):
            return at  # another frame or phase begins within it
        if len(buffer) >= at + _TAIL:
            return at + _TAIL
        cut = _BEGINNING.search(buffer, at + 1)  # a checksum that does not come, since something else does
        return cut.start() if cut is not None else None

    def _noise(self) -> list[Step]:
        """Bytes outside of any frame: thrown away, as many as there are, and counted once."""
        found = _BEGINNING.search(self._buffer)
        self._drop(found.start() if found is not None else len(self._buffer))
        return [Fault("noise")]

    def _drop(self, size: int) -> bytes:
        """Take so much from the buffer's beginning."""
        dropped = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._scanned = 0
        return dropped

    # --- events ----------------------------------------------------------------------------------

    def _enquired(self) -> list[Step]:
        steps: list[Step] = []
        if self.state is not State.NEUTRAL:  # it lost its power, or our answer
            steps = [Fault("restart"), *self._end("the sender began anew before its terminator record")]
        self.state, self._expected = State.TRANSFER, 1
        return [*steps, Answer(ACK)]

    def _end(self, reason: str, *, refused: bool = False) -> list[Step]:
        content = CR.join([*self._records, bytes(self._open)])
        incomplete = bool(content.strip()) and not self._told
        self._records, self._open, self._size, self._last, self._judged, self._told = [], bytearray(), 0, b"", None, False
        self.state = State.NEUTRAL
        return [Incomplete(content, reason, refused)] if incomplete else []

    def _frame(self, content: bytes) -> list[Step]:
        if self.state is State.NEUTRAL:
            return [Fault("noise")]
        if self.state is State.REFUSING:
            return [Answer(NAK)]
        if (fault := self._fault_of(content)) is not None:
            return [Fault(fault), Answer(NAK)]
        number = content[1] - ord("0")
        if content == self._last:
            return [Fault("repeated"), Answer(ACK)]
        if number != self._expected:
            return [Fault("number"), Answer(NAK)]
        if content == self._judged:
            return [Answer(NAK)]
        return self._take(content)

    def _fault_of(self, content: bytes) -> str | None:
        """What is wrong with a frame's form."""
        if len(content) < 2 + _TAIL or content[-_TAIL : 1 - _TAIL] not in (ETX, ETB) or content[-2:] != CR + LF:
            return "frame"
        if not b"0" <= content[1:2] <= b"7":
            return "frame"
        return None if checksum(content[1:-4]) == content[-4:-2].upper() else "checksum"

    def _take(self, content: bytes) -> list[Step]:
        text = content[2:-_TAIL]
        if self._size + len(text) > self._limits.message:
            steps = self._end("it is longer than this channel takes", refused=True)
            self.state = State.REFUSING
            return [Fault("too_long"), *steps, Answer(NAK)]
        self._open += text
        if content[-_TAIL : 1 - _TAIL] == ETB:
            return self._taken(content, len(text))
        records = bytes(self._open).split(CR)
        if not records[-1]:  # ETX ends a record, also where its CR was left out
            records.pop()
        if not any(map(_is_terminator, records)):
            self._records += records
            self._open.clear()
            return self._taken(content, len(text))
        del self._open[len(self._open) - len(text) :]  # the frame may be refused, and come again
        messages, self._after = _messages([*self._records, *records])
        self._judged = content
        self.state = State.COMMITTING
        return [Complete(tuple(messages))]

    def _taken(self, content: bytes, size: int) -> list[Step]:
        self._last, self._told = content, False
        self._size += size
        self._expected = (self._expected + 1) % 8
        return [Answer(ACK)]


def _is_terminator(record: bytes) -> bool:
    return record.lstrip(LF)[:1] in (b"L", b"l")


def _messages(records: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The messages that end with a record L, and the records after the last of them."""
    messages: list[bytes] = []
    begun = 0
    for index, record in enumerate(records):
        if _is_terminator(record):
            messages.append(CR.join([*records[begun : index + 1], b""]))
            begun = index + 1
    return messages, records[begun:]
