"""A data set on its way from the wire to the disk: written and hashed in a thread while the rest of it still comes.

The reactor's thread only collects views of what it has read. A small data set stays in memory and becomes a row of the store; a larger one
is a body file. While more than `most` bytes wait for the disk the association is held. Once `finish` was called the outcome comes to `done`
in the reactor's thread, exactly once, unless `abort` was called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from threading import Lock
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

Run = Callable[..., "Deferred[Any]"]
"""Calls a function with arguments in a thread (twisted.internet.threads.deferToThreadPool without its pool)."""


class Written(NamedTuple):
    """`body`: the file; `digest`: SHA-256 of the data set alone."""

    body: bytes | BodyRef
    digest: bytes


class Spooling:
    """Of one data set. `head` is written before it and not part of its digest. `_guard` protects what both threads touch: the pieces, and
    whether a thread is at work."""

    def __init__(
        self,
        head: bytes,
        spool: Callable[[], Spool],
        run: Run,
        layer: UpperLayer,
        most: int,
        done: Callable[[Written | StoreError], None],
    ) -> None:
        self._head, self._open, self._run, self._layer, self._most, self._done = head, spool, run, layer, most, done
        self._guard = Lock()
        self._pieces: list[memoryview] = []
        self._working = self._finishing = self._aborted = False
        self._spool: Spool | None = None
        self._hash = hashlib.sha256()
        self._worked = 0
        self._error: StoreError | None = None
        self.size = 0

    # --- in the reactor's thread -------------------------------------------------------------------

    def write(self, data: memoryview) -> None:
        self.size += len(data)
        if self._error is not None:
            return
        with self._guard:
            self._pieces.append(data)
        if self.size > SMALL:
            self._start()
        if self.size - self._worked >= self._most:
            self._layer.hold(self)

    def finish(self) -> None:
        """The data set is complete."""
        with self._guard:
            self._finishing = True
        if self._error is not None:
            self._tell(self._error)
        elif self.size > SMALL:
            self._start()
        else:
            content = b"".join(self._pieces)
            self._tell(Written(self._head + content, hashlib.sha256(content).digest()))

    def abort(self) -> None:
        """It will not be; nothing is kept, and `done` is not called."""
        self._layer.let_go(self)
        with self._guard:
            self._aborted = True
            self._pieces.clear()
            working = self._working
        if not working:
            self._drop()

    def _start(self) -> None:
        with self._guard:
            if self._working:
                return
            self._working = True
        self._run(self._work).addCallbacks(self._rested, self._failing)

    def _rested(self, written: Written | None) -> None:
        if self._aborted:
            if not self._working:  # another thread may have begun before this one had told
                self._drop()
        elif written is not None:
            self._tell(written)
        else:
            self._layer.let_go(self)
            if self._pieces or self._finishing:  # what came after the thread had looked for the last time
                self._start()

    def _failing(self, failure: Failure) -> None:
        """Take the rest of the data set and drop it, then say so: the peer reads no answer before it has sent all."""
        failure.trap(StoreError)
        assert isinstance(failure.value, StoreError)
        self._error = failure.value
        self._pieces.clear()
        self._layer.let_go(self)
        if self._finishing and not self._aborted:
            self._tell(self._error)

    def _drop(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.abort()

    def _tell(self, outcome: Written | StoreError) -> None:
        self._layer.let_go(self)
        self._done(outcome)

    # --- in a thread of the pool, one at a time ----------------------------------------------------

    def _work(self) -> Written | None:
        """Write and hash what has come, until nothing more is there; both release the interpreter's lock for pieces of this size."""
        if self._spool is None:
            self._spool = self._open()
            self._spool.write(self._head)
        spool = self._spool
        while True:
            with self._guard:
                pieces, self._pieces = self._pieces, []
                last = self._finishing
                if self._aborted or not (pieces or last):
                    self._working = False
                    return None
            for piece in pieces:
                spool.write(piece)
                self._hash.update(piece)
                self._worked += len(piece)
            if last:
                return Written(spool.finish(), self._hash.digest())
