"""The load generator, a process of its own: ``python -m engine.bench.generator '{"port": 2575, "connections": 10, "seconds": 5}'``.

Each connection has `in_flight` messages under way and sends the next when one is acknowledged. After `seconds`, or `messages`, it stops
sending and waits for what is still open. It prints one JSON object:

    acknowledged        answered AA or CA for the control id that was sent
    refused             answered anything else
    unanswered          open when the connection was lost or PATIENCE was over
    per_second          acknowledged in the time from began_at to ended_at
    p50_ms … max_ms     from the write of a frame to the read of its answer
    began_at, ended_at  CLOCK_MONOTONIC, the same in all processes
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from engine.bench.corpus import Frames, control_id
from engine.bench.latency import summary
from engine.bench.loopback import HOST, only_loopback

END: Final = b"\x1c\r"
PATIENCE: Final = 30.0
"""Seconds without any answer after which the rest counts as unanswered."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. `first` is the number of the first message, so that no control id comes twice in a scenario."""

    port: int
    connections: int = 1
    in_flight: int = 1
    seconds: float = 5.0
    messages: int = 1 << 40
    first: int = 0
    host: str = HOST


class _Connection:
    """A blocking socket, read only when there is something: the receiver always reads on, so a blocking write cannot hang for ever."""

    __slots__ = ("buffer", "sent", "socket")

    def __init__(self, load: Load) -> None:
        self.socket = socket.create_connection((only_loopback(load.host), load.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(None)  # with a timeout each read would cost a second system call
        self.buffer = b""
        self.sent: deque[tuple[int, float]] = deque()


class Generator:
    """One run of a load. Raises OSError where nobody listens."""

    def __init__(self, load: Load) -> None:
        self._load, self._frames = load, Frames()
        self._next, self._last = load.first, load.first + load.messages
        self._latencies = array("d")
        self._refused = 0
        self._epoll = select.epoll()
        self._open: dict[int, _Connection] = {}
        for _ in range(load.connections):
            connection = _Connection(load)
            self._open[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket.fileno(), select.EPOLLIN)

    def run(self) -> dict[str, Any]:
        """Send, wait, report."""
        began = time.monotonic()
        until = began + self._load.seconds
        for connection in self._open.values():
            self._send(connection, self._load.in_flight)
        waiting = lost = 0
        while any(connection.sent for connection in self._open.values()):
            ready = self._epoll.poll(PATIENCE)
            if not ready:
                break
            now = time.monotonic()
            for number, _ in ready:
                answered = self._receive(self._open[number], now)
                if answered is None:
                    lost += len(self._open[number].sent)
                    self._close(number)
                elif now < until:
                    self._send(self._open[number], answered)
        ended = time.monotonic()
        waiting = sum(len(connection.sent) for connection in self._open.values())
        for number in list(self._open):
            self._close(number)
        sent = self._next - self._load.first
        return report(self._load, self._latencies, self._refused, waiting + lost, sent, began, ended)

    def _send(self, connection: _Connection, count: int) -> None:
        numbers = range(self._next, min(self._next + count, self._last))
        if not numbers:
            return
        self._next = numbers.stop
        data = b"".join([self._frames.frame(number) for number in numbers])
        now = time.monotonic()
        connection.sent.extend((number, now) for number in numbers)
        with contextlib.suppress(OSError):  # the end of the connection shows when it is read
            connection.socket.sendall(data)

    def _receive(self, connection: _Connection, now: float) -> int | None:
        """How many answers came; None where the connection has ended."""
        try:
            data = connection.socket.recv(1 << 18)
        except OSError:
            return None
        if not data:
            return None
        *frames, connection.buffer = (connection.buffer + data).split(END)
        for frame in frames:
            if not connection.sent:
                return None  # an answer to nothing: this peer cannot be measured
            number, at = connection.sent.popleft()
            if _is_positive(frame, control_id(number)):
                self._latencies.append(now - at)
            else:
                self._refused += 1
        return len(frames)

    def _close(self, number: int) -> None:
        self._epoll.unregister(number)
        self._open.pop(number).socket.close()


def report(load: Load, latencies: Sequence[float], refused: int, unanswered: int, sent: int, began: float, ended: float) -> dict[str, Any]:
    """What a load generator prints."""
    return {
        **asdict(load),
        "acknowledged": len(latencies),
        "refused": refused,
        "unanswered": unanswered,
        "sent": sent,
        "per_second": round(len(latencies) / max(ended - began, 1e-9), 1),
        **summary(latencies),
        "began_at": began,
        "ended_at": ended,
        "cpu_seconds": round(sum(os.times()[:2]), 3),
    }


def _is_positive(frame: bytes, expected: bytes) -> bool:
    """Whether MSA says AA or CA of just this control id."""
    return b"\rMSA|AA|" + expected in frame or b"\rMSA|CA|" + expected in frame


if __name__ == "__main__":
    print(json.dumps(Generator(Load(**json.loads(sys.argv[1]))).run()), flush=True)
