"""The source `worklist`: work orders (LAB-28) for what analyzers have asked, one message each, taken off the list when it is committed."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from adapters.worklist.book import Book
from engine.formats.hl7v2 import read_header
from engine.message import HL7V2, Ack, Envelope
from engine.polling import PollingSource

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from engine.contracts import Context
    from engine.options import Settings

_AT_ONCE: Final = 50


class WorkOrderSource(PollingSource):
    """engine.contracts.Source"""

    what = "worklist"

    def __init__(self, options: Settings, context: Context) -> None:
        super().__init__(context, options.poll)
        self._book = Book(context.data / options.file)

    def open(self) -> None:
        self._book.open()

    def close(self) -> None:
        self._book.close()

    def listed(self) -> list[tuple[int, dict[str, Any]]]:
        return self._book.asked(_AT_ONCE)

    def hand_in(self, item: tuple[int, dict[str, Any]]) -> Deferred[Any]:
        number, content = item
        body = content["message"].encode()
        header = read_header(body)
        envelope = Envelope(
            body,
            HL7V2,
            header.message_type,
            header.control_id,
            header.sender,
            received_at=self._context.clock(),
            patient_ids=header.patient_ids,
            idempotency_key=f"worklist|{header.control_id}",
            content_digest=blake2b(body, digest_size=16).digest(),
        )
        return self.intake(envelope, lambda _: b"").addCallback(self._kept, number)

    def _kept(self, ack: Ack, number: int) -> Deferred[Any] | None:
        return self.in_thread(self._book.sent, number) if ack.message_id else None
