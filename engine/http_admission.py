"""How many requests are under way: no more than the channel allows, in all and of one sender; and how each was answered."""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from engine.http_answers import HttpRefusal, Sender

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

_BUSY: Final = {"Retry-After": "1"}


class Admission:
    """`options` have `requests` and `requests_per_peer`. On the reactor thread."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._under_way: Tally[str] = Tally()
        self._idle: list[Deferred[None]] = []

    @property
    def under_way(self) -> int:
        return self._under_way.total()

    def check(self, sender: Sender, *, stopping: bool) -> None:
        """Raises HttpRefusal 503, 429 where one more request is more than the channel allows."""
        if stopping or self.under_way >= self._options.requests:
            raise HttpRefusal(503, "the server is busy; try again later", headers=_BUSY)
        if self._under_way[sender.who] >= self._options.requests_per_peer:
            raise HttpRefusal(429, "too many requests at once from this sender", headers=_BUSY)

    def begun(self, sender: Sender) -> None:
        """One more is under way."""
        self._under_way[sender.who] += 1

    def ended(self, sender: Sender) -> None:
        """One that was begun is under way no more."""
        self._under_way[sender.who] -= 1
        if not self._under_way[sender.who]:
            del self._under_way[sender.who]
        if not self._under_way:
            idle, self._idle = self._idle, []
            for waiting in idle:
                self._context.reactor.callLater(0, waiting.callback, None)  # after the answer is written

    def when_idle(self) -> Deferred[None] | None:
        """Fires when nothing is under way; None where nothing is."""
        if not self._under_way:
            return None
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle


class Answers:
    """Counts the answers of a channel by their HTTP status. `name` is the adapter's (``fhir``), `title` stands in the help (``FHIR``)."""

    def __init__(self, name: str, title: str, context: Context) -> None:
        self._name, self._help, self._context = f"meridian_{name}_answers_total", f"{title} requests answered, by HTTP status", context
        self._counters: dict[int, Any] = {}

    def count(self, status: int) -> None:
        counter = self._counters.get(status)
        if counter is None:
            counter = self._context.metrics.counter(self._name, self._help, channel=self._context.name, status=str(status))
            self._counters[status] = counter
        counter.inc()
