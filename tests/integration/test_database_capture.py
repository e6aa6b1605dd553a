"""Changes captured out of the logs of real servers: what a message is, and the parser against the servers' own bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection

from adapters.database.capture import pgoutput
from tests.support import capture_servers
from tests.support.capture import LOGGING, Captured
from tests.support.capture_servers import ITEM, changes, run

shared = pytest.fixture(scope="module", params=LOGGING)(capture_servers.shared)
postgres = pytest.fixture(scope="module")(capture_servers.postgres)
db = pytest.fixture(capture_servers.db)
pg = pytest.fixture(capture_servers.pg)


def test_first_rows_then_changes(db: Connection, tmp_path: Path) -> None:
    """In pages smaller than the table and than a transaction; nothing comes twice."""
    run(db, ITEM, *(f"INSERT INTO item VALUES ({one}, 1, 'a')" for one in range(7)))
    with Captured(tmp_path, db.engine.url, limit=3) as captured:
        captured.until_idle()
        assert changes(captured) == [("snapshot", one) for one in range(7)]
        run(db, "INSERT INTO item SELECT id + 10, 1, 'b' FROM item", "UPDATE item SET version = 2 WHERE id = 3")
        run(db, "DELETE FROM item WHERE id = 4", "TRUNCATE item")
        captured.until(7 + 7 + 3)
        inserted = [("insert", one + 10) for one in range(7)]
        assert changes(captured)[7:] == [*inserted, ("update", 3), ("delete", 4), ("truncate", None)]
        assert captured.kept.repeated == 0
    envelope = captured.kept.envelopes[7]
    assert envelope.message_type == "item"
    assert envelope.control_id == "10"
    assert envelope.facts["change"] == "insert"


def test_types_are_those_of_a_select(db: Connection, tmp_path: Path) -> None:
    """A row in the log is the same as the row of the first state."""
    mysql = db.engine.dialect.name == "mysql"
    columns = (
        "n decimal(20,6), d date, at timestamp(3) NULL, t time, f float, g double precision, note varchar(50), "
        + ("b binary(4), x json, bits bit(3), s set('a','b','c'), e enum('p','q'), y year, big bigint unsigned, l varchar(9) CHARACTER SET latin1, zero date, dt datetime(6)" if mysql
           else "b bytea, x jsonb, u uuid, a integer[], i interval, z timestamptz, odd timestamp, big numeric, ok boolean")
    )  # fmt: skip
    values = "-12345678901234.500000, '2024-02-29', '2024-01-02 03:04:05.678', '23:59:59', 0.1, 1e300, 'ä€𝄞 ', " + (
        "0x0100, '{\"a\": 1.50}', b'101', 'c,a', 'q', 2024, 18446744073709551615, 'ä', '0000-00-00', '2024-01-02 03:04:05.678901'"
        if mysql
        else "'\\x0100', '{\"a\": 1.50}', '6ecd8c99-4036-403d-bf84-cf8400f67836', '{1,NULL}', '1 mon 2 days', "
        "'2024-01-02 03:04:05+08', 'infinity', 12345678901234567890.10, true"
    )
    run(db, f"CREATE TABLE item (id integer PRIMARY KEY, {columns})")
    if mysql:
        run(db, "SET sql_mode = ''")
    run(db, f"INSERT INTO item VALUES (1, {values})", "INSERT INTO item (id) VALUES (2)")
    with Captured(tmp_path, db.engine.url) as captured:
        captured.until_idle()
        run(db, "DELETE FROM item", f"INSERT INTO item VALUES (1, {values})", "INSERT INTO item (id) VALUES (2)")
        records = captured.until(6)
    for first, logged in ((records[0], records[4]), (records[1], records[5])):
        assert dict(logged.row) == dict(first.row)
        assert dict(logged.types) == dict(first.types)
        assert logged.odd == first.odd
    assert records[0].row["n"] == "-12345678901234.500000"
    assert records[0].odd == (("zero",) if mysql else ("odd",))
    assert json.dumps(records[0].row["x"]) != ""


def test_a_key_that_changes_has_its_old_one_before(db: Connection, tmp_path: Path) -> None:
    """So that a destination can take the old row away."""
    run(db, ITEM, "INSERT INTO item VALUES (1, 1, 'a')")
    with Captured(tmp_path, db.engine.url, snapshot="never", message_type="table:change") as captured:
        captured.page()
        run(db, "UPDATE item SET id = 5 WHERE id = 1")
        record = captured.until(1)[0]
    assert (record.key, (record.before or {})["id"]) == ({"id": 5}, 1)
    assert captured.kept.envelopes[0].message_type == "item:update"


def test_only_what_is_asked_for(db: Connection, tmp_path: Path) -> None:
    """Tables, columns, operations; another table's changes are no messages, and let the log go on all the same."""
    run(db, ITEM, "CREATE TABLE other (id integer PRIMARY KEY)")
    table = {"name": "item", "columns": ["id", "note"], "patient_ids": ["note"]}
    with Captured(tmp_path, db.engine.url, tables=[table], operations=["insert", "delete"]) as captured:
        captured.until_idle()
        run(db, "INSERT INTO item VALUES (1, 1, 'P1')", "UPDATE item SET note = 'P2'", "INSERT INTO other VALUES (1)", "DELETE FROM item")
        captured.until(2)
        assert changes(captured) == [("insert", 1), ("delete", 1)]
        assert dict(captured.kept.records[0].row) == {"id": 1, "note": "P1"}
        assert captured.kept.envelopes[0].patient_ids == ("P1",)


