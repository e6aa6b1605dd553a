"""Our own SFTP server and OpenSSH's client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drop import USER, Dropping


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[Dropping]:
    with Dropping(tmp_path / "site") as running:
        yield running


def test_a_file_is_put(drop: Dropping) -> None:
    """It lies there whole, under its name, and the party of the key is proven for it."""
    (drop.folder / "a.csv").write_bytes(b"x" * 3_000_000)
    ended = drop.sftp("put a.csv", "ls -l", "pwd")
    assert ended.returncode == 0, ended.stderr
    assert "a.csv" in ended.stdout
    (entry,) = drop.place.list()
    assert (entry.name, entry.size) == (f"{USER}/a.csv", 3_000_000)
    assert drop.place.party(entry.name) == "urn:meridian:party:county-hospital"
    assert drop.until_audited("sftp.opened")["proven"] == "urn:meridian:party:county-hospital"
    assert drop.until_audited("sftp.uploaded")["bytes"] == 3_000_000
