"""A destination whose answers the test decides, and a delivery around it on a clock that the test turns."""

from __future__ import annotations

import logging

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from engine.channel import Order, Outlet, Retry
from engine.delivery import Delivery
from engine.errors import DeliveryError
from engine.message import ACCEPTED, BodyRef, Envelope, Parcel, Receipt, Status
from engine.observe import Metrics
from engine.options import Spec
from engine.store.contract import Arrival, Plan, Routed
from tests.support.memory_store import MemoryStore

NO_OPTIONS = Spec("none", "", []).defaults()


class Scripted:
    """engine.contracts.Destination: parcels wait in `waiting` until the test answers them, or are taken at once."""

    max_in_flight = 4
    reads_files = False

    def __init__(self, at_once: bool = False) -> None:
        self.waiting: list[tuple[Parcel, Deferred[Receipt]]] = []
        self.taken: list[Parcel] = []
        self.at_once = at_once
        self.closed = False

    def open(self) -> Deferred[None]:
        return succeed(None)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        if self.at_once:
            self.taken.append(parcel)
            return succeed(Receipt("ok"))
        answer: Deferred[Receipt] = Deferred()
        self.waiting.append((parcel, answer))
        return answer

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)

    def under_way(self) -> list[str]:
        return [parcel.control_id for parcel, _ in self.waiting]

    def take(self, control_id: str) -> None:
        parcel, answer = self._pop(control_id)
        self.taken.append(parcel)
        answer.callback(Receipt("ok"))

    def refuse(self, control_id: str, error: DeliveryError) -> None:
        self._pop(control_id)[1].errback(error)

    def _pop(self, control_id: str) -> tuple[Parcel, Deferred[Receipt]]:
        index = self.under_way().index(control_id)
        return self.waiting.pop(index)


class Line:
    """One queue: MemoryStore, Scripted destination, Delivery, Clock."""

    def __init__(self, order: Order = Order.BY_PATIENT, retry: Retry | None = None, at_once: bool = False) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.destination = Scripted(at_once)
        self.delivery = self.new_delivery(order, retry or Retry(1, 60, None))
        self.count = 0

    def new_delivery(self, order: Order, retry: Retry) -> Delivery:
        return Delivery(
            "c",
            Outlet("d", "scripted", NO_OPTIONS, order, retry),
            self.destination,
            self.store,
            reactor=self.clock,
            clock=self.now,
            random=lambda: 0.0,
            metrics=Metrics(),
            log=logging.getLogger("test"),
        )

    def now(self) -> int:
        return int(self.clock.seconds() * 1e6)

    def commit(self, control_id: str, key: str = "", body: bytes | BodyRef = b"body") -> Parcel:
        """A message that is in the store's queue, not offered yet."""
        envelope = Envelope(body, "text/plain", "T", control_id, received_at=self.now())
        plan = Plan(Status.QUEUED, (Routed("d", order_key=key),))
        accepted = self.store.accept(Arrival("c", envelope, ACCEPTED, b"", plan)).result
        return self.store._parcel(self.store.queue["c", "d"][accepted.seqs[0]])

    def offer(self, *control_ids: str, key: str = "", body: bytes | BodyRef = b"body") -> None:
        for control_id in control_ids:
            self.delivery.offer(self.commit(control_id, key, body))
