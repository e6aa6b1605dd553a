"""A node at run time: builds what the site says, starts it in the right order, watches it, stops it gracefully.

Start: store, deliveries, planners, then sources, so that nothing comes in before there is a way on.
Stop: sources first (what was handed in is still answered), then planners, then deliveries, last the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed
from twisted.internet.task import LoopingCall

from engine import registry
from engine.channel import PartyCheck
from engine.contracts import Context, Source
from engine.deidentify.sending import Deidentifying
from engine.delivery import Delivery
from engine.errors import StoreError
from engine.http import status_site
from engine.message import Ack, Envelope, Verdict
from engine.parties import Directory, Gate, Snapshot
from engine.pipeline import UNAVAILABLE, Pipeline
from engine.store.contract import QueueLine, Store
from engine.workers import Workers

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from engine.channel import Channel, Outlet, Program
    from engine.contracts import Destination, Intake, Reply
    from engine.message import Judgement
    from engine.observe import Metrics
    from engine.tls import TlsProvider

WATCH_SECONDS: Final = 0.5
"""How soon a command line's change (resend, hold, reprocess, parties) is noticed."""
PURGE_SECONDS: Final = 60.0
PURGE_STEP: Final = 500
SWEEP_SECONDS: Final = 5.0
SWEEP_STEP: Final = 500
"""Body files looked at in one step; a step holds the writer for a few milliseconds."""


@dataclass(frozen=True)
class NodeSettings:
    """What meridian.yaml says, as far as running needs it. Seconds; `retention` None keeps everything."""

    name: str
    party: str
    site: Path
    data: Path
    http: tuple[str, int] | None = None
    workers: int = 1
    retention: float | None = None
    audit_strict: bool = False


@dataclass
class _Running:
    """One channel at run time."""

    channel: Channel
    pipeline: Pipeline
    source: Source
    deliveries: dict[str, Delivery] = field(default_factory=dict)


