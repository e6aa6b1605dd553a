"""A data set on its way from the wire to the disk: written and hashed in a thread, in order, a bounded run of pieces at a time.

The reactor thread only collects views of what it has read. A small data set stays in memory and becomes a row of the store; a larger one
is a body file. While more than `most` bytes wait for the disk the association is held. Once `finish` has been asked the outcome comes to
`done` on the reactor thread, exactly once, unless `abort` was called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from engine.errors import StoreError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from adapters.dicom.upper.protocol import UpperLayer
    from engine.message import BodyRef
    from engine.store.contract import Spool

SMALL: Final = 64 << 10
"""Bytes of a data set that is kept in memory rather than in a file of its own."""
BATCH: Final = 1 << 20
"""Bytes that are handed to a thread at once, unless the data set ends before."""

Run = Callable[..., "Deferred[Any]"]
"""Calls a function with arguments in a thread (twisted.internet.threads.deferToThreadPool without its pool)."""


class Written(NamedTuple):
    """`body`: the file; `digest`: SHA-256 of the data set alone."""

    body: bytes | BodyRef
    digest: bytes


class Spooling:
    """Of one data set. `head` is written before it and not part of its digest."""

    def __init__(
        self, head: bytes, spool: Callable[[], Spool], run: Run, layer: UpperLayer, most: int, done: Callable[[Written | StoreError], None]
    ) -> None:
        self._head, self._open, self._run, self._layer, self._most, self._done = head, spool, run, layer, most, done
        self._pieces: list[memoryview] = []
        self._waiting = self._under_way = 0
        self._spool: Spool | None = None
        self._hash = hashlib.sha256()
        self._error: StoreError | None = None
        self._finishing = self._aborted = False
        self.size = 0

    def write(self, data: memoryview) -> None:
        self.size += len(data)
        if self._error is not None:
            return
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting >= BATCH:
            self._hand_over()
        if self._waiting + self._under_way >= self._most:
            self._layer.hold(self)

    def finish(self) -> None:
        """The data set is complete."""
        self._finishing = True
        self._hand_over()

    def abort(self) -> None:
        """It will not be; nothing is kept, and `done` is not called."""
        self._aborted = True
        self._layer.let_go(self)
        if not self._under_way:
            self._drop()

    def _drop(self) -> None:
        self._pieces.clear()
        if self._spool is not None:
            self._spool.abort()
            self._spool = None

    def _hand_over(self) -> None:
        if self._under_way:
            return
        if self._error is not None:
            self._tell(self._error)
            return
        if self._finishing and self._spool is None and self.size <= SMALL:
            content = b"".join(self._pieces)
            self._tell(Written(self._head + content, hashlib.sha256(content).digest()))
            return
        try:
            spool = self._begin()
        except StoreError as error:
            self._failed(error)
            return
        pieces, self._pieces = self._pieces, []
        self._under_way, self._waiting = max(1, self._waiting), 0
        self._run(self._work, spool, pieces, self._finishing).addCallbacks(self._worked, self._failing)

    def _begin(self) -> Spool:
        if self._spool is None:
            self._spool = self._open()
            self._spool.write(self._head)
        return self._spool

    def _work(self, spool: Spool, pieces: list[memoryview], last: bool) -> Written | None:
        """In a thread. Both release the interpreter's lock for pieces of this size."""
        for piece in pieces:
            spool.write(piece)
            self._hash.update(piece)
        return Written(spool.finish(), self._hash.digest()) if last else None

    def _worked(self, written: Written | None) -> None:
        self._under_way = 0
        if self._aborted:
            if written is None:
                self._drop()
            return
        if written is not None:
            self._tell(written)
            return
        if self._waiting < self._most:
            self._layer.let_go(self)
        if self._finishing or self._waiting >= BATCH:
            self._hand_over()

    def _failing(self, failure: Failure) -> None:
        failure.trap(StoreError)
        assert isinstance(failure.value, StoreError)
        self._under_way = 0
        self._failed(failure.value)

    def _failed(self, error: StoreError) -> None:
        """Take the rest of the data set and drop it, then say so: the peer reads no answer before it has sent all."""
        self._error = error
        self._pieces.clear()
        self._waiting = 0
        self._layer.let_go(self)
        if self._finishing and not self._aborted:
            self._tell(error)

    def _tell(self, outcome: Written | StoreError) -> None:
        self._layer.let_go(self)
        self._spool = None
        self._pieces.clear()
        self._done(outcome)
