"""The lines of an answer, gathered while the body comes: HTTP clients read an answer only when they have sent their request in full.

A few are in memory; many are in a file of their own, which is removed when the answer has gone out. Where the answer ends the connection,
or there is no room for the file, only the first faults are said, and the standing says the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from engine.http_answers import FilePiece, Piece

IN_MEMORY: Final = 256 << 10
MOST_FAULTS: Final = 200
_LEFT_OUT: Final = (
    b'{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"incomplete",'
    b'"diagnostics":"this report could not be written to its end: ask for the standing"}]}\n'
)


class Report:
    """`file` is where it lies if it is long."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._memory = bytearray()
        self._faults: list[bytes] = []
        self._file: BinaryIO | None = None
        self._length = 0
        self._cut = self.dropped = False

    def add(self, line: bytes, *, fault: bool) -> None:
        if fault and len(self._faults) < MOST_FAULTS:
            self._faults.append(line)
        if self._cut:
            return
        self._memory += line
        if len(self._memory) > IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = self._path.open("wb")
                self._path.chmod(0o600)
            self._file.write(self._memory)
            self._file.flush()
        except OSError:
            self._cut = True
            self._remove()
            return
        self._length += len(self._memory)
        self._memory.clear()

    def pieces(self, last: bytes) -> Sequence[Piece]:
        """All of it, then `last`."""
        if self._cut:
            return [self.brief(_LEFT_OUT + last)]
        if self._file is None:
            return [bytes(self._memory) + last]
        self._file.close()
        return [FilePiece(self._path, 0, self._length, temporary=True), bytes(self._memory) + last]

    def brief(self, last: bytes) -> bytes:
        """The first faults, then `last`; the rest is dropped."""
        self.drop()
        return b"".join(self._faults) + last

    def drop(self) -> None:
        """Nobody reads it."""
        self.dropped = True
        self._remove()

    def _remove(self) -> None:
        self._memory.clear()
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
            self._file = None
