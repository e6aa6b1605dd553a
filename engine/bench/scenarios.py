"""What is measured of a node under load: a real node in its own processes, a load generator and a sink in one process each.

ingest        MLLP in, committed, answered; goes nowhere
pass-through  MLLP in, committed, answered, delivered to an MLLP sink, settled
mapped        MLLP in, committed, answered, mapped to FHIR, posted to a FHIR sink over mutual TLS, settled

ingest and mapped also with laboratory instruments in place of MLLP senders (`ASTM`), and with platforms that call HIPMessageServer
(`HIP`); there also

signed        each call signed (WS-Security), verified, committed, answered; goes nowhere

Everything is durable, by the store's defaults. Before each measurement comes a warm-up, of which everything is delivered first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from engine.bench import site as sites
from engine.bench.callers import CallLoad
from engine.bench.generator import Load
from engine.bench.node import Node
from engine.bench.processes import Peer, generate

INGEST: Final = "ingest"
PASS_THROUGH: Final = "pass-through"  # noqa: S105  # not a word to log in with
MAPPED: Final = "mapped"
SIGNED: Final = "signed"
SCENARIOS: Final = (INGEST, PASS_THROUGH, MAPPED)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What sends: the source's name, the load generator, the mapping of what it sends; and what answers it and does nothing else."""

    name: str
    generator: str
    mapping: str
    scenarios: Sequence[str]
    echo: str = "engine.bench.echo"
    echo_generator: str = "engine.bench.generator"


MLLP: Final = Protocol("mllp", "engine.bench.generator", "hl7v2-to-fhir", SCENARIOS)
ASTM: Final = Protocol("astm", "engine.bench.instruments", "astm-to-fhir", (INGEST, MAPPED))
HIP: Final = Protocol(
    "hip", "engine.bench.callers", "hip-to-fhir", (INGEST, MAPPED, SIGNED), "engine.bench.http_echo", "engine.bench.callers"
)

