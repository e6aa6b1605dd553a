"""Instruments on a running node: over a serial line, called by the node, and asking for their orders."""

from __future__ import annotations

import json
import os
import select
import socket
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.bench.loopback import HOST, free_port
from tests.support.astm_instrument import content, frames
from tests.support.mllp_line import Line
from tests.support.sites import Site
from tests.support.waiting import PATIENCE, until

ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"


class Instrument:
    """Blocking, on whatever reads and writes bytes."""

    def __init__(self, read: Callable[[], bytes], write: Callable[[bytes], Any]) -> None:
        self._read, self.write = read, write
        self._heard = b""

    def byte(self) -> bytes:
        while not self._heard:
            self._heard = self._read()
            assert self._heard, "the line has ended"
        byte, self._heard = self._heard[:1], self._heard[1:]
        return byte

    def send(self, message: bytes) -> bytes:
        """The answer to the last frame; the line is given back."""
        answer = b""
        for part in (ENQ, *frames(message)):
            self.write(part)
            answer = self.byte()
            if answer != ACK:
                break
        self.write(EOT)
        return answer

    def receive(self) -> bytes:
        """The records of one transfer of the host's."""
        assert self.byte() == ENQ
        self.write(ACK)
        records = b""
        while (byte := self.byte()) != EOT:
            assert byte == b"\x02"
            text = b""
            while (byte := self.byte()) != b"\n":
                text += byte
            records += text[1:-4]
            self.write(ACK)
        return records


@contextmanager
def connected(port: int) -> Iterator[Instrument]:
    with socket.create_connection((HOST, port), timeout=PATIENCE) as line:
        yield Instrument(lambda: line.recv(4096), line.sendall)


def wake(master: int) -> None:
    """Bid for the line until somebody is there; a port that is opened forgets what came before."""
    end = time.monotonic() + PATIENCE
    while not select.select([master], [], [], 0.3)[0]:
        assert time.monotonic() < end, "nobody opens the port"
        os.write(master, ENQ)
    os.write(master, EOT)
    while select.select([master], [], [], 0.5)[0]:  # one answer for each bid
        assert set(os.read(master, 100)) == set(ACK)


def settled(site: Site, count: int) -> None:
    """Wait until so many messages have been kept."""
    until(lambda: len(site.kept()) >= count, f"message {count}")


def test_an_instrument_on_a_serial_line(tmp_path: Path) -> None:
    """A pseudo-terminal stands for the wire: what comes over it is kept, also after the port was pulled out and put in again."""
    link, masters = tmp_path / "ttyLAB", []

    def plug_in() -> Instrument:
        master, slave = os.openpty()
        tty.setraw(slave)
        masters.append((master, slave))
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(slave))
        return Instrument(lambda: os.read(master, 4096), lambda data: os.write(master, data))

    instrument = plug_in()
    serial = {"port": str(link), "baud": 19200, "parity": "even", "stop_bits": 1}
    site = Site(tmp_path / "site", source={"astm": {"serial": serial, "charset": "gb18030"}})
    with site.running():
        assert instrument.send(content(charset="gb18030")) == ACK
        speed = termios.tcgetattr(masters[0][1])
        for one in masters.pop():
            os.close(one)
        instrument = plug_in()
        wake(masters[0][0])
        assert instrument.send(content("H|\\^&|2", "L|1|N", charset="gb18030")) == ACK
    assert [one.control_id for one in site.kept()] == ["77", "2"]
    assert speed[4] == speed[5] == termios.B19200
    assert site.kept()[0].body == content(charset="gb18030")


def test_an_instrument_that_waits_to_be_called(tmp_path: Path) -> None:
    """The node connects, and again when the instrument was switched off."""
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(PATIENCE)
        site = Site(tmp_path, source={"astm": {"connect": f"{HOST}:{server.getsockname()[1]}"}})
        with site.running():
            for number in ("1", "2"):
                line, _ = server.accept()
                line.settimeout(PATIENCE)
                with line:
                    assert Instrument(lambda line=line: line.recv(4096), line.sendall).send(content(f"H|\\^&|{number}", "L|1|N")) == ACK
    assert [one.control_id for one in site.kept()] == ["1", "2"]


