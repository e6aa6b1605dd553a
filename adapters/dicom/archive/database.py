"""Connections to ``archive.db``, and sqlite3's errors as ours."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from adapters.dicom.archive import statements
from engine.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull

NAME: Final = "archive.db"
_VERSION: Final = 1


def connect(folder: Path) -> sqlite3.Connection:
    """A connection that writes, in autocommit mode; makes the folder and the tables. Raises StoreError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(folder / NAME, isolation_level=None, check_same_thread=False, cached_statements=256)
        for setting in reversed(statements.SETTINGS):  # auto_vacuum must come before the first table, and WAL after it
            connection.execute(setting)
        _migrate(connection)
        (folder / NAME).chmod(0o600)
    except sqlite3.Error as error:
        raise store_error(error) from error
    return connection


def connect_to_read(folder: Path) -> sqlite3.Connection | None:
    """A connection that only reads, None where there is no archive yet. Raises StoreError."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout=10000")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise store_error(error) from error
    if version == 0:  # is being made just now
        connection.close()
        return None
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        connection.execute("ROLLBACK")
        raise StoreCorrupt(f"the archive has schema {version}, this program knows up to {_VERSION}")
    if version == 0:
        for statement in statements.SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={_VERSION}")
    connection.execute("COMMIT")


class Transaction:
    """begin immediate … commit, or rollback when anything is raised; sqlite3's errors become StoreError."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise store_error(error) from error
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
            elif self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as failed:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise store_error(failed) from failed
        if isinstance(error, sqlite3.Error):
            raise store_error(error) from error


def store_error(error: sqlite3.Error) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return StoreFull("the disk of the archive is full")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy("another process holds the archive's database")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreCorrupt("the archive's database is damaged")
    return StoreError(f"the archive cannot be used now ({name or type(error).__name__})")
