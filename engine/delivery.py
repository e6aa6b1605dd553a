"""Delivery: one destination's queue at run time (steps 9 and 10 of a message's way).

Invariants
1. The store's queue is the truth; engine.window is the part of it that is in memory, so memory stays flat however long the
   queue is. Parcels for which the window has no room are *spilled*: left to the store and claimed when there is room.
2. A parcel leaves the window only by a settlement (SENT, or ERROR = dead letter) or when delivery stops.
3. When the peer as such is out of reach (`whole_destination`) the whole queue pauses, and one parcel at a time probes it.
4. What was sent but not yet settled when the process dies is delivered again, with the same idempotency key.
5. A body that is a file is read when its parcel is sent, so the window holds none of them. One that is damaged or gone makes its own
   parcel a dead letter; the others go on. Those longer than WHOLE bytes are left to the destination, and all where it reads files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from engine.backoff import Backoff
from engine.channel import Outlet
from engine.errors import DeliveryError, PermanentDelivery, StoreCorrupt, StoreError, TransientDelivery, UncertainDelivery
from engine.message import WHOLE, BodyRef, Parcel, Receipt, Status
from engine.store.contract import Setback, Settlement, Store
from engine.window import LANE, Key, Window

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Destination
    from engine.observe import Metrics

CLAIM: Final = 256
"""Parcels asked of the store at once."""
SETTLE_TOGETHER: Final = 64
SETTLE_SECONDS: Final = 0.003
"""How long a settlement may wait for others, and for a group of arrivals that it can be written with: no sender waits for it."""

End = Receipt | DeliveryError


class Delivery:
    """Runs one destination's queue. All methods belong to the reactor thread.

    `ended(message_id, end)` is called once for each parcel's end, as soon as it is known.
    """

    def __init__(
        self,
        channel: str,
        outlet: Outlet,
        destination: Destination,
        store: Store,
        *,
        reactor: Any,
        clock: Callable[[], int],
        random: Callable[[], float],
        metrics: Metrics,
        log: logging.Logger,
        ended: Callable[[int, End], None] = lambda message_id, end: None,
    ) -> None:
        self.channel, self.name = channel, outlet.name
        self._strict = outlet.order == "strict"
        self._backoff = Backoff(outlet.retry, random)
        self._destination, self._store = destination, store
        self._reactor, self._clock, self._log, self._ended = reactor, clock, log, ended
        self._whole = 0 if getattr(destination, "reads_files", False) else WHOLE
        self._window = Window(outlet.order)
        self._spilled = True  # there may be more in the store: so it is at the start
        self._spilled_since_claim = False
        self._claiming = False
        self._in_flight = 0
        self._sent_at: dict[int, int] = {}
        self._misses = 0  # failures of the destination as such, in a row
        self._resume_at = 0
        self._timer: DelayedCall | None = None
        self._settlements: list[Settlement] = []
        self._settle_call: DelayedCall | None = None
        self._saving = 0
        self._running = self._held = self._pumping = False
        self._idle: Deferred[None] | None = None
        labels = {"channel": channel, "destination": outlet.name}
        self._delivered = metrics.counter("meridian_delivered_total", "parcels taken by their destination", **labels)
        self._dead = metrics.counter("meridian_dead_lettered_total", "parcels that went to the dead letters", **labels)
        self._seconds = metrics.histogram("meridian_delivery_seconds", "from the sending to the destination's receipt", **labels)
        self._retried = metrics.counter("meridian_retried_total", "failed attempts that are repeated", **labels)

    # --- life ------------------------------------------------------------------------------------

    def start(self, held: bool = False) -> Deferred[None]:
        """Open the destination and begin with what the store still has."""
        self._held = held

        def opened(_: None) -> None:
            self._running = True
            self._refill()

        return self._destination.open().addCallback(opened)

    def stop(self) -> Deferred[None]:
        """Start nothing new, wait for what is under way, settle it, close the destination."""
        self._running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._idle = Deferred()
        idle = self._idle.addCallback(lambda _: self._destination.close())
        wind_up = getattr(self._destination, "wind_up", None)
        if wind_up is not None:
            wind_up()
        self._flush()
        self._look_idle()
        return idle

    def hold(self, hold: bool) -> None:
        """Stop or restart deliveries by an operator's word; what is under way ends normally."""
        self._held = hold
        self._pump()

    def look_again(self) -> None:
        """The queue was changed from outside (a resend): claim what is new."""
        self._spill()

    # --- filling the window ----------------------------------------------------------------------

    def offer(self, parcel: Parcel) -> None:
        """A parcel that has just been committed to this queue. Offers come in the order of `seq`."""
        if parcel.seq <= self._window.tail:
            return  # a claim has seen it already
        if self._spilled or parcel.seq != self._window.tail + 1 or self._window.full:
            self._spill()
            return
        self._window.add(parcel)
        self._pump()

    def _spill(self) -> None:
        self._spilled = self._spilled_since_claim = True
        self._refill()

    def _refill(self) -> None:
        if not self._running or not self._spilled or self._claiming or self._window.full:
            return
        self._claiming, self._spilled_since_claim = True, False
        claimed = self._store.claim(self.channel, self.name, self._window.tail, CLAIM)
        claimed.addCallbacks(self._refilled, self._claim_failed)
        claimed.addErrback(self._bug)

    def _refilled(self, rows: list[tuple[Parcel, int]]) -> None:
        self._claiming = False
        self._spilled = bool(rows) or self._spilled_since_claim
        for parcel, not_before in rows:
            self._window.add(parcel, not_before)
        self._pump()
        self._refill()

    def _claim_failed(self, failure: Failure) -> None:
        self._claiming = False
        failure.trap(StoreError)
        self._log.error("cannot read the queue", extra=self._facts(reason=str(failure.value)))
        self._reactor.callLater(1.0, self._refill)

    def _reload_lane(self, key: Key, after: int) -> None:
        """A lane has drained of which more is in the store."""

        def failed(failure: Failure) -> None:
            failure.trap(StoreError)
            self._reactor.callLater(1.0, self._reload_lane, key, after)

        def found(rows: list[tuple[Parcel, int]]) -> None:
            self._window.reload(key, [parcel for parcel, _ in rows], LANE)
            self._pump()

        claimed = self._store.claim(self.channel, self.name, after, LANE, str(key), self._window.tail)
        claimed.addCallbacks(found, failed)
        claimed.addErrback(self._bug)

    # --- sending ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send whatever may be sent now, and set the timer for what may be sent later."""
        if not self._running or self._held or self._pumping:
            return
        self._pumping = True  # a destination may answer at once, which leads back here
        now = self._clock()
        self._window.wake(now)
        while self._may_send(now):
            parcel = self._window.take()
            if parcel is None:
                break
            self._send(parcel)
        self._pumping = False
        next_at = self._window.wake(now)  # after the sending: what failed at once waits too
        if next_at or self._resume_at > now:
            self._wake_at(max(next_at, self._resume_at), now)
        while (lane := self._window.lane_to_reload()) is not None:
            self._reload_lane(*lane)

    def _may_send(self, now: int) -> bool:
        """A destination that was out of reach is probed with one parcel at a time."""
        return self._running and self._resume_at <= now and self._in_flight < (1 if self._misses else self._destination.max_in_flight)

    def _wake_at(self, when: int, now: int) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater((when - now) / 1e6 + 0.001, self._pump)

    def _send(self, parcel: Parcel) -> None:
        self._in_flight += 1
        if isinstance(parcel.body, BodyRef) and parcel.body.size <= self._whole:
            read = self._store.read_body(parcel.body)
            read.addCallbacks(lambda body: self._hand_over(replace(parcel, body=body), parcel), self._unreadable, errbackArgs=(parcel,))
            read.addErrback(self._bug)
        else:
            self._hand_over(parcel, parcel)

    def _unreadable(self, failure: Failure, parcel: Parcel) -> None:
        kind = PermanentDelivery if failure.check(StoreCorrupt) else TransientDelivery
        failure.trap(StoreError)
        self._failed(kind(f"the content cannot be read back: {failure.value}"), parcel)

    def _hand_over(self, whole: Parcel, parcel: Parcel) -> None:
        """`whole` goes out; `parcel` is what the window knows, with a body that may be a BodyRef."""
        self._sent_at[parcel.seq] = self._clock()
        try:
            sent = self._destination.deliver(whole)
        except DeliveryError as error:
            self._failed(error, parcel)
            return
        sent.addCallbacks(self._sent, self._not_sent, callbackArgs=(parcel,), errbackArgs=(parcel,))
        sent.addErrback(self._bug)

    def _sent(self, receipt: Receipt, parcel: Parcel) -> None:
        self._misses = 0
        self._delivered.inc()
        self._seconds.observe((self._clock() - self._sent_at.pop(parcel.seq)) / 1e6)
        self._end(
            parcel,
            receipt,
            Settlement(parcel.seq, parcel.message_id, Status.SENT, parcel.attempt, receipt.reference, receipt.answer),
        )

    def _not_sent(self, failure: Failure, parcel: Parcel) -> None:
        if isinstance(failure.value, DeliveryError):
            self._failed(failure.value, parcel)
        else:
            self._bug(failure)
            self._failed(UncertainDelivery("the destination failed in a way that it does not name"), parcel)

    def _bug(self, failure: Failure) -> None:
        self._log.error("unexpected failure in a delivery", exc_info=failure.value, extra=self._facts())

    def _failed(self, error: DeliveryError, parcel: Parcel) -> None:
        self._sent_at.pop(parcel.seq, None)
        if isinstance(error, PermanentDelivery) or self._backoff.gives_up(parcel.received_at, self._clock()):
            self._dead.inc()
            self._log.warning("dead letter", extra=self._facts(parcel, code=error.code, reason=error.text))
            self._end(
                parcel,
                error,
                Settlement(parcel.seq, parcel.message_id, Status.ERROR, parcel.attempt, "", error.answer, error.text, error.code),
            )
            return
        self._in_flight -= 1
        self._retry(error, parcel)
        self._look_idle()

    def _retry(self, error: DeliveryError, parcel: Parcel) -> None:
        self._retried.inc()
        now = self._clock()
        if error.whole_destination and self._resume_at <= now:
            self._misses += 1  # once, however many were under way
        delay = self._backoff.delay(self._misses or parcel.attempt, error.retry_after)
        next_at = now + int(delay * 1e6)
        self._log.info("will try again", extra=self._facts(parcel, code=error.code, reason=error.text, attempt=parcel.attempt))
        setback = Setback(parcel.seq, parcel.attempt, next_at, error.text, error.code)
        self._save(self._store.set_back(self.channel, self.name, [setback]))
        if error.whole_destination:
            self._resume_at = self._resume_at if self._resume_at > now else next_at
            self._window.retry(parcel)
        else:
            self._window.retry(parcel, next_at)
        self._pump()

    # --- settling --------------------------------------------------------------------------------

    def _end(self, parcel: Parcel, end: End, settlement: Settlement) -> None:
        self._in_flight -= 1
        self._resume_at = 0
        self._window.done(parcel)
        self._settlements.append(settlement)
        if len(self._settlements) >= SETTLE_TOGETHER:
            self._flush()
        elif self._settle_call is None:
            self._settle_call = self._reactor.callLater(SETTLE_SECONDS, self._flush)
        self._ended(parcel.message_id, end)
        self._refill()
        self._pump()
        self._look_idle()

    def _flush(self) -> None:
        if self._settle_call is not None and self._settle_call.active():
            self._settle_call.cancel()
        self._settle_call = None
        if self._settlements:
            batch, self._settlements = self._settlements, []
            self._save(self._store.settle(self.channel, self.name, batch))

    def _save(self, saved: Deferred[None]) -> None:
        self._saving += 1

        def failed(failure: Failure) -> None:
            failure.trap(StoreError)
            self._log.error("not settled: would be delivered again after a restart", extra=self._facts(reason=str(failure.value)))

        def done(_: Any) -> None:
            self._saving -= 1
            self._look_idle()

        saved.addErrback(failed).addErrback(self._bug).addCallback(done)

    def _look_idle(self) -> None:
        if self._idle is None or self._in_flight:
            return
        self._flush()
        if not self._saving:
            idle, self._idle = self._idle, None
            idle.callback(None)

    def _facts(self, parcel: Parcel | None = None, **facts: Any) -> dict[str, Any]:
        facts |= {"channel": self.channel, "destination": self.name}
        if parcel is not None:
            facts |= {"control_id": parcel.control_id, "message_id": parcel.message_id}
        return facts
