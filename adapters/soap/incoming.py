"""The body of a request on its way in: in memory while it is small, in the store's spool beyond. It is read before it is finished there, so
that what is refused leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from engine.errors import FramingError, StoreError
from engine.http_answers import HttpRefusal
from engine.http_uploads import IN_MEMORY, STOPS
from engine.message import Excerpt

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from engine.http_answers import Answer
    from engine.http_coding import Decoder
    from engine.message import BodyRef
    from engine.store.contract import Spool

LATER: Final = {"Retry-After": "5"}


class Received:
    """A body that is complete. `finish` or `abort` is called once, and then nothing more."""

    def __init__(self, memory: bytes, spool: Spool | None) -> None:
        self._memory, self._spool = memory, spool

    def body(self) -> bytes:
        """What engine.formats.soap reads. Raises StoreFull."""
        return self._memory if self._spool is None else Excerpt(b"", "", self._spool.peek())

    def finish(self) -> bytes | BodyRef:
        """On disk, where it is not small. To be called in a thread. Raises StoreFull."""
        return self._memory if self._spool is None else self._spool.finish()

    def abort(self) -> None:
        if self._spool is not None:
            self._spool.abort()

    @property
    def large(self) -> bool:
        return self._spool is not None


class Incoming:
    """engine.http_uploads.Upload. `take` is handed the whole; `fault` words what goes wrong before, for the client and the audit log."""

    def __init__(
        self,
        open_spool: Callable[[], Spool],
        decoder: Decoder,
        first: bytes,
        take: Callable[[Received], Answer | Deferred[Answer]],
        fault: Callable[[Exception], Exception],
    ) -> None:
        self._open_spool, self._decoder, self._take, self._fault = open_spool, decoder, take, fault
        self._memory = bytearray(first)
        self._empty = True
        self._spool: Spool | None = None
        self.full = self.over = False
        self.wake: Callable[[], None] = lambda: None

    def content(self, data: bytes) -> None:
        """Upload"""
        try:
            for piece in self._decoder.feed(data):
                self._keep(piece)
        except StoreError:
            self._spool = None  # it has cleaned up after itself
            raise
        except (FramingError, HttpRefusal) as error:
            raise self._fault(error) from None

    def _keep(self, data: bytes) -> None:
        self._empty = False
        if self._spool is None:
            self._memory += data
            if len(self._memory) <= IN_MEMORY:
                return
            self._spool, data = self._open_spool(), bytes(self._memory)
            self._memory.clear()
        self._spool.write(data)

    def ended(self) -> Answer | Deferred[Answer]:
        """Upload"""
        try:
            self._decoder.finish()
            if self._empty:
                raise HttpRefusal(400, "the request has no body")
        except (FramingError, HttpRefusal) as error:
            self.gone()
            raise self._fault(error) from None
        spool, self._spool = self._spool, None
        received = Received(bytes(self._memory), spool)
        self._memory.clear()
        return self._take(received)

    def cut(self) -> None:
        """Upload"""
        raise HttpRefusal(503, STOPS, headers=LATER)

    def gone(self) -> Any:
        """Upload"""
        self._memory.clear()
        if self._spool is not None:
            self._spool.abort()
            self._spool = None
