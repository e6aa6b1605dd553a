"""Requests over HTTP connections that stay open, each with one under way: what the load generators of HTTP have in common."""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from array import array
from collections.abc import Callable
from typing import Any

from engine.bench.generator import PATIENCE, Load, report
from engine.bench.loopback import only_loopback


class _Client:
    """A socket that is read only when there is something."""

    __slots__ = ("at", "buffer", "number", "socket")

    def __init__(self, load: Load, secure: Callable[[socket.socket], socket.socket]) -> None:
        plain = socket.create_connection((only_loopback(load.host), load.port), timeout=PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = secure(plain)
        self.socket.setblocking(False)  # a request is smaller than what the system takes at once
        self.buffer = b""
        self.number, self.at = 0, 0.0


class HttpLoad:
    """One run of a load, of the messages from `load.first` to before `last`. `request` makes the bytes of a message, `is_good` looks at its
    answer; `secure` does the handshake, which is over before the clock starts. Raises OSError where nobody listens."""

    def __init__(
        self,
        load: Load,
        last: int,
        request: Callable[[int], bytes],
        is_good: Callable[[bytes, int], bool],
        secure: Callable[[socket.socket], socket.socket] = lambda plain: plain,
    ) -> None:
        self._load, self._next, self._last = load, load.first, last
        self._request, self._is_good = request, is_good
        self._latencies = array("d")
        self._refused = self._lost = 0
        self._epoll = select.epoll()
        self._busy: dict[int, _Client] = {}
        for _ in range(load.connections):
            client = _Client(load, secure)
            self._busy[client.socket.fileno()] = client
            self._epoll.register(client.socket.fileno(), select.EPOLLIN)

    def run(self) -> dict[str, Any]:
        """Send, wait, report."""
        began, cpu = time.monotonic(), sum(os.times()[:2])
        until = began + self._load.seconds
        for number in list(self._busy):
            self._send(number)
        while self._busy and (ready := self._epoll.poll(PATIENCE)):
            now = time.monotonic()
            for number, _ in ready:
                self._receive(number, now, until)
        ended = time.monotonic()
        unanswered = self._lost + len(self._busy)
        for number in list(self._busy):
            self._close(number)
        told = report(self._load, self._latencies, self._refused, unanswered, self._next - self._load.first, began, ended)
        return {**told, "cpu_seconds": round(sum(os.times()[:2]) - cpu, 3)}

    def _send(self, number: int) -> None:
        if self._next >= self._last:
            self._close(number)
            return
        client = self._busy[number]
        client.number, self._next = self._next, self._next + 1
        data = self._request(client.number)
        client.at = time.monotonic()
        try:
            client.socket.sendall(data)
        except OSError:
            self._lose(number)

    def _receive(self, number: int, now: float, until: float) -> None:
        client = self._busy[number]
        try:
            data = client.socket.recv(1 << 18)
        except (ssl.SSLWantReadError, BlockingIOError):
            return  # a session ticket
        except OSError:
            data = b""
        if not data:
            self._lose(number)
            return
        client.buffer += data
        if not answered(client.buffer):
            return
        if self._is_good(client.buffer, client.number):
            self._latencies.append(now - client.at)
        else:
            self._refused += 1
        client.buffer = b""
        if now < until:
            self._send(number)
        else:
            self._close(number)

    def _lose(self, number: int) -> None:
        self._lost += 1
        self._close(number)

    def _close(self, number: int) -> None:
        self._epoll.unregister(number)
        self._busy.pop(number).socket.close()


def answered(buffer: bytes) -> bool:
    """Whether `buffer` holds an HTTP answer with Content-Length in full."""
    head, end, body = buffer.partition(b"\r\n\r\n")
    if not end:
        return False
    length = next((line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b"0")
    return len(body) >= int(length)
