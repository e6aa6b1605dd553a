"""The example file-drop on a real node: rows and letters from two folders, in one repository."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.bench.site import BenchSite
from tests.support.pages import ROOT
from tests.support.waiting import until


def rows(site: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{site / 'data' / 'meridian.db'}?mode=ro", uri=True)) as database:
        return database.execute(sql).fetchall()


def test_rows_and_letters_of_one_patient(tmp_path: Path) -> None:
    """The good rows and the letter are delivered, the bad rows kept with file and line; no log line holds a patient's number."""
    site = shutil.copytree(ROOT / "examples" / "file-drop", tmp_path / "site")
    http = free_port()
    (site / "meridian.yaml").write_text(f"{(site / 'meridian.yaml').read_text()}http: {{listen: '{HOST}:{http}'}}\n")
    for file in (site / "channels").glob("*.yaml"):
        file.write_text(file.read_text(encoding="utf-8").replace("settled_for: 10s", "settled_for: 0s"), encoding="utf-8")
    with Node(BenchSite(site, 0, http)):
        until(lambda: list(site.glob("letters/done/*/P1001_discharge_20260131.pdf.ok")), "the letter")
        until((site / "incoming/faulty/results-20260131.csv").exists, "the rows")
        until(lambda: rows(site, "SELECT count(*) FROM delivery") == [(4,)], "the deliveries")
    reasons = sorted(row[0] for row in rows(site, "SELECT reason FROM message WHERE reason != ''"))
    assert [reason.partition(": ")[0] for reason in reasons] == ["results-20260131.csv:4", "results-20260131.csv:5"]
    facts = [json.loads(row[0]) for row in rows(site, "SELECT facts FROM message WHERE content_type = 'application/vnd.meridian.file'")]
    assert [(one["patient"], one["type"], one["date"]) for one in facts] == [("P1001", "discharge", "20260131")]
    log = (site / "node.log").read_text(encoding="utf-8")
    assert "a file was taken in" in log
    assert "P1001" not in log
