"""The sending end of a line, and both ends of one, by the standard's tables (LIS01-A2 clause 6). No clock: a test says when time is over."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.astm.link import ACK, ENQ, EOT, ETB, NAK, Answer, Complete, Fault, Incomplete, State, frame
from adapters.astm.sending import (
    AFTER_INTERRUPT,
    AFTER_NAK,
    BIDS,
    REPETITIONS,
    SENDER_WAITS,
    NotTaken,
    Sender,
    SendingState,
    Taken,
    check_sendable,
    frames,
)
from adapters.astm.station import Station
from engine.errors import LocalProtocolError
from tests.support.astm_instrument import RECORDS, content

MESSAGE = content(*RECORDS)
FRAMES = list(frames(MESSAGE))


def wire(steps: Any) -> bytes:
    """What goes onto the line."""
    return b"".join(step.data for step in steps if isinstance(step, Answer))


def ends(steps: Any) -> list[Any]:
    return [step for step in steps if isinstance(step, Taken | NotTaken)]


def sending(count: int, role: str = "host") -> Sender:
    """A sender whose first `count` frames are on the line, the last of them unanswered."""
    sender = Sender(role)
    sender.begin(MESSAGE, "m")
    for _ in range(count):
        sender.heard(ACK)
    return sender


def test_a_whole_transfer() -> None:
    """ENQ, each frame after the ACK for the one before, EOT; taken with the last ACK."""
    sender = Sender()
    assert wire(sender.begin(MESSAGE, "m")) == ENQ
    for expected in FRAMES:
        assert wire(sender.heard(ACK)) == expected
    last = sender.heard(ACK)
    assert (wire(last), ends(last), sender.state) == (EOT, [Taken("m")], SendingState.IDLE)


def test_frames_are_numbered_from_1_and_go_on_with_0() -> None:
    numbers = [one[1:2] for one in frames(b"".join(b"C|%d\r" % n for n in range(1, 11)))]
    assert numbers == [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"0", b"1", b"2"]


@pytest.mark.parametrize("size", [240, 63_993])
def test_a_long_record_goes_in_several_frames(size: int) -> None:
    """All but the last end in ETB, and no text is longer than the limit."""
    record = b"C|1|" + b"x" * 100_000 + b"\r"
    parts = list(frames(record, size))
    assert [one[-5:-4] == ETB for one in parts] == [True] * (len(parts) - 1) + [False]
    assert max(len(one) - 7 for one in parts) == size
    assert b"".join(one[2:-5] for one in parts) == record


@pytest.mark.parametrize("bad", [b"H|\x02\r", b"H|\x04\r", b"H|a\nb\r", b"", b"\r"])
def test_what_cannot_be_framed(bad: bytes) -> None:
    """Clause 6.3.1.2: no control characters of the link in a text."""
    with pytest.raises(LocalProtocolError):
        check_sendable(bad)


def test_a_frame_that_was_not_taken_is_sent_again_six_times() -> None:
    """Then EOT, and the message is not taken; it may be offered again."""
    sender = sending(2)
    for _ in range(REPETITIONS):
        assert wire(sender.heard(NAK)) == FRAMES[1]
    given_up = sender.heard(NAK)
    assert wire(given_up) == EOT
    (end,) = ends(given_up)
    assert (end.uncertain, end.refused) == (False, False)


def test_repetitions_are_counted_anew_for_each_frame() -> None:
    sender = sending(1)
    for _ in FRAMES[1:]:
        for _ in range(REPETITIONS):
            sender.heard(NAK)
        assert ends(sender.heard(ACK)) == []


def test_a_last_frame_that_is_never_taken_is_a_refusal() -> None:
    sender = sending(len(FRAMES))
    for _ in range(REPETITIONS):
        sender.heard(NAK)
    (end,) = ends(sender.heard(NAK))
    assert end.refused


def test_an_enq_in_answer_to_a_frame_counts_as_nak() -> None:
    assert wire(sending(1).heard(ENQ)) == FRAMES[0]


def test_silence_ends_the_transfer_after_15_seconds() -> None:
    sender = sending(2)
    assert sender.patience == SENDER_WAITS
    late = sender.late()
    assert wire(late) == EOT
    assert not ends(late)[0].uncertain


def test_silence_after_the_last_frame_is_uncertain() -> None:
    """Its answer may have been lost."""
    (end,) = ends(sending(len(FRAMES)).late())
    assert end.uncertain


def test_nobody_answers_the_bid() -> None:
    sender = Sender()
    sender.begin(MESSAGE, "m")
    late = sender.late()
    assert (wire(late), ends(late)[0].reason) == (EOT, "nobody answers")


def test_a_busy_receiver_is_asked_again_after_10_seconds() -> None:
    sender = Sender()
    sender.begin(MESSAGE, "m")
    assert sender.heard(NAK) == [Fault("busy")]
    assert (sender.state, sender.patience) == (SendingState.PAUSING, AFTER_NAK)


@pytest.mark.parametrize(("role", "seconds"), [("host", 20.0), ("instrument", 1.0)])
def test_two_masters_at_once(role: str, seconds: float) -> None:
    """Contention (clause 6.2.7.1): the host gives way for 20 s, the instrument bids again after 1 s. Nothing is put onto the line."""
    sender = Sender(role)
    sender.begin(MESSAGE, "m")
    assert sender.heard(ENQ) == [Fault("contention")]
    assert (sender.state, sender.patience) == (SendingState.PAUSING, seconds)


@pytest.mark.parametrize("answer", [NAK, ENQ])
def test_bids_are_not_repeated_for_ever(answer: bytes) -> None:
    sender = Sender()
    for _ in range(BIDS - 1):
        sender.begin(MESSAGE, "m")
        assert ends(sender.heard(answer)) == []
        sender.late()
    sender.begin(MESSAGE, "m")
    assert len(ends(sender.heard(answer))) == 1


def test_a_receiver_that_interrupts_gets_the_line_after_the_message() -> None:
    """EOT in answer to a frame (clause 6.3.5) is an ACK; the message is sent to its end, then the line is left alone for 15 s."""
    sender = sending(1)
    assert wire(sender.heard(EOT)) == FRAMES[1]
    for _ in FRAMES[2:]:
        sender.heard(ACK)
    last = sender.heard(ACK)
    assert (wire(last), ends(last)) == (EOT, [Taken("m")])
    assert (sender.state, sender.patience) == (SendingState.PAUSING, AFTER_INTERRUPT)


@pytest.mark.parametrize(("count", "uncertain"), [(0, False), (2, False), (len(FRAMES), True)])
def test_the_line_is_lost(count: int, uncertain: bool) -> None:
    """While bidding, in the middle, after the last frame."""
    assert sending(count).lost() == [NotTaken("m", "the line was lost", uncertain=uncertain)]


# --- both ends -------------------------------------------------------------------------------------


def test_a_message_waits_while_the_other_end_sends() -> None:
    """It goes out as soon as the line is neutral again."""
    station = Station()
    station.feed(ENQ)
    assert station.offer(MESSAGE, "m") == []
    assert wire(station.feed(frame(1, b"H|\\^&\r"))) == ACK
    steps = station.feed(EOT)
    assert isinstance(steps[0], Incomplete)
    assert wire(steps) == ENQ


def test_a_message_waits_until_the_store_has_spoken() -> None:
    """A query's answer is offered while the line still is the instrument's."""
    station = Station()
    station.feed(ENQ)
    (step,) = station.feed(frame(1, b"H|\\^&\rQ|1|^S1\rL|1\r"))
    assert isinstance(step, Complete)
    assert wire(station.kept(True)) == ACK
    assert station.offer(MESSAGE, "answer") == []
    assert wire(station.feed(EOT)) == ENQ


def test_the_host_gives_way_and_receives() -> None:
    """Both sent ENQ: the host leaves that one unanswered, answers the next, and bids when the line is free and 20 s are over."""
    station = Station()
    assert wire(station.offer(MESSAGE, "m")) == ENQ
    assert wire(station.feed(ENQ)) == b""
    assert wire(station.feed(ENQ)) == ACK
    assert wire(station.sender_late()) == b""
    assert wire(station.feed(EOT)) == ENQ


def test_the_message_that_gave_way_is_sent_after_the_pause() -> None:
    station = Station()
    station.offer(MESSAGE, "m")
    station.feed(ENQ)
    station.feed(ENQ + EOT)
    assert wire(station.sender_late()) == ENQ
    steps = [step for _ in range(len(FRAMES) + 1) for step in station.feed(ACK)]
    assert ends(steps) == [Taken("m")]


def test_messages_go_one_after_the_other() -> None:
    station = Station()
    station.offer(MESSAGE, 1)
    station.offer(MESSAGE, 2)
    steps = [step for _ in range(len(FRAMES) + 1) for step in station.feed(ACK)]
    assert (ends(steps), wire(steps)[-2:]) == ([Taken(1)], EOT + ENQ)


def test_noise_is_no_answer() -> None:
    """Else the ACK behind it would be taken for the next frame's, and the sender stay one answer ahead to the end."""
    station = Station()
    station.offer(MESSAGE, "m")
    station.feed(ACK)
    assert station.feed(b"\xff\xff") == [Fault("noise")]
    assert wire(station.feed(b"\xff" + ACK)) == FRAMES[1]


def test_a_lost_line_takes_all_that_waits_with_it() -> None:
    station = Station()
    station.offer(MESSAGE, 1)
    station.offer(MESSAGE, 2)
    assert [end.tag for end in ends(station.lost())] == [1, 2]
    assert station.receiver.state is State.NEUTRAL
