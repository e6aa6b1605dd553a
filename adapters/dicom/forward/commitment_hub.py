"""One book of commitments in one thread, for all destinations and listeners of a node that use it: a report may come to any of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from adapters.dicom.forward.commitment import decode
from adapters.dicom.forward.commitment_book import Awaited, CommitmentBook
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.exchange import Gathered
from engine.errors import ParseError, StoreError

if TYPE_CHECKING:
    from adapters.dicom.forward.commitment import Notice
    from adapters.dicom.upper.exchange import Request, Sink
    from engine.contracts import Context

HUBS: Final = "dicom.commitments"
"""In Context.shared: hubs by the path of their book."""

Listener = Callable[[list[Awaited]], None]


def hub_for(context: Context, file: str) -> Hub:
    path = context.data / file
    hubs: dict[Path, Hub] = context.shared.setdefault(HUBS, {})
    if path not in hubs:
        hubs[path] = Hub(path, context.reactor)
    return hubs[path]


class Hub:
    """`open` and `close` are called once by each who uses it."""

    def __init__(self, path: Path, reactor: Any) -> None:
        self.book = CommitmentBook(path)
        self._reactor = reactor
        self._pool = ThreadPool(1, 1, "dicom commitments")
        self._users = 0
        self._listeners: dict[str, Listener] = {}

    def open(self) -> Deferred[Any]:
        """Fails with StoreError."""
        self._users += 1
        if self._users == 1:
            self._pool = ThreadPool(1, 1, "dicom commitments")
            self._pool.start()
            return self.run(self.book.open)
        return self.run(lambda: None)  # after the opening, since there is one thread

    def close(self) -> Deferred[Any]:
        self._users -= 1
        if self._users:
            return succeed(None)
        return self.run(self.book.close).addErrback(lambda _: None).addCallback(lambda _: self._pool.stop())

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._pool, work, *arguments)

    def listen(self, destination: str, listener: Listener) -> None:
        """`listener` hears what is reported of a destination's instances."""
        self._listeners[destination] = listener

    def reported(self, notice: Notice) -> Deferred[int]:
        """Fires with the DIMSE status to answer, when it is on disk."""
        return self.run(self.book.report, notice).addCallbacks(self._noted, self._not_noted)

    def _noted(self, found: tuple[str, list[Awaited]]) -> int:
        destination, states = found
        if destination in self._listeners:
            self._listeners[destination](states)
        return Status.SUCCESS if destination else Status.INVALID_ARGUMENT_VALUE

    def _not_noted(self, failure: Failure) -> int:
        failure.trap(StoreError)
        return Status.PROCESSING_FAILURE


class Reports:
    """adapters.dicom.upper.exchange.Service: takes N-EVENT-REPORT of storage commitment, as its SCU (PS3.4 J.3.3)."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def begin(self, request: Request) -> Sink | None:
        if request.command.field != Field.N_EVENT_REPORT:
            request.respond(Status.UNRECOGNIZED_OPERATION)
            return None
        return Gathered(request, lambda data: self._report(request, data))

    def _report(self, request: Request, data: bytes) -> None:
        try:
            notice = decode(data, request.context.transfer_syntax)
        except ParseError as error:
            request.respond(Status.PROCESSING_FAILURE, error.text[:64])
            return
        self._hub.reported(notice).addCallback(lambda status: request.respond(status, ""))
