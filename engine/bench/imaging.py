"""DICOM received durably: this node beside dcmtk's storescp and Orthanc where they are installed, in one run, under the same senders; and
received and forwarded (C-STORE) to a storescp, until the last instance is there.

What each does before it answers 0000H: this node has the file and the row about it fsynced; Orthanc (as it is configured here, which is its
default) fsyncs the file but not its index at each instance; storescp fsyncs nothing, so it shows what the machine can do without.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engine.bench import site as sites
from engine.bench.loopback import HOST, free_port
from engine.bench.modalities import ImageLoad
from engine.bench.node import Node
from engine.bench.processes import cpu_seconds, generate, resident_bytes
from engine.errors import MeridianError

NODE: Final = "meridian"
FORWARDING: Final = "meridian to storescp"
PDU: Final = 131072
KINDS: Final = ("ct", "multi-frame")
_LOOK_SECONDS: Final = 0.05
_READY_WITHIN: Final = 30.0
_PATIENCE: Final = 30.0
DURABLE: Final = {
    NODE: "file and row fsynced before the answer",
    FORWARDING: "file and row fsynced before the answer, settled in the store",
    "orthanc": "file fsynced before the answer, index not",
    "storescp": "not durable",
}


def measure(
    kinds: Sequence[str],
    associations: Sequence[int],
    seconds: float,
    warm_up: float,
    folder: Path,
    messages: int = 1 << 40,
    peers: bool = True,
) -> list[dict[str, Any]]:
    """One result for each receiver, kind of instance and number of associations. `ratio` is this node's rate over the peer's."""
    results = []
    with _node(folder) as node:
        results += _loads(NODE, node.site.port, node, kinds, associations, seconds, warm_up, messages)
    if peers:
        results += _forwarded(kinds, associations, seconds, warm_up, folder, messages)
        for name, begin in (("storescp", _storescp), ("orthanc", _orthanc)):
            with begin(folder / name) as peer:
                if peer is not None:
                    results += _loads(name, peer.port, peer, kinds, associations, seconds, warm_up, messages)
    for result in results:
        mine = next(one for one in results if one["receiver"] == NODE and _case(one) == _case(result))
        result["ratio"] = round(mine["per_second"] / result["per_second"], 2) if result["per_second"] else 0.0
    return results


def _case(result: dict[str, Any]) -> tuple[str, int]:
    return result["kind"], result["associations"]


def _loads(
    name: str, port: int, process: Any, kinds: Sequence[str], associations: Sequence[int], seconds: float, warm_up: float, messages: int
) -> list[dict[str, Any]]:
    results, first = [], 0
    for kind in kinds:
        for count in associations:
            for lasts in (warm_up, seconds):
                cpu = process.cpu_seconds
                load = generate(ImageLoad(port, count, 1, lasts, messages, first, kind=kind), "engine.bench.modalities")
                first += load["sent"]
            results.append(_result(name, load, process.cpu_seconds - cpu, process.resident_bytes))
    return results


def _forwarded(
    kinds: Sequence[str], associations: Sequence[int], seconds: float, warm_up: float, folder: Path, messages: int
) -> list[dict[str, Any]]:
    """As `_loads`, with `delivered` and `delivered_per_second`, counted where they arrive."""
    results: list[dict[str, Any]] = []
    with _storescp(folder / "sink") as sink:
        if sink is None:
            return results
        site = sites.write_site(folder / "forwarding", sites.forwarded(sink.port), protocol="dicom")
        with Node(site) as node:
            sent = 0
            for kind in kinds:
                for count in associations:
                    for lasts in (warm_up, seconds):
                        cpu, before = node.cpu_seconds, sent
                        load = generate(ImageLoad(site.port, count, 1, lasts, messages, sent, kind=kind), "engine.bench.modalities")
                        sent += load["sent"]
                        arrived, at = _arrived(folder / "sink", sent)
                    result = _result(FORWARDING, load, node.cpu_seconds - cpu, node.resident_bytes)
                    delivered = arrived - before
                    result["all_taken"] = result["all_taken"] and delivered == load["sent"]
                    results.append(
                        {**result, "delivered": delivered, "delivered_per_second": round(delivered / (at - load["began_at"]), 1)}
                    )
    return results


def _arrived(sink: Path, wanted: int) -> tuple[int, float]:
    """How many instances are at the sink, and since when: all of them, or nothing more has come for `_PATIENCE` seconds."""
    count, at = 0, time.monotonic()
    while count < wanted and time.monotonic() < at + _PATIENCE:
        found = sum(name != "log" for name in os.listdir(sink))
        if found > count:
            count, at = found, time.monotonic()
        time.sleep(_LOOK_SECONDS)
    return count, at


def _result(name: str, load: dict[str, Any], cpu: float, resident: int) -> dict[str, Any]:
    told = ("kind", "acknowledged", "refused", "unanswered", "per_second", "mb_per_second", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    return {
        "receiver": name,
        "durable": DURABLE[name],
        "associations": load["connections"],
        **{one: load[one] for one in told},
        "all_taken": not load["refused"] and not load["unanswered"],
        "cpu_ms_per_instance": round(cpu * 1000 / max(load["acknowledged"], 1), 3),
        "rss_mb": round(resident / 1e6, 1),
    }


@contextmanager
def _node(folder: Path) -> Iterator[Node]:
    site = sites.write_site(folder / NODE, sites.ingest_only(), protocol="dicom")
    with Node(site) as node:
        yield node


class _Peer:
    """A foreign receiver's process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    @property
    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.process.pid)


@contextmanager
def _storescp(folder: Path) -> Iterator[_Peer | None]:
    """A process for each association, as it is written to files bit by bit."""
    port = free_port()
    with _running(folder, "/usr/bin/storescp", "--fork", "+B", "-pdu", str(PDU), "-od", str(folder), str(port), port=port) as peer:
        yield peer


@contextmanager
def _orthanc(folder: Path) -> Iterator[_Peer | None]:
    """With its defaults, but for a PDU as long as ours and as many threads as there are associations."""
    folder.mkdir()
    port = free_port()
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomPort": port,
        "DicomServerEnabled": True,
        "HttpServerEnabled": False,
        "MaximumPduLength": PDU,
        "DicomThreadsCount": 8,
        "SyncStorageArea": True,
        "StorageCompression": False,
        "Plugins": [],
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    with _running(folder, "/usr/sbin/Orthanc", str(file), port=port) as peer:
        yield peer


@contextmanager
def _running(folder: Path, program: str, *arguments: str, port: int) -> Iterator[_Peer | None]:
    """None where the program is not installed. Called by its full path: others install programs of the same name."""
    if not shutil.which(program):
        yield None
        return
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        environment = {**os.environ, "TCP_NODELAY": "1"}
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log, env=environment)  # noqa: S603  # a fixed path
    try:
        _wait_for(process, port, program)
        yield _Peer(process, port)
    finally:
        process.terminate()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int, program: str) -> None:
    until = time.monotonic() + _READY_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(_LOOK_SECONDS)
        else:
            return
    raise MeridianError(f"{program} does not listen")
