"""What terminals get out of a node: creates over many connections, uploads of lines, and the same beside terminals that misbehave.

alone, beside hostile   creates of one Observation (engine.bench.terminals), committed and answered, without and with engine.bench.hostile;
                        in one node, one after the other, twice by turns, since what else the machine does changes within minutes
lines, lines again      uploads of lines ($upload) by one terminal, and by four at once: new, and all of them once more

Everything is durable, by the store's defaults; nothing is delivered.
"""

from __future__ import annotations

import http.client
import json
import resource
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from certs import Authority
from engine.bench import site as sites
from engine.bench.loopback import HOST
from engine.bench.node import Node
from engine.bench.processes import Peer
from engine.bench.scenarios import Bench, Effort, Protocol
from engine.bench.terminals import TerminalLoad, observation

ALONE: Final = "alone"
HOSTILE: Final = "beside hostile"
FHIR: Final = Protocol("fhir", "engine.bench.terminals", "", (ALONE, HOSTILE), "engine.bench.http_echo", "engine.bench.terminals")
LIMITS: Final = {"receive_within": "2s", "idle": "3s"}
"""Short, so that terminals that misbehave are cut off within the run."""
HANDSHAKES: Final = {"idle": "30s"}
"""Over TLS the first terminals are silent until the last has shaken hands."""
UPLOADERS: Final = (1, 4)
_SPARE: Final = 1000
_FIRST_LINE: Final = 1 << 33
_ROUNDS: Final = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """`hostile`: how many of each kind; `lines` of each measurement of uploads; `tls`: creates over mutual TLS."""

    effort: Effort
    hostile: int = 20
    lines: int = 20_000
    tls: bool = False


def room_for(connections: int) -> None:
    """So many sockets in one process: the limit is inherited by the processes that are started. As far as this user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def measure(folder: Path, wanted: Wanted) -> dict[str, Any]:
    """`results` are those of engine.bench.scenarios.Bench, with `scenario` and what the hostile were cut off; `uploads` has

    lines, terminals, lines_per_second, again_per_second, node_rss_mb
    exactly_once    each line was kept once, and the repetition kept none
    """
    creates = [one for count in wanted.effort.connections for one in _creates(folder / f"creates-{count}", count, wanted)]
    return {"results": creates, "uploads": _uploads(folder / "uploads", wanted.lines)}


def _creates(folder: Path, connections: int, wanted: Wanted) -> list[dict[str, Any]]:
    places = min(connections + 4 * wanted.hostile + 50, 65535)
    options: dict[str, Any] = {"connections": places, "requests": places, "requests_per_peer": places, **LIMITS}
    certs = ""
    if wanted.tls:
        options |= {"tls": {"client_auth": "required"}, **HANDSHAKES}
    site = sites.write_site(folder / "site", sites.ingest_only(), protocol="fhir", **options)
    if wanted.tls:
        sites.issue(folder / "authority")
        sites.trust(site.folder, folder / "authority")
        Authority.open(folder / "authority" / "authority").issue("terminal", out=folder / "terminal")
        certs = str(folder / "terminal")
    results = []
    with Node(site) as node:
        bench = Bench(node, None, wanted.effort, FHIR.generator, partial(TerminalLoad, certs=certs))
        for _ in range(_ROUNDS):
            results.append({"scenario": ALONE, **bench.measure(connections)})
            results.append({"scenario": HOSTILE, **_beside(bench, site.port, connections, wanted.hostile)})
        kept, acknowledged = _kept(site.folder), bench.sent
    for result in results:
        result.update(tls=wanted.tls, exactly_once=result["exactly_once"] and kept == acknowledged)
    return results


def _beside(bench: Bench, port: int, connections: int, each: int) -> dict[str, Any]:
    with Peer("engine.bench.hostile", str(port), str(each)) as hostile:
        before = hostile.counts()
        result = bench.measure(connections)
        after = hostile.counts()
    return {**result, "hostile": 3 * each, "hostile_cut_off": after["ended"] - before["ended"]}


# --- uploads ------------------------------------------------------------------------------------------


def _uploads(folder: Path, lines: int) -> list[dict[str, Any]]:
    site = sites.write_site(folder / "site", sites.ingest_only(), protocol="fhir")
    results, kept = [], 0
    with ExitStack() as stack:
        node = stack.enter_context(Node(site))
        for terminals in UPLOADERS:
            bodies = [_journal(terminals, number, lines // terminals) for number in range(terminals)]
            new, most = _timed(node, site.port, terminals, bodies)
            again, most_again = _timed(node, site.port, terminals, bodies)
            count = lines // terminals * terminals
            kept += count
            results.append(
                {
                    "terminals": terminals,
                    "lines": count,
                    "lines_per_second": round(count / new, 1),
                    "again_per_second": round(count / again, 1),
                    "megabytes": round(sum(map(len, bodies)) / 1e6, 1),
                    "node_rss_mb": round(max(most, most_again) / 1e6, 1),
                    "exactly_once": _kept(site.folder) == kept,
                }
            )
    return results


def _journal(terminals: int, number: int, lines: int) -> bytes:
    first = _FIRST_LINE + (terminals * 10 + number) * 100_000_000
    return b"".join(observation(first % 10**11 + line) + b"\n" for line in range(lines))


def _timed(node: Node, port: int, terminals: int, bodies: Sequence[bytes]) -> tuple[float, int]:
    """How long all together took, in seconds, and the node's memory at most."""
    most, began = node.resident_bytes, time.monotonic()
    with ThreadPoolExecutor(terminals) as pool:
        sending = [pool.submit(_upload, port, f"bench-{terminals}-{number}", body) for number, body in enumerate(bodies)]
        while not all(one.done() for one in sending):
            time.sleep(0.1)
            most = max(most, node.resident_bytes)
    ended = max(one.result() for one in sending)
    return ended - began, most


def _upload(port: int, device: str, body: bytes) -> float:
    """When the answer was there. Raises OSError, ValueError."""
    connection = http.client.HTTPConnection(HOST, port, timeout=600)
    with closing(connection):
        headers = {"Content-Type": "application/fhir+ndjson", "Prefer": "return=minimal"}
        connection.request("POST", f"/fhir/$upload?device={device}&first=1", body, headers)
        answer = connection.getresponse()
        told = [json.loads(line) for line in answer.read().splitlines()]
    if answer.status != 200 or len(told) != 1:
        raise ValueError(f"an upload was answered {answer.status}, with {len(told) - 1} lines that were not kept")
    return time.monotonic()


def _kept(folder: Path) -> int:
    """How many messages the node has, while it runs."""
    with closing(sqlite3.connect(f"file:{folder}/data/meridian.db?mode=ro", uri=True, timeout=30)) as database:
        return int(database.execute("SELECT count(*) FROM message").fetchone()[0])
