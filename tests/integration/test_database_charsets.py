"""Chinese text as hospitals' databases hold it: GBK bytes in columns that are declared as something else, and bytes that are no text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.formats.rows import native
from tests.support.databases import engine_of, own_database
from tests.support.polling import Rounds

NAME = "张伟"
GBK = NAME.encode("gb18030")


def run(url: Any, *statements: str) -> None:
    engine = engine_of(url)
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def read(folder: Path, url: Any, **options: Any) -> Rounds:
    with Rounds(folder, url, table="patient", watermark={"column": "id", "overlap": "1s"}, **options) as rounds:
        rounds.until_idle()
    return rounds


def check(rounds: Rounds) -> None:
    """Row 1 is good, row 2 is none: it is handed in with its bytes, as invalid; row 3 is untouched by it."""
    assert [record.row["name"] for record in rounds.kept.records] == [NAME, "plain"]
    ((record, judgement),) = rounds.kept.invalid
    assert record.row["id"] == 2
    assert native(record.row["name"], record.types["name"]) == b"\xd5\xff"
    assert "name" in judgement.reason
    assert "gb18030" in judgement.reason


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_gbk_in_postgresql(encoding: str, tmp_path: Path) -> None:
    """In a database that says LATIN1, or says nothing."""
    with own_database("postgresql", encoding) as url:
        literal = f"\\x{GBK.hex()}"
        run(
            url.update_query_dict({"client_encoding": "utf8"}),
            "CREATE TABLE patient (id integer PRIMARY KEY, name varchar(40), plain varchar(10))",
            f"INSERT INTO patient SELECT 1, convert_from('{literal}'::bytea, '{encoding}'), 'x'",
            f"INSERT INTO patient SELECT 2, convert_from('\\xd5ff'::bytea, '{encoding}'), 'x'",
            "INSERT INTO patient VALUES (3, 'plain', 'x')",
        )
        check(read(tmp_path, url, charset={"name": "gb18030"}))
        rounds = read(tmp_path, url, charset={"all": "gb18030"})
        assert [record.row["plain"] for record in rounds.kept.records] == ["x", "x"]


def test_gbk_in_mariadb(tmp_path: Path) -> None:
    """In a column that says latin1."""
    with own_database("mysql") as url:
        run(
            url,
            "CREATE TABLE patient (id integer PRIMARY KEY, name varchar(40) CHARACTER SET latin1)",
            f"INSERT INTO patient VALUES (1, CAST(x'{GBK.hex()}' AS CHAR CHARACTER SET binary))",
            "INSERT INTO patient VALUES (2, x'd5ff'), (3, 'plain')",
        )
        check(read(tmp_path, url, charset={"name": "gb18030"}))


def test_gbk_in_sqlite(tmp_path: Path) -> None:
    """Without a charset its bytes are no text either."""
    url = f"sqlite:///{tmp_path / 'lis.db'}"
    run(
        url,
        "CREATE TABLE patient (id integer PRIMARY KEY, name text)",
        f"INSERT INTO patient VALUES (1, CAST(x'{GBK.hex()}' AS TEXT)), (2, CAST(x'd5ff' AS TEXT)), (3, 'plain')",
    )
    check(read(tmp_path, url, charset={"name": "gb18030"}))
    rounds = read(tmp_path, url)
    assert [record.row["id"] for record, _ in rounds.kept.invalid] == [1, 2]
    assert rounds.kept.ids() == [3]


def test_utf8mb3_and_its_kin_in_mariadb(tmp_path: Path) -> None:
    """What the column declares is believed: gbk, utf8mb3, utf8mb4 with characters beyond the basic plane."""
    with own_database("mysql") as url:
        run(
            url,
            "CREATE TABLE patient (id integer PRIMARY KEY, a varchar(9) CHARACTER SET gbk, b varchar(9) CHARACTER SET utf8mb3, "
            "name varchar(9) CHARACTER SET utf8mb4)",
            f"INSERT INTO patient VALUES (1, '{NAME}', '{NAME}', '𠮷野')",
        )
        (record,) = read(tmp_path, url).kept.records
    assert (record.row["a"], record.row["b"], record.row["name"]) == (NAME, NAME, "𠮷野")


def test_every_kind_of_column_of_postgresql(tmp_path: Path) -> None:
    with own_database("postgresql") as url:
        run(
            url,
            "CREATE TYPE sex AS ENUM ('m', 'f')",
            "CREATE TABLE patient (id integer PRIMARY KEY, n numeric, r real, b bytea, j jsonb, a text[], u uuid, bits bit(3), e sex, "
            "i interval, t time, tz timestamptz, ok boolean, d date, inf date, range int4range, ip inet, m money, name varchar)",
            "INSERT INTO patient VALUES (1, 1.50, 0.1, '\\x00ff', '{\"v\": 1.10}', '{\"a,b\",NULL}', "
            "'00000000-0000-0000-0000-000000000001', '101', 'f', '1 month', '08:30', '2024-03-01 08:00+08', true, '2024-02-29', "
            "'infinity', '[1,3)', '10.0.0.1', 1.5, '')",
        )
        (record,) = read(tmp_path, url).kept.records
    row = dict(record.row)
    assert float(row.pop("r")) == pytest.approx(0.1)
    assert repr(row.pop("j")["v"]) == "1.10"
    assert row == {
        "id": 1,
        "n": "1.50",
        "b": "AP8=",
        "a": ["a,b", None],
        "u": "00000000-0000-0000-0000-000000000001",
        "bits": "101",
        "e": "f",
        "i": "P1M",
        "t": "08:30:00",
        "tz": "2024-03-01T00:00:00+00:00",
        "ok": True,
        "d": "2024-02-29",
        "inf": None,
        "range": "[1,3)",
        "ip": "10.0.0.1",
        "m": "$1.50",
        "name": "",
    }
    assert record.odd == ("inf",)
    kinds = {"n": "decimal", "b": "binary", "j": "json", "tz": "instant", "ok": "boolean", "t": "time"}
    assert {name: record.types[name] for name in kinds} == kinds


def test_every_kind_of_column_of_mariadb(tmp_path: Path) -> None:
    with own_database("mysql") as url:
        run(
            url,
            "CREATE TABLE patient (id integer PRIMARY KEY, n decimal(10,2), b blob, j json, bits bit(3), ok bit(1), e enum('m','f'), "
            "t time, span time, ts timestamp NULL, dt datetime, z date, y year, big bigint unsigned, name varchar(9))",
        )
        engine = engine_of(url)
        with engine.connect() as connection:
            connection.exec_driver_sql("SET SESSION sql_mode = '', time_zone = '+08:00'")
            connection.exec_driver_sql(
                "INSERT INTO patient VALUES (1, 1.50, x'00ff', '{\"v\": 1.10}', b'101', b'1', 'f', '08:30', '-26:00:01', "
                "'2024-03-01 08:00:00', '2024-03-01 08:00:00', '0000-00-00', 2024, 18446744073709551615, '')"
            )
        engine.dispose()
        (record,) = read(tmp_path, url).kept.records
    row = dict(record.row)
    assert repr(row.pop("j")["v"]) == "1.10"
    assert row.pop("big") is not None
    assert record.native("big") == 18446744073709551615
    assert row == {
        "id": 1,
        "n": "1.50",
        "b": "AP8=",
        "bits": 5,
        "ok": True,
        "e": "f",
        "t": "08:30:00",
        "span": "-26:00:01",
        "ts": "2024-03-01T00:00:00+00:00",
        "dt": "2024-03-01T08:00:00",
        "z": None,
        "y": 2024,
        "name": "",
    }
    assert record.odd == ("z",)
