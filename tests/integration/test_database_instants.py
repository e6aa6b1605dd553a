"""Moments and local times of real databases: what a watermark is, where reading begins, and what a session without transactions says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.database.polling.rounds import Halted
from adapters.database.polling.server import server_of
from adapters.database.tables import shape_of
from tests.support.databases import SERVERS, engine_of, own_database
from tests.support.polling import Kept, Rounds

ROWS = "CREATE TABLE result (id integer PRIMARY KEY, at timestamp(6) NOT NULL, note varchar(20))"
AT_ONCE = {"column": "at", "overlap": "60s"}


def run(url: Any, *statements: str) -> None:
    """In a session whose clock is UTC's."""
    engine = engine_of(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET time_zone = '+00:00'" if engine.dialect.name == "mysql" else "SET TimeZone = 'UTC'")
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.mark.parametrize("server", SERVERS)
def test_a_session_that_commits_at_once_says_the_same(server: str) -> None:
    """There a savepoint is refused, which is no reason to know neither the server nor which columns are JSON."""
    with own_database(server) as url:
        run(url, "CREATE TABLE result (id integer PRIMARY KEY, content json)")
        at_once = engine_of(url)
        usual = at_once.execution_options(isolation_level="READ COMMITTED")
        with at_once.connect() as one, usual.connect() as other:
            assert server_of(one) == server_of(other) != ""
            assert shape_of(one, "result") == shape_of(other, "result")
            assert "json" in shape_of(one, "result").declared.values()  # type: ignore[union-attr]
            assert one.exec_driver_sql("SELECT 1").scalar_one() == 1
        at_once.dispose()


def test_timestamps_of_mariadb_are_moments_wherever_they_stand(tmp_path: Path) -> None:
    """In the row, in the key, as the position, as what a detail is linked by."""
    with own_database("mysql") as url:
        run(
            url,
            "CREATE TABLE sample (at timestamp(3) NOT NULL, id integer, PRIMARY KEY (at, id))",
            "INSERT INTO sample VALUES ('2024-03-01 00:00:00.250', 1)",
            "CREATE TABLE step (at timestamp(3) NOT NULL, line integer)",
            "INSERT INTO step VALUES ('2024-03-01 00:00:00.250', 7)",
        )
        details = {"steps": {"table": "step", "by": {"at": "at"}}}
        for number, options in enumerate(({"table": "sample"}, {"select": "SELECT * FROM sample", "key": ["at", "id"]})):
            folder = tmp_path / str(number)
            folder.mkdir()
            with Rounds(folder, url, watermark="at", zone="Asia/Shanghai", details=details, **options) as rounds:
                (record,) = rounds.until_idle().kept.records
            moment = "2024-03-01T00:00:00.250000+00:00"
            assert (record.row["at"], record.types["at"]) == (moment, "instant")
            assert (dict(record.key), record.position) == ({"at": moment, "id": 1}, moment)
            assert record.details["steps"] == [{"at": moment, "line": 7}]


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize("of", [{"table": "result"}, {"select": "SELECT * FROM result", "key": ["id"]}])
def test_a_late_row_of_a_timestamp_is_found_whatever_the_zone(zone: str, of: dict[str, Any], tmp_path: Path) -> None:
    """`zone` is that of local times: a TIMESTAMP of MariaDB is settled by the clock, not eight hours early, and is not of the future."""
    with own_database("mysql") as url:
        run(url, ROWS, "INSERT INTO result VALUES (1, now(6), 'first')")
        with Rounds(tmp_path, url, watermark=AT_ONCE, zone=zone, **of) as rounds:
            assert rounds.until_idle().kept.ids() == [1]
            run(url, "INSERT INTO result VALUES (2, now(6) - INTERVAL 20 SECOND, 'late')")
            rounds.time.now += 60
            assert rounds.until_idle().kept.ids() == [1, 2]


def test_a_checkpoint_of_before_goes_on(tmp_path: Path) -> None:
    """Which has the watermark as a local time of UTC: what was taken is known, what is new is taken."""
    with own_database("mysql") as url:
        run(url, ROWS, "INSERT INTO result VALUES (1, now(6), 'a'), (2, now(6), 'b')")
        with Rounds(tmp_path, url, table="result", watermark=AT_ONCE) as rounds:
            kept = rounds.until_idle().kept
        old = Kept()
        old.checkpoints = {name: text.replace("+00:00", "").replace('"instant"', '"datetime"') for name, text in kept.checkpoints.items()}
        assert old.checkpoints != kept.checkpoints
        with Rounds(tmp_path, url, old, table="result", watermark=AT_ONCE) as rounds:
            rounds.time.now += 60
            assert rounds.until_idle().kept.ids() == []
            run(url, "INSERT INTO result VALUES (3, now(6) - INTERVAL 5 SECOND, 'late'), (4, now(6), 'new')")
            rounds.time.now += 60
            assert sorted(rounds.until_idle().kept.ids()) == [3, 4]
        assert json.loads(old.checkpoints["position"])["front"][0][1] == "instant"


@pytest.mark.parametrize(
    ("server", "column"),
    [("postgresql", "timestamptz"), ("postgresql", "timestamp"), ("mysql", "timestamp NOT NULL"), ("mysql", "datetime")],
)
@pytest.mark.parametrize("start", ["2024-03-01T00:00:00+08:00", "2024-02-29T16:00:00+00:00", "2024-03-01 00:00:00"])
def test_where_reading_begins(server: str, column: str, start: str, tmp_path: Path) -> None:
    """The same moment however it is written, in a column of moments and in one of local times: no row before it, none after it missed."""
    moments = column in ("timestamptz", "timestamp NOT NULL")
    before, after = ("2024-02-29 15:59:59", "2024-02-29 16:00:00") if moments else ("2024-02-29 23:59:59", "2024-03-01 00:00:00")
    with own_database(server) as url:
        run(url, f"CREATE TABLE result (id integer PRIMARY KEY, at {column})", f"INSERT INTO result VALUES (1, '{before}'), (2, '{after}')")
        watermark = {"column": "at", "start": start}
        with Rounds(tmp_path, url, table="result", watermark=watermark, zone="Asia/Shanghai") as rounds:
            assert rounds.until_idle().kept.ids() == [2]


def test_an_offset_of_which_the_column_knows_nothing(tmp_path: Path) -> None:
    """Without a zone nobody can say where that is in a column of local times."""
    with own_database("mysql") as url:
        run(url, "CREATE TABLE result (id integer PRIMARY KEY, at datetime)")
        watermark = {"column": "at", "start": "2024-03-01T00:00:00+08:00"}
        with Rounds(tmp_path, url, table="result", watermark=watermark) as rounds, pytest.raises(Halted, match="say zone"):
            rounds.round()
