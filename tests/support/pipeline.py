"""A channel around a scripted program, a memory store and a scripted destination."""

from __future__ import annotations

import logging
from dataclasses import replace

from twisted.internet.task import Clock

from engine.channel import Channel, Outlet, PartyCheck, Recipe, ReusedKey
from engine.delivery import Delivery
from engine.message import ACCEPTED, Ack, BodyRef, Envelope, Judgement, Status, Verdict
from engine.observe import Metrics
from engine.parties import Gate, Snapshot
from engine.pipeline import Pipeline
from engine.store.contract import Plan, Routed
from engine.workers import Workers
from tests.support.delivery import NO_OPTIONS, Scripted
from tests.support.memory_store import MemoryStore


class ScriptedProgram:
    """engine.channel.Program: bodies say what is to become of them."""

    checks_content = False
    reads_content = False

    def __init__(self, light: bool = True) -> None:
        self.light = light

    def judge(self, envelope: Envelope) -> Judgement:
        return Judgement(Verdict.REFUSED, "not for this channel", "200") if envelope.body == b"refuse" else ACCEPTED

    def plan(self, envelope: Envelope) -> Plan:
        if envelope.body == b"drop":
            return Plan(Status.FILTERED, reason="filter")
        if envelope.body == b"broken":
            return Plan(Status.ERROR, reason="unreadable", error_code="message.parse")
        mapped = envelope.body.upper() if isinstance(envelope.body, bytes) and not self.light else None
        return Plan(Status.QUEUED, (Routed("d", mapped, order_key="k"),))


def reply(judgement: Judgement) -> bytes:
    """The answers of a protocol with four words."""
    return judgement.verdict.encode()


def sample(body: bytes | BodyRef = b"hello", control_id: str = "1", digest: bytes = b"x") -> Envelope:
    return Envelope(body, "text/plain", "T", control_id, idempotency_key=control_id, content_digest=digest, received_at=1)


class Flow:
    """One running channel on a clock that the test turns."""

    def __init__(
        self, light: bool = True, answer_from: str = "", reused_key: ReusedKey = ReusedKey.REFUSE, parties: PartyCheck = PartyCheck.OFF
    ) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.destination = Scripted()
        program = ScriptedProgram(light)
        recipe = Recipe(ScriptedProgram, (light,))  # type: ignore[arg-type]
        outlet = Outlet("d", "scripted", NO_OPTIONS)
        channel = Channel("c", "test", NO_OPTIONS, (outlet,), program, recipe, answer_from, reused_key=reused_key)
        self.metrics = Metrics()
        common = {"reactor": self.clock, "clock": self.now, "metrics": self.metrics, "log": logging.getLogger("test")}
        workers = Workers({"c": recipe}, 0, reactor=self.clock, log=common["log"])  # type: ignore[arg-type]
        self.snapshot = Snapshot()
        self.audited: list[tuple[str, dict[str, object]]] = []
        gate = None
        audit = lambda event, **facts: self.audited.append((event, facts))  # noqa: E731
        if parties is not PartyCheck.OFF:
            gate = Gate("c", parties, lambda: self.snapshot, metrics=self.metrics, audit=audit)
        self.pipeline = Pipeline(channel, self.store, workers, gate=gate, audit=audit, **common)  # type: ignore[arg-type]
        ended = lambda message_id, end: self.pipeline.ended("d", message_id, end)  # noqa: E731
        self.delivery = Delivery("c", outlet, self.destination, self.store, random=lambda: 0.0, ended=ended, **common)  # type: ignore[arg-type]
        self.pipeline.connect({"d": self.delivery})
        self.delivery.start()
        self.pipeline.planner.start()

    def now(self) -> int:
        return int(self.clock.seconds() * 1e6)

    def sample(self, name: str) -> float | None:
        """A metric's value, of the one child that it has here."""
        return next((one.value for family in self.metrics.registry.collect() for one in family.samples if one.name == name), None)

    def send(self, envelope: Envelope, invalid: Judgement | None = None) -> list[Ack]:
        """What the source hears, as soon as it hears it."""
        heard: list[Ack] = []
        self.pipeline.intake(envelope, reply, invalid).addCallback(heard.append)
        self.clock.advance(0)  # what follows the answer
        return heard


def again(envelope: Envelope, **changes: object) -> Envelope:
    return replace(envelope, **changes)  # type: ignore[arg-type]
