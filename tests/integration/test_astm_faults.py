"""Everything that goes wrong between an instrument and a running node: no result is lost, none is doubled.

The instrument is a script by the tables of LIS01-A2 clause 6, over TCP; where the standard has it wait for its time limit, it acts at once
as if that were over. What is counted are the Observations of the node's repository.
"""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.bench.loopback import HOST, free_port
from tests.support.sites import Site
from tests.support.waiting import PATIENCE, until

ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"
Spoil = Callable[[int, bytes], Sequence[bytes]]
"""What becomes of the n-th frame at its first attempt."""


def framed(records: Sequence[str]) -> list[bytes]:
    """One record a frame (clause 6.3)."""
    found = []
    for number, record in enumerate(records, 1):
        counted = b"%d%b\r\x03" % (number % 8, record.encode())
        found.append(b"\x02%b%02X\r\n" % (counted, sum(counted) % 256))
    return found


def patient(number: int, *values: str) -> list[str]:
    """One patient's records, a result for each value; the specimen is named after the patient."""
    results = [f"R|{at}|^^^T{at}|{text}|mmol/L|||N||F" for at, text in enumerate(values, 1)]
    return [f"P|{number}|P{number}", f"O|1|S{number}||^^^PANEL|R||20261124080000", *results]


HEADER = "H|\\^&|||Chem800|||||LIS||P|LIS2-A2|20261124081500"
MESSAGE = [HEADER, *patient(1, "5.4", "140"), "L|1|N"]
RESULTS = ["140", "5.4"]


class Script:
    """One connection of an instrument."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def write(self, data: bytes) -> None:
        self._line.sendall(data)

    def hear(self) -> bytes:
        """The next answer."""
        answer = self._line.recv(1)
        assert answer, "the node has closed the line"
        return answer

    def say(self, data: bytes) -> bytes:
        self.write(data)
        return self.hear()

    def transfer(self, records: Sequence[str], spoil: Spoil = lambda n, data: [data]) -> None:
        """A whole one, each frame repeated while it is answered NAK."""
        assert self.say(ENQ) == ACK
        for number, data in enumerate(framed(records)):
            chunks = spoil(number, data)
            answers = [self.say(chunk) for chunk in chunks]
            while answers[-1] == NAK:
                answers = [self.say(data)]
            assert answers[-1] == ACK
        self.write(EOT)


@contextmanager
def connected(port: int) -> Iterator[Script]:
    with socket.create_connection((HOST, port), timeout=PATIENCE) as line:
        yield Script(line)


class Laboratory:
    """A site with an instrument's channel and an own repository."""

    def __init__(self, folder: Path) -> None:
        self.site, self.port = Site(folder), free_port()
        instruments = folder / "mappings" / "astm-to-fhir"
        instruments.mkdir(parents=True)
        (instruments / "instruments.csv").write_text("sender,facility,authority,tests\n*,COUNTY,HIS,\n")
        channel = {
            "name": "chemistry",
            "source": {"astm": {"listen": f"{HOST}:{self.port}"}},
            "map": "astm-to-fhir",
            "destinations": [{"name": "repository", "fhir_repository": {}}],
        }
        (folder / "channels" / "chemistry.yaml").write_text(json.dumps(channel))

    def values(self) -> list[str]:
        """Of all Observations in the repository, in order."""
        file = self.site.folder / "data" / "fhir-repository.db"
        database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            rows = database.execute("SELECT body FROM resource WHERE type = 'Observation'").fetchall()
        finally:
            database.close()
        return sorted(f"{json.loads(body)['valueQuantity']['value']:g}" for (body,) in rows)

    def settled(self, accepted: int) -> None:
        """Wait until so many messages were taken and delivered."""
        until(lambda: len(self.site.delivered()) >= accepted, f"delivery {accepted}")


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[Laboratory]:
    """On a running node; when the test is over its two results are there, each once."""
    found = Laboratory(tmp_path / "site")
    with found.site.running():
        yield found
        found.settled(1)
    assert found.values() == RESULTS


def test_lost_ack(laboratory: Laboratory) -> None:
    """Of the last frame: the instrument has waited for nothing, ends, and sends all again."""
    with connected(laboratory.port) as instrument:
        assert instrument.say(ENQ) == ACK
        for data in framed(MESSAGE):
            assert instrument.say(data) == ACK
        instrument.write(EOT)
        instrument.transfer(MESSAGE)
    assert len(laboratory.site.kept()) == 1


