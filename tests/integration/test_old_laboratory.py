"""The example of the old laboratory, run: rows of its tables arrive as FHIR resources and in the archive; and what `check` says of it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from channels import load
from engine.bench.loopback import free_port
from engine.bench.node import Node
from engine.bench.site import BenchSite
from engine.errors import ConfigError
from tests.support.waiting import until

EXAMPLE = Path(__file__).parents[2] / "examples" / "old-laboratory"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy with its databases."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "site")
    for name in ("lis", "archive"):
        with closing(sqlite3.connect(folder / f"{name}.db")) as database, database:
            database.executescript((folder / f"{name}.sql").read_text())
    return folder


def rows(file: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # not made yet
            return []


def test_rows_arrive_in_the_repository_and_in_the_archive(site: Path) -> None:
    """And a row that changes arrives again: the upsert has its new state, the log its results a second time, as of a new message."""
    running = BenchSite(site, 0, free_port())
    with (site / "meridian.yaml").open("a") as node:
        node.write(f'http: {{listen: "127.0.0.1:{running.http}"}}\n')
    archive, resources = site / "archive.db", site / "data" / "fhir-repository.db"
    with Node(running):
        until(lambda: len(rows(archive, "SELECT * FROM result_log")) == 3, "the results")
        assert rows(archive, "SELECT order_no, state, reported_at FROM order_state") == [("A1001", "final", "2026-01-31 02:05:00+00:00")]
        until(lambda: len(rows(resources, "SELECT * FROM resource")) >= 9, "the resources")
        with closing(sqlite3.connect(site / "lis.db")) as database, database:
            database.execute("UPDATE orders SET state = 'C', changed = datetime('now')")
        until(lambda: rows(archive, "SELECT state FROM order_state") == [("corrected",)], "the correction")
        assert len(rows(archive, "SELECT * FROM result_log")) == 6


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("${row.state}", "${rows.state}", "archive: 'rows.state' is not a path such as row.patient_no"),
        ("details.results[*]\n", "detail.results[*]\n", "archive: 'detail.results' is not a path"),
        (":order_no, :line", ":order, :line", "binds :order, which `with` does not say (did you mean 'order_no'?)"),
        ("${row.state}", "${PID-3}", "archive: 'PID-3' is not a path such as row.patient_no"),
        ("type: instant", "type: instnat", "'instnat' is not one of the choices (did you mean 'instant'?)"),
    ],
)
def test_what_check_says(site: Path, old: str, new: str, said: str) -> None:
    """With file and line, before a message comes."""
    file = site / "channels" / "orders.yaml"
    text = file.read_text()
    assert old in text
    line = text.partition(old)[0].count("\n") + 1
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(site)
    assert said in str(caught.value)
    assert any(fault.file == "channels/orders.yaml" and fault.line == line for fault in caught.value.faults)
