"""The statements as each dialect has them. SQL Server and Oracle are proven by these texts only: no such server was at hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql, sqlite

from adapters.database.errors import Meaning, sort
from adapters.database.options import CONNECTION
from adapters.database.polling.options import SOURCE, parameters
from adapters.database.polling.statements import Claims, DetailPages, TablePages, WrappedPages, called
from adapters.database.polling.window import Position
from adapters.database.tables import Drift, Shape, drift
from adapters.database.values import Reading

DIALECTS: dict[str, Any] = {
    "postgresql": postgresql.dialect(),
    "mysql": mysql.dialect(),
    "sqlite": sqlite.dialect(),
    "mssql": mssql.dialect(),
    "oracle": oracle.dialect(),
}
HERE = Position(datetime(2024, 3, 1, 8, 0, 0, 3000), (7, "x"))


def text(statement: Any, dialect: str) -> str:
    return " ".join(str(statement.compile(dialect=DIALECTS[dialect], compile_kwargs={"render_postcompile": True})).split())


def pages(dialect: str, raw: frozenset[str] = frozenset()) -> TablePages:
    return TablePages("lab.Result", ["id", "note", "Unit Name"], ["id", "part"], "changed", raw, dialect)


@pytest.mark.parametrize(
    ("dialect", "limited"),
    [("postgresql", "LIMIT"), ("mysql", "LIMIT"), ("sqlite", "LIMIT"), ("mssql", "SELECT TOP"), ("oracle", "FETCH FIRST")],
)
def test_a_page_is_limited_and_ordered(dialect: str, limited: str) -> None:
    """By watermark and key, in each one's own words; names are quoted where they must be; no value is in it."""
    found = text(pages(dialect).page(HERE, 10), dialect)
    assert limited in found
    quote = {"mysql": "`{}`", "mssql": "[{}]"}.get(dialect, '"{}"')
    result = f"lab.{quote.format('Result')}"
    assert quote.format("Unit Name") in found
    assert f"ORDER BY {result}.changed, {result}.id, {result}.part" in found
    assert "2024" not in found
    assert "'x'" not in found
    assert ">=" in found


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("mssql", "CAST(lab.[Result].note AS VARBINARY(max)) AS note"),
        ("oracle", 'utl_raw.cast_to_raw(lab."Result".note) AS note'),
        ("mysql", "CAST(lab.`Result`.note AS BINARY) AS note"),
    ],
)
def test_a_column_of_another_charset_is_read_as_bytes(dialect: str, expected: str) -> None:
    assert expected in text(pages(dialect, frozenset({"note"})).page(None, 10), dialect)


def test_claims_pass_over_what_others_hold() -> None:
    """SKIP LOCKED, or READPAST; Oracle's claims are made row by row, guarded by the status."""
    status = SOURCE.defaults(
        connection="sqlite:///x.db",
        table="orders",
        status={"column": "state", "new": ["N"], "claimed": "P", "claimed_at": "at", "claimed_by": "by", "done": "D", "reason": "why"},
    ).status
    found = {
        name: text(Claims("orders", ["id"], ["id"], status, frozenset(), name).page(HERE.mark, 5, locking=True), name) for name in DIALECTS
    }
    assert "FOR UPDATE SKIP LOCKED" in found["postgresql"]
    assert "FOR UPDATE SKIP LOCKED" in found["mysql"]
    assert "WITH (UPDLOCK, READPAST, ROWLOCK)" in found["mssql"]
    assert "FOR UPDATE" not in found["oracle"]
    claims = Claims("orders", ["id"], ["id"], status, frozenset(), "oracle")
    claim = text(claims.claim((1,), HERE.mark, "node", HERE.mark), "oracle")
    assert claim.startswith("UPDATE orders SET")
    assert "state IN" in claim
    settled = text(claims.settle((1,), "D", None, HERE.mark, "node"), "oracle")
    assert settled.partition("WHERE")[2].count("=") == 4, "key, status, claim, node"


def test_details_of_several_columns() -> None:
    """SQL Server has no row values: the pairs are written out everywhere."""
    detail = DetailPages("item", "", {"a": "x", "b": "y"}, ["line"], ["code"], frozenset(), "mssql")
    ((statement, _),) = detail.statements([(1, 2), (3, 4)])
    assert "WHERE item.a = :param_1 AND item.b = :param_2 OR item.a = :param_3 AND item.b = :param_4" in text(statement, "mssql")
    assert len(detail.statements([(n, n) for n in range(1001)])) == 3


def test_a_select_is_wrapped_and_a_procedure_called() -> None:
    wrapped = WrappedPages("SELECT * FROM v WHERE changed >= :watermark;", ["id"], "changed")
    found = " ".join(str(wrapped.page(HERE, 10).compile(dialect=DIALECTS["oracle"])).split())
    assert "FROM (SELECT * FROM v WHERE changed >= :watermark) q" in found
    assert wrapped.bound(HERE, 10) == {"watermark": HERE.mark}
    assert called("lab.next", [":limit", "N"], "postgresql", None) == "SELECT * FROM lab.next(:limit, :a1)"
    assert called("lab.next", [":limit", "N"], "mysql", None) == "CALL lab.next(:limit, :a1)"
    assert called("lab.next", [":limit", "N"], "mssql", None) == "EXEC lab.next :limit, :a1"
    assert called("lab.next", [":limit"], "oracle", None) == "SELECT * FROM TABLE(lab.next(:limit))"
    assert called("lab.odd name", [], "mssql", "result") == "EXEC lab.[odd name]"
    assert parameters("SELECT a::text, '08:30' FROM t WHERE b > :watermark AND c = :key2") == {"watermark", "key2"}


