"""SQL Server and Oracle: every kind of statement as these databases get it. Proven as text only, since no such server was at hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_mock_engine
from sqlalchemy.dialects import mssql, oracle

from adapters.database import looking
from adapters.database.landing.options import DESTINATION as TABLES
from adapters.database.options import CONNECTION
from adapters.database.polling.options import SOURCE
from adapters.database.polling.statements import Claims, TablePages
from adapters.database.polling.window import ClockSettled, Position, Window
from adapters.database.sessions import prepare
from adapters.database.statements.outbox import Outbox, ddl
from adapters.database.statements.upserts import Upsert
from adapters.database.values import Reading

DIALECTS: dict[str, Any] = {"mssql": mssql.dialect(), "oracle": oracle.dialect()}
AT = datetime(2024, 3, 1, 8, 0, 0, 3000)


def text(statement: Any, dialect: str) -> str:
    return " ".join(str(statement.compile(dialect=DIALECTS[dialect], compile_kwargs={"render_postcompile": True})).split())


class Session:
    """A driver's connection that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.call_timeout = 0

    def cursor(self) -> Session:
        return self

    def execute(self, statement: str, values: Any = None) -> None:
        self.said.append(statement)

    def close(self) -> None:
        pass


class Upserting:
    """A connection of a dialect on which an UPDATE touches `there` rows; it keeps the statements."""

    def __init__(self, dialect: str, there: int) -> None:
        self.dialect, self._name, self._there = DIALECTS[dialect], dialect, there
        self.ran: list[str] = []
        self.rowcount = 0

    def execute(self, statement: Any, _: Any) -> Upserting:
        self.ran.append(text(statement, self._name).split()[0])
        self.rowcount = self._there if self.ran[-1] == "UPDATE" else 1
        return self

    def begin_nested(self) -> Upserting:
        return self

    def __enter__(self) -> Upserting:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_page_goes_on_behind_the_key(dialect: str) -> None:
    """Row limit, order, and keyset pagination written out: neither knows row values."""
    found = text(TablePages("lab.r", ["id"], ["id", "part"], "changed", frozenset(), dialect).page(Position(AT, (7, "x")), 10), dialect)
    assert ("TOP" in found, "FETCH FIRST" in found) == (dialect == "mssql", dialect == "oracle")
    assert "lab.r.id > " in found
    assert "lab.r.id = " in found
    assert "ORDER BY lab.r.changed, lab.r.id, lab.r.part" in found
    assert "7" not in found.replace("param_7", "")


@pytest.mark.parametrize(("dialect", "passes"), [("mssql", "READPAST"), ("oracle", "")])
def test_a_claim_holds_no_row_that_another_has(dialect: str, passes: str) -> None:
    """SQL Server passes over locked rows; Oracle's SKIP LOCKED does not go with a limit: each UPDATE is guarded by the state instead."""
    status = {"column": "state", "new": ["N"], "claimed": "P", "claimed_at": "at", "done": "D"}
    claims = Claims("orders", ["id"], ["id"], SOURCE.defaults(connection="sqlite:///x.db", table="orders", status=status).status,
                    frozenset(), dialect)  # fmt: skip
    page = text(claims.page(AT, 5, locking=dialect == "mssql"), dialect)
    assert passes in page
    assert "FOR UPDATE" not in page
    claim = text(claims.claim((1,), AT, "node", AT), dialect)
    assert claim.startswith("UPDATE orders SET")
    assert " IN (" in claim.partition("WHERE")[2]


def test_sessions_are_told_how_long_a_statement_may_take() -> None:
    """pymssql ends a statement itself and is told at login; oracledb by call_timeout; Oracle's time zone is UTC."""
    options = CONNECTION.defaults(url="mssql://u@h/d", statement_timeout="7s", lock_timeout="3s")
    session = Session()
    prepare("mssql", session, options)
    assert session.said == ["SET LOCK_TIMEOUT 3000"]
    session = Session()
    prepare("oracle", session, options)
    assert (session.call_timeout, session.said) == (7000, ["ALTER SESSION SET TIME_ZONE = '+00:00'"])


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("there", "ran"), [(1, ["UPDATE"]), (0, ["UPDATE", "INSERT"])])
def test_an_upsert_is_an_update_and_then_an_insert(dialect: str, there: int, ran: list[str]) -> None:
    """Not MERGE, which locks no better and is another statement in each; where another writer comes between, the key's index decides."""
    connection: Any = Upserting(dialect, there)
    assert Upsert("result", ["id", "value"], ["id"], []).run(connection, [{"id": 1, "value": "x"}]) == 1
    assert connection.ran == ran


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_outbox(dialect: str) -> None:
    """Its table, and what is asked and written."""
    made: list[str] = []
    engine = create_mock_engine(f"{dialect}://", lambda statement, *_, **__: made.append(text(statement, dialect)))
    Outbox("applied", "c/lis")._table.create(engine, checkfirst=False)  # type: ignore[arg-type]
    assert made[0] == " ".join(ddl("applied", DIALECTS[dialect]).split())
    assert "PRIMARY KEY (digest, destination)" in made[0]
    assert ("VARBINARY(max)" if dialect == "mssql" else "BLOB") in made[0]
    assert made[1].startswith("CREATE INDEX")


def test_nothing_of_oracle_is_null_and_stays_null() -> None:
    """'' is NULL there: what is read is None, not an empty text, and its digest is that of a row without the column."""
    row = Reading().columns(["code", "note"]).row([None, "x"])
    assert row.values == {"code": None, "note": "x"}


def test_datetime_of_sql_server_is_rounded_within_the_window() -> None:
    """By 3.33 ms, to .000, .003 and .007: a row that was given .0049 stands at .003, before one that was read at .004 already. The window
    is that much wider than any such step, so that it is read again."""
    settling = ClockSettled(SOURCE.defaults(connection="mssql://u@h/d", table="t", watermark="c").watermark.overlap, None)
    now = datetime.fromisoformat("2024-03-01T08:00:00.005+00:00")
    window = Window()
    window.advance(Position(now - timedelta(milliseconds=1), (1,)), settling.settled(now, now))
    assert window.is_open
    assert window.low is not None
    assert window.low < now - timedelta(milliseconds=4)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_resources_are_not_landed_there(dialect: str) -> None:
    """And the reason is said when the channel is checked."""
    with pytest.raises(ValueError, match="landed in PostgreSQL, MariaDB or SQLite"):
        TABLES.defaults(connection=f"{dialect}://u@h/d")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_it_is_said_that_they_are_unproven(dialect: str) -> None:
    """By `db check`, which cannot ask them with EXPLAIN either."""
    (said,) = looking.proven(dialect)
    assert (said.state, "not against a live server" in said.text) == ("warning", True)
    assert dialect not in looking.EXPLAINED
