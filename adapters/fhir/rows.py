"""The repository's rows on one SQLite connection: no interaction rules, only what reads and writes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from adapters.fhir import queries
from adapters.fhir.parameters import IndexRow
from adapters.fhir.search import Query
from engine.errors import StoreCorrupt

_MIGRATIONS: Final = ("001_resources.sql", "002_senders.sql")
LAST_VERSION: Final = 1 << 62


class Row(NamedTuple):
    """One version of a resource. `updated` in microseconds UTC; `body` None: deleted by this version; `sender`: the proven party."""

    key: int
    id: str
    version: int
    updated: int
    method: str
    body: bytes | None
    sender: str = ""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode (transactions are begun by word); may be used from any one thread at a time."""
    if read_only:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout=10000")
        return connection
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    for setting in queries.SETTINGS:
        connection.execute(setting)
    _migrate(connection)
    path.chmod(0o600)
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        connection.execute("ROLLBACK")
        raise StoreCorrupt(f"the resource repository has schema {version}, this program knows up to {len(_MIGRATIONS)}")
    connection.execute("COMMIT")
    for number, name in enumerate(_MIGRATIONS[version:], version + 1):
        script = (files("adapters.fhir") / "migrations" / name).read_text()
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version={number}; COMMIT;")


class Rows:
    """Statements by name. Index rows to be added are gathered and written together; until then `match` looks at them too."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._to_index: list[tuple[str, str, str, int]] = []
        self._gathered: dict[tuple[str, str], list[tuple[str, int]]] = {}  # parameter, value -> system, key: the tokens among them
        self._next_key = 0

    # --- transactions ----------------------------------------------------------------------------

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._next_key = self._connection.execute(queries.NEXT_KEY).fetchone()[0]

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        self._drop()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def savepoint(self) -> None:
        self._connection.execute("SAVEPOINT one")

    def keep(self) -> None:
        """Keep what was done since the savepoint."""
        self.flush()
        self._connection.execute("RELEASE one")

    def undo(self) -> None:
        """Undo what was done since the savepoint."""
        self._drop()
        self._connection.execute("ROLLBACK TO one")
        self._connection.execute("RELEASE one")

    # --- reading ---------------------------------------------------------------------------------

    def by_id(self, resource_type: str, resource_id: str) -> Row | None:
        return self._row(queries.BY_ID, (resource_type, resource_id))

    def by_key(self, key: int) -> Row | None:
        return self._row(queries.BY_KEY, (key,))

    def version(self, current: Row, version: int) -> Row | None:
        return current if version == current.version else self._row(queries.EARLIER, (current.id, current.key, version))

    def versions(self, current: Row, below: int, limit: int, sender: str | None) -> list[Row]:
        return [Row(*row) for row in self._connection.execute(queries.VERSIONS, (current.key, current.id, below, limit, sender))]

    def count_versions(self, key: int, sender: str | None) -> int:
        return int(self._connection.execute(queries.COUNT_VERSIONS, (key, sender)).fetchone()[0])

    def match(self, query: Query) -> list[int]:
        """The keys of current resources that a condition matches; two of them tell that there are several."""
        indexed = query.terms and query.ids is None and not query.updated
        statement, values = queries.find_by_index(query) if indexed else queries.find(query, 2)
        return [*self._match_gathered(query), *(key for (key,) in self._connection.execute(statement, values))]

    def _match_gathered(self, query: Query) -> set[int]:
        """What this Bundle itself has created: all terms match its gathered tokens."""
        if not self._gathered or not query.terms or query.ids is not None:
            return set()
        matching = [{key for value, system in term.alternatives for key in self._keys(term.key, value, system)} for term in query.terms]
        return set.intersection(*matching)

    def _keys(self, parameter: str, value: str, system: str | None) -> list[int]:
        return [key for other, key in self._gathered.get((parameter, value), ()) if system is None or other == system]

    def find(self, query: Query, limit: int) -> list[int]:
        return [key for (key,) in self._connection.execute(*queries.find(query, limit))]

    def count(self, query: Query, most: int) -> int:
        return int(self._connection.execute(*queries.count(query, most)).fetchone()[0])

    def answered(self, idempotency_key: str) -> tuple[bytes, bytes] | None:
        """The digest of the Bundle that came with this key, and the answer it got."""
        row: tuple[bytes, bytes] | None = self._connection.execute(queries.ANSWERED, (idempotency_key,)).fetchone()
        return row

    def _row(self, statement: str, values: Sequence[object]) -> Row | None:
        row = self._connection.execute(statement, values).fetchone()
        return Row(*row) if row else None

    # --- writing ---------------------------------------------------------------------------------

    def new_key(self) -> int:
        key, self._next_key = self._next_key, self._next_key + 1
        return key

    def create(self, rows: Iterable[tuple[int, str, str, int, int, str, bytes, str]]) -> None:
        """(key, type, id, version, updated, method, body, sender) of resources that were not there."""
        self._connection.executemany(queries.CREATE, rows)

    def update(self, key: int, version: int, updated: int, method: str, body: bytes | None, sender: str) -> None:
        self._connection.execute(queries.KEEP_VERSION, (key,))
        self._connection.execute(queries.UPDATE, (version, updated, method, body, sender, key))

    def index_new(self, key: int, rows: Sequence[IndexRow]) -> None:
        """Index all the tokens of a new resource, at once visible to `match`."""
        for parameter, value, system in rows:
            self._to_index.append((parameter, value, system, key))
            self._gathered.setdefault((parameter, value), []).append((system, key))

    def index(self, key: int, rows: Iterable[IndexRow]) -> None:
        """Index references; visible once they are flushed."""
        self._to_index.extend([(parameter, value, system, key) for parameter, value, system in rows])

    def reindex(self, key: int, before: set[IndexRow], after: set[IndexRow]) -> None:
        """Change what a resource is found by."""
        gone, come = before - after, after - before
        if gone:
            self.flush()
            self._connection.executemany(queries.UNINDEX, [(*row, key) for row in gone])
        if come:
            self._connection.executemany(queries.INDEX, [(*row, key) for row in come])

    def flush(self) -> None:
        """Write the index rows gathered so far."""
        if self._to_index:
            self._connection.executemany(queries.INDEX, self._to_index)
        self._drop()

    def _drop(self) -> None:
        self._to_index.clear()
        self._gathered.clear()

    def remember(self, idempotency_key: str, at: int, digest: bytes, answer: bytes) -> None:
        self._connection.execute(queries.REMEMBER, (idempotency_key, at, digest, answer))

    def forget(self, before: int, limit: int) -> int:
        """Drop answers given before that time, at most `limit`; gives how many went."""
        return self._connection.execute(queries.FORGET, (before, limit)).rowcount
