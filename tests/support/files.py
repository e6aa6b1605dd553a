"""The source `file` beside a store in memory that knows repetitions: lives of a node, one after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from adapters.file import adapter
from engine.message import ACCEPTED, Ack, BodyRef, Envelope, Judgement, Verdict
from engine.store.bodies import Bodies
from tests.support.fhir import context

QUICK = {"poll": "20ms", "settled_for": "0s"}
UNAVAILABLE = Judgement(Verdict.UNAVAILABLE, "no room")


class Kept:
    """engine.contracts.Intake. Outlives the sources that fill it. `refuse` says which arrivals (from 1) the store cannot take."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.invalid: list[Judgement] = []
        self.bad: list[Envelope] = []
        self.checkpoints: dict[str, str] = {}
        self.repeated = self.arrived = 0
        self.refuse: Callable[[int], bool] = lambda _: False
        self._keys: dict[str, int] = {}
        self._awaited: list[tuple[int, Deferred[None]]] = []

    def __call__(self, envelope: Envelope, reply: Any, invalid: Judgement | None = None) -> Deferred[Ack]:
        self.arrived += 1
        for number, awaited in self._awaited:
            if number == self.arrived:
                awaited.callback(None)
        if self.refuse(self.arrived):
            return succeed(Ack(UNAVAILABLE, b""))
        number = self._keys.get(envelope.idempotency_key)
        if number is None:
            number = self._keys[envelope.idempotency_key] = len(self._keys) + 1
            if invalid is None:
                self.envelopes.append(envelope)
            else:
                self.bad.append(envelope)
                self.invalid.append(invalid)
        else:
            self.repeated += 1
        if envelope.checkpoint is not None:
            self.checkpoints[envelope.checkpoint[0]] = envelope.checkpoint[1]
        return succeed(Ack(invalid or ACCEPTED, b"", number))

    def after(self, number: int) -> Deferred[None]:
        """Fires when so many messages have arrived in all."""
        awaited: Deferred[None] = Deferred()
        if self.arrived >= number:
            awaited.callback(None)
        else:
            self._awaited.append((number, awaited))
        return awaited


class Taking:
    """One life of a node that watches ``folder/in``. `taken(n)` fires when n files of this life were moved away."""

    def __init__(self, folder: Path, kept: Kept, *, node: str = "one", **options: Any) -> None:
        self.folder, self.kept = folder / "in", kept
        self.folder.mkdir(parents=True, exist_ok=True)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._awaited: list[tuple[int, Deferred[None]]] = []
        data = folder / f"data-{node}"
        data.mkdir(exist_ok=True)
        self._bodies = Bodies(data / "bodies")
        self._bodies.open()
        made = context(data, reactor, name="files", audit=self._heard)
        for name, value in {
            "site": folder,
            "node": node,
            "checkpoints": lambda: succeed(dict(kept.checkpoints)),
            "spool": self._bodies.spool,
            "unspool": lambda ref: self._bodies.unpin(ref.digest),
            "body_file": lambda ref: self._bodies.path(ref.digest),
        }.items():
            object.__setattr__(made, name, value)
        self.context = made
        said = {"folder": "in", **QUICK, **options}
        self.source: Any = adapter.source(adapter.source_options.defaults(**said), made)  # type: ignore[union-attr]

    def _heard(self, event: str, **facts: Any) -> None:
        self.events.append((event, facts))
        for number, awaited in self._awaited:
            if event == "file.taken" and self.files == number:
                awaited.callback(None)

    @property
    def files(self) -> int:
        return sum(event == "file.taken" for event, _ in self.events)

    def start(self) -> Deferred[None]:
        started: Deferred[None] = self.source.start(self.kept)
        return started

    def stop(self) -> Deferred[None]:
        stopped: Deferred[None] = self.source.stop()
        return stopped

    def taken(self, number: int = 1) -> Deferred[None]:
        awaited: Deferred[None] = Deferred()
        if self.files >= number:
            awaited.callback(None)
        else:
            self._awaited.append((number, awaited))
        return awaited

    def put(self, name: str, content: bytes) -> None:
        """As a careful sender does it."""
        beside = self.folder / f".{name[:40]}"
        beside.write_bytes(content)
        beside.rename(self.folder / name)

    def tree(self) -> list[str]:
        """What lies there, but for claims' marks."""
        return sorted(str(one.relative_to(self.folder)) for one in self.folder.rglob("*") if one.is_file() and one.name != ".alive")

    def body(self, envelope: Envelope) -> bytes:
        body = envelope.body
        return self._bodies.read(body) if isinstance(body, BodyRef) else body