def test_lost_ack_of_a_frame_within(laboratory: Laboratory) -> None:
    with connected(laboratory.port) as instrument:
        assert instrument.say(ENQ) == ACK
        for data in framed(MESSAGE)[:3]:
            assert instrument.say(data) == ACK
        instrument.write(EOT)
        instrument.transfer(MESSAGE)


def test_flipped_bit(laboratory: Laboratory) -> None:
    """In each frame once: NAK, and the frame comes again."""
    with connected(laboratory.port) as instrument:
        instrument.transfer(MESSAGE, lambda n, data: [data[:4] + bytes([data[4] ^ 4]) + data[5:]])


def test_line_broken_in_mid_frame(laboratory: Laboratory) -> None:
    with connected(laboratory.port) as instrument:
        assert instrument.say(ENQ) == ACK
        first, second, *_ = framed(MESSAGE)
        assert instrument.say(first) == ACK
        instrument.write(second[:7])
    with connected(laboratory.port) as instrument:
        instrument.transfer(MESSAGE)


def test_duplicated_frame(laboratory: Laboratory) -> None:
    """Each of them: ACK twice, and taken once."""
    with connected(laboratory.port) as instrument:
        instrument.transfer(MESSAGE, lambda n, data: [data, data])


def test_wrong_frame_number(laboratory: Laboratory) -> None:
    with connected(laboratory.port) as instrument:
        assert instrument.say(ENQ) == ACK
        for number, data in enumerate(framed(MESSAGE)):
            ahead = framed([*[""] * (number + 2), MESSAGE[number]])[-1]
            assert (instrument.say(ahead), instrument.say(data)) == (NAK, ACK)
        instrument.write(EOT)


def test_power_loss_between_frames(laboratory: Laboratory) -> None:
    """The instrument comes back on the same line, with an enquiry."""
    with connected(laboratory.port) as instrument:
        assert instrument.say(ENQ) == ACK
        for data in framed(MESSAGE)[:4]:
            assert instrument.say(data) == ACK
        instrument.transfer(MESSAGE)
    assert [one.verdict for one in laboratory.site.kept()] == ["invalid", "accepted"]


def test_garbage_before_enquiry(laboratory: Laboratory) -> None:
    with connected(laboratory.port) as instrument:
        instrument.write(b"\xff\x00\x7fAT\r\n")
        instrument.transfer(MESSAGE)


def test_two_masters_at_once(laboratory: Laboratory) -> None:
    """The node wants to answer a query while the instrument bids: the node gives way, and takes the result."""
    with connected(laboratory.port) as instrument:
        instrument.transfer([HEADER, "Q|1|^S1||ALL", "L|1|N"])
        assert instrument.hear() == ENQ  # its bid; ours crosses it, and is not answered
        instrument.write(ENQ)
        instrument.transfer(MESSAGE)


def test_all_of_it_at_once(laboratory: Laboratory) -> None:
    with connected(laboratory.port) as instrument:
        instrument.write(b"\x00\xfe" + ENQ)
        assert instrument.hear() == ACK
        assert instrument.say(framed(MESSAGE)[0]) == ACK
        instrument.transfer(MESSAGE, lambda n, data: [data[:-3] + b"zz\n", data, data])
        instrument.transfer(MESSAGE)


def test_an_incomplete_transfer_rolls_back_to_its_last_complete_level(tmp_path: Path) -> None:
    """The line is lost within the second patient. A sender that follows LIS02-A2 counts the first as stored and begins with the second;
    one that follows LIS01-A2 sends all again. Either way each result is there once."""
    laboratory = Laboratory(tmp_path / "site")
    second = patient(2, "7.1", "133")
    with laboratory.site.running():
        with connected(laboratory.port) as instrument:
            assert instrument.say(ENQ) == ACK
            for data in framed([*MESSAGE[:-1], *second[:3]]):
                assert instrument.say(data) == ACK
        laboratory.settled(1)
        assert laboratory.values() == RESULTS
        with connected(laboratory.port) as instrument:
            instrument.transfer([HEADER, *second, "L|1|N"])
            laboratory.settled(2)
            assert laboratory.values() == ["133", *RESULTS, "7.1"]
            instrument.transfer([*MESSAGE[:-1], *second, "L|1|N"])
            laboratory.settled(3)
    assert laboratory.values() == ["133", *RESULTS, "7.1"]
    assert [one.verdict for one in laboratory.site.kept()] == ["accepted", "invalid", "accepted", "accepted"]
