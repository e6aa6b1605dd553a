"""One transaction of a SQLite file that its owner opened with ``isolation_level=None``: for the small books of adapters."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """begin immediate … commit; rolled back when anything is raised, a commit that fails included, so that the next one can begin."""
    database.execute("begin immediate")
    try:
        with closing(database.cursor()) as cursor:
            yield cursor
        database.execute("commit")
    finally:
        if database.in_transaction:
            database.execute("rollback")
