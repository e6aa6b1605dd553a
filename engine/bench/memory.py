"""A long queue: how much memory a node takes while its destination is down, how soon it listens again after a restart, and how soon it
can be asked what it has."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from engine.bench import lookups
from engine.bench import site as sites
from engine.bench.generator import Load
from engine.bench.loopback import HOST
from engine.bench.node import Node
from engine.bench.processes import generate
from engine.errors import MeridianError

_STEPS: Final = 10
MOST_RSS_MB: Final = 250.0
MOST_START_SECONDS: Final = 3.0
MOST_SEARCH_MS: Final = 1000.0


def measure(folder: Path, messages: int, connections: int = 10, in_flight: int = 8) -> dict[str, Any]:
    """Queue `messages` through the node's own MLLP source, then restart it with them.

    rss_mb               after each tenth of the messages; beside it how many were queued then
    empty_start_seconds  from the start of the process to /readyz, without and with the queue (full_start_seconds)
    full_start_rss_mb    memory after the start with the queue
    lookups              engine.bench.lookups, beside the node that runs with the queue
    missed               what is over its limit, in words
    """
    with closing(socket.socket()) as nobody:  # holds a port on which nobody listens, so that nobody else takes it
        nobody.bind((HOST, 0))
        site = sites.write_site(folder / "memory", sites.pass_through(nobody.getsockname()[1]))
        with Node(site) as node:
            empty_start, steps, rate = node.started_in, [_step(node, 0)], []
            while steps[-1]["queued"] < messages:
                report = generate(_load(site.port, steps[-1]["queued"], messages, connections, in_flight))
                if report["acknowledged"] != report["sent"]:
                    raise MeridianError(f"{report['sent'] - report['acknowledged']} messages were not acknowledged")
                rate.append(report["per_second"])
                steps.append(_step(node, steps[-1]["queued"] + report["sent"]))
        with Node(site) as node:
            full_start, full = node.started_in, _step(node, messages)
            looks = lookups.measure(site.folder / "data", site.folder)
            after = _step(node, messages)
    report = {
        "messages": messages,
        "acknowledged_per_second": rate,
        "rss_mb": steps,
        "most_rss_mb": max(step["rss_mb"] for step in [*steps, full, after]),
        "empty_start_seconds": round(empty_start, 3),
        "full_start_seconds": round(full_start, 3),
        "full_start_rss_mb": full["rss_mb"],
        "lookups": looks,
    }
    return {**report, "missed": _missed(report)}


def _missed(report: dict[str, Any]) -> list[str]:
    slow = {name: took for name, took in report["lookups"]["search_ms"].items() if took > MOST_SEARCH_MS}
    missed = [f"search by {name}: {took} ms, at most {MOST_SEARCH_MS:.0f}" for name, took in slow.items()]
    if report["full_start_seconds"] > MOST_START_SECONDS:
        missed.append(f"from start to ready: {report['full_start_seconds']} s, at most {MOST_START_SECONDS:.0f}")
    if report["most_rss_mb"] > MOST_RSS_MB:
        missed.append(f"RSS: {report['most_rss_mb']} MB, at most {MOST_RSS_MB:.0f}")
    return missed


def _load(port: int, queued: int, messages: int, connections: int, in_flight: int) -> Load:
    portion = min(-(-messages // _STEPS), messages - queued)
    return Load(port, connections, in_flight, seconds=3600, messages=portion, first=queued)


def _step(node: Node, queued: int) -> dict[str, Any]:
    return {"queued": queued, "rss_mb": round(node.resident_bytes / 1e6, 1)}
