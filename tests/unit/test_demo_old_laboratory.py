"""The demo's old laboratory: what goes wrong in its tables is really in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.demo.morning import morning
from engine.demo.old_laboratory import OldLaboratory, create
from engine.demo.vendor import inpatients


@pytest.fixture
def laboratory(tmp_path: Path) -> OldLaboratory:
    create(tmp_path / "lis.db")
    made = OldLaboratory(tmp_path / "lis.db", inpatients(morning(2026, 5)), 2026)
    made.at_first()
    return made


def rows(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "lis.db")) as database:
        database.text_factory = bytes
        return database.execute(statement).fetchall()


def test_names_are_gbk_in_a_column_of_text(laboratory: OldLaboratory, tmp_path: Path) -> None:
    """SQLite takes them for text; as UTF-8 they are none."""
    names = rows(tmp_path, "SELECT name, typeof(name) FROM orders")
    assert len(names) == laboratory.first_rows
    for name, kind in names:
        assert kind == b"text"
        assert len(name.decode("gbk")) >= 2
        with pytest.raises(UnicodeDecodeError):
            name.decode("utf-8")


def test_what_happens_later(laboratory: OldLaboratory, tmp_path: Path) -> None:
    """One row lies below what was there, one is changed, one name is half a character too short; all are accounted for."""
    before = dict(rows(tmp_path, "SELECT order_no, changed FROM orders"))
    laboratory.later()
    after = dict(rows(tmp_path, "SELECT order_no, changed FROM orders"))
    (late, cut) = sorted(after.keys() - before.keys(), key=len)
    assert after[late] < min(before.values())
    changed = [number for number, at in before.items() if after[number] != at]
    assert [(number, laboratory.versions[number.decode()]) for number in changed] == [(changed[0], 2)]
    (name,) = [name for number, name in rows(tmp_path, "SELECT order_no, name FROM orders") if number == cut]
    with pytest.raises(UnicodeDecodeError):
        name.decode("gbk")
    assert laboratory.all_rows == laboratory.first_rows + 3
    assert rows(tmp_path, "SELECT count(*) FROM results")[0][0] == 3 * len(after)
