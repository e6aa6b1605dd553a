"""Statements that may be refused, in a transaction that goes on all the same."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy.engine import Connection


def spared(connection: Connection) -> AbstractContextManager[Any]:
    """A context for a statement whose error must not end the transaction that it is in. Only PostgreSQL ends it, so only there is a
    savepoint needed; where each statement is committed at once there is nothing to save, and no savepoint can be."""
    dialect = connection.dialect
    if dialect.name != "postgresql" or dialect.detect_autocommit_setting(connection.connection.dbapi_connection):  # type: ignore[arg-type]
        return nullcontext()
    return connection.begin_nested()
