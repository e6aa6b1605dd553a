"""An answer on its way to the client: a block at a time, as the transport has room, so that its size costs no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Final

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from engine.http_answers import FilePiece, Piece, forget

BLOCK: Final = 256 << 10


@implementer(IPullProducer)
class Sending:
    """`done` hears whether it went out to its end: it does not where a file is gone. `turns` counts the blocks."""

    def __init__(self, pieces: Sequence[Piece], transport: Any, done: Callable[[bool], None]) -> None:
        self._pieces, self._blocks = pieces, self._read(pieces)
        self._transport, self._done = transport, done
        self._file: BinaryIO | None = None
        self._active = True
        self.turns = 0

    def start(self) -> None:
        self._transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        if not self._active:
            return
        self.turns += 1
        try:
            block = next(self._blocks, None)
        except OSError:
            self._end(False)
            return
        if block is None:
            self._end(True)
        else:
            self._transport.write(block)

    def stopProducing(self) -> None:
        self._active = False
        if self._file is not None:
            self._file.close()
        forget(self._pieces)

    def _end(self, complete: bool) -> None:
        self.stopProducing()
        self._transport.unregisterProducer()
        self._done(complete)

    def _read(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, FilePiece):
                yield from self._blocks_of(piece)
            elif piece:
                yield piece

    def _blocks_of(self, piece: FilePiece) -> Iterator[bytes]:
        with piece.path.open("rb") as self._file:
            self._file.seek(piece.offset)
            left = piece.length
            while left:
                block = self._file.read(min(BLOCK, left))
                if not block:
                    raise OSError("the file is shorter than it was")
                left -= len(block)
                yield block