ORDER = (
    "MSH|^~\\&|HIS|H|LIS|L|20261124080000||OML^O21^OML_O21|1|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||P1^^^HIS^MR||王^小明||19800101|M\rORC|NW|O1\rOBR|1|O1||14749-6^Glucose^LN\rSPM|1|S1||SER\r"
)


@pytest.fixture
def laboratory(tmp_path: Path) -> tuple[Site, int]:
    """A site that keeps orders from MLLP and answers an instrument on the port given; its results go nowhere."""
    port = free_port()
    (tmp_path / "tests.csv").write_text("code,to\nGLU,14749-6\n")
    worklist = {"name": "worklist", "worklist": {"tests": "../tests.csv", "charset": "gb18030"}}
    site = Site(tmp_path / "site", destinations=[worklist], answer="from worklist")
    chemistry = {
        "name": "chemistry",
        "source": {"astm": {"listen": f"{HOST}:{port}", "charset": "gb18030"}},
        "destinations": [{**worklist, "when": ["message.type == 'ASTM^Q'"]}],
        "answer": "from worklist",
        "answer_within": "10s",
    }
    (site.folder / "channels" / "chemistry.yaml").write_text(json.dumps(chemistry))
    return site, port


def test_an_instrument_asks_for_its_orders(laboratory: tuple[Site, int]) -> None:
    """The answer comes on the same line, once the instrument has given it back, in its codes and its character set; results go on as before."""
    site, port = laboratory
    with site.running(), Line(site.port) as hospital, connected(port) as instrument:
        hospital.ask(ORDER.encode())
        query = content("H|\\^&|||Chem800|||||LIS||P|LIS2-A2", "Q|1|^S1||^^^ALL", "L|1|N")
        for _ in range(2):
            assert instrument.send(query) == ACK
            records = instrument.receive().decode("gb18030").split("\r")
            assert [one.split("|")[0] for one in records] == ["H", "P", "O", "L", ""]
            assert (records[1].split("|")[5], records[2].split("|")[4], records[3]) == ("王^小明", "^^^GLU", "L|1|F")
        assert instrument.send(content(charset="gb18030")) == ACK
        assert instrument.send(content("H|\\^&|||Chem800|||||LIS||P|LIS2-A2", "Q|1|^S9||^^^ALL", "L|1|N")) == ACK
        assert instrument.receive().decode().split("\r")[1:] == ["L|1|I", ""]
    assert len(site.kept()) == 5


def test_a_query_that_nobody_answers_has_no_information(tmp_path: Path) -> None:
    """A channel without a worklist says so at once."""
    port = free_port()
    site = Site(tmp_path, source={"astm": {"listen": f"{HOST}:{port}"}})
    with site.running(), connected(port) as instrument:
        assert instrument.send(content("H|\\^&|||Chem800|||||LIS||P|LIS2-A2", "Q|1|^S1||ALL", "L|1|N")) == ACK
        assert instrument.receive() == b"H|\\^&|||LIS|||||Chem800||P|LIS2-A2\rL|1|I\r"


def test_an_instrument_that_goes_before_its_answer(laboratory: tuple[Site, int]) -> None:
    """Is audited, and the next one is served."""
    site, port = laboratory
    with site.running():
        with connected(port) as instrument:
            assert instrument.send(content("H|\\^&|||Chem800", "Q|1|^S1||ALL", "L|1|N")) == ACK
            assert instrument.byte() == ENQ
        with connected(port) as instrument:
            assert instrument.send(content()) == ACK
        settled(site, 2)
    assert len(site.audited("astm.unanswered")) == 1
