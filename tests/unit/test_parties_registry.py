"""The registry's file, and the node's view of it."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import ConfigError, StoreCorrupt
from engine.parties import Directory, Kind, Mark, Party, Registry
from tests.unit.test_parties_snapshot import ALL, ANALYZER, COUNTY

WHOLE = replace(
    COUNTY, name="安平县医院", identifiers=(("uscc", "91110000600037341L"), ("urn:oid:1.2", "7")), disabled_at=5, disabled_why="why"
)


def test_everything_comes_back(tmp_path: Path) -> None:
    """In the same order, after a restart."""
    with Registry(tmp_path) as registry, registry.change() as parties:
        parties.update({party.id: party for party in (WHOLE, ANALYZER)})
    with Registry(tmp_path) as registry:
        assert registry.parties() == {"analyzer-7": ANALYZER, "county": WHOLE}
    assert (tmp_path / "parties.db").stat().st_mode & 0o777 == 0o600


def fail_inside(registry: Registry) -> None:
    with registry.change() as parties:
        parties["county"] = COUNTY
        raise ConfigError("no")


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Whatever is raised inside, all stays as it was, and the next change goes through."""
    with Registry(tmp_path) as registry:
        with pytest.raises(ConfigError, match="no"):
            fail_inside(registry)
        assert registry.parties() == {}
        with registry.change() as parties:
            parties["county"] = COUNTY
        with registry.change() as parties:
            del parties["county"]
        assert registry.parties() == {}


def test_two_never_share_a_mark(tmp_path: Path) -> None:
    """Also where the caller has not looked: the file itself refuses it."""
    with Registry(tmp_path) as registry:
        with pytest.raises(Exception, match="UNIQUE") as caught, registry.change() as parties:
            parties.update(a=replace(ANALYZER, id="a"), b=replace(ANALYZER, id="b"))
        assert str(caught.value).startswith("parties.db: ")
        assert registry.parties() == {}


def test_marks_change_hands_in_one_change(tmp_path: Path) -> None:
    """A replaced analyzer's sender goes to the new one at once."""
    with Registry(tmp_path) as registry:
        with registry.change() as parties:
            parties.update(a=Party("a", Kind.DEVICE, marks=((Mark.SENDER, "X|Y"),)), b=Party("b", Kind.DEVICE))
        with registry.change() as parties:
            parties.update(a=Party("a", Kind.DEVICE), b=Party("b", Kind.DEVICE, marks=((Mark.SENDER, "X|Y"),)))
        assert [party.id for party in registry.parties().values() if party.marks] == ["b"]


class Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.log = logging.Logger("test.parties")
        self.log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def test_the_node_reads_again_what_has_changed(tmp_path: Path) -> None:
    """What another connection commits is seen at the next look; without a change nothing is read."""
    log = Log()
    directory = Directory(tmp_path, log.log)
    directory.open()
    before = directory.snapshot
    directory.look_again()
    assert directory.snapshot is before
    with Registry(tmp_path) as registry, registry.change() as parties:
        parties.update({party.id: party for party in ALL})
    directory.look_again()
    assert set(directory.snapshot.parties) == {"county", "analyzer-7", "city"}
    assert (before.parties, log.said) == ({}, ["parties read", "parties read"])
    directory.close()
    directory.look_again()


def test_what_cannot_be_read_leaves_in_force_what_was_known(tmp_path: Path) -> None:
    """A kind that a later version may have brought: said once, and read as soon as it can be."""
    log = Log()
    directory = Directory(tmp_path, log.log)
    with Registry(tmp_path) as registry, registry.change() as parties:
        parties["county"] = COUNTY
    directory.open()
    other = sqlite3.connect(tmp_path / "parties.db")
    for kind in ("robot", "institution"):
        with other:
            other.execute("UPDATE party SET kind = ?", (kind,))
        directory.look_again()
        directory.look_again()
        assert set(directory.snapshot.parties) == {"county"}
    assert log.said == ["parties read", "the registry of parties cannot be read; what was known stays in force", "parties read"]
    other.close()
    directory.close()


@pytest.mark.parametrize("damage", ["not a database", "newer"])
def test_a_file_that_cannot_be_used(tmp_path: Path, damage: str) -> None:
    """Garbage, or the schema of a later version: the node does not start, and the error names the file."""
    if damage == "newer":
        Registry(tmp_path).close()
        other = sqlite3.connect(tmp_path / "parties.db")
        other.execute("PRAGMA user_version = 99")
        other.close()
    else:
        (tmp_path / "parties.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreCorrupt, match=r"^parties\.db: "):
        Directory(tmp_path, logging.getLogger("test")).open()
