"""Batches cut, checked and answered (HL7 v2.5 clause 2.10.3)."""

import pytest

from engine.formats.hl7v2 import batch

ONE = b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|1|P|2.5\rPID|1\r"
TWO = b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|2|P|2.5\nPID|1\r\n"
BHS = b"BHS|^~\\&|SND|SF|RCV|RF|2026||name||B7\r"
FHS = b"FHS|^~\\&|SND|SF|RCV|RF|2026||||F1\r\n"


def test_a_file_of_batches() -> None:
    """Messages byte for byte, headers and trailers without terminators, no fault."""
    found = batch.split(FHS + BHS + ONE + TWO + b"BTS|2\r" + BHS + ONE + b"BTS|1|done\r" + b"FTS|2\r")
    assert found.messages == [ONE, TWO, ONE]
    assert (found.file_header, found.file_trailer) == (FHS.strip(), b"FTS|2")
    assert (found.batch_headers, found.batch_trailers) == ([BHS.strip()] * 2, [b"BTS|2", b"BTS|1|done"])
    assert found.faults == []


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        (BHS + ONE + b"BTS|2\r", ["BTS-1 does not agree with the number of messages: 1 found"]),
        (BHS + ONE + b"BTS|x\r", ["BTS-1 does not agree with the number of messages: 1 found"]),
        (BHS + ONE + b"BTS\r", []),
        (BHS + ONE, ["a batch has no BTS before the end"]),
        (FHS + BHS + ONE + b"FTS|1\r", ["a batch has no BTS before the file ends"]),
        (BHS + ONE + BHS + TWO + b"BTS|1\r", ["a batch has no BTS before the next one begins"]),
        (FHS + BHS + ONE + b"BTS|1\r", ["the file has no FTS"]),
        (FHS + BHS + ONE + b"BTS|1\rFTS|3\r", ["FTS-1 does not agree with the number of batches: 1 found"]),
        (BHS + b"PID|1\r" + ONE + b"BTS|2\r", ["a segment stands outside of any message"]),
        (BHS + b"BTS|0\r", []),
        (ONE + TWO, []),
    ],
)
def test_faults_are_told_and_nothing_is_lost(body: bytes, faults: list[str]) -> None:
    """Whatever is wrong with the counting, the messages are all there."""
    found = batch.split(body)
    assert found.faults == faults
    assert [one for one in found.messages if one.startswith(b"MSH")] == [one for one in (ONE, TWO) if one in body]


def test_a_stray_segment_is_kept_as_a_message_of_its_own() -> None:
    """It will be quarantined with its reason."""
    assert batch.split(b"PID|1\r\r" + ONE).messages == [b"PID|1\r\r", ONE]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (ONE, False),
        (ONE + TWO, True),
        (TWO + ONE, True),
        (BHS + ONE, True),
        (FHS, True),
        (b"\xef\xbb\xbf" + BHS, True),
        (b"\xef\xbb\xbf" + ONE, False),
        (ONE + b"NTE|1||the MSH of yesterday\r", False),
        (b"", False),
    ],
)
def test_what_is_a_batch(body: bytes, expected: bool) -> None:
    """A header of a batch, or a second MSH at the beginning of a line."""
    assert batch.is_batch(body) is expected


def answer(body: bytes, *acks: bytes) -> bytes:
    ids = iter(range(1, 100))
    return batch.wrap_answers(batch.split(body), [[ack] for ack in acks], new_id=lambda: f"N{next(ids)}", stamp="2026")


def test_the_answer_is_a_batch() -> None:
    """The parties swapped, BHS-11 new, BHS-12 the control id of the batch that came, BTS-1 the number of acknowledgments."""
    answered = answer(BHS + ONE + TWO + b"BTS|2\r", b"MSH|ack1\r", b"MSH|ack2\r")
    assert answered == b"BHS|^~\\&|RCV|RF|SND|SF|2026||||N1|B7\rMSH|ack1\rMSH|ack2\rBTS|2\r"
    assert batch.split(answered).faults == []


def test_each_batch_of_a_file_has_its_answer() -> None:
    """In a file of answers; what stood in no batch is answered in none; an acknowledgment without a last CR does not run into the next."""
    answered = answer(
        FHS + ONE + BHS + ONE + TWO + b"BTS|2\r" + BHS.replace(b"B7", b"B8") + b"BTS|0\rFTS|2\r", b"MSH|0", b"MSH|1", b"MSH|2\r"
    )
    assert answered == (
        b"FHS|^~\\&|RCV|RF|SND|SF|2026||||N3|F1\rMSH|0\r"
        b"BHS|^~\\&|RCV|RF|SND|SF|2026||||N1|B7\rMSH|1\rMSH|2\rBTS|2\r"
        b"BHS|^~\\&|RCV|RF|SND|SF|2026||||N2|B8\rBTS|0\rFTS|3\r"
    )


def test_the_answer_to_other_delimiters_and_bytes() -> None:
    """The delimiters of the batch header; bytes of any character set go back as they came."""
    answered = answer(b"BHS@~&#\\@\xb2\xe1@SF@RCV@RF\r" + ONE + b"BTS@1\r", b"MSH|1\r")
    assert answered == b"BHS@~&#\\@RCV@RF@\xb2\xe1@SF@2026@@@@N1@\rMSH|1\rBTS@1\r"
    assert answer(b"BHS\r" + ONE + b"BTS\r", b"MSH|1\r").startswith(b"BHS|^~\\&|||||2026||||N1|\rMSH|1\r")


@pytest.mark.parametrize("body", [b"", b"MSH\rMSH\nMSH", b"BHS\rX\rBHS\rX\nBTS\rX\rFTS", FHS + BHS + ONE + TWO + b"BTS|2\rFTS|1\r"])
def test_how_many_messages_there_are_at_most(body: bytes) -> None:
    """Never fewer than `split` finds, so that a limit holds before anything is cut."""
    assert len(batch.split(body).messages) <= batch.most_messages(body) <= body.count(b"\r") + body.count(b"\n") + 1
