"""Between the node and processes that it has started itself: length-prefixed pickles through two pipes. Nothing from outside is unpickled.

The node's end of such a process is engine.child.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
from collections.abc import Iterator
from typing import Any, Final

TO_CHILD: Final = 3
FROM_CHILD: Final = 4
"""File descriptors of the child; standard input, output and error are those of the node."""

_LENGTH: Final = struct.Struct("!I")


def block(value: Any) -> bytes:
    """`value` as it goes through a pipe."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


class Blocks:
    """Cuts values out of a byte stream, whatever its chunks."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The values that `data` completes."""
        buffer, values = self._buffer, []
        buffer += data
        while len(buffer) >= _LENGTH.size and len(buffer) >= (end := _LENGTH.size + _LENGTH.unpack_from(buffer)[0]):
            values.append(pickle.loads(bytes(buffer[_LENGTH.size : end])))  # noqa: S301  # our own child's
            del buffer[:end]
        return values


class Parent:
    """A child's end: what comes, value after value until the node closes the pipe or is gone, and `send`.

    Signals are for the node alone: Ctrl-C and SIGTERM reach the whole group of processes, and a child must outlive them until the
    node has drained.
    """

    def __init__(self) -> None:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        self._in, self._out = os.fdopen(TO_CHILD, "rb"), os.fdopen(FROM_CHILD, "wb")

    def __iter__(self) -> Iterator[Any]:
        while len(head := self._in.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            if len(data := self._in.read(length)) < length:
                return
            yield pickle.loads(data)  # noqa: S301  # our own parent's

    def send(self, value: Any) -> None:
        """Ends the process where the node is gone."""
        try:
            self._out.write(block(value))
            self._out.flush()
        except BrokenPipeError:
            os._exit(0)
