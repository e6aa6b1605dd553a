"""Attachments of 100 MB (MTOM): taken by a `soap` source, and sent on by a `soap` destination, one after the other, over one connection.

How much memory the node needs for that is the difference between `rss_mb` and `rss_before_mb`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from engine.bench import site as sites
from engine.bench.loopback import HOST, only_loopback
from engine.bench.node import Node
from engine.bench.processes import Peer, peak_bytes
from engine.errors import MeridianError

TAKEN: Final = "taken"
FORWARDED: Final = "forwarded"
MEGABYTES: Final = 100
_ROUNDS: Final = 5
_PATIENCE: Final = 120.0
_LOOK_SECONDS: Final = 0.02
_BOUNDARY: Final = "meridian-bench-0b1e52c7"
_WSDL: Final = Path(__file__).parents[2] / "adapters" / "soap" / "generic" / "default.wsdl"
_ENVELOPE: Final = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header xmlns:a="http://www.w3.org/2005/08/addressing">'
    "<a:Action>urn:meridian:soap:Submit</a:Action><a:MessageID>urn:bench:{}</a:MessageID></s:Header>"
    '<s:Body><Submit xmlns="urn:meridian:soap"><Image><x:Include xmlns:x="http://www.w3.org/2004/08/xop/include" href="cid:image@bench"/>'
    "</Image></Submit></s:Body></s:Envelope>"
)
_PARTS: Final = (
    '--{0}\r\nContent-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"\r\nContent-ID: <root@bench>\r\n\r\n{1}\r\n'
    "--{0}\r\nContent-Type: application/octet-stream\r\nContent-ID: <image@bench>\r\n\r\n"
)
_HEAD: Final = (
    'POST /soap HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\nContent-Type: multipart/related; boundary="{}"; '
    'type="application/xop+xml"; start="<root@bench>"; start-info="application/soap+xml"\r\n\r\n'
)


def measure(folder: Path, megabytes: int = MEGABYTES, rounds: int = _ROUNDS) -> list[dict[str, Any]]:
    """One result for each of TAKEN and FORWARDED:

    megabytes, count, seconds     of one attachment; how many; for all of them: until the last was answered, or was at the sink
    mb_per_second                 1 MB is 1,000,000 bytes
    rss_before_mb, rss_mb         the most that the node's processes ever held together, before and after
    exactly_once                  each was answered as taken, and came to the sink whole and once
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return [_measured(kind, Path(scratch), megabytes, rounds) for kind in (TAKEN, FORWARDED)]


def _measured(kind: str, folder: Path, megabytes: int, rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        sink = stack.enter_context(Peer("engine.bench.soap_sink")) if kind == FORWARDED else None
        site = sites.write_site(folder / kind, sites.called(sink.port) if sink else sites.ingest_only(), protocol="soap")
        shutil.copy(_WSDL, site.folder / "service.wsdl")
        image = _Image(folder / f"{kind}.image", megabytes, rounds + 1)
        node = stack.enter_context(Node(site))
        caller = stack.enter_context(_Caller(site.port))
        if not caller.call(image, 0):  # what happens only once has happened then
            raise MeridianError("the node refused an attachment")
        _arrived(sink, 1)
        before, began = peak_bytes(node.pid), time.monotonic()
        taken = sum([caller.call(image, number) for number in range(1, rounds + 1)])
        counts = _arrived(sink, rounds + 1)
        ended = counts["last_at"] if sink else time.monotonic()
        after = peak_bytes(node.pid)
    arrived = counts["digests"] == image.digests and counts["total"] == rounds + 1 if sink else True
    return {
        "direction": kind,
        "megabytes": megabytes,
        "count": rounds,
        "seconds": round(ended - began, 3),
        "mb_per_second": round(rounds * image.size / 1e6 / max(ended - began, 1e-9), 1),
        "rss_before_mb": round(before / 1e6, 1),
        "rss_mb": round(after / 1e6, 1),
        "exactly_once": taken == rounds and arrived,
    }


def _arrived(sink: Peer | None, wanted: int) -> dict[str, Any]:
    """The sink's counts, once `wanted` are there or _PATIENCE is over."""
    if sink is None:
        return {}
    until, counts = time.monotonic() + _PATIENCE, sink.counts()
    while counts["total"] < wanted and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        counts = sink.counts()
    return counts


class _Image:
    """A file to be attached, which begins with another number each time. `digests` are SHA-256 of it with each of `count` numbers."""

    def __init__(self, file: Path, megabytes: int, count: int) -> None:
        self.file, self.size = file, megabytes * 1_000_000
        rest = os.urandom(1_000_000)
        with file.open("wb") as written:
            for _ in range(megabytes):
                written.write(rest)
        self.digests = [self._digest(number) for number in range(count)]

    def number(self, number: int) -> None:
        with self.file.open("r+b") as written:
            written.write(b"%016d" % number)

    def _digest(self, number: int) -> str:
        self.number(number)
        with self.file.open("rb") as read:
            return hashlib.file_digest(read, "sha256").hexdigest()


class _Caller:
    """One connection, with a blocking socket: the content goes from its file to the node without passing through here."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((only_loopback(HOST), port), timeout=_PATIENCE)

    def __enter__(self) -> _Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, image: _Image, number: int) -> bool:
        """Whether it was taken."""
        image.number(number)
        begin = _PARTS.format(_BOUNDARY, _ENVELOPE.format(number)).encode()
        end = f"\r\n--{_BOUNDARY}--\r\n".encode()
        head = _HEAD.format(len(begin) + image.size + len(end), _BOUNDARY).encode()
        self._socket.sendall(head + begin)
        with image.file.open("rb") as opened:
            self._socket.sendfile(opened)
        self._socket.sendall(end)
        answer = b""
        while b":Envelope>" not in answer:
            heard = self._socket.recv(1 << 16)
            if not heard:
                raise MeridianError("the node closed the connection")
            answer += heard
        return answer.startswith(b"HTTP/1.1 200") and b">accepted<" in answer
