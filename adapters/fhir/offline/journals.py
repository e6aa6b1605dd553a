"""Lines on their way to the store, of all uploads of a channel: how many at once, and how the book comes to know of them.

The book is a file of its own, so the node may die between the commit of a line and its record in the book. Therefore each line under
way has a *slot*, and its message carries a checkpoint (engine.message.Envelope) of that slot's name, with the line's number and digest:
it is on disk exactly if the message is. A slot is used again only when the book has its line. So after a start every line that was
committed is in the book or in one of the slots, and `recover` brings those over.

    take -> intake -> the message and its slot's checkpoint are committed -> settle -> the book is written -> said to the terminal
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from twisted.internet.defer import Deferred, succeed

from adapters.fhir.offline.asked import Journal
from adapters.fhir.offline.book import Book, Settled
from adapters.fhir.offline.outcomes import Standing
from engine.errors import StoreError

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.fhir.offline.upload import LineUpload
    from engine.contracts import Context

MOST_BYTES: Final = 4 << 20
"""Of lines under way, all uploads together; one longer than that goes alone."""
_SLOT: Final = "upload slot "
_AGAIN_SECONDS: Final = 1.0


@dataclass(slots=True)
class Ticket:
    """A line's leave to go to the store: its slot, and its size in bytes."""

    slot: int
    size: int


@dataclass(slots=True)
class _Ended:
    ticket: Ticket
    line: Settled | None
    said: Callable[[], None]


class Journals:
    """`at_once`: lines under way. `in_thread` runs a function off the reactor thread."""

    def __init__(self, book: Book, context: Context, at_once: int, in_thread: Callable[..., Deferred[Any]]) -> None:
        self._book, self._context, self._in_thread = book, context, in_thread
        self._slots = list(reversed(range(at_once)))
        self._bytes = 0
        self._uploads: dict[Journal, LineUpload] = {}  # of each journal the one that is taken in
        self._waiting: dict[LineUpload, None] = {}
        self._ended: list[_Ended] = []
        self._writing = self._stuck = self._closed = False
        self._retry: Any = None
        self._broken = ""

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """Bring into the book what it may have missed. Where that cannot be, uploads are refused, and everything else goes on."""
        started: Deferred[Any] = succeed(None)
        if self._book.exists:
            started.addCallback(lambda _: self._context.checkpoints())
            started.addCallback(self._recover)
            started.addErrback(self._unusable)
        return started

    def _recover(self, checkpoints: Any) -> None:
        self._book.open()
        lines = [_settled(value) for name, value in checkpoints.items() if name.startswith(_SLOT)]
        if lines:
            self._book.record(lines, recovered=True)

    def _unusable(self, failure: Failure) -> None:
        failure.trap(StoreError)
        self._broken = str(failure.value)
        self._context.log.error("the book of uploads cannot be used", extra={"channel": self._context.name, "reason": self._broken})

    def close(self) -> None:
        """When no upload is under way. What is not in the book is still in its slot."""
        self._closed = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._book.close()

    # --- uploads ---------------------------------------------------------------------------------

    def enter(self, upload: LineUpload) -> LineUpload | None:
        """One more upload. Of a journal the latest goes on: an earlier one is told to end, and given, so that it can be waited for.
        Raises StoreError."""
        if self._broken:
            raise StoreError(f"uploads are not taken until the node has been started anew: {self._broken}")
        self._book.open()
        earlier = self._uploads.get(upload.journal)
        self._uploads[upload.journal] = upload
        if earlier is not None:
            earlier.superseded()
        return earlier

    def leave(self, upload: LineUpload) -> None:
        self._waiting.pop(upload, None)
        if self._uploads.get(upload.journal) is upload:
            del self._uploads[upload.journal]

    def wait(self, upload: LineUpload) -> None:
        """`upload.go_on` is called when there may be room."""
        self._waiting[upload] = None

    def reach(self, journal: Journal) -> Standing:
        """Raises StoreError."""
        return self._book.reach(journal)

    def find(self, journal: Journal, sequence: int) -> Settled | None:
        """Raises StoreError."""
        return self._book.find(journal, sequence)

    def standing(self, journal: Journal) -> Deferred[Standing]:
        """Fails with StoreError."""
        if not self._book.exists:
            return succeed(Standing())
        return self._in_thread(self._book.standing, journal)

    # --- lines -----------------------------------------------------------------------------------

    def take(self, size: int) -> Ticket | None:
        """None while too much is under way."""
        if not self._slots or (self._bytes and self._bytes + size > MOST_BYTES):
            return None
        self._bytes += size
        return Ticket(self._slots.pop(), size)

    def checkpoint(self, ticket: Ticket, line: Settled) -> tuple[str, str]:
        """What commits with the line's message."""
        value = [line.journal.party, line.journal.device, line.sequence, line.digest.hex(), line.at]
        return f"{_SLOT}{ticket.slot}", orjson.dumps(value).decode()

    def settle(self, ticket: Ticket, line: Settled | None, said: Callable[[], None]) -> None:
        """The intake has answered. `said` is called when `line`, if it is one, is in the book."""
        self._bytes -= ticket.size
        if self._stuck:
            self._ended.append(_Ended(ticket, line, _nobody))
            said()
            return
        self._ended.append(_Ended(ticket, line, said))
        if not self._writing:
            self._write()

    def _write(self) -> None:
        ended, self._ended = self._ended, []
        lines = [one.line for one in ended if one.line is not None]
        self._writing = True
        written = self._in_thread(self._book.record, lines) if lines else succeed(None)
        written.addCallbacks(self._written, self._not_written, callbackArgs=(ended,), errbackArgs=(ended,))

    def _written(self, _: Any, ended: list[_Ended]) -> None:
        self._writing = self._stuck = False
        self._slots += [one.ticket.slot for one in ended]
        self._wake()  # those that wait come before those whose lines these were
        for one in ended:
            one.said()
        if self._ended and not self._writing:
            self._write()
        self._wake()

    def _wake(self) -> None:
        """Who waits longest comes first, and leaves some for the others."""
        waiting, self._waiting = self._waiting, {}
        share = max(1, len(self._slots) // max(1, len(waiting)))
        left: dict[LineUpload, None] = {}
        for upload in waiting:
            if self._slots:
                upload.go_on(share)
            else:
                left[upload] = None
        self._waiting = {**left, **self._waiting}

    def _not_written(self, failure: Failure, ended: list[_Ended]) -> None:
        """They are committed, and said to be; their slots keep them until the book can be written."""
        failure.trap(StoreError)
        self._context.log.error("cannot write the book of uploads", extra={"channel": self._context.name, "reason": str(failure.value)})
        waiting, self._stuck = [*ended, *self._ended], True
        self._ended = [_Ended(one.ticket, one.line, _nobody) for one in waiting]
        for one in waiting:
            one.said()
        if not self._closed:
            self._retry = self._context.reactor.callLater(_AGAIN_SECONDS, self._write)


def _nobody() -> None:
    """The terminal has heard already."""


def _settled(value: str) -> Settled:
    party, device, sequence, digest, at = orjson.loads(value)
    return Settled(Journal(party, device), sequence, bytes.fromhex(digest), True, at)
