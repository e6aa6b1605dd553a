"""Servers whose log is captured, and what the tests of captures do to them: `shared` to `pg` are made fixtures where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from adapters.database.errors import DatabaseError
from tests.support.capture import Captured, own_server
from tests.support.databases import OwnServer, engine_of
from tests.support.waiting import PATIENCE, until

ITEM = "CREATE TABLE item (id integer PRIMARY KEY, version integer, note text)"


def shared(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    """For tests that leave the server as it was."""
    with own_server(request.param) as own:
        yield own


def postgres() -> Iterator[OwnServer]:
    with own_server("postgresql") as own:
        yield own


def db(shared: OwnServer) -> Iterator[Connection]:
    yield from emptied(shared)


def pg(postgres: OwnServer) -> Iterator[Connection]:
    yield from emptied(postgres)


def emptied(own: OwnServer) -> Iterator[Connection]:
    """A connection to a server on which nothing is left afterwards."""
    engine = engine_of(own.url)
    with engine.connect() as connection:
        yield connection
        for table in sa.inspect(connection).get_table_names():
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
        if engine.dialect.name == "postgresql":
            until(lambda: not run(connection, "SELECT 1 FROM pg_replication_slots WHERE active"), "walsenders to end")
            run(connection, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
            connection.exec_driver_sql("DROP PUBLICATION IF EXISTS meridian_lis")
    engine.dispose()


def run(connection: Connection, *statements: str) -> list[Any]:
    result = None
    for statement in statements:
        result = connection.exec_driver_sql(statement)
    return [tuple(row) for row in result] if result is not None and result.returns_rows else []


def until_refused(captured: Captured, error: type[DatabaseError]) -> str:
    """Pages until one fails; why."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        try:
            captured.page()
        except error as caught:
            return str(caught)
    raise AssertionError("it reads on")


def changes(captured: Captured) -> list[tuple[str, Any]]:
    return [(record.change, record.key.get("id")) for record in captured.kept.records]
