"""Terminals that are slow, half dead or hostile, a process of its own: ``python -m engine.bench.hostile PORT EACH``. It speaks to its
starter as engine.bench.sink does, and counts connections `opened`, and `ended` by the node. Of each kind there are EACH at any time:

dripping     a byte of a request's head now and then
half open    half a body, and nothing more
deaf         request after request, and no answer read
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

from engine.bench.loopback import HOST

_PAUSE: Final = 0.2
_POST: Final = b"POST /fhir/Observation HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/fhir+json\r\n"
_ASKED: Final = b"GET /fhir/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20


class Counts:
    """Of all connections so far."""

    opened = 0
    ended = 0


async def dripping() -> AsyncIterator[bytes]:
    for letter in _POST + b"X-Slow: " + b"a" * 8000:
        yield bytes([letter])


async def half_open() -> AsyncIterator[bytes]:
    yield _POST + b'Content-Length: 5000\r\n\r\n{"resourceType":'
    while True:
        yield b""


async def deaf() -> AsyncIterator[bytes]:
    while True:
        yield _ASKED


async def bother(port: int, says: Callable[[], AsyncIterator[bytes]], counts: Counts) -> None:
    """One terminal after the other, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as one:
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            try:
                await loop.sock_connect(one, (HOST, port))
                counts.opened += 1
                async for data in says():
                    await loop.sock_sendall(one, data)
                    await asyncio.sleep(_PAUSE)
                    if says is not deaf and _is_over(one):
                        break
            except OSError:
                pass
            counts.ended += 1
        await asyncio.sleep(_PAUSE)


def _is_over(one: socket.socket) -> bool:
    """The node has said something, which can only be that it waits no longer, or has closed."""
    try:
        one.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


async def serve(port: int, each: int) -> None:
    """Until standard input ends."""
    counts, loop = Counts(), asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()

    def asked() -> None:
        if sys.stdin.readline():
            print(json.dumps({"opened": counts.opened, "ended": counts.ended}), flush=True)
        elif not stopped.done():
            stopped.set_result(None)

    loop.add_reader(sys.stdin.fileno(), asked)
    tasks = [asyncio.create_task(bother(port, says, counts)) for says in (dripping, half_open, deaf) for _ in range(each)]
    print(json.dumps({"port": port}), flush=True)
    await stopped
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
