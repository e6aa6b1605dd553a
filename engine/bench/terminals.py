"""Terminals under load, a process of its own: ``python -m engine.bench.terminals '{"port": 8088, "connections": 1000}'``.

As engine.bench.generator, with FHIR creates of one Observation of 1 KB over HTTP connections that stay open, each with one request under
way; with `certs` over mutual TLS, whose handshakes are over before the clock starts.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.bench.callers import answered
from engine.bench.corpus import PATIENTS, control_id
from engine.bench.generator import PATIENCE, Load, report
from engine.bench.loopback import only_loopback

_HEAD: Final = b"POST /fhir/Observation HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\n\r\n"
_GOOD: Final = (b"HTTP/1.1 200", b"HTTP/1.1 201", b"HTTP/1.1 202")
_VITALS: Final = (("8480-6", "Systolic blood pressure", "mm[Hg]", 118), ("8462-4", "Diastolic blood pressure", "mm[Hg]", 76))


@dataclass(frozen=True, slots=True)
class TerminalLoad(Load):
    """`certs` is a folder with node.pem, node.key and ca.pem, "" to speak in the clear."""

    certs: str = ""


def observation(number: int) -> bytes:
    """A blood pressure, as a nurse's terminal writes it: about 1 KB."""
    patient = number % PATIENTS
    parts = [
        {
            "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": text}]},
            "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        }
        for code, text, unit, value in _VITALS
    ]
    made = {
        "resourceType": "Observation",
        "identifier": [{"system": "urn:meridian:bench", "value": control_id(number).decode()}],
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel"}]},
        "subject": {"identifier": {"system": "urn:oid:1.2.156.1", "value": f"B{patient:07d}"}},
        "effectiveDateTime": "2026-11-23T08:15:00+08:00",
        "performer": [{"identifier": {"system": "urn:oid:1.2.156.2", "value": f"N{number % 97:04d}"}}],
        "component": parts,
    }
    return json.dumps(made, separators=(",", ":")).encode()


class _Terminal:
    """A socket that is read only when there is something."""

    __slots__ = ("at", "buffer", "socket")

    def __init__(self, load: TerminalLoad, secure: Callable[[socket.socket], socket.socket]) -> None:
        plain = socket.create_connection((only_loopback(load.host), load.port), timeout=PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = secure(plain)
        self.socket.setblocking(False)
        self.buffer, self.at = b"", 0.0


class Terminals:
    """One run of a load. Raises OSError where nobody listens."""

    def __init__(self, load: TerminalLoad) -> None:
        self._load = load
        self._next, self._last = load.first, load.first + load.messages
        self._latencies = array("d")
        self._refused = self._lost = 0
        self._epoll = select.epoll()
        self._busy: dict[int, _Terminal] = {}
        secure = _secure(load.certs)
        for _ in range(load.connections):
            terminal = _Terminal(load, secure)
            self._busy[terminal.socket.fileno()] = terminal
            self._epoll.register(terminal.socket.fileno(), select.EPOLLIN)

    def run(self) -> dict[str, Any]:
        """Send, wait, report."""
        began, cpu = time.monotonic(), sum(os.times()[:2])
        until = began + self._load.seconds
        for number in list(self._busy):
            self._post(number)
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

    def _post(self, number: int) -> None:
        if self._next >= self._last:
            self._close(number)
            return
        body = observation(self._next)
        self._next += 1
        terminal = self._busy[number]
        terminal.at = time.monotonic()
        try:
            terminal.socket.sendall(_HEAD % len(body) + body)
        except OSError:
            self._lost += 1
            self._close(number)

    def _receive(self, number: int, now: float, until: float) -> None:
        terminal = self._busy[number]
        try:
            data = terminal.socket.recv(1 << 16)
        except (ssl.SSLWantReadError, BlockingIOError):
            return  # a session ticket
        except OSError:
            data = b""
        if not data:
            self._lost += 1
            self._close(number)
            return
        terminal.buffer += data
        if not answered(terminal.buffer):
            return
        if terminal.buffer.startswith(_GOOD):
            self._latencies.append(now - terminal.at)
        else:
            self._refused += 1
        terminal.buffer = b""
        if now < until:
            self._post(number)
        else:
            self._close(number)

    def _close(self, number: int) -> None:
        self._epoll.unregister(number)
        self._busy.pop(number).socket.close()


def _secure(certs: str) -> Callable[[socket.socket], socket.socket]:
    if not certs:
        return lambda plain: plain
    context = ssl.create_default_context(cafile=str(Path(certs) / "ca.pem"))
    context.load_cert_chain(Path(certs) / "node.pem", Path(certs) / "node.key")
    return lambda plain: context.wrap_socket(plain, server_hostname="localhost")


if __name__ == "__main__":
    print(json.dumps(Terminals(TerminalLoad(**json.loads(sys.argv[1]))).run()), flush=True)
