"""Concurrent writers that commit late, roll back and change rows: every row exactly once, by a checker that reads both ends itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.bench.late_rows import LateRows, Work
from tests.support.databases import SERVERS, own_database


@pytest.mark.parametrize("server", SERVERS)
def test_every_row_exactly_once(server: str, tmp_path: Path) -> None:
    with own_database(server) as url:
        late = LateRows(tmp_path / "site", url, limit=200)
        late.create()
        outcome = late.run(Work(5_000, writers=12, batch=40, hold=2.0))
    assert outcome.right, outcome
    assert outcome.rows >= 5_000


def test_the_checker_sees_what_is_wrong(tmp_path: Path) -> None:
    """Without a window late rows are lost, and it says which: the proof above is one."""
    with own_database("postgresql") as url:
        late = LateRows(tmp_path / "site", url, limit=200, watermark={"column": "changed", "overlap": "0s"})
        late.create()
        outcome = late.run(Work(2_000, writers=12, hold=3.0), patience=3)
    assert outcome.missing
    assert not outcome.twice
