"""The destination `worklist`: keeps orders, answers queries."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.worklist import astm, law, orders
from adapters.worklist.book import Book
from adapters.worklist.codes import Codes
from engine.errors import MessageError, PermanentDelivery, StoreError, TransientDelivery
from engine.formats.astm import codec
from engine.message import ASTM, HL7V2, BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

_QUERY: Final = "QBP^Q11"
_QUERIES: Final = (_QUERY, "QBP^WOS")


class WorklistDestination:
    """engine.contracts.Destination. A query's answer is in `Receipt.answer`."""

    max_in_flight = 16

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._book = Book(context.data / options.file)
        self._codes = Codes.read(context.site / options.tests if options.tests else None)
        self._pool = ThreadPool(1, 1, name=f"worklist {context.name}")

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
        try:
            work = self._work(parcel, parcel.body)
        except MessageError as error:
            raise PermanentDelivery(error.text, location=error.location) from None
        return self._in_thread(work)

    def _work(self, parcel: Parcel, body: bytes) -> Callable[[], Receipt]:
        """What is to be done in the book's thread. Raises MessageError, PermanentDelivery."""
        if parcel.content_type == HL7V2 and parcel.message_type in orders.MESSAGES:
            return partial(self._keep, orders.read(body, self._options.charset))
        if parcel.content_type == HL7V2 and parcel.message_type in _QUERIES:
            return partial(self._answer_law, law.question(body, self._options.charset), parcel.control_id)
        if parcel.content_type == ASTM and parcel.message_type == "ASTM^Q":
            return partial(self._answer_astm, codec.decode_with(body, self._options.charset), parcel.control_id)
        raise PermanentDelivery(f"a worklist takes orders ({', '.join(sorted(orders.MESSAGES))}) and queries ({_QUERY}, ASTM^Q)")

    # --- in the book's thread ----------------------------------------------------------------------

    def _keep(self, found: list[orders.Order]) -> Receipt:
        self._book.keep(found, self._context.clock(), self._since())
        return Receipt(f"{len(found)} orders kept")

    def _answer_astm(self, message: Any, control_id: str) -> Receipt:
        find = partial(self._book.find, since=self._since(), most=self._options.most)
        text, given = astm.answer(message, find, self._codes, self._context.node, self._stamp())
        self._disclose(control_id, given)
        return Receipt(f"{given} orders", text.encode(self._options.charset, "replace"))

    def _answer_law(self, asked: dict[str, Any], control_id: str) -> Receipt:
        found = self._book.find(asked["specimen"], self._since(), self._options.most)
        groups: dict[str, list[tuple[orders.Order, str]]] = {} if not asked["specimen"] else {asked["specimen"]: []}
        for order, code in self._codes.of(found):
            groups.setdefault(asked["specimen"] or (order.specimens or (order.number,))[0], []).append((order, code))
        given = sum(map(len, groups.values()))
        self._disclose(control_id, given)
        stamp = self._stamp()
        work = [law.work_order({**asked, "specimen": name}, wanted, stamp, self._context.new_id()) for name, wanted in groups.items()]
        self._book.ask([{"message": one.decode()} for one in work])
        return Receipt(f"{given} orders", law.response(asked, given > 0, stamp, self._context.new_id()))

    def _disclose(self, control_id: str, given: int) -> None:
        channel = self._context.name.partition("/")[0]
        try:
            self._context.disclose("worklist.asked", channel=channel, control_id=control_id, orders=given)
        except StoreError as error:
            raise TransientDelivery(error.text) from None

    def _since(self) -> int:
        return self._context.clock() - int(self._options.keep * 1e6)

    def _stamp(self) -> str:
        return f"{datetime.fromtimestamp(self._context.clock() / 1e6, UTC).astimezone():%Y%m%d%H%M%S}"

    def _in_thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(self._context.reactor, self._pool, _guarded, work)


def _guarded(work: Callable[[], Any]) -> Any:
    """The errors of a destination."""
    try:
        return work()
    except MessageError as error:
        raise PermanentDelivery(error.text, location=error.location) from None
    except (sqlite3.Error, OSError) as error:
        raise TransientDelivery(f"the worklist cannot be used now: {error}", whole_destination=True) from None
