"""Sessions of each database: timeouts, exact types, what Python cannot hold; servers that are killed and started again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from twisted.internet import reactor

from adapters.database.connection import make_engine
from adapters.database.errors import Meaning, delivery_error, sort
from adapters.database.sessions import Undecodable
from engine.errors import PermanentDelivery, TransientDelivery
from engine.formats.rows import Odd
from tests.support.databases import OWN_SERVERS, SERVERS, connection_options, engine_of, own_database
from tests.support.fhir import context
from tests.support.waiting import until

_MADE: list[Engine] = []


@pytest.fixture(autouse=True)
def disposed() -> Iterator[None]:
    yield
    while _MADE:
        _MADE.pop().dispose()


def make(folder: Path, url: Any, **options: Any) -> Engine:
    _MADE.append(make_engine(connection_options(url, **options), context(folder, reactor)))
    return _MADE[-1]


@pytest.fixture(params=[*SERVERS, "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        yield make(tmp_path, "sqlite:///lis.db", statement_timeout="500ms", lock_timeout="200ms")
        return
    with own_database(request.param) as url:
        yield make(tmp_path, url, statement_timeout="500ms", lock_timeout="1s")


ENDLESS = {
    "postgresql": "SELECT pg_sleep(20)",
    "mysql": "SELECT SLEEP(20)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
}


def failure(engine: Engine, *statements: str) -> BaseException:
    with pytest.raises(Exception) as caught, engine.begin() as connection:  # noqa: PT011, PT012
        for statement in statements:
            connection.exec_driver_sql(statement)
    return caught.value


def test_a_statement_does_not_run_on_and_on(engine: Engine) -> None:
    """The database itself ends it, and the connection is good for the next."""
    error = sort(failure(engine, ENDLESS[engine.dialect.name]))
    assert error.meaning is Meaning.BUSY, error
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


def test_errors_name_no_value(engine: Engine) -> None:
    """The content's fault is permanent; the database's own words are kept for the store alone."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE patient (id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL UNIQUE)")
        connection.exec_driver_sql("INSERT INTO patient VALUES (1, 'Zhang Wei')")
    error = delivery_error(failure(engine, "INSERT INTO patient VALUES (2, 'Zhang Wei')"))
    assert isinstance(error, PermanentDelivery)
    assert "Zhang" not in str(error)
    assert "name" in str(error)
    if engine.dialect.name != "sqlite":
        assert b"Zhang" in error.answer
    assert sort(failure(engine, "SELECT nothing FROM patient")).meaning is Meaning.SETUP
    assert sort(failure(engine, "SELECT 1 FROM nothing")).meaning is Meaning.SETUP


def test_a_lock_is_not_waited_for_long(engine: Engine) -> None:
    """It may be tried again."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1, 1)")
    with engine.begin() as holder:
        holder.exec_driver_sql("UPDATE t SET x = 2")
        assert isinstance(delivery_error(failure(engine, "UPDATE t SET x = 3")), TransientDelivery)


def test_nobody_there(tmp_path: Path) -> None:
    """The whole database is out of reach; a file that cannot be opened likewise."""
    for url in ("postgresql://postgres@127.0.0.1:9/x", "mysql://root@127.0.0.1:9/x", "sqlite:///no/such/folder/lis.db"):
        error = delivery_error(failure(make(tmp_path, url, connect_timeout="2s"), "SELECT 1"))
        assert isinstance(error, TransientDelivery)
        assert error.whole_destination, url


def test_what_python_cannot_hold_in_postgresql(tmp_path: Path) -> None:
    """Infinity is odd, a month is not 30 days, numbers in JSON keep their digits, an instant is UTC."""
    with own_database("postgresql") as url, make(tmp_path, url).connect() as connection:
        row = connection.exec_driver_sql(
            "SELECT 'infinity'::date, '-infinity'::timestamp, 'infinity'::timestamptz, '12024-01-01'::date, interval '1 month 2 days',"
            " '{\"a\": 1.50}'::jsonb, 1.50::numeric, '2024-03-01 08:00+08'::timestamptz, timestamp '2024-03-01 08:00', bytea '\\x00ff'"
        ).one()
    assert all(isinstance(value, Odd) for value in row[:4])
    assert row[4] == "P1M2D"
    assert repr(row[5]["a"]) == "1.50"
    assert str(row[6]) == "1.50"
    assert row[7] == datetime(2024, 3, 1, tzinfo=UTC)
    assert row[8] == datetime(2024, 3, 1, 8)
    assert row[9] == b"\x00\xff"


def test_what_python_cannot_hold_in_mariadb(tmp_path: Path) -> None:
    """Zero dates are odd; a timestamp is given in UTC whatever the server's zone is."""
    with own_database("mysql") as url, make(tmp_path, url, session={"sql_mode": "ANSI"}).connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (d DATE, dt DATETIME(6), ts TIMESTAMP NULL, n DECIMAL(10,2), s TIME, b BIT(5))")
        connection.exec_driver_sql("INSERT INTO t VALUES ('0000-00-00', '2024-02-00', '2024-03-01 00:00:00', 1.5, '-800:00:00', b'101')")
        row = connection.exec_driver_sql("SELECT * FROM t").one()
    assert isinstance(row[0], Odd)
    assert isinstance(row[1], Odd)
    assert row[2:] == (datetime(2024, 3, 1), Decimal("1.50"), -timedelta(hours=800), b"\x05")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """They come as what they are, not replaced, and do not fail the other rows."""
    engine = make(tmp_path, "sqlite:///lis.db")
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT CAST(x'b2e2' AS TEXT) UNION ALL SELECT 'fine'").scalars().all()
    assert isinstance(rows[0], Undecodable)
    assert (rows[0].content, rows[1]) == (b"\xb2\xe2", "fine")
    with own_database("postgresql", "SQL_ASCII") as url, make(tmp_path, url).connect() as connection:
        rows = (
            connection.exec_driver_sql("SELECT E'\\xb2\\xe2' UNION ALL SELECT 'fine' UNION ALL SELECT E'\\xe8\\xaf\\x95'").scalars().all()
        )
        assert connection.exec_driver_sql("SELECT %s", ("试",)).scalar() == "试"
    assert isinstance(rows[0], Undecodable)
    assert rows[1:] == ["fine", "试"]


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_is_killed(server: str, tmp_path: Path) -> None:
    """What was under way fails as transient, and after the restart the same engine goes on."""
    with OWN_SERVERS[server]() as own:
        engine = make(tmp_path, own.url, connect_timeout="3s")
        with pytest.raises(Exception) as caught, engine.connect() as connection:  # noqa: PT011, PT012
            connection.exec_driver_sql("SELECT 1")
            own.kill()
            connection.exec_driver_sql("SELECT 1")
        assert sort(caught.value).meaning is Meaning.DOWN
        assert sort(caught.value, committing=True).meaning is Meaning.UNCERTAIN
        own.start()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1


def test_a_standby_is_promoted() -> None:
    """The copy has what the primary had, and takes writes after its promotion."""
    from tests.support.databases import OwnPostgres

    with OwnPostgres() as primary:
        first = engine_of(primary.url)
        with first.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE t AS SELECT 1 AS id")
        first.dispose()
        with OwnPostgres(standby_of=primary) as standby:
            engine = engine_of(standby.url)
            with engine.connect() as connection:
                until(lambda: connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 1)
                assert sort(failure(engine, "INSERT INTO t VALUES (2)")).meaning is Meaning.DOWN
            primary.kill()
            standby.promote()
            with engine.connect() as connection:
                connection.exec_driver_sql("INSERT INTO t VALUES (2)")
            engine.dispose()