def test_rounded_times_are_within_the_overlap() -> None:
    """SQL Server's datetime goes by 3.33 ms: a row may stand before the watermark that it was given. So may not be said: no overlap."""
    assert SOURCE.defaults(connection="mssql://u@h/d", table="t", watermark="c").watermark.overlap >= 0.004
    with pytest.raises(ValueError, match=r"3\.33 ms"):
        SOURCE.defaults(connection="mssql://u@h/d", table="t", watermark={"column": "c", "overlap": "1ms"})


def test_char_padding() -> None:
    """Blanks of CHAR columns, Oracle's among them, are kept or taken off as the site says; '' of Oracle is NULL and stays so."""
    shape = Shape("t", {"code": "CHAR(10)", "name": "VARCHAR2(10 CHAR)", "kind": "NCHAR(2)", "text": "CHARACTER VARYING(5)"})
    assert shape.padded() == {"code", "kind"}
    row = Reading(padded=shape.padded()).columns(["code", "name"]).row(["K   ", "x  "])
    assert row.values == {"code": "K", "name": "x  "}
    assert Reading().columns(["code"]).row([None]).values == {"code": None}


def test_urls() -> None:
    """Each dialect with its driver; a password is refused and not repeated."""
    for given, driver in (
        ("postgresql://u@h/d", "postgresql+psycopg"),
        ("mariadb://u@h/d", "mysql+pymysql"),
        ("mssql://u@h/d", "mssql+pymssql"),
        ("oracle://u@h/d", "oracle+oracledb"),
    ):
        assert CONNECTION.defaults(url=given).url.drivername == driver
    with pytest.raises(ValueError, match="must not hold a password") as caught:
        CONNECTION.defaults(url="postgresql://u:geheim@h/d")
    assert "geheim" not in str(caught.value)
    for wrong in ("nothing", "db2://u@h/d", "postgresql+asyncpg://u@h/d"):
        with pytest.raises(ValueError, match=r"driver|address"):
            CONNECTION.defaults(url=wrong)


@pytest.mark.parametrize(
    ("module", "number", "meaning"),
    [
        ("pymssql", 1205, Meaning.BUSY),
        ("pymssql", 2627, Meaning.CONTENT),
        ("pymssql", 20009, Meaning.DOWN),
        ("pymssql", 208, Meaning.SETUP),
        ("oracledb", 1, Meaning.CONTENT),
        ("oracledb", 54, Meaning.BUSY),
        ("oracledb", 942, Meaning.SETUP),
        ("oracledb", 12541, Meaning.DOWN),
    ],
)
def test_errors_of_other_drivers(module: str, number: int, meaning: Meaning) -> None:
    """By their numbers, as the drivers raise them."""
    made = type("DatabaseError", (Exception,), {"__module__": module})
    detail = type("_Error", (), {"full_code": f"ORA-{number:05d}"})()
    assert sort(made(detail if module == "oracledb" else number, "Zhang Wei")).meaning is meaning
    assert "Zhang" not in sort(made(detail if module == "oracledb" else number, "Zhang Wei")).text


def test_drift() -> None:
    """A renamed column is gone and added; what is needed must be there, what is compared must be as it was."""
    found = drift({"id": "INTEGER", "at": "TIMESTAMP", "note": "TEXT"}, {"id": "BIGINT", "when": "TIMESTAMP", "note": "TEXT"})
    assert found == Drift(("at",), ("when",), (("id", "INTEGER", "BIGINT"),))
    assert str(found) == "gone: at; added: when; id was INTEGER and is BIGINT"
    assert found.ruins(["id", "at"], ["id"]) == "at is gone"
    assert found.ruins(["id"], ["id"]) == "id has another type"
    assert found.ruins(["note"], []) == ""
    assert not drift({"a": "TEXT"}, {"a": "TEXT"})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"table": "t", "select": "SELECT 1"}, "exactly one of"),
        ({"table": "t"}, "by watermark or by status"),
        ({"select": "SELECT 1", "watermark": "c"}, "needs key"),
        ({"select": "SELECT 1", "key": ["a"]}, "needs watermark or confirm"),
        ({"table": "t", "status": {"column": "s", "new": ["N"], "done": "D", "claimed": "P"}}, "claimed_at"),
        ({"table": "t", "watermark": "c", "zone": "Mars"}, "not a time zone"),
        ({"table": "t", "watermark": "c", "zone": "Asia"}, "not a time zone"),
        ({"table": "t", "watermark": "c", "charset": {"a": "klingon"}}, "character set"),
        ({"table": "t", "watermark": "c", "details": {"d": {"by": {"a": "b"}}}}, "either table or select"),
        ({"table": 't"; DROP TABLE x', "watermark": "c"}, "not the name"),
        ({"select": "SELECT * FROM t WHERE c >= :watermark", "key": ["a"], "watermark": "c"}, "start"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SOURCE.defaults(connection="sqlite:///x.db", **options)
