"""The sending end of a line: ASTM E1381 / CLSI LIS01-A2 clause 6. Pure; knows no socket and no clock.

               begin        ACK                      NAK                  ENQ                    EOT              15 s
  IDLE         ENQ, BIDDING –                        –                    –                      –                –
  BIDDING      –            frame 1, SENDING         PAUSING 10 s         contention (below)     PAUSING 10 s     EOT, not taken
  SENDING      –            next frame; after the    same frame, up to    as NAK                 as ACK, and a    EOT, not taken;
                            last EOT, taken          6 times; then EOT                           pause afterwards uncertain after the last
  PAUSING      –            –                        –                    –                      –                IDLE, free to bid

Contention (clause 6.2.7.1): both ends have sent ENQ. An instrument goes first, and bids again after 1 s; a host gives way, and bids
again after 20 s. An EOT in answer to a frame is a receiver that wants to speak (clause 6.3.5): the message is sent to its end, since
half of it would be worth nothing, and then the line is left to the other end for 15 s. Where six bids in a row fail
the message is not taken.

Other bytes in answer to a frame are ignored, although the standard has them count as NAK: noise before an ACK would then have the
sender one answer ahead of the receiver from there on, and take the last frame's for granted. Silence ends the transfer instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from adapters.astm.link import ACK, CR, ENQ, EOT, Answer, Fault, frame
from engine.errors import LocalProtocolError

SENDER_WAITS: Final = 15.0
AFTER_NAK: Final = 10.0
AFTER_INTERRUPT: Final = 15.0
CONTENTION: Final = {"host": 20.0, "instrument": 1.0}
"""Seconds (clauses 6.5.1.1, 6.5.1.2, 6.2.6, 6.3.5.2, 6.2.7.1)."""
REPETITIONS: Final = 6
BIDS: Final = 6
SHORT_TEXT: Final = 240
"""Characters of a frame's text in E1381."""
_RESTRICTED: Final = re.compile(rb"[\x01-\x06\x0a\x10-\x17]")


class Taken(NamedTuple):
    """The message with this tag was acknowledged to its end."""

    tag: Any


class NotTaken(NamedTuple):
    """It was not. `uncertain`: all of it was sent, and the last answer did not come. `refused`: only its last frame was, and for good."""

    tag: Any
    reason: str
    uncertain: bool = False
    refused: bool = False


SendingStep = Answer | Fault | Taken | NotTaken


class SendingState(Enum):
    IDLE = auto()
    BIDDING = auto()
    SENDING = auto()
    PAUSING = auto()


def check_sendable(message: bytes) -> None:
    """Raises LocalProtocolError for an empty message, and for bytes that a frame's text cannot have (clause 6.3.1.2)."""
    if not message.strip(CR):
        raise LocalProtocolError("the message has no records")
    if _RESTRICTED.search(message):
        raise LocalProtocolError("the message has control characters that ASTM E1381 does not allow in a frame")


def frames(message: bytes, size: int = SHORT_TEXT) -> Iterator[bytes]:
    """A frame for each record, several for one that is longer than `size` bytes."""
    number = 0
    for record in filter(None, message.split(CR)):
        text = record + CR
        for begin in range(0, len(text), size):
            number += 1
            yield frame(number, text[begin : begin + size], last=begin + size >= len(text))


class Sender:
    """One message at a time. `turn` changes whenever a new wait begins, of `patience` seconds; then `late` is to be called."""

    def __init__(self, role: str = "host", size: int = SHORT_TEXT) -> None:
        self._pause_in_contention = CONTENTION[role]
        self._size = size
        self.state = SendingState.IDLE
        self.turn = 0
        self.patience: float | None = None
        self._frames: list[bytes] = []
        self._tag: Any = None
        self._next = self._tries = self._bids = 0
        self._interrupted = False

    @property
    def speaks(self) -> bool:
        """What comes in is an answer to us."""
        return self.state in (SendingState.BIDDING, SendingState.SENDING)

    def begin(self, message: bytes, tag: Any) -> list[SendingStep]:
        """Bid for the line, which must be neutral. After a bid that failed (`Fault`, and no `NotTaken`) it is to be called again."""
        self._frames, self._tag = list(frames(message, self._size)), tag
        self._next = self._tries = 0
        self._interrupted = False
        self._wait(SendingState.BIDDING, SENDER_WAITS)
        return [Answer(ENQ)]

    def heard(self, answer: bytes) -> list[SendingStep]:
        """ACK, NAK, ENQ or EOT has come while `speaks`."""
        if self.state is SendingState.BIDDING:
            return self._bid_answered(answer)
        if answer == EOT:
            self._interrupted = True
        if answer in (ACK, EOT):
            return self._go_on()
        self._tries += 1
        if self._tries > REPETITIONS:
            refused = self._next == len(self._frames)
            reason = "the receiver refused the last frame" if refused else "the receiver did not take a frame in seven attempts"
            return self._give_up(reason, refused=refused)
        return [Fault("sent_again"), self._frame()]

    def late(self) -> list[SendingStep]:
        """`patience` is over."""
        if not self.speaks:
            self._wait(SendingState.IDLE, None)
            return []
        if self.state is SendingState.BIDDING:
            return self._give_up("nobody answers")
        return self._give_up("the receiver fell silent", uncertain=self._next == len(self._frames))

    def lost(self) -> list[SendingStep]:
        """The line is gone."""
        if not self.speaks:
            self._wait(SendingState.IDLE, None)
            return []
        last = self.state is SendingState.SENDING and self._next == len(self._frames)
        self._wait(SendingState.IDLE, None)
        return [NotTaken(self._tag, "the line was lost", uncertain=last)]

    def _bid_answered(self, answer: bytes) -> list[SendingStep]:
        if answer == ACK:
            return self._go_on()
        self._bids += 1
        contention = answer == ENQ
        if self._bids == BIDS:
            return self._give_up("the other end always wants to send" if contention else "the receiver is always busy")
        self._wait(SendingState.PAUSING, self._pause_in_contention if contention else AFTER_NAK)
        return [Fault("contention" if contention else "busy")]

    def _go_on(self) -> list[SendingStep]:
        self._next, self._tries, self._bids = self._next + 1, 0, 0
        if self._next <= len(self._frames):
            return [self._frame()]
        return [*self._end(), Taken(self._tag)]

    def _frame(self) -> Answer:
        self._wait(SendingState.SENDING, SENDER_WAITS)
        return Answer(self._frames[self._next - 1])

    def _give_up(self, reason: str, *, uncertain: bool = False, refused: bool = False) -> list[SendingStep]:
        return [*self._end(), NotTaken(self._tag, reason, uncertain, refused)]

    def _end(self) -> list[SendingStep]:
        self._bids = 0
        if self._interrupted:
            self._wait(SendingState.PAUSING, AFTER_INTERRUPT)
        else:
            self._wait(SendingState.IDLE, None)
        return [Answer(EOT)]

    def _wait(self, state: SendingState, patience: float | None) -> None:
        self.state, self.patience = state, patience
        self.turn += 1
