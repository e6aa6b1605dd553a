"""The benchmark against a real node in its own processes: small counts, exactly once, an orderly end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.bench import attachments, databases, fhir, imaging, memory
from engine.bench.scenarios import ASTM, HIP, INGEST, PASS_THROUGH, Effort, measure
from tests.support.databases import SERVERS, own_database

SMALL = Effort(connections=(1, 4), seconds=60, warm_up=60, messages=40)


@pytest.mark.parametrize("scenario", [INGEST, PASS_THROUGH])
def test_a_scenario_accounts_for_every_message(scenario: str, tmp_path: Path) -> None:
    """Everything that the node acknowledged is at the sink, once; time and memory of the node are there."""
    for result in measure(scenario, SMALL, tmp_path):
        assert result["exactly_once"], result
        assert result["acknowledged"] == 40
        assert result.get("delivered", 40) == 40
        assert result["node_rss_mb"] > 1


@pytest.mark.parametrize("scenario", ASTM.scenarios)
def test_instruments_are_accounted_for(scenario: str, tmp_path: Path) -> None:
    """Every transfer that was acknowledged is at the sink, once."""
    for result in measure(scenario, SMALL, tmp_path, ASTM):
        assert result["exactly_once"], result
        assert result["acknowledged"] == 40
        assert result.get("delivered", 40) == 40


@pytest.mark.parametrize("scenario", HIP.scenarios)
def test_calls_are_accounted_for(scenario: str, tmp_path: Path) -> None:
    """Every call that heard AA is at the sink, once; signed ones too, whose signatures the node has verified."""
    for result in measure(scenario, SMALL, tmp_path, HIP):
        assert result["exactly_once"], result
        assert result["acknowledged"] == 40
        assert result.get("delivered", 40) == 40


@pytest.mark.parametrize("tls", [False, True], ids=["in the clear", "over mutual TLS"])
def test_terminals_are_accounted_for(tls: bool, tmp_path: Path) -> None:
    """Every create that heard yes is kept, beside terminals that misbehave too; every line of an upload is kept once, however often it is
    sent."""
    report = fhir.measure(tmp_path, fhir.Wanted(Effort((5,), 1, 60, 60, 40), hostile=2, lines=40, tls=tls))
    for result in report["results"]:
        assert result["exactly_once"], result
        assert result["acknowledged"] == 40
    assert [result["scenario"] for result in report["results"]] == [fhir.ALONE, fhir.HOSTILE] * 2
    for result in report["uploads"]:
        assert (result["exactly_once"], result["lines"]) == (True, 40), result
        assert min(result["lines_per_second"], result["again_per_second"]) > 0


def test_attachments_are_accounted_for(tmp_path: Path) -> None:
    """Each is answered as taken, and comes to the sink whole and once."""
    results = attachments.measure(tmp_path, megabytes=1, rounds=3)
    assert [result["direction"] for result in results] == [attachments.TAKEN, attachments.FORWARDED]
    for result in results:
        assert result["exactly_once"], result
        assert result["mb_per_second"] > 0
        assert result["rss_mb"] >= result["rss_before_mb"] > 1


def test_images_are_accounted_for(tmp_path: Path) -> None:
    """Every instance is taken, beside the foreign receivers that are installed."""
    results = imaging.measure(["ct"], [1, 3], 60, 60, tmp_path, messages=6)
    for result in results:
        assert (result["all_taken"], result["acknowledged"]) == (True, 6), result
        assert result["mb_per_second"] > 0
        assert result["ratio"] > 0
        if result["receiver"] == imaging.FORWARDING:
            assert result["delivered"] == 6
            assert result["delivered_per_second"] > 0
    assert [result["ratio"] for result in results if result["receiver"] == imaging.NODE] == [1.0, 1.0]


def test_a_queue_survives_the_restart(tmp_path: Path) -> None:
    """With its destination down the node takes every message, and starts again with all of them."""
    report = memory.measure(tmp_path, 50, connections=2, in_flight=2)
    assert report["rss_mb"][-1]["queued"] == 50
    assert report["full_start_seconds"] > 0
    looks = report["lookups"]
    assert {"control id", "patient id", "channel", "status QUEUED", "status PENDING", "time, all"} <= looks["search_ms"].keys()
    assert min(looks["commands_ms"].values()) > 0
    assert not any(text.startswith("search") for text in report["missed"])


@pytest.mark.parametrize("server", ["sqlite", *SERVERS])
def test_rows_are_accounted_for(server: str, tmp_path: Path) -> None:
    """Each row is where it should end, once: as a message, in another table, in the tables of FHIR; beside the bare database."""
    with ExitStack() as stack:
        url = None if server == "sqlite" else stack.enter_context(own_database(server))
        report = databases.measure(tmp_path, 60, url)
    assert report["database"] == server
    assert report["bare"].keys() == ({"executemany"} if server == "sqlite" else {"executemany", "copy"})
    assert [result["scenario"] for result in report["results"]] == list(databases.SCENARIOS)
    for result in report["results"]:
        assert result["exactly_once"], result
        assert result["rows_per_second"] > 0
        assert result["ratio"].keys() == report["bare"].keys()


@pytest.mark.parametrize("server", SERVERS)
def test_rows_that_commit_late_are_accounted_for(server: str, tmp_path: Path) -> None:
    """The long run, short: the checker finds each row once."""
    with own_database(server) as url:
        report = databases.late_rows(tmp_path, url, 300)
    assert (report["exactly_once"], report["rows"] >= 290, report["missing"]) == (True, True, [])
