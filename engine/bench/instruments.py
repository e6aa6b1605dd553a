"""Laboratory instruments under load, a process of its own: ``python -m engine.bench.instruments '{"port": 9100, "connections": 200}'``.

As engine.bench.generator, with ASTM transfers: each connection has one under way, and begins the next when it has given the line back.
A latency is from the write of the last frame, the one that ends the message, to its ACK: that is what an instrument waits for.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time
from array import array
from typing import Any, Final

from engine.bench.corpus import control_id
from engine.bench.generator import PATIENCE, Load, report
from engine.bench.loopback import only_loopback
from engine.demo.instruments import ACK, ENQ, EOT, frames

RESULTS: Final = 4


def message(number: int) -> bytes:
    """A patient, a specimen, four results: 0.5 KB, seven frames."""
    lines = [
        f"H|\\^&|{control_id(number).decode()}||BENCH^1|||||LIS||P|LIS2-A2|20261123081500",
        f"P|1|B{number % 1000:07d}|||测^试{number % 1000:04d}||19700101|F",
        f"O|1|S{number:09d}||^^^GLU\\^^^K\\^^^NA\\^^^CL|R||20261123080000||||||||SER",
    ]
    lines += [
        f"R|{index}|^^^T{index}|{index + number % 10}.{index}|mmol/L|3.5^6.1|N||F||op||20261123081400" for index in range(1, RESULTS + 1)
    ]
    return "".join(f"{line}\r" for line in (*lines, "L|1|N")).encode()


class _Instrument:
    """A blocking socket, read only when there is something."""

    __slots__ = ("at", "next", "parts", "socket")

    def __init__(self, load: Load) -> None:
        self.socket = socket.create_connection((only_loopback(load.host), load.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(None)
        self.parts: list[bytes] = []
        self.next = 0
        self.at = 0.0


class Instruments:
    """One run of a load. Raises OSError where nobody listens."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._next, self._last = load.first, load.first + load.messages
        self._latencies = array("d")
        self._refused = self._lost = 0
        self._epoll = select.epoll()
        self._busy: dict[int, _Instrument] = {}
        for _ in range(load.connections):
            instrument = _Instrument(load)
            self._busy[instrument.socket.fileno()] = instrument
            self._epoll.register(instrument.socket.fileno(), select.EPOLLIN)

    def run(self) -> dict[str, Any]:
        """Send, wait, report."""
        began = time.monotonic()
        until = began + self._load.seconds
        for number in list(self._busy):
            self._begin(number)
        while self._busy:
            ready = self._epoll.poll(PATIENCE)
            if not ready:
                break
            for number, _ in ready:
                self._answered(number, until)
        ended = time.monotonic()
        unanswered = self._lost + len(self._busy)
        for number in list(self._busy):
            self._close(number)
        sent = self._next - self._load.first
        return report(self._load, self._latencies, self._refused, unanswered, sent, began, ended)

    def _begin(self, number: int) -> None:
        if self._next >= self._last:
            self._close(number)
            return
        instrument = self._busy[number]
        instrument.parts = [ENQ, *frames(message(self._next)), EOT]
        self._next += 1
        instrument.next = 0
        self._send(instrument)

    @staticmethod
    def _send(instrument: _Instrument) -> None:
        instrument.at = time.monotonic()
        with contextlib.suppress(OSError):  # the end of the connection shows when it is read
            instrument.socket.sendall(instrument.parts[instrument.next])
        instrument.next += 1

    def _answered(self, number: int, until: float) -> None:
        instrument = self._busy[number]
        try:
            answer = instrument.socket.recv(16)
        except OSError:
            answer = b""
        now = time.monotonic()
        if answer == ACK and instrument.next < len(instrument.parts) - 1:
            self._send(instrument)
            return
        if answer == ACK:
            self._latencies.append(now - instrument.at)
            instrument.next = len(instrument.parts) - 1
            self._send(instrument)
        elif answer:
            self._refused += 1
        else:
            self._lost += 1
        if not answer or answer != ACK or now >= until:
            self._close(number)
        else:
            self._begin(number)

    def _close(self, number: int) -> None:
        self._epoll.unregister(number)
        self._busy.pop(number).socket.close()


if __name__ == "__main__":
    print(json.dumps(Instruments(Load(**json.loads(sys.argv[1]))).run()), flush=True)
