"""The benchmark's own processes over loopback: generator, sinks, echo. Small counts; what is checked is that they count right."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from engine.bench import limits, site
from engine.bench.generator import Load
from engine.bench.node import Node
from engine.bench.processes import Peer, generate
from engine.bench.scenarios import Bench, Effort
from engine.errors import MeridianError


def test_everything_sent_is_counted() -> None:
    """Over several connections with several under way on each, the sink has seen just what the generator had acknowledged."""
    with Peer("engine.bench.sink") as sink:
        report = generate(Load(sink.port, connections=4, in_flight=3, seconds=60, messages=1003))
        counts = sink.counts()
    assert (report["sent"], report["acknowledged"], report["refused"], report["unanswered"]) == (1003, 1003, 0, 0)
    assert (counts["total"], counts["distinct"]) == (1003, 1003)
    assert report["began_at"] < counts["last_at"] <= report["ended_at"]
    assert 0 < report["p50_ms"] <= report["p95_ms"] <= report["p99_ms"] <= report["max_ms"]


def test_a_repeat_shows() -> None:
    """The same control ids again raise the total, not the number of different ones."""
    with Peer("engine.bench.sink") as sink:
        for _ in range(2):
            generate(Load(sink.port, messages=20, first=7))
        counts = sink.counts()
    assert (counts["total"], counts["distinct"]) == (40, 20)


def test_echo_answers_every_frame() -> None:
    """The bare echo acknowledges what it gets, so that its rate is one of real answers."""
    with Peer("engine.bench.echo") as echo:
        report = generate(Load(echo.port, connections=3, in_flight=2, messages=500))
    assert (report["acknowledged"], report["unanswered"]) == (500, 0)


def test_the_http_echo_answers_every_call() -> None:
    """Under the same generator that loads the node."""
    with Peer("engine.bench.http_echo") as echo:
        report = generate(Load(echo.port, connections=3, seconds=60, messages=301), "engine.bench.callers")
    assert (report["sent"], report["acknowledged"], report["refused"], report["unanswered"]) == (301, 301, 0, 0)


def test_nobody_there_is_an_error_not_a_result() -> None:
    """A load against a port on which nobody listens fails with a word about it."""
    with pytest.raises(MeridianError, match="refused"):
        generate(Load(site.free_port(), messages=1))


def test_the_machines_limits(tmp_path: Path) -> None:
    """Every limit is there and above zero; nothing stays behind in the folder."""
    measured = limits.measure(tmp_path, (1, 2), 0.05)
    assert measured["echo"].keys() == {"1", "2"}
    assert (measured["sqlite"].keys(), measured["append"].keys()) == ({"1", "10", "100"}, {"1", "100"})
    assert all(rate > 0 for group in measured.values() for rate in group.values())
    assert list(tmp_path.iterdir()) == []


def test_the_fhir_sink_takes_only_those_who_prove_themselves(tmp_path: Path) -> None:
    """Mutual TLS: with the node's certificate a Bundle is answered and counted, without one there is no answer."""
    site.issue(tmp_path / "sink")
    site.trust(tmp_path / "site", tmp_path / "sink")
    certs = tmp_path / "site" / "certs"
    with Peer("engine.bench.fhir_sink", str(tmp_path / "sink")) as sink:
        known = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        nobody = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        known.load_cert_chain(certs / "node.pem", certs / "node.key")
        body = b'{"identifier":{"value":"B00000000001"},"entry":[{"request":{"method":"PUT"}}]}'
        status, answer = _post(sink.port, known, body)
        assert (status, answer["type"], len(answer["entry"])) == (200, "transaction-response", 1)
        with pytest.raises((ssl.SSLError, OSError)):
            _post(sink.port, nobody, body)
        counts = sink.counts()
    assert (counts["total"], counts["distinct"]) == (1, 1)


def _post(port: int, context: ssl.SSLContext, body: bytes) -> tuple[int, Any]:
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=30)
    try:
        connection.request("POST", "/fhir", body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Relay:
    """Stands for a node: what is sent to it is at the sink already, because it is the sink; `duplicates` come on top."""

    def __init__(self, sink: Peer, duplicates: int = 0, lost: int = 0) -> None:
        self.sink, self.duplicates, self.lost = sink, duplicates, lost
        self.site = site.BenchSite(Path(), sink.port, 0)
        self.cpu_seconds, self.resident_bytes = 1.0, os.getpid()

    def counts(self) -> dict[str, Any]:
        counts = self.sink.counts()
        if counts["distinct"] > 10:  # after the warm-up
            counts["total"] += self.duplicates - self.lost
            counts["distinct"] -= self.lost
        return counts


@pytest.mark.parametrize(("duplicates", "lost", "fine"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_exactly_once_is_checked(monkeypatch: pytest.MonkeyPatch, duplicates: int, lost: int, fine: bool) -> None:
    """A message that comes twice or not at all is counted and spoils the result; otherwise all that was acknowledged was delivered."""
    monkeypatch.setattr("engine.bench.scenarios.PATIENCE", 0.2)
    with Peer("engine.bench.sink") as sink:
        relay: Any = Relay(sink, duplicates, lost)
        result = Bench(relay, relay, Effort(messages=10)).measure(2)
    assert result["exactly_once"] is fine
    assert (result["acknowledged"], result["duplicates"], result["missing"]) == (10, duplicates, lost)
    assert result["delivered"] == 10 - lost
    assert result["delivered_per_second"] > 0


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The node's last words are in the error, instead of a wait without end."""
    with pytest.raises(MeridianError, match="did not become ready"), Node(site.BenchSite(tmp_path, 1, 1)):
        pass