PATIENCE: Final = 60.0
"""Seconds without any delivery after which what is missing counts as missing."""
_SAMPLE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard and how long: connections to measure at, messages under way on each, and the seconds of warm-up and measurement."""

    connections: Sequence[int] = (1, 10, 50)
    in_flight: int = 1
    seconds: float = 5.0
    warm_up: float = 2.0
    messages: int = 1 << 40


def measure(scenario: str, effort: Effort, folder: Path, protocol: Protocol = MLLP) -> list[dict[str, Any]]:
    """One node for the scenario, one result for each number of connections. The fields are explained in `Bench.measure`."""
    with ExitStack() as stack:
        sink = _sink(scenario, folder, stack)
        port = sink.port if sink else 0
        security: dict[str, Any] = {"security": {}} if scenario == SIGNED else {}
        channels: dict[str, dict[str, Any]] = {
            INGEST: sites.ingest_only(),
            PASS_THROUGH: sites.pass_through(port),
            MAPPED: sites.mapped(port, protocol.mapping),
            SIGNED: sites.ingest_only(),
        }
        site = sites.write_site(folder / scenario, channels[scenario], protocol=protocol.name, **security)
        if protocol is ASTM:
            sites.name_instruments(site.folder)
        if scenario == MAPPED:
            sites.trust(site.folder, folder / "sink")
        load: Callable[..., Load] = Load
        if scenario == SIGNED:
            sites.issue(folder / "signer")
            sites.trust(site.folder, folder / "signer")
            load = partial(CallLoad, certs=str(folder / "signer"))
        node = stack.enter_context(Node(site))
        bench = Bench(node, sink, effort, protocol.generator, load)
        return [{"scenario": scenario, **bench.measure(count)} for count in effort.connections]


def _sink(scenario: str, folder: Path, stack: ExitStack) -> Peer | None:
    if scenario in (INGEST, SIGNED):
        return None
    if scenario == PASS_THROUGH:
        return stack.enter_context(Peer("engine.bench.sink"))
    sites.issue(folder / "sink")
    return stack.enter_context(Peer("engine.bench.fhir_sink", str(folder / "sink")))


class Bench:
    """Measures one running node. `sink` is None where nothing is delivered."""

    def __init__(
        self, node: Node, sink: Peer | None, effort: Effort, generator: str = MLLP.generator, make: Callable[..., Load] = Load
    ) -> None:
        self._node, self._sink, self._effort, self._generator, self._make = node, sink, effort, generator, make
        self._sent = 0

    @property
    def sent(self) -> int:
        """How many messages so far, warm-ups too."""
        return self._sent

    def measure(self, connections: int) -> dict[str, Any]:
        """Warm up, measure, wait until the last has arrived. Gives, beside the load:

        acknowledged, acknowledged_per_second, p50_ms … max_ms
                                  as the sender saw it
        delivered, delivered_per_second
                                  different messages at the sink, until the last was there
        missing, duplicates       acknowledged and not at the sink; more than once at the sink
        exactly_once              none missing, none twice, none refused, none unanswered
        node_cpu_ms_per_message   user and system time of the node's processes, until the last was at the sink
        node_rss_mb               the most that they held together, sampled
        """
        self._load(connections, self._effort.warm_up)
        self._arrived(self._sent)
        before, cpu = self._counts(), self._node.cpu_seconds
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(self._load, connections, self._effort.seconds)
            most = self._node.resident_bytes
            while not sending.done():
                time.sleep(_SAMPLE_SECONDS)
                most = max(most, self._node.resident_bytes)
        load = sending.result()
        after = self._arrived(self._sent)
        cpu = self._node.cpu_seconds - cpu
        return {**_sent(load), **self._delivered(load, before, after), **_used(load, cpu, max(most, self._node.resident_bytes))}

    def _load(self, connections: int, seconds: float) -> dict[str, Any]:
        effort = self._effort
        load = self._make(self._node.site.port, connections, effort.in_flight, seconds=seconds, messages=effort.messages, first=self._sent)
        report = generate(load, self._generator)
        self._sent += report["sent"]
        return report

    def _counts(self) -> dict[str, Any]:
        return self._sink.counts() if self._sink else {"total": 0, "distinct": 0, "last_at": 0.0}

    def _arrived(self, wanted: int) -> dict[str, Any]:
        """The sink's counts, once `wanted` different messages are there or nothing has come for PATIENCE seconds."""
        counts, since = self._counts(), time.monotonic()
        while self._sink and counts["distinct"] < wanted and time.monotonic() < max(since, counts["last_at"]) + PATIENCE:
            time.sleep(_SAMPLE_SECONDS / 4)
            counts = self._counts()
        return counts

    def _delivered(self, load: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        if self._sink is None:
            return {"exactly_once": not load["refused"] and not load["unanswered"]}
        delivered = after["distinct"] - before["distinct"]
        duplicates = after["total"] - before["total"] - delivered
        missing = max(0, load["acknowledged"] - delivered)
        elapsed = max(after["last_at"] - load["began_at"], 1e-9)
        return {
            "delivered": delivered,
            "delivered_per_second": round(delivered / elapsed, 1),
            "missing": missing,
            "duplicates": duplicates,
            "exactly_once": not (missing or duplicates or load["refused"] or load["unanswered"]),
        }


def _sent(load: dict[str, Any]) -> dict[str, Any]:
    names = ("connections", "in_flight", "acknowledged", "refused", "unanswered", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    return {**{name: load[name] for name in names}, "acknowledged_per_second": load["per_second"]}


def _used(load: dict[str, Any], cpu: float, resident: int) -> dict[str, Any]:
    count = max(load["acknowledged"], 1)
    return {
        "node_cpu_ms_per_message": round(cpu * 1000 / count, 3),
        "generator_cpu_ms_per_message": round(load["cpu_seconds"] * 1000 / count, 3),
        "node_rss_mb": round(resident / 1e6, 1),
    }
