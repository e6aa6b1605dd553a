"""How long an operator waits for an answer: searches, queues and the ledger, on a store of which a node has much."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import MeridianError
from engine.message import Status
from engine.store.contract import Query
from engine.store.reads import Reads
from engine.store.schema import connect


def measure(data: Path, site: Path) -> dict[str, Any]:
    """Milliseconds of each look, the slower of two on a connection of its own, beside the node that may be running:

    search_ms    by what was searched for
    queues_ms, ledger_ms
    commands_ms  `meridian messages search` as a whole, with the start of its process, by what was searched for
    """
    connection = connect(data, read_only=True)
    try:
        reads = Reads(connection)
        queries = _queries(reads)
        return {
            "search_ms": {name: _slower(lambda query=query: reads.search(query)) for name, query in queries.items()},  # type: ignore[misc]
            "queues_ms": _slower(reads.queues),
            "ledger_ms": _slower(reads.ledger),
            "commands_ms": {name: _command(site, option) for name, option in _options(queries).items()},
        }
    finally:
        connection.close()


def _queries(reads: Reads) -> dict[str, Query]:
    """One for each thing that can be asked for alone; about a message in the middle, where nothing is nearer than anything else."""
    newest = reads.search(Query(limit=1))[0]
    middle = reads.search(Query(before_id=newest.message_id // 2 + 2, limit=1))[0]
    kept = reads.show(middle.message_id)
    if kept is None:
        raise MeridianError("a message is gone while it was measured")
    first = reads.search(Query(before_id=2, limit=1))[0]
    return {
        "control id": Query(control_id=middle.control_id),
        "patient id": Query(patient_id=kept.envelope.patient_ids[0]),
        "channel": Query(channel=middle.channel),
        "channel, none": Query(channel="none"),
        **{f"status {status}": Query(status=status) for status in Status if status is not Status.TRANSFORMED},
        "time, all": Query(since=first.received_at),
        "time, first half": Query(until=middle.received_at),
        "time, one second": Query(since=middle.received_at, until=middle.received_at + 1_000_000),
    }


def _slower(look: Callable[[], object]) -> float:
    times = []
    for _ in range(2):
        began = time.monotonic()
        look()
        times.append(time.monotonic() - began)
    return round(max(times) * 1000, 1)


def _options(queries: dict[str, Query]) -> dict[str, tuple[str, str]]:
    return {
        "control id": ("--control-id", queries["control id"].control_id),
        "patient id": ("--patient", queries["patient id"].patient_id),
        "channel": ("--channel", queries["channel"].channel),
        "status": ("--status", Status.PENDING),
        "time": ("--since", "2000-01-01"),
    }


def _command(site: Path, option: tuple[str, str]) -> float:
    command = [sys.executable, "-m", "engine", "messages", "search", "--site", str(site), "--json", *option]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # ourselves
    if done.returncode not in (0, 1):
        raise MeridianError(f"messages search {option[0]} failed: {done.stderr.strip()}")
    return round((time.monotonic() - began) * 1000, 1)
