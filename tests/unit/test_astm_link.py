"""The receiving end of an instrument's line: the table of states and events, and each thing that goes wrong on a line, by name."""

from __future__ import annotations

import pytest

from adapters.astm.link import ACK, ENQ, EOT, NAK, STX, Answer, Complete, Fault, Incomplete, Limits, Receiver, State, checksum, frame
from tests.support.astm_instrument import Instrument, Line, content, frames

MESSAGE = content()


def opened() -> Receiver:
    receiver = Receiver()
    receiver.feed(ENQ)
    return receiver


def transferred(line: Line, size: int = 240) -> int:
    """Send a message over a spoiled line; how many transfers it took. Kept once, whatever happened."""
    instrument = Instrument(line, size)
    instrument.send(MESSAGE)
    assert line.kept == [MESSAGE]
    return instrument.transfers


# --- the table ---------------------------------------------------------------------------------


def test_checksum_and_number() -> None:
    """LIS01-A2 clause 6.3: from the number through ETX, modulo 256; numbers go 1 to 7, then 0."""
    assert checksum(b"1A\r\x03") == b"82"
    assert [frame(number, b"")[1:2] for number in (1, 7, 8, 9)] == [b"1", b"7", b"0", b"1"]


def test_before_enquiry_nothing_is_answered() -> None:
    """NEUTRAL: frames, EOT and noise."""
    receiver = Receiver()
    steps = receiver.feed(frame(1, b"H|\\^&\r") + EOT + b"noise")
    assert not [step for step in steps if isinstance(step, Answer)]
    assert receiver.patience is None


def test_an_enquiry_is_acknowledged() -> None:
    receiver = Receiver()
    assert receiver.feed(ENQ) == [Answer(ACK)]
    assert receiver.state is State.TRANSFER
    assert receiver.patience == 30


def test_the_last_frame_waits_for_the_store() -> None:
    """And so does whatever comes behind it."""
    receiver = opened()
    *head, last = frames(MESSAGE)
    assert receiver.feed(b"".join(head)) == [Answer(ACK)] * len(head)
    assert receiver.feed(last) == [Complete((MESSAGE,))]
    assert receiver.patience is None
    assert receiver.kept(True) == [Answer(ACK)]
    assert receiver.feed(EOT) == []
    assert receiver.state is State.NEUTRAL


def test_a_store_that_cannot_take_it_asks_for_the_frame_again() -> None:
    """NAK, and the repetition is tried again."""
    line = Line()
    line.store_takes = lambda attempt: attempt >= 2
    assert transferred(line) == 1
    assert line.taken_by_store == 3


def test_a_message_that_is_refused_for_good_is_judged_once() -> None:
    """The six repetitions of its last frame are answered NAK, and not kept six times more."""
    receiver = opened()
    *head, last = frames(MESSAGE)
    receiver.feed(b"".join(head) + last)
    assert receiver.kept(False, again=False) == [Answer(NAK)]
    assert [receiver.feed(last) for _ in range(6)] == [[Answer(NAK)]] * 6


@pytest.mark.parametrize("given_up", [EOT, EOT + ENQ, ENQ])
def test_who_has_given_up_hears_no_late_answer(given_up: bytes) -> None:
    """It would be taken for the answer to the next enquiry, and every frame after it would be one off."""
    receiver = opened()
    receiver.feed(b"".join(frames(MESSAGE)))
    assert receiver.feed(given_up) == []
    answers = [step for step in receiver.kept(True) if isinstance(step, Answer)]
    assert answers == [Answer(ACK)] * given_up.count(ENQ)


def test_several_messages_in_one_transfer_are_each_their_own() -> None:
    other = content("H|\\^&", "P|1", "L|1|N")
    receiver = opened()
    found = []
    for data in frames(MESSAGE + other):
        steps = receiver.feed(data)
        if steps and isinstance(steps[0], Complete):
            found += steps[0].messages
            receiver.kept(True)
    assert found == [MESSAGE, other]


def test_two_messages_that_end_in_one_frame() -> None:
    """LIS01-A2 lets a frame hold many records."""
    receiver = opened()
    assert receiver.feed(frame(1, MESSAGE + MESSAGE)) == [Complete((MESSAGE, MESSAGE))]


@pytest.mark.parametrize("size", [1, 7, 100, 63_993])
def test_records_longer_than_a_frame(size: int) -> None:
    """ETB says that the record goes on."""
    assert transferred(Line(), size) == 1


def test_a_frame_longer_than_the_standard_allows_is_not_gathered_for_ever() -> None:
    receiver = opened()
    steps = [step for at in range(50) for step in receiver.feed((STX + b"1" if not at else b"") + b"x" * 5000)]
    assert Answer(NAK) in steps
    assert len(receiver._buffer) < 70_000


def test_a_transfer_longer_than_the_channel_takes_is_refused_cleanly() -> None:
    """Each further frame NAK, what came of it is told, and the next enquiry begins anew."""
    receiver = Receiver(Limits(message=60))
    receiver.feed(ENQ)
    steps = [step for data in frames(MESSAGE) for step in receiver.feed(data)]
    assert Fault("too_long") in steps
    assert len([step for step in steps if isinstance(step, Incomplete)]) == 1
    assert steps[-1] == Answer(NAK)
    receiver.feed(EOT)
    assert receiver.feed(ENQ) == [Answer(ACK)]


