"""A long queue: how much memory a node takes while its destination is down, and how soon it listens again after a restart."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from engine.bench import site as sites
from engine.bench.generator import Load
from engine.bench.loopback import HOST
from engine.bench.node import Node
from engine.bench.processes import generate
from engine.errors import MeridianError

_STEPS: Final = 10


def measure(folder: Path, messages: int, connections: int = 10, in_flight: int = 8) -> dict[str, Any]:
    """Queue `messages` through the node's own MLLP source, then restart it with them.

    rss_mb               after each tenth of the messages; beside it how many were queued then
    empty_start_seconds  from the start of the process to /readyz, without and with the queue (full_start_seconds)
    full_start_rss_mb    memory after the start with the queue
    """
    with closing(socket.socket()) as nobody:  # holds a port on which nobody listens, so that nobody else takes it
        nobody.bind((HOST, 0))
        site = sites.write_site(folder / "memory", sites.pass_through(nobody.getsockname()[1]))
        with Node(site) as node:
            empty_start, steps, rate = node.started_in, [_step(node, 0)], []
            while steps[-1]["queued"] < messages:
                report = generate(_load(site.mllp, steps[-1]["queued"], messages, connections, in_flight))
                if report["acknowledged"] != report["sent"]:
                    raise MeridianError(f"{report['sent'] - report['acknowledged']} messages were not acknowledged")
                rate.append(report["per_second"])
                steps.append(_step(node, steps[-1]["queued"] + report["sent"]))
        with Node(site) as node:
            full_start, full = node.started_in, _step(node, messages)
    return {
        "messages": messages,
        "acknowledged_per_second": rate,
        "rss_mb": steps,
        "most_rss_mb": max(step["rss_mb"] for step in [*steps, full]),
        "empty_start_seconds": round(empty_start, 3),
        "full_start_seconds": round(full_start, 3),
        "full_start_rss_mb": full["rss_mb"],
    }


def _load(port: int, queued: int, messages: int, connections: int, in_flight: int) -> Load:
    portion = min(-(-messages // _STEPS), messages - queued)
    return Load(port, connections, in_flight, seconds=3600, messages=portion, first=queued)


def _step(node: Node, queued: int) -> dict[str, Any]:
    return {"queued": queued, "rss_mb": round(node.resident_bytes / 1e6, 1)}
