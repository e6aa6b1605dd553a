"""Writing to a socket or pipe at once, where nothing waits to be written before.

Twisted's own `write` puts the bytes aside, asks the poller for the socket's writability, and writes on the next turn: for an answer of
a hundred bytes that is two system calls and a turn of the reactor too many.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor


def write_now(transport: Any, data: bytes) -> None:
    """As ``transport.write(data)``, in the same order; what the socket or pipe does not take now goes the usual way, and so does
    everything over TLS."""
    if isinstance(transport, FileDescriptor) and _is_idle(transport):
        written = transport.writeSomeData(data)
        if isinstance(written, int):  # else the connection is lost, which the usual way tells the protocol
            data = data[written:]
    if data:
        transport.write(data)


def _is_idle(transport: Any) -> bool:
    """Whether it is open and all that was given to it is written."""
    waits = transport.dataBuffer or transport._tempDataBuffer  # Twisted has no public name for it
    return bool(transport.connected) and not (waits or transport.disconnecting or getattr(transport, "TLS", False))
