"""A SOAP service that takes attachments, a process of its own: ``python -m engine.bench.soap_sink``. It speaks to its starter as
engine.bench.sink does, and tells the SHA-256 of the second part of each message, in the order of arrival (`digests`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import time
from typing import Final

from engine.bench.loopback import HOST

_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length:[ ]*(\d+)")
_BOUNDARY: Final = re.compile(rb"(?i)\r\ncontent-type:[^\r]*boundary=\"?([^\";\r]+)")
_ANSWER: Final = (
    b'<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body><SubmitResponse xmlns="urn:meridian:soap"><id>1</id>'
    b"<code>accepted</code><text/></SubmitResponse></e:Body></e:Envelope>"
)
_MOST_BEFORE: Final = 1 << 20


class SoapSink:
    """Counts over all connections."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self._last_at = 0.0

    def take(self, digest: str) -> bytes:
        self.digests.append(digest)
        self._last_at = time.monotonic()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml; charset=utf-8\r\nContent-Length: {len(_ANSWER)}\r\n\r\n"
        return head.encode() + _ANSWER

    def report(self) -> str:
        return json.dumps({"total": len(self.digests), "digests": self.digests, "last_at": self._last_at})


class _Reading:
    """One request with Content-Length: hashes the second part of its body as it comes."""

    def __init__(self, head: bytes) -> None:
        length, boundary = _LENGTH.search(head), _BOUNDARY.search(head)
        assert length is not None
        assert boundary is not None
        self._delimiter = b"\r\n--" + boundary[1]
        self._end = len(self._delimiter) + 4  # --\r\n
        self._left, self._before, self._digest = int(length[1]), b"", hashlib.sha256()
        self._in_part = False

    def feed(self, data: bytearray) -> bool:
        """Take what is this request's from `data`; True where it is complete."""
        took = bytes(data[: self._left])
        del data[: len(took)]
        self._left -= len(took)
        if not self._in_part:
            took = self._begin(took)
        most = len(took) - max(0, self._end - self._left)  # the close delimiter is at the very end
        self._digest.update(memoryview(took)[: max(0, most)])
        return self._left == 0

    def _begin(self, data: bytes) -> bytes:
        self._before += data
        second = self._before.find(self._delimiter)
        content = self._before.find(b"\r\n\r\n", second)
        if second < 0 or content < 0:
            if len(self._before) > _MOST_BEFORE:
                raise ValueError("no second part")
            return b""
        self._in_part = True
        return self._before[content + 4 :]

    def digest(self) -> str:
        return self._digest.hexdigest()


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with Content-Length, as much of it as Meridian's client speaks."""

    def __init__(self, sink: SoapSink) -> None:
        self._sink, self._buffer = sink, bytearray()
        self._reading: _Reading | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._reading is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._reading = _Reading(bytes(self._buffer[: end + 2]))
            del self._buffer[: end + 4]
        if self._reading.feed(self._buffer):
            self._transport.write(self._sink.take(self._reading.digest()))
            self._reading = None


async def serve() -> None:
    """Until standard input ends."""
    sink, loop = SoapSink(), asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def asked() -> None:
        if sys.stdin.readline():
            print(sink.report(), flush=True)
        elif not ended.done():
            ended.set_result(None)

    loop.add_reader(sys.stdin.fileno(), asked)
    server = await loop.create_server(lambda: _Connection(sink), HOST, 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await ended
    loop.remove_reader(sys.stdin.fileno())
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