def test_altered_columns_are_said(db: Connection, tmp_path: Path) -> None:
    """Rows before and after have the columns of their time; a second life knows what the first has seen."""
    run(db, ITEM)
    with Captured(tmp_path, db.engine.url) as captured:
        captured.until_idle()
        run(
            db, "INSERT INTO item VALUES (1, 1, 'a')", "ALTER TABLE item ADD COLUMN added integer", "INSERT INTO item VALUES (2, 1, 'b', 9)"
        )
        records = captured.until(2)
        assert [len(record.row) for record in records] == [3, 4]
        assert [notice.event for notice in captured.notices] == ["database.schema_changed"]
    run(db, "ALTER TABLE item DROP COLUMN note")
    with Captured(tmp_path, db.engine.url, captured.kept) as second:
        run(db, "INSERT INTO item VALUES (3, 1, 9)")
        second.until(3)
        assert [notice.facts["drift"] for notice in second.notices] == ["gone: note"]


def test_bytes_of_another_character_set(db: Connection, tmp_path: Path) -> None:
    """GBK in a column that says latin1, or in a database that says nothing."""
    if db.engine.dialect.name != "mysql":
        pytest.skip("a database of PostgreSQL has one encoding; see test_database_sessions")
    run(db, "CREATE TABLE item (id integer PRIMARY KEY, note varchar(50) CHARACTER SET latin1)")
    with Captured(tmp_path, db.engine.url, tables=[{"name": "item", "charset": {"note": "gb18030"}}]) as captured:
        captured.until_idle()
        run(db, "INSERT INTO item VALUES (1, x'C4E3BAC3')")
        assert captured.until(1)[0].row["note"] == "你好"


def test_values_out_of_line_are_named_when_they_stay(pg: Connection, tmp_path: Path) -> None:
    """PostgreSQL's log has no TOASTed value that was not changed: it is named, not null; with the full identity it is there."""
    run(pg, ITEM, "INSERT INTO item SELECT 1, 1, string_agg(md5(g::text), '') FROM generate_series(1, 1000) g")
    with Captured(tmp_path, pg.engine.url, snapshot="never") as captured:
        captured.page()
        run(pg, "UPDATE item SET version = 2", "ALTER TABLE item REPLICA IDENTITY FULL", "UPDATE item SET version = 3")
        first, second = captured.until(2)
    assert ("note" in first.row, first.unchanged) == (False, ("note",))
    assert (len(second.row["note"]), second.unchanged, (second.before or {})["version"]) == (32000, (), 2)


def test_every_message_that_is_cut_is_an_error(pg: Connection) -> None:
    """Real bytes of every kind of message, cut at every length, and with a byte too many: never a wrong row."""
    run(pg, ITEM, "CREATE TYPE mood AS ENUM ('a')", "CREATE TABLE typed (id integer PRIMARY KEY, m mood)")
    run(
        pg, "CREATE PUBLICATION meridian_lis FOR TABLE item, typed", "SELECT pg_create_logical_replication_slot('meridian_lis', 'pgoutput')"
    )
    run(pg, "INSERT INTO item VALUES (1, 1, NULL)", "UPDATE item SET id = 2", "UPDATE item SET version = 3", "DELETE FROM item")
    run(
        pg,
        "ALTER TABLE item REPLICA IDENTITY FULL",
        "INSERT INTO item VALUES (3, 1, 'ä')",
        "UPDATE item SET version = 4",
        "DELETE FROM item",
    )
    run(pg, "INSERT INTO typed VALUES (1, 'a')", "TRUNCATE item, typed RESTART IDENTITY")
    found = run(pg, "SELECT data FROM pg_logical_slot_get_binary_changes('meridian_lis', NULL, NULL, 'proto_version', '1', "
                    "'publication_names', 'meridian_lis')")  # fmt: skip
    kinds = set()
    for (data,) in found:
        content = bytes(data)
        kinds.add(type(pgoutput.read(content)).__name__)
        for size in range(len(content)):
            with pytest.raises(pgoutput.MessageCut):
                pgoutput.read(content[:size])
        with pytest.raises(pgoutput.MessageCut):
            pgoutput.read(content + b"\0")
    run(pg, "DROP TABLE typed", "DROP TYPE mood")
    assert kinds == {"Begin", "Commit", "Relation", "Type", "Insert", "Update", "Delete", "Truncate"}