class Node:
    """Everything of one site. `start` and `stop` are called once each, from the reactor thread."""

    def __init__(
        self,
        settings: NodeSettings,
        channels: Sequence[Channel],
        store: Store,
        *,
        reactor: Any,
        clock: Callable[[], int],
        random: Callable[[], float],
        new_id: Callable[[], str],
        log: logging.Logger,
        metrics: Metrics,
        tls: TlsProvider,
        audit: Callable[..., None],
        unaudited: Callable[[], str] = lambda: "",
    ) -> None:
        self._settings, self._store = settings, store
        self._reactor, self._clock, self._random, self._new_id = reactor, clock, random, new_id
        self._log, self._metrics, self._tls, self._audit = log, metrics, tls, audit
        self._unaudited = unaudited
        self._shared: dict[str, Any] = {}
        self._parties = Directory(settings.data, log) if any(map(_asks_for_parties, channels)) else None
        recipes = {channel.name: channel.recipe for channel in channels}
        heavy = any(not channel.program.light for channel in channels)
        self._workers = Workers(recipes, settings.workers if heavy else 0, reactor=reactor, log=log)
        self._running = [self._build(channel) for channel in channels]
        self._loops: list[LoopingCall] = []
        self._port: Any = None
        self._not_ready = "starting"
        self.http_port = 0

    # --- building --------------------------------------------------------------------------------

    def _build(self, channel: Channel) -> _Running:
        pipeline = Pipeline(
            channel,
            self._store,
            self._workers,
            reactor=self._reactor,
            clock=self._clock,
            metrics=self._metrics,
            log=self._log,
            gate=self._gate(channel),
            audit=self._audit,
        )
        context = replace(self._context(channel.name), answered=bool(channel.answer_from), may_take=partial(_may_take, channel.program))
        source = registry.adapter(channel.source).source(channel.source_options, context)
        running = _Running(channel, pipeline, source)
        for outlet in channel.outlets:
            running.deliveries[outlet.name] = self._delivery(channel, outlet, pipeline)
        pipeline.connect(running.deliveries)
        return running

    def _gate(self, channel: Channel) -> Gate | None:
        parties = self._parties
        if parties is None or channel.parties is PartyCheck.OFF:
            return None
        return Gate(channel.name, channel.parties, lambda: parties.snapshot, metrics=self._metrics, audit=self._audit)

    def _delivery(self, channel: Channel, outlet: Outlet, pipeline: Pipeline) -> Delivery:
        context = self._context(f"{channel.name}/{outlet.name}")

        def make(context: Context) -> Destination:
            return registry.adapter(outlet.adapter).destination(outlet.options, context)

        return Delivery(
            channel.name,
            outlet,
            make(context) if outlet.deidentify is None else Deidentifying(outlet.deidentify, context, make),
            self._store,
            reactor=self._reactor,
            clock=self._clock,
            random=self._random,
            metrics=self._metrics,
            log=self._log,
            ended=lambda message_id, end: pipeline.ended(outlet.name, message_id, end),
        )

    def _context(self, name: str) -> Context:
        return Context(
            name=name,
            reactor=self._reactor,
            site=self._settings.site,
            data=self._settings.data,
            clock=self._clock,
            new_id=self._new_id,
            log=self._log,
            metrics=self._metrics,
            tls=self._tls,
            audit=self._audit,
            node=self._settings.name,
            party=self._settings.party,
            unaudited=self._unaudited,
            spool=self._store.spool,
            unspool=self._store.unspool,
            body_file=self._store.body_file,
            checkpoints=lambda: self._store.checkpoints(name.partition("/")[0]),
            shared=self._shared,
            parties=self._parties.now if self._parties is not None else Snapshot,
            disabled=self._is_disabled,
        )

    def _is_disabled(self, party: str) -> bool:
        standing = self._parties.snapshot.standing(party) if self._parties is not None else None
        return standing is not None and bool(standing.disabled)

    # --- life ------------------------------------------------------------------------------------

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """Fires when every source listens. Fails with StoreError or ConfigError; then call `stop`."""
        yield self._store.open()
        if self._parties is not None:
            self._parties.open()
            self._loop(WATCH_SECONDS, self._watch_parties)
        self._workers.start()
        held = {(line.channel, line.destination) for line in (yield self._store.queues()) if line.hold}
        for running in self._running:
            for name, delivery in running.deliveries.items():
                yield delivery.start((running.channel.name, name) in held)
            running.pipeline.planner.start()
        for running in self._running:
            yield running.source.start(self._audited(running.pipeline.intake))
        if self._settings.http is not None:
            host, port = self._settings.http
            site = status_site(self._metrics, self._refresh, lambda: self._not_ready or self._unaudited())
            self._port = self._reactor.listenTCP(port, site, interface=host)
            self.http_port = self._port.getHost().port
        self._loop(WATCH_SECONDS, self._watch)
        if self._settings.retention is not None:
            self._loop(PURGE_SECONDS, self._purge)
        self._loop(SWEEP_SECONDS, self._sweep)
        self._not_ready = ""
        self._log.info("ready", extra={"node": self._settings.name, "channels": len(self._running)})

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """Stop accepting, answer what was handed in, drain, settle, close. Fires when all is on disk."""
        self._not_ready = "stopping"
        self._log.info("stopping", extra={"node": self._settings.name})
        for loop in self._loops:
            loop.stop()
        yield self._each(running.source.stop() for running in self._running)
        yield self._each(running.pipeline.planner.stop() for running in self._running)
        yield self._each(delivery.stop() for running in self._running for delivery in running.deliveries.values())
        yield self._workers.stop()
        yield self._store.close()
        if self._parties is not None:
            self._parties.close()
        if self._port is not None:
            yield self._port.stopListening()
        self._log.info("stopped", extra={"node": self._settings.name})

    def _audited(self, intake: Intake) -> Intake:
        """Where a site is strict and its audit log cannot be written, nothing is taken: the sender tries again later."""

        def guarded(envelope: Envelope, reply: Reply, invalid: Judgement | None = None) -> Deferred[Ack]:
            if self._unaudited():
                return succeed(Ack(UNAVAILABLE, reply(UNAVAILABLE)))
            return intake(envelope, reply, invalid)

        return guarded if self._settings.audit_strict else intake

    def _each(self, deferreds: Any) -> Deferred[Any]:
        """All of them, even where one fails; failures are logged."""

        def logged(failure: Failure) -> None:
            self._log.error("a part did not stop cleanly", exc_info=failure.value)

        return DeferredList([deferred.addErrback(logged) for deferred in deferreds])

    # --- watching --------------------------------------------------------------------------------

    def _loop(self, seconds: float, function: Callable[[], Deferred[None]]) -> None:
        loop = LoopingCall(lambda: function().addErrback(self._loop_failed))
        loop.clock = self._reactor
        loop.start(seconds, now=False)
        self._loops.append(loop)

    def _loop_failed(self, failure: Failure) -> None:
        failure.trap(StoreError)
        self._log.error("the store does not answer", extra={"reason": str(failure.value)})

    @inlineCallbacks
    def _watch(self) -> Generator[Deferred[Any], Any, None]:
        """Follow what the command line has changed: holds, resends, reprocessing."""
        if not (yield self._store.changed_elsewhere()):
            return
        holds = {(line.channel, line.destination): line.hold for line in (yield self._store.queues())}
        for running in self._running:
            running.pipeline.planner.look_again()
            for name, delivery in running.deliveries.items():
                delivery.hold(holds.get((running.channel.name, name), False))
                delivery.look_again()

    def _watch_parties(self) -> Deferred[None]:
        if self._parties is not None:
            self._parties.look_again()
        return succeed(None)

    @inlineCallbacks
    def _purge(self) -> Generator[Deferred[Any], Any, None]:
        """Remove what is settled and older than the site's rule, in small steps."""
        before = self._clock() - int((self._settings.retention or 0) * 1e6)
        while (gone := (yield self._store.purge(before, PURGE_STEP))) == PURGE_STEP:
            self._log.info("purged", extra={"messages": gone})

    @inlineCallbacks
    def _sweep(self) -> Generator[Deferred[Any], Any, None]:
        """Remove body files that a crash, a full disk or a delivery has left without a row."""
        if gone := (yield self._store.sweep(SWEEP_STEP)):
            self._log.info("swept", extra={"files": gone})

    @inlineCallbacks
    def _refresh(self) -> Generator[Deferred[Any], Any, None]:
        """Bring the gauges up to date for a scrape."""
        for line in (yield self._store.queues()):
            self._queue_gauges(line)

    def _queue_gauges(self, line: QueueLine) -> None:
        labels = {"channel": line.channel, "destination": line.destination}
        gauge = self._metrics.gauge
        gauge("meridian_queue_depth", "parcels that wait", **labels).set(line.ready + line.pending + line.held)
        gauge("meridian_dead_letters", "parcels in the dead letters", **labels).set(line.dead)
        age = max(0.0, (self._clock() - line.oldest_at) / 1e6) if line.oldest_at else 0.0
        gauge("meridian_oldest_seconds", "age of the oldest parcel that waits", **labels).set(age)


def _may_take(program: Program, envelope: Envelope) -> bool:
    """Whether a channel could take a message with these header facts; what depends on its content may be taken."""
    return program.checks_content or program.judge(envelope).verdict is Verdict.ACCEPTED


def _asks_for_parties(channel: Channel) -> bool:
    """Or its source proves who sends by tokens or keys of its own, and must know who is disabled, whatever is checked of messages."""
    return channel.parties is not PartyCheck.OFF or any(channel.source_options.get(name) is not None for name in ("auth", "serve"))
