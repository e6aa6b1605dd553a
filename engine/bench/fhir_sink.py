"""The FHIR sink, a process of its own: takes Bundles over mutual TLS and answers each with a transaction-response.

``python -m engine.bench.fhir_sink FOLDER``: FOLDER holds node.pem, node.key and ca.pem. It speaks to its starter as engine.bench.sink does,
and counts the control ids of the messages that the Bundles were made from (Bundle.identifier).
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from engine.bench.loopback import HOST
from engine.bench.sink import Counts

_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length:[ ]*(\d+)")
_CONTROL_ID: Final = re.compile(rb'"value":\s*"(B\d{11})[-"]')
_ENTRY: Final = b'"request":'


class FhirSink:
    """Counts over all connections; `seen` holds the control ids."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._counts = Counts()

    def take(self, body: bytes) -> bytes:
        """Count a Bundle; gives the HTTP answer, with one entry for each of the request's."""
        self._counts.total += 1
        self._counts.last_at = time.monotonic()
        self.seen.update(_CONTROL_ID.findall(body, 0, 2048)[:1])
        entries = ",".join(['{"response":{"status":"201 Created"}}'] * body.count(_ENTRY))
        answer = f'{{"resourceType":"Bundle","type":"transaction-response","entry":[{entries}]}}'
        return f"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode()

    def report(self) -> str:
        self._counts.distinct = len(self.seen)
        return json.dumps(asdict(self._counts))


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with Content-Length, as much of it as Meridian's client speaks."""

    def __init__(self, sink: FhirSink) -> None:
        self._sink, self._buffer = sink, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < total:
                return
            self._transport.write(self._sink.take(bytes(self._buffer[end + 4 : total])))
            del self._buffer[:total]


async def serve(folder: Path) -> None:
    """Until standard input ends."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "node.pem", folder / "node.key")
    sink, loop = FhirSink(), asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def asked() -> None:
        if sys.stdin.readline():
            print(sink.report(), flush=True)
        elif not ended.done():
            ended.set_result(None)

    loop.add_reader(sys.stdin.fileno(), asked)
    server = await loop.create_server(lambda: _Connection(sink), HOST, 0, ssl=context)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await ended
    loop.remove_reader(sys.stdin.fileno())
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
