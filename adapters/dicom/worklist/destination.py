"""The destination `dicom_worklist`: keeps orders as steps, and takes what modalities say of performing them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.dicom.upper import dimse
from adapters.dicom.worklist import elements, mpps, orders, patients, reports
from adapters.dicom.worklist.book import Book, Change
from adapters.dicom.worklist.stations import Stations
from engine.errors import MessageError, PermanentDelivery, TransientDelivery
from engine.message import DICOM, HL7V2, BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

RULES: Final = {"MPPS^CREATE": mpps.create, "MPPS^SET": mpps.change}


class StepDestination:
    """engine.contracts.Destination. The answer to an N-CREATE or N-SET is in `Receipt.answer`, as adapters.dicom.upper.dimse words it."""

    max_in_flight = 16

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._book = Book(context.data / options.file)
        stations = Stations.read(context.site / options.stations if options.stations else None)
        self._site = orders.Site(context.node, stations, options.fields or {}, options.authority or "")
        self._pool = ThreadPool(1, 1, name=f"dicom_worklist {context.name}")

    def open(self) -> Deferred[None]:
        self._pool.start()
        return self._in_thread(self._book.open)

    def close(self) -> Deferred[None]:
        return self._in_thread(self._book.close).addBoth(lambda _: self._pool.stop())

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        return maybeDeferred(self._deliver, parcel)

    def _deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if isinstance(parcel.body, BodyRef):
            raise PermanentDelivery("the message is too big for a worklist")
        if parcel.content_type == HL7V2 and parcel.message_type in orders.MESSAGES:
            return self._in_thread(partial(self._keep, parcel.body))
        if parcel.content_type == HL7V2 and parcel.message_type in patients.MESSAGES:
            return self._in_thread(partial(self._update, parcel.body))
        if parcel.content_type == DICOM and parcel.message_type in RULES:
            return self._in_thread(partial(self._perform, parcel, parcel.body))
        kinds = ", ".join((*sorted(orders.MESSAGES | patients.MESSAGES), *RULES))
        raise PermanentDelivery(f"a modality worklist takes {kinds}")

    # --- in the book's thread ----------------------------------------------------------------------

    def _keep(self, body: bytes) -> Receipt:
        words = orders.read(body, self._options.charset, self._site, self._stamp())
        now = self._context.clock()
        touched = self._book.keep(words, now, now - int(self._options.keep * 1e6))
        return Receipt(f"{touched} steps")

    def _update(self, body: bytes) -> Receipt:
        update = patients.read_update(body, self._options.charset, self._site.authority)
        return Receipt(f"{self._book.update(update, self._context.clock())} steps")

    def _perform(self, parcel: Parcel, body: bytes) -> Receipt:
        """The same parcel once more (its receipt was not kept) gets the same answer: it is no second N-CREATE."""
        heard = self._book.heard(parcel.message_id)
        if heard is None:
            uid, content = elements.parse_file(body)
            rule, now = RULES[parcel.message_type], self._context.clock()
            heard = self._book.perform(uid, content, rule, self._report, now, parcel.message_id, answer)
        told, _ = dimse.read_answer(heard)
        if told["Status"]:
            raise PermanentDelivery(f"{told['Status']:04X}H {told.get('ErrorComment', '')}".strip(), answer=heard)
        return Receipt(f"{told['Status']:04X}H", heard)

    def _report(self, changes: Sequence[Change], content: mpps.Content) -> list[dict[str, Any]]:
        if not self._options.report:
            return []
        stamp = self._stamp()
        return [reports.change(one.step, one.order_status, content, stamp, self._context.new_id()) for one in changes]

    def _stamp(self) -> str:
        return f"{datetime.fromtimestamp(self._context.clock() / 1e6, UTC).astimezone():%Y%m%d%H%M%S}"

    def _in_thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(self._context.reactor, self._pool, _guarded, work)


def answer(outcome: mpps.Outcome) -> bytes:
    """An outcome in DIMSE's words (PS3.7 annex C)."""
    more: dict[str, Any] = {}
    if outcome.attributes:
        more["AttributeIdentifierList"] = tuple(int(tag, 16) for tag in outcome.attributes)
    if outcome.error_id:
        more["ErrorID"] = outcome.error_id
    return dimse.answer(outcome.status, outcome.comment, **more)


def _guarded(work: Callable[[], Any]) -> Any:
    """The errors of a destination."""
    try:
        return work()
    except MessageError as error:
        raise PermanentDelivery(error.text, location=error.location) from None
    except (sqlite3.Error, OSError) as error:
        raise TransientDelivery(f"the worklist cannot be used now: {error}", whole_destination=True) from None
