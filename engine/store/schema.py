"""Opens the database file: pragmas, migrations, the lock that keeps a second node out."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from engine.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull

FILE: Final = "meridian.db"
BUSY_SECONDS: Final = 5.0
"""How long another process may hold the database before callers hear StoreBusy: a sender must have its answer before it gives up."""

LOCK_SECONDS: Final = 1.0

_FULL: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def connect(folder: Path, *, read_only: bool = False, file: str = FILE) -> sqlite3.Connection:
    """One connection; transactions are begun by hand. WAL and FULL: a commit is on the disk when it returns."""
    os.close(os.open(folder / file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's WAL takes over the mode
    connection = sqlite3.connect(folder / file, BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=1024)
    try:
        _prepare(connection, read_only)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, read_only: bool) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "wal_autocheckpoint = 16384",
        f"cache_size = {-8192 if read_only else -32768}",
        "temp_store = MEMORY",
        f"query_only = {int(read_only)}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def migrate(connection: sqlite3.Connection, package: str = "engine.store") -> None:
    """Bring the schema up to date by the numbered scripts of `package`, in one transaction. Raises StoreCorrupt for a schema that a later
    version has made."""
    folder = files(package).joinpath("migrations")
    migrations = {int(file.name[:3]): file for file in folder.iterdir() if file.name.endswith(".sql")}
    newest = max(migrations)
    if connection.execute("PRAGMA user_version").fetchone()[0] == newest:
        return  # without a lock: the command line can read while another process holds it
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > newest:
            raise StoreCorrupt(f"the store has schema {version}, this version knows {newest}: it was written by a newer Meridian")
        for number in range(version + 1, newest + 1):
            for statement in _statements(migrations[number].read_text()):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """A script's statements; `executescript` would commit in between."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements


class NodeLock:
    """Held by the one node that runs on a store; the command line works beside it without. `file` is its descriptor, for the process
    that writes: one that was killed is not over before that process is, which takes it one transaction."""

    def __init__(self, folder: Path) -> None:
        self.file = os.open(folder / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + LOCK_SECONDS
        while not self._locked():
            if time.monotonic() > until:
                self.release()
                raise StoreError(f"another node runs on {folder}")
            time.sleep(0.01)

    def _locked(self) -> bool:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        os.close(self.file)


def translate(error: BaseException) -> StoreError:
    """What SQLite or the file system says, in the words of the tree."""
    if isinstance(error, StoreError):
        return error
    code: Any = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.Error) and code is not None:
        primary = code & 0xFF
        if primary in _FULL:
            return StoreFull(f"the disk is full or cannot be written ({error.sqlite_errorname})")
        if primary in _BUSY:
            return StoreBusy("another process holds the database")
        if primary in _CORRUPT:
            return StoreCorrupt(f"the database file is damaged ({error.sqlite_errorname})")
    if isinstance(error, OSError):
        return StoreFull(f"a file of the store cannot be opened or written: {error.strerror}")
    detail = f": {error}" if isinstance(error, sqlite3.Error) else ""  # SQLite names tables and columns, never values
    return StoreError(f"the store failed: {type(error).__name__}{detail}")


@contextmanager
def translated(file: str) -> Iterator[None]:
    """What is raised within, in the words of the tree, as of this file."""
    try:
        yield
    except (sqlite3.Error, OSError, StoreError) as error:
        told = translate(error)
        told.location = file
        raise told from error
