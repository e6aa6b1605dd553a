"""All SQL of the resource repository. The tables are explained in migrations/."""

from __future__ import annotations

from typing import Any, Final

from adapters.fhir.search import Query, Term

# Durability: WAL with synchronous=FULL fsyncs the log at each commit; one commit carries a whole group of Bundles. The log may grow to
# 64 MB before it is copied back, so that index pages that many Bundles touch are copied once.
SETTINGS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA cache_size=-64000",
    "PRAGMA wal_autocheckpoint=16000",
    "PRAGMA busy_timeout=10000",
)

# --- reading ---------------------------------------------------------------------------------------

NEXT_KEY: Final = "SELECT coalesce(max(key), 0) + 1 FROM resource"
BY_ID: Final = "SELECT key, id, version, updated, method, body, sender FROM resource WHERE type = ? AND id = ?"
BY_KEY: Final = "SELECT key, id, version, updated, method, body, sender FROM resource WHERE key = ?"
EARLIER: Final = "SELECT key, ?1, version, updated, method, body, sender FROM history WHERE key = ?2 AND version = ?3"
# The versions of resource ?1 (its id is ?2) below version ?3, newest first, at most ?4; ?5 NULL, or who sent them.
VERSIONS: Final = """
    SELECT key, ?2, version, updated, method, body, sender FROM (
        SELECT key, version, updated, method, body, sender FROM resource WHERE key = ?1
        UNION ALL SELECT key, version, updated, method, body, sender FROM history WHERE key = ?1
    ) WHERE version < ?3 AND sender = coalesce(?5, sender) ORDER BY version DESC LIMIT ?4
"""
COUNT_VERSIONS: Final = """
    SELECT (SELECT count(*) FROM resource WHERE key = ?1 AND sender = coalesce(?2, sender))
         + (SELECT count(*) FROM history WHERE key = ?1 AND sender = coalesce(?2, sender))
"""
ANSWERED: Final = "SELECT digest, answer FROM applied WHERE idempotency_key = ?"


def find(query: Query, limit: int) -> tuple[str, list[Any]]:
    """Keys of the current resources that a query matches, in the order of creation."""
    where, values = _where(query)
    return f"SELECT r.key FROM resource r WHERE {where} ORDER BY r.key LIMIT ?", [*values, limit]  # noqa: S608  only names from the table


def find_by_index(query: Query) -> tuple[str, list[Any]]:
    """The first two keys for a condition of search parameters alone; reads nothing but the index."""
    first, *others = (_matching(term) for term in query.terms)
    parts, values = [first[0]], first[1]
    for part, more in others:
        parts.append(part)
        values = [*values, *more]
    return " INTERSECT ".join(parts) + " LIMIT 2", values


def count(query: Query, most: int) -> tuple[str, list[Any]]:
    """How many match, counted up to `most`."""
    where, values = _where(query)
    return f"SELECT count(*) FROM (SELECT 1 FROM resource r WHERE {where} LIMIT ?)", [*values, most]  # noqa: S608


def _where(query: Query) -> tuple[str, list[Any]]:
    clauses, values = ["r.type = ?", "r.body IS NOT NULL", "r.key > ?"], [query.resource_type, query.after]
    for term in query.terms:
        matching, more = _matching(term)
        clauses.append(f"r.key IN ({matching})")
        values += more
    if query.ids is not None:
        clauses.append(f"r.id IN ({', '.join('?' * len(query.ids))})")
        values += query.ids
    if query.sender is not None:
        clauses.append("r.sender = ?")
        values.append(query.sender)
    for low, high in query.updated:
        clauses.append("r.updated >= ? AND r.updated < ?")
        values += (low, high)
    return " AND ".join(clauses), values


def _matching(term: Term) -> tuple[str, list[Any]]:
    parts, values = [], []
    for value, system in term.alternatives:
        if system is None:
            parts.append("SELECT key FROM search_index WHERE parameter = ? AND value = ?")
            values += [term.key, value]
        else:
            parts.append("SELECT key FROM search_index WHERE parameter = ? AND value = ? AND system = ?")
            values += [term.key, value, system]
    union = " UNION ".join(parts)
    return (f"SELECT key FROM ({union})" if len(parts) > 1 else union), values  # noqa: S608


# --- writing ---------------------------------------------------------------------------------------

CREATE: Final = "INSERT INTO resource (key, type, id, version, updated, method, body, sender) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
KEEP_VERSION: Final = """
    INSERT INTO history (key, version, updated, method, body, sender)
    SELECT key, version, updated, method, body, sender FROM resource WHERE key = ?
"""
UPDATE: Final = "UPDATE resource SET version = ?, updated = ?, method = ?, body = ?, sender = ? WHERE key = ?"
INDEX: Final = "INSERT OR IGNORE INTO search_index (parameter, value, system, key) VALUES (?, ?, ?, ?)"
UNINDEX: Final = "DELETE FROM search_index WHERE parameter = ? AND value = ? AND system = ? AND key = ?"
REMEMBER: Final = "INSERT INTO applied (idempotency_key, at, digest, answer) VALUES (?, ?, ?, ?)"
# Answers older than a time, at most so many at once, from the low end of the table.
FORGET: Final = """
    DELETE FROM applied WHERE number IN (SELECT number FROM (SELECT number, at FROM applied ORDER BY number LIMIT ?2) WHERE at < ?1)
"""