@pytest.mark.parametrize(("text", "last"), [(b"\r", True), (b"x", False), (b"\n", True)])
def test_a_transfer_that_never_ends_is_refused(text: bytes, last: bool) -> None:
    """Also where its frames have next to nothing in them."""
    receiver = Receiver(Limits(message=1000))
    receiver.feed(ENQ)
    steps = [step for number in range(1, 1100) for step in receiver.feed(frame(number, text, last=last))]
    assert Fault("too_long") in steps
    assert not receiver._records
    assert not receiver._open


@pytest.mark.parametrize("last", [True, False])
def test_what_came_before_is_not_copied_with_each_frame(last: bool) -> None:
    """Else very many small frames would take time that grows with their square."""
    receiver = opened()
    before = receiver._records, receiver._open
    for number in range(1, 50):
        receiver.feed(frame(number, b"C|1\r", last=last))
    assert receiver._records is before[0]
    assert receiver._open is before[1]


def test_an_empty_last_frame_may_come_again() -> None:
    """The record L ended in ETB; the store could not take the message at once."""
    receiver = opened()
    receiver.feed(frame(1, MESSAGE.removesuffix(b"\r"), last=False))
    for _ in range(2):
        assert receiver.feed(frame(2, b"")) == [Complete((MESSAGE,))]
        receiver.kept(False)
    receiver.feed(frame(2, b""))
    assert receiver.kept(True) == [Answer(ACK)]


# --- what goes wrong on a line -------------------------------------------------------------------


@pytest.mark.parametrize("number", range(6))
def test_lost_ack(number: int) -> None:
    """Of the enquiry, of each frame, of the last: the instrument ends and repeats all; the message is kept once."""
    assert transferred(Line(to_instrument=lambda n, data: [] if n == number else [data])) == 2


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("at", [1, 2, 10, -3, -5])
def test_flipped_bit(number: int, at: int) -> None:
    """Anywhere in a frame: NAK, and the frame comes again."""

    def flip(n: int, data: bytes) -> list[bytes]:
        spoiled = bytearray(data)
        if n == number:
            spoiled[at] ^= 1
        return [bytes(spoiled)]

    line = Line(to_host=flip)
    transferred(line)
    assert line.faults


@pytest.mark.parametrize("cut", [1, 2, 5, -4, -1])
def test_line_broken_in_mid_frame(cut: int) -> None:
    """The receiver forgets it; over the next connection all comes again."""
    line = Line()
    line.send(ENQ)
    first, second, *_ = frames(MESSAGE)
    line.send(first)
    line.send(second[:cut])
    line.carry_out(line.receiver.lost())
    assert line.incomplete == [content().split(b"\r")[0] + b"\r"]
    assert transferred(line) == 1


@pytest.mark.parametrize("number", range(1, 6))
def test_duplicated_frame(number: int) -> None:
    """Its repetition is acknowledged and thrown away (clause 6.5.1.4)."""
    line = Line(to_host=lambda n, data: [data, data] if n == number else [data])
    assert transferred(line) == 1
    assert line.faults == ["repeated"]


def test_wrong_frame_number() -> None:
    receiver = opened()
    assert receiver.feed(frame(3, b"H|\\^&\r")) == [Fault("number"), Answer(NAK)]
    assert receiver.feed(frame(1, b"H|\\^&\r")) == [Answer(ACK)]


@pytest.mark.parametrize("number", [0, 2])
def test_a_number_that_came_before_with_other_bytes_is_no_repetition(number: int) -> None:
    """Acknowledged and thrown away it would be lost: a counter that is stuck, or one that begins with 0."""
    receiver = opened()
    for data in list(frames(MESSAGE))[:number]:
        receiver.feed(data)
    assert receiver.feed(frame(number, b"O|1|S2\r")) == [Fault("number"), Answer(NAK)]


def test_power_loss_between_frames() -> None:
    """The instrument comes back with an enquiry: what it had sent is told, and counts for nothing."""
    line = Line()
    line.send(ENQ)
    first, second, third, *_ = frames(MESSAGE)
    for data in (first, second, third):
        line.send(data)
    assert transferred(line) == 1
    assert line.faults == ["restart"]
    assert len(line.incomplete) == 1


def test_power_loss_for_good() -> None:
    """After thirty seconds the line is free again."""
    receiver = opened()
    receiver.feed(next(frames(MESSAGE)))
    (step,) = receiver.late()
    assert isinstance(step, Incomplete)
    assert receiver.state is State.NEUTRAL


def test_garbage_before_enquiry() -> None:
    line = Line(to_host=lambda n, data: [b"\xff\x00\x7fgarbage" + data] if n == 0 else [data])
    assert transferred(line) == 1
    assert line.faults == ["noise"]


def test_an_end_without_a_terminator_is_no_message() -> None:
    """It is rolled back: nothing of it is taken, all of it is told."""
    receiver = opened()
    for data in list(frames(MESSAGE))[:-1]:
        receiver.feed(data)
    (step,) = receiver.feed(EOT)
    assert isinstance(step, Incomplete)
    assert step.content == MESSAGE.rpartition(b"L|")[0]
