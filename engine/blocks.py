"""Between the node and a process that it has started itself: length-prefixed pickles over pipes. Nothing from outside is unpickled."""

from __future__ import annotations

import pickle
import signal
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

_LENGTH: Final = struct.Struct("!I")


def block(value: Any) -> bytes:
    """`value` as it goes through a pipe."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


class Blocks:
    """Cuts values out of a byte stream, whatever its chunks."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The values that `data` completes."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                return
            value = pickle.loads(memoryview(buffer)[_LENGTH.size : end])  # noqa: S301  # our own process's
            del buffer[:end]
            yield value


def read_block(stream: BinaryIO) -> Any:
    """The next value of a stream. Raises EOFError at its end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return pickle.loads(stream.read(_LENGTH.unpack(head)[0]))  # noqa: S301  # our own parent's


def outlive_signals() -> None:
    """Ctrl-C and SIGTERM reach the whole group of processes; the node alone decides when its own end, by closing their pipe."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
