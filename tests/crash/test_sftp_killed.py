"""kill -9 of a node that reads from an SFTP server and writes to it: each row once, each file moved."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.integration.test_sftp_nodes import Center
from tests.support.file_nodes import kill
from tests.support.sftp_peer import OpenSsh
from tests.support.waiting import until

ROWS = 100
FILES = 4


def test_each_row_once_whenever_it_is_killed(tmp_path: Path) -> None:
    """At moments that nobody chose; the rows that are kept are those of the files, and each is written once."""
    chosen = random.Random(7)
    with OpenSsh(tmp_path / "far") as far:
        (far.files / "in").mkdir()
        for number in range(FILES):
            rows = "".join(f"{number * ROWS + row},x\n" for row in range(ROWS))
            (far.files / "in" / f"{number}.csv").write_text(f"id,value\n{rows}")
        center = Center(tmp_path / "center", far, {"sftp": far.settings(folder=str(far.files / "in"))})
        for _ in range(4):
            running = center.running()
            running.__enter__()
            moment = time.monotonic() + chosen.random()
            until(lambda moment=moment: time.monotonic() > moment, "a moment")  # type: ignore[misc]
            kill(running)
        with center.running():
            until(lambda: len(list(far.files.glob("in/done/*.csv"))) == FILES, "all files taken", 240)
            until(lambda: len(list(far.files.glob("rows/*.json"))) == FILES * ROWS, "all rows written", 240)
    assert len(center.kept()) == FILES * ROWS
    assert not list(far.files.glob("in/.claimed/*/*.csv"))
