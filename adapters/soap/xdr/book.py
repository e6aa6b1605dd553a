"""Documents that a Document Recipient has taken: their uniqueId, and the SHA-1 of their content. SQLite; one thread at a time.

ITI TF-2 3.42.4.1.3.3: a document that comes again is the same one, and one with its uniqueId and another content is refused.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engine.transaction import transaction

_SCHEMA: Final = """
create table if not exists documents (
    unique_id text not null primary key,
    sha1      blob not null
) without rowid
"""


class DocumentBook:
    """All methods raise sqlite3.Error."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._guard = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False, timeout=5)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute(_SCHEMA)
        return self._database

    def other(self, documents: Mapping[str, bytes]) -> list[str]:
        """Those that were there before with another content."""
        with self._guard:
            found = []
            for unique_id, sha1 in documents.items():
                row = self._opened().execute("select sha1 from documents where unique_id = ?", (unique_id,)).fetchone()
                if row is not None and row[0] != sha1:
                    found.append(unique_id)
            return found

    def keep(self, documents: Mapping[str, bytes]) -> None:
        with self._guard, transaction(self._opened()) as cursor:
            cursor.executemany("insert or ignore into documents (unique_id, sha1) values (?, ?)", documents.items())

    def close(self) -> None:
        with self._guard:
            if self._database is not None:
                self._database.close()
                self._database = None
