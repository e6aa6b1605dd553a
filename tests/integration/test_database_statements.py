"""Statements against real databases: what an upsert leaves, how values come back, what procedures answer, a failover to an empty server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL, make_url

from adapters.database.connection import make_engine
from adapters.database.statements.applying import Applying
from adapters.database.statements.compiled import compiled
from adapters.database.statements.destination import writing_engine
from adapters.database.statements.options import DESTINATION
from adapters.database.statements.outcomes import Outcome
from engine.errors import PermanentDelivery, TransientDelivery
from engine.formats.rows import Record, read, write
from engine.message import ROWS, Parcel, Receipt
from tests.support.databases import OWN_SERVERS, SERVERS, engine_of, own_database, written
from tests.support.fhir import context


class Target:
    """A database, and what a destination of these options does to it."""

    def __init__(self, folder: Path, url: URL) -> None:
        self.folder, self.url = folder, url
        self.engine = engine_of(url.set(database=str(folder / str(url.database))) if url.get_backend_name() == "sqlite" else url)

    @property
    def backend(self) -> str:
        return self.engine.dialect.name

    def run(self, *statements: str) -> list[Any]:
        found: list[Any] = []
        with self.engine.connect() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
                found = [tuple(row) for row in result] if result.returns_rows else []
        return found

    def apply(self, bodies: Sequence[bytes], statements: list[dict[str, Any]], **options: Any) -> list[Outcome]:
        settings = DESTINATION.defaults(connection={"url": written(self.url), "lock_timeout": "1s"}, statements=statements, **options)
        ambient = context(self.folder, None, name="c/lis")
        applying = Applying(settings, compiled(settings), "c/lis", ambient.clock, lambda ref: Path("none"))
        engine = writing_engine(settings, ambient)
        try:
            parcels = [Parcel(number, number, body, ROWS, "t", str(number), f"k-{body!r}") for number, body in enumerate(bodies, 1)]
            return applying.apply(engine, parcels)
        finally:
            engine.dispose()


@pytest.fixture(params=["sqlite", *SERVERS])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    if request.param == "sqlite":
        made = Target(tmp_path, make_url("sqlite:///target.db"))
        yield made
        made.engine.dispose()
        return
    with own_database(request.param) as url:
        made = Target(tmp_path, url)
        yield made
        made.engine.dispose()


def row(**columns: Any) -> bytes:
    return write(Record("lis", "t", columns, key={"id": columns.get("id")}))


UPSERT: dict[str, Any] = {
    "upsert": "result",
    "key": ["source", "id"],
    "keep": ["first_seen"],
    "with": {"source": "LIS", "id": {"value": "${row.id}", "type": "integer"}, "value": "${row.value}", "first_seen": "${row.seen}"},
}


def test_an_upsert_is_repeatable(target: Target) -> None:
    """In groups and alone; a column that is kept keeps what it had."""
    target.run("CREATE TABLE result (source VARCHAR(20), id INTEGER, value VARCHAR(20), first_seen VARCHAR(20), PRIMARY KEY (source, id))")
    first = [row(id=number, value=f"v{number}", seen="monday") for number in range(1, 6)]
    second = [row(id=number, value=f"w{number}", seen="friday") for number in range(4, 8)]
    for bodies in (first, second, second, second[:1]):
        assert all(isinstance(one, Receipt) for one in target.apply(bodies, [UPSERT]))
    assert target.run("SELECT id, value, first_seen FROM result ORDER BY id") == [
        (1, "v1", "monday"), (2, "v2", "monday"), (3, "v3", "monday"), (4, "w4", "monday"), (5, "w5", "monday"),
        (6, "w6", "friday"), (7, "w7", "friday"),
    ]  # fmt: skip


def test_values_come_back_as_they_were(target: Target) -> None:
    kinds = {"sqlite": ("BLOB", "TEXT", "TEXT"), "postgresql": ("BYTEA", "TIMESTAMPTZ", "JSONB"), "mysql": ("BLOB", "DATETIME(6)", "JSON")}
    binary, instant, json = kinds[target.backend]
    amount = "TEXT" if target.backend == "sqlite" else "DECIMAL(30,10)"
    target.run(f"CREATE TABLE v (id INTEGER, n {amount}, d DATE, t TIME, i {instant}, b {binary}, j {json}, f BOOLEAN, s VARCHAR(50))")
    typed = {
        "id": {"value": "${row.id}", "type": "integer"},
        "n": {"value": "${row.n}", "type": "decimal"},
        "d": {"value": "${row.at}", "type": "date"},
        "t": {"value": "${row.t}", "type": "time"},
        "i": {"value": "${row.at}", "type": "instant", "zone": "Asia/Shanghai"},
        "b": {"value": "${row.b}", "type": "binary"},
        "j": {"value": "${row.j}", "type": "json"},
        "f": {"value": "${row.f}", "type": "boolean"},
        "s": "${row.s}",
    }
    statement = {"run": "INSERT INTO v VALUES (:id, :n, :d, :t, :i, :b, :j, :f, :s)", "with": typed}
    said = {
        "n": "12345678901234567890.0123456789",
        "at": "2026-01-31T09:30:00.123456",
        "t": "09:30:01",
        "b": "AP8B",
        "j": '{"a": 1.50}',
        "f": "Y",
    }
    bodies = [row(id=1, s="'; DROP TABLE v; -- %s :x {0} 😀", **said), row(id=2, **dict.fromkeys([*said, "s"]))]
    assert [type(one) for one in target.apply(bodies, [statement], repeatable=True)] == [Receipt, Receipt]
    full, empty = target.run("SELECT * FROM v ORDER BY id")
    assert empty == (2, *[None] * 8)
    assert Decimal(full[1]) == Decimal("12345678901234567890.0123456789")
    assert str(full[2]) == str(date(2026, 1, 31))
    assert str(full[3]).removeprefix("0") in ("9:30:01", str(time(9, 30, 1)).removeprefix("0"))
    at = full[4] if isinstance(full[4], datetime) else datetime.fromisoformat(full[4])
    assert at.replace(tzinfo=at.tzinfo or UTC) == datetime(2026, 1, 31, 1, 30, 0, 123456, tzinfo=UTC)
    assert (bytes(full[5]), bool(full[7]), full[8]) == (b"\x00\xff\x01", True, "'; DROP TABLE v; -- %s :x {0} 😀")


def test_details_are_written_together(target: Target) -> None:
    """Header and details in one transaction: a detail that is refused takes the header with it, and the others of the group stay."""
    target.run("CREATE TABLE head (id INTEGER PRIMARY KEY)", "CREATE TABLE item (head INTEGER, code VARCHAR(5) NOT NULL)")
    integer = {"value": "${row.id}", "type": "integer"}
    statements = [
        {"run": "INSERT INTO head VALUES (:id)", "with": {"id": integer}},
        {
            "run": "INSERT INTO item VALUES (:head, :code)",
            "each": "details.items[*]",
            "when": "message['details.items[*].code'] != 'skip'",
            "with": {"head": integer, "code": "${details.items[*].code}"},
        },
    ]
    made = [
        Record("lis", "t", {"id": number}, key={"id": number}, details={"items": [{"code": code} for code in codes]})
        for number, codes in enumerate((["a", "b", "skip"], ["c", None], [], ["d"]), 1)
    ]
    outcomes = target.apply([write(one) for one in made], statements, repeatable=True)
    assert [type(one) for one in outcomes] == [Receipt, PermanentDelivery, Receipt, Receipt]
    assert target.run("SELECT id FROM head ORDER BY id") == [(1,), (3,), (4,)]
    assert target.run("SELECT head, code FROM item ORDER BY head, code") == [(1, "a"), (1, "b"), (4, "d")]


def test_rows_are_the_answer_and_are_told_again(target: Target) -> None:
    """From the outbox, with its types: a message that comes again hears what it heard."""
    target.run("CREATE TABLE price (code VARCHAR(5), amount DECIMAL(8,2))", "INSERT INTO price VALUES ('K', 1.50), ('K', 2.25), ('NA', 3)")
    statement = {
        "run": "SELECT code, amount FROM price WHERE code = :code ORDER BY amount",
        "with": {"code": "${row.code}"},
        "answer": True,
    }
    for _ in range(2):
        (outcome,) = target.apply([row(id=1, code="K")], [statement], outbox={"create": True}, name="prices")
        assert isinstance(outcome, Receipt)
        answer = read(outcome.answer)
        assert (answer.origin, answer.row["code"], len(answer.details["rows"])) == ("prices", "K", 2)
        if target.backend != "sqlite":
            assert (answer.row["amount"], answer.types["amount"]) == ("1.50", "decimal")
    (nothing,) = target.apply([row(id=2, code="none")], [statement], outbox="meridian_outbox")
    assert isinstance(nothing, Receipt)
    assert (read(nothing.answer).row, read(nothing.answer).details) == ({}, {"rows": []})


PROCEDURES = {
    "postgresql": [
        "CREATE TABLE taken (id INTEGER, word TEXT)",
        "CREATE PROCEDURE take(a INTEGER, b TEXT) LANGUAGE sql AS 'INSERT INTO taken VALUES (a, b)'",
        "CREATE FUNCTION known(a INTEGER) RETURNS TABLE (id INTEGER, word TEXT) LANGUAGE sql AS 'SELECT * FROM taken t WHERE t.id = a'",
    ],
    "mysql": [
        "CREATE TABLE taken (id INTEGER, word TEXT)",
        "CREATE PROCEDURE take(a INTEGER, b TEXT) INSERT INTO taken VALUES (a, b)",
        "CREATE PROCEDURE known(a INTEGER) SELECT * FROM taken WHERE id = a",
    ],
}


@pytest.mark.parametrize("server", SERVERS)
def test_procedures(server: str, tmp_path: Path) -> None:
    """One that writes, and one whose rows are the answer."""
    with own_database(server) as url:
        target = Target(tmp_path, url)
        target.run(*PROCEDURES[server])
        number = {"value": "${row.id}", "type": "integer"}
        take = {"procedure": "take", "with": {"a": number, "b": "${row.word}"}}
        known = {"procedure": "known", "returns": "table" if server == "postgresql" else "result", "with": {"a": number}, "answer": True}
        outcomes = target.apply([row(id=1, word="x"), row(id=2, word="y"), row(id=1, word="x")], [take, known], outbox={"create": True})
        assert [read(one.answer).row for one in outcomes if isinstance(one, Receipt)] == [
            {"id": 1, "word": "x"}, {"id": 2, "word": "y"}, {"id": 1, "word": "x"},
        ]  # fmt: skip
        assert target.run("SELECT id FROM taken ORDER BY id") == [(1,), (2,)]
        target.engine.dispose()


def test_a_failover_to_an_empty_server(tmp_path: Path) -> None:
    """Its tables are not there: messages wait for them, none is a dead letter; the outbox is made again."""
    options: dict[str, Any] = {"outbox": {"create": True}}
    statement = {"run": "INSERT INTO t VALUES (:id)", "with": {"id": {"value": "${row.id}", "type": "integer"}}}
    postgres = OWN_SERVERS["postgresql"]
    settings = None
    with postgres() as old:
        port = old.port
        target = Target(tmp_path, old.url)
        target.run("CREATE TABLE t (id INTEGER)")
        settings = DESTINATION.defaults(connection={"url": written(old.url), "connect_timeout": "2s"}, statements=[statement], **options)
        ambient = context(tmp_path, None, name="c/lis")
        applying = Applying(settings, compiled(settings), "c/lis", ambient.clock, lambda ref: Path("none"))
        engine = make_engine(settings.connection, ambient)
        parcels = [Parcel(number, number, row(id=number), ROWS, "t", str(number), f"k{number}") for number in (1, 2, 3)]
        assert [type(one) for one in applying.apply(engine, parcels[:1])] == [Receipt]
        target.engine.dispose()
    down = applying.apply(engine, parcels[1:])
    assert [(type(one), getattr(one, "whole_destination", None)) for one in down] == [(TransientDelivery, True)] * 2
    with postgres(port) as fresh:
        target = Target(tmp_path, fresh.url)
        waiting = applying.apply(engine, parcels[1:])
        assert [(type(one), getattr(one, "whole_destination", None)) for one in waiting] == [(TransientDelivery, False)] * 2
        target.run("CREATE TABLE t (id INTEGER)")
        assert [type(one) for one in applying.apply(engine, parcels[1:])] == [Receipt, Receipt]
        assert target.run("SELECT id FROM t ORDER BY id") == [(2,), (3,)]
        target.engine.dispose()
        engine.dispose()


def test_a_file_that_somebody_else_has_locked(tmp_path: Path) -> None:
    """SQLite has one writer: the message waits for the other, and then for a while."""
    import sqlite3

    target = Target(tmp_path, make_url("sqlite:///target.db"))
    target.run("CREATE TABLE t (id INTEGER)")
    statement = {"run": "INSERT INTO t VALUES (:id)", "with": {"id": {"value": "${row.id}", "type": "integer"}}}
    with closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        outcomes = target.apply([row(id=1), row(id=2)], [statement], repeatable=True)
        other.execute("ROLLBACK")
    assert [type(one) for one in outcomes] == [TransientDelivery] * 2
    assert [type(one) for one in target.apply([row(id=1), row(id=2)], [statement], repeatable=True)] == [Receipt] * 2
    target.engine.dispose()
