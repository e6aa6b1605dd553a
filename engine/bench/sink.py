"""The MLLP sink, a process of its own: answers AA at once and counts control ids. ``python -m engine.bench.sink``.

It prints ``{"port": n}`` when it listens, and for each line on standard input its counts so far; it ends with its standard input.

    total   messages taken      distinct   different control ids among them      last_at   CLOCK_MONOTONIC of the newest, 0 without one
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

from engine.bench.loopback import HOST

END: Final = b"\x1c\r"


@dataclass(slots=True)
class Counts:
    """What has come so far."""

    total: int = 0
    distinct: int = 0
    last_at: float = 0.0


def listen() -> socket.socket:
    """A listening socket on a port of the system's choice."""
    server = socket.create_server((HOST, 0), backlog=256)
    print(json.dumps({"port": server.getsockname()[1]}), flush=True)
    return server


def acknowledge(frame: bytes) -> tuple[bytes, bytes]:
    """The control id (MSH-10) of a frame's content, and the frame that answers it."""
    control_id = frame.split(b"|", 10)[9]
    return control_id, b"\x0bMSH|^~\\&|SINK|SINK|MERIDIAN||20261123||ACK|%b|P|2.5\rMSA|AA|%b\r\x1c\r" % (control_id, control_id)


class MllpSink:
    """One epoll loop over the listener, the connections and standard input."""

    def __init__(self) -> None:
        self._server, self._counts, self._seen = listen(), Counts(), set[bytes]()
        self._connections: dict[int, tuple[socket.socket, bytes]] = {}
        self._epoll = select.epoll()
        for file in (self._server.fileno(), sys.stdin.fileno()):
            self._epoll.register(file, select.EPOLLIN)

    def run(self) -> None:
        while True:
            for number, _ in self._epoll.poll():
                if number in self._connections:
                    self._receive(number)
                elif number == self._server.fileno():
                    self._accept()
                elif not sys.stdin.readline():
                    return
                else:
                    self._counts.distinct = len(self._seen)
                    print(json.dumps(asdict(self._counts)), flush=True)

    def _accept(self) -> None:
        connection, _ = self._server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection.fileno()] = (connection, b"")
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _receive(self, number: int) -> None:
        connection, buffer = self._connections[number]
        try:
            data = connection.recv(1 << 18)
            *frames, buffer = (buffer + data).split(END)
            answers = []
            for frame in frames:
                control_id, answer = acknowledge(frame)
                self._seen.add(control_id)
                answers.append(answer)
            if answers:
                self._counts.total += len(frames)
                self._counts.last_at = time.monotonic()
                connection.sendall(b"".join(answers))
        except OSError:
            data = b""
        if data:
            self._connections[number] = (connection, buffer)
        else:
            self._epoll.unregister(number)
            del self._connections[number]
            connection.close()


if __name__ == "__main__":
    MllpSink().run()
