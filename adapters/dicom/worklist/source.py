"""The source `dicom_worklist`: a status message for each change of a step, taken off the list when it is committed."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.dicom.worklist import reports
from adapters.dicom.worklist.book import Book
from engine.errors import ConfigError
from engine.formats.hl7v2 import read_header
from engine.message import HL7V2, Ack, Envelope

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Context, Intake
    from engine.options import Settings

_AT_ONCE: Final = 50


class StepSource:
    """engine.contracts.Source"""

    intake: Intake

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._book = Book(context.data / options.file)
        self._pool = ThreadPool(1, 1, name=f"dicom_worklist {context.name}")
        self._timer: DelayedCall | None = None
        self._round: Deferred[Any] | None = None
        self._stopping = False

    def start(self, intake: Intake) -> Deferred[None]:
        self.intake = intake
        self._pool.start()
        opened = self._in_thread(self._book.open)
        opened.addCallbacks(lambda _: self._look(), self._not_opened)
        return opened

    def _not_opened(self, failure: Failure) -> Deferred[None]:
        failure.trap(sqlite3.Error, OSError)
        return fail(ConfigError(f"channel {self._context.name}: cannot open the worklist: {failure.value}"))

    def stop(self) -> Deferred[None]:
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended: Deferred[Any] = Deferred()
        (self._round or succeed(None)).addBoth(lambda _: ended.callback(None))
        ended.addCallback(lambda _: self._in_thread(self._book.close))
        return ended.addBoth(lambda _: self._pool.stop())

    def _look(self) -> None:
        """One round: what has changed goes to the intake, in its order; what that has kept is taken off the list."""
        self._timer = None
        self._round = handed_in = self._in_thread(self._book.changes, _AT_ONCE)
        handed_in.addCallback(self._hand_in).addErrback(self._failed).addBoth(self._again)

    def _hand_in(self, changes: list[tuple[int, dict[str, Any]]]) -> Deferred[Any]:
        return gatherResults([self._one(number, kept) for number, kept in changes if not self._stopping])

    def _one(self, number: int, kept: dict[str, Any]) -> Deferred[Any]:
        body = reports.message(kept, self._options.format, self._options.sender or self._context.node, self._options.receiver)
        header = read_header(body)
        envelope = Envelope(
            body,
            HL7V2,
            header.message_type,
            header.control_id,
            header.sender,
            received_at=self._context.clock(),
            patient_ids=header.patient_ids,
            idempotency_key=f"dicom_worklist|{header.control_id}",
            content_digest=blake2b(body, digest_size=16).digest(),
        )
        return self.intake(envelope, lambda _: b"").addCallback(self._kept, number)

    def _kept(self, ack: Ack, number: int) -> Deferred[Any] | None:
        return self._in_thread(self._book.reported, number) if ack.message_id else None

    def _failed(self, failure: Failure) -> None:
        failure.trap(sqlite3.Error, OSError)
        self._context.log.error("the worklist cannot be read", extra={"channel": self._context.name, "reason": str(failure.value)})

    def _again(self, result: Any) -> Any:
        self._round = None
        if not self._stopping:
            self._timer = self._context.reactor.callLater(self._options.poll, self._look)
        return result

    def _in_thread(self, work: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._context.reactor, self._pool, work, *arguments)
