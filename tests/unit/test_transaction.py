"""One transaction of a small SQLite file: all of it, or nothing, and the next one can begin."""

from __future__ import annotations

import sqlite3

import pytest

from engine.transaction import transaction


@pytest.fixture
def database() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.executescript(
        "pragma foreign_keys = on; create table parent (id integer primary key);"
        "create table child (parent references parent (id) deferrable initially deferred);"
    )
    return made


def test_what_is_raised_leaves_nothing(database: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError), transaction(database) as cursor:
        cursor.executemany("insert into parent values (?)", [(1,), (1,)])
    assert database.execute("select count(*) from parent").fetchone() == (0,)


def test_a_commit_that_fails_is_rolled_back_and_the_next_one_can_begin(database: sqlite3.Connection) -> None:
    """A deferred constraint fails only at the commit, which leaves the transaction open."""
    with pytest.raises(sqlite3.IntegrityError), transaction(database) as cursor:
        cursor.execute("insert into child values (7)")
    with transaction(database) as cursor:
        cursor.execute("insert into parent values (2)")
    assert database.execute("select (select count(*) from parent), (select count(*) from child)").fetchone() == (1, 0)
