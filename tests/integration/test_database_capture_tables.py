"""What tables there are in hospitals, and what becomes of them while they are captured: told whole, or the capture stops and says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from adapters.database.capture.checking import check
from adapters.database.capture.options import SOURCE
from adapters.database.errors import DatabaseError
from adapters.database.polling.rounds import Halted
from tests.support import capture_servers
from tests.support.capture import LOGGING, SLOT_IN_USE, Captured
from tests.support.capture_servers import ITEM, changes, run, until_refused
from tests.support.databases import OwnServer, written

shared = pytest.fixture(scope="module", params=LOGGING)(capture_servers.shared)
postgres = pytest.fixture(scope="module")(capture_servers.postgres)
db = pytest.fixture(capture_servers.db)
pg = pytest.fixture(capture_servers.pg)


@pytest.fixture(scope="module")
def mariadb() -> Iterator[OwnServer]:
    with capture_servers.own_server("mysql") as own:
        yield own


@pytest.fixture
def my(mariadb: OwnServer) -> Iterator[Connection]:
    yield from capture_servers.emptied(mariadb)


def begins_again(captured: Captured, folder: Path, db: Connection, alarm: str) -> Captured:
    """A second life with the position that the alarm names."""
    position = alarm.split("begin_again: ")[1].split(" ", maxsplit=1)[0]
    return Captured(folder, db.engine.url, captured.kept, begin_again=position)


# --- what a table is -----------------------------------------------------------------------------


def test_partitions_are_told_as_their_table(pg: Connection, tmp_path: Path) -> None:
    """pgoutput would call rows by the names of partitions, and none of them would be known."""
    run(pg, "CREATE TABLE item (id integer, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)")
    for year in (2025, 2026):
        run(pg, f"CREATE TABLE item_{year} PARTITION OF item FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')")
    run(pg, "INSERT INTO item VALUES (1, '2025-05-05')")
    with Captured(tmp_path, pg.engine.url) as captured:
        captured.until_idle()
        run(pg, "INSERT INTO item VALUES (2, '2025-01-01')", "UPDATE item SET day = '2026-01-01' WHERE id = 2", "TRUNCATE item")
        captured.until(5)
        assert changes(captured) == [("snapshot", 1), ("insert", 2), ("delete", 2), ("insert", 2), ("truncate", None)]
    with Captured(tmp_path, pg.engine.url, captured.kept) as second:
        run(pg, "INSERT INTO item VALUES (3, '2026-03-03')")
        assert second.until(6)[-1].table == "item"


def test_a_publication_of_partitions_is_refused(pg: Connection, tmp_path: Path) -> None:
    """Made by an administrator without publish_via_partition_root."""
    run(pg, "CREATE TABLE item (id integer PRIMARY KEY) PARTITION BY RANGE (id)")
    run(pg, "CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (1) TO (9)", "CREATE PUBLICATION meridian_lis FOR TABLE item")
    with Captured(tmp_path, pg.engine.url) as captured, pytest.raises(Halted, match="publish_via_partition_root = true"):
        captured.page()


@pytest.mark.parametrize(
    ("published", "reason"),
    [("item WHERE (id > 5)", r"only some rows of item: WHERE \(id > 5\)"), ("item (id, version)", "does not have note of item")],
)
def test_a_publication_of_a_part_is_refused(pg: Connection, tmp_path: Path, published: str, reason: str) -> None:
    """What it leaves out would be missing without a word."""
    run(pg, ITEM, f"CREATE PUBLICATION meridian_lis FOR TABLE {published}")
    with Captured(tmp_path, pg.engine.url) as captured, pytest.raises(Halted, match=reason):
        captured.page()


def test_a_publication_may_leave_out_what_no_message_has(pg: Connection, tmp_path: Path) -> None:
    """So an administrator keeps columns from us."""
    run(pg, ITEM, "CREATE PUBLICATION meridian_lis FOR TABLE item (id, version)")
    with Captured(tmp_path, pg.engine.url, tables=[{"name": "item", "columns": ["id", "version"]}]) as captured:
        captured.until_idle()
        run(pg, "INSERT INTO item VALUES (1, 2, 'secret')")
        assert dict(captured.until(1)[0].row) == {"id": 1, "version": 2}


def test_generated_columns_are_in_no_message(pg: Connection, tmp_path: Path) -> None:
    """The log does not have them: neither have the first rows, and a channel that names one is refused."""
    run(pg, "CREATE TABLE item (id integer PRIMARY KEY, a integer, g integer GENERATED ALWAYS AS (a * 2) STORED)")
    run(pg, "INSERT INTO item VALUES (1, 1)")
    with Captured(tmp_path / "1", pg.engine.url) as captured:
        captured.until_idle()
        run(pg, "INSERT INTO item VALUES (2, 2)")
        assert [dict(record.row) for record in captured.until(2)] == [{"id": 1, "a": 1}, {"id": 2, "a": 2}]
    table = {"name": "item", "patient_ids": ["g"]}
    with Captured(tmp_path / "2", pg.engine.url, tables=[table]) as captured, pytest.raises(Halted, match="g is generated"):
        captured.page()


def test_odd_types_are_those_of_a_select(pg: Connection, tmp_path: Path) -> None:
    """Domains, ranges without an end, the hour 24: the same out of the table and out of the log."""
    run(pg, "CREATE DOMAIN whole AS integer", "CREATE DOMAIN small AS whole CHECK (VALUE < 9)")
    run(pg, "CREATE TABLE item (id integer PRIMARY KEY, n small, t time, z timetz, r daterange, m int4multirange)")
    run(pg, "INSERT INTO item VALUES (1, 5, '24:00', '24:00+08', '[2024-01-01,infinity)', '{[1,3),[5,8)}')")
    with Captured(tmp_path, pg.engine.url) as captured:
        captured.until_idle()
        run(pg, "INSERT INTO item SELECT 2, n, t, z, r, m FROM item")
        first, logged = captured.until(2)
    run(pg, "DROP TABLE item", "DROP DOMAIN small", "DROP DOMAIN whole")
    assert {**first.row, "id": 2} == dict(logged.row)
    assert first.odd == logged.odd == ("t", "z")
    assert (logged.row["n"], logged.row["r"], logged.row["m"]) == (5, "[2024-01-01,infinity)", "{[1,3),[5,8)}")


def test_types_that_the_reader_of_the_binary_log_does_not_know(my: Connection, tmp_path: Path) -> None:
    """UUID and addresses, and words of ENUM and SET in a table of GBK: the same out of the table and out of the log."""
    columns = "u uuid PRIMARY KEY, i4 inet4, i6 inet6, c inet6, e enum('男','女') CHARACTER SET gbk, s set('中','y') CHARACTER SET gbk"
    values = "'123e4567-e89b-12d3-a456-42665544000{}', '10.1.2.3', '::ffff:1.2.3.4', '2001:db8::2020', '女', '中,y'"
    run(my, "SET NAMES utf8mb4", f"CREATE TABLE item ({columns})", f"INSERT INTO item VALUES ({values.format(1)})")
    with Captured(tmp_path, my.engine.url) as captured:
        captured.until_idle()
        run(my, f"INSERT INTO item VALUES ({values.format(2)})")
        first, logged = captured.until(2)
    assert {**first.row, "u": logged.row["u"]} == dict(logged.row)
    assert dict(first.types) == dict(logged.types)
    assert logged.key == {"u": "123e4567-e89b-12d3-a456-426655440002"}
    assert (logged.row["e"], logged.row["s"]) == ("女", "中,y")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("id integer PRIMARY KEY, a text COMPRESSED) ENGINE=InnoDB", "compressed columns, which cannot be read in the log: a"),
        ("id integer PRIMARY KEY) WITH SYSTEM VERSIONING", "keeps its history by itself"),
    ],
)
def test_tables_whose_log_would_be_read_wrongly(my: Connection, tmp_path: Path, table: str, reason: str) -> None:
    """Refused by the check and before anything is handed in."""
    run(my, f"CREATE TABLE item ({table}")
    with Captured(tmp_path, my.engine.url) as captured:
        with pytest.raises(Halted, match=reason):
            captured.page()
        options = SOURCE.defaults(connection={"url": written(my.engine.url)}, tables=["item"])
        found = check(options, captured.context, {})
        assert [one.state for one in found if reason in one.text] == ["fault"]


# --- what becomes of a table ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER PUBLICATION meridian_lis DROP TABLE item",),
        ("DROP PUBLICATION meridian_lis",),
        ("ALTER TABLE item RENAME TO item_old", "CREATE TABLE item (id integer PRIMARY KEY, version integer, note text)"),
    ],
)
def test_a_table_that_left_the_publication(pg: Connection, tmp_path: Path, statements: tuple[str, ...]) -> None:
    """Its changes are not sent any more: said with the next heartbeat, and never put right silently by a second life."""
    run(pg, ITEM)
    with Captured(tmp_path, pg.engine.url) as captured:
        captured.until_idle()
        run(pg, "INSERT INTO item VALUES (1, 1, 'a')")
        captured.until(1)
        run(pg, *statements, "INSERT INTO item VALUES (2, 1, 'b')")
        alarm = ""
        while not alarm:
            try:
                captured.page()
                captured.capture.behind()
            except Halted as halted:
                alarm = halted.text
            except DatabaseError:  # there is no such publication; it is opened again
                pass
        assert "item is not in the publication meridian_lis any more" in alarm
    with Captured(tmp_path, pg.engine.url, captured.kept) as second, pytest.raises(Halted, match="is not in the publication"):
        second.page()
    with begins_again(captured, tmp_path, pg, alarm) as third:
        third.until_idle()
        assert ("snapshot", 2) in changes(third)


def test_a_publication_that_leaves_rows_out_from_now_on(pg: Connection, tmp_path: Path) -> None:
    """Found by the heartbeat, with the place up to which all is kept."""
    run(pg, ITEM)
    with Captured(tmp_path, pg.engine.url) as captured:
        captured.until_idle()
        run(pg, "ALTER PUBLICATION meridian_lis SET TABLE item WHERE (id > 5)")
        with pytest.raises(Halted, match=r"only some rows of item: WHERE \(id > 5\)\. Changes may be lost\. Way back: begin_again: "):
            captured.capture.behind()


def test_a_key_that_was_renamed(db: Connection, tmp_path: Path) -> None:
    """Messages without a key would all be of one row: the capture stops, and begins again with the new one."""
    run(db, ITEM, "INSERT INTO item VALUES (1, 1, 'a')")
    with Captured(tmp_path, db.engine.url) as captured:
        captured.until_idle()
        run(db, "INSERT INTO item VALUES (2, 1, 'a')", "ALTER TABLE item RENAME COLUMN id TO no", "INSERT INTO item VALUES (3, 1, 'b')")
        alarm = until_refused(captured, Halted)
        assert "item has no column id any more" in alarm
        assert None not in [record.key.get("id") for record in captured.kept.records]
    with begins_again(captured, tmp_path, db, alarm) as second:
        second.until_idle()
        assert second.kept.records[-1].key == {"no": 3}


def test_a_named_column_that_is_gone(db: Connection, tmp_path: Path) -> None:
    """Without the patient's number a message would belong to nobody. It goes on where the channel names the column's new name."""
    run(db, ITEM)
    with Captured(tmp_path, db.engine.url, tables=[{"name": "item", "patient_ids": ["note"]}]) as captured:
        captured.until_idle()
        run(db, "INSERT INTO item VALUES (1, 1, 'P1')")
        captured.until(1)
        run(db, "ALTER TABLE item RENAME COLUMN note TO patient", "INSERT INTO item VALUES (2, 1, 'P2')")
        assert "item has no column note any more" in until_refused(captured, Halted)
    with Captured(tmp_path, db.engine.url, captured.kept, tables=[{"name": "item", "patient_ids": ["patient"]}]) as second:
        second.until(2)
        assert [envelope.patient_ids for envelope in second.kept.envelopes] == [("P1",), ("P2",)]


def test_another_replica_identity(pg: Connection, tmp_path: Path) -> None:
    """A delete that says another column than the key is of no row that anybody knows."""
    run(pg, ITEM, "ALTER TABLE item ALTER version SET NOT NULL", "CREATE UNIQUE INDEX other ON item (version)")
    run(pg, "INSERT INTO item VALUES (1, 7, 'a')")
    with Captured(tmp_path, pg.engine.url) as captured:
        captured.until_idle()
        run(pg, "ALTER TABLE item REPLICA IDENTITY USING INDEX other", "DELETE FROM item")
        assert "the replica identity of item has no id any more" in until_refused(captured, Halted)


def test_a_transaction_that_is_only_prepared(my: Connection, tmp_path: Path) -> None:
    """XA: the log has its rows before anybody knows whether they are committed. None is handed in; after its end it begins again."""
    run(my, ITEM)
    with Captured(tmp_path, my.engine.url) as captured:
        captured.until_idle()
        run(my, "XA START 'a'", "INSERT INTO item VALUES (1, 1, 'never')", "XA END 'a'", "XA PREPARE 'a'")
        alarm = until_refused(captured, Halted)
        assert "two phases (XA PREPARE)" in alarm
        assert changes(captured) == []
    with begins_again(captured, tmp_path, my, alarm) as second:
        assert "XA RECOVER" in until_refused(second, Halted)
        run(my, "XA ROLLBACK 'a'", "INSERT INTO item VALUES (2, 1, 'a')")
        second.until_idle()
        run(my, "XA START 'b'", "INSERT INTO item VALUES (3, 1, 'b')", "XA END 'b'", "XA COMMIT 'b' ONE PHASE")
        second.until(2)
        assert changes(second) == [("snapshot", 2), ("insert", 3)]


@pytest.mark.parametrize("what", ["TRUNCATE PARTITION p", "DROP PARTITION p"])
def test_a_partition_that_is_taken_away(my: Connection, tmp_path: Path, what: str) -> None:
    """Rows go that the log does not name."""
    parts = "PARTITION p VALUES LESS THAN (10), PARTITION q VALUES LESS THAN (99)"
    run(my, f"CREATE TABLE item (id integer PRIMARY KEY) PARTITION BY RANGE (id) ({parts})", "INSERT INTO item VALUES (1), (20)")
    with Captured(tmp_path, my.engine.url) as captured:
        captured.until_idle()
        run(my, f"ALTER TABLE item {what}", "INSERT INTO item VALUES (30)")
        assert "a partition of item was emptied, dropped or exchanged" in until_refused(captured, Halted)


def test_an_event_that_the_reader_does_not_know(my: Connection, tmp_path: Path) -> None:
    """A column that is compressed while it is captured: an alarm with a way back, not the same failure for ever."""
    run(my, ITEM)
    with Captured(tmp_path, my.engine.url) as captured:
        captured.until_idle()
        run(my, "ALTER TABLE item MODIFY note text COMPRESSED", "INSERT INTO item VALUES (1, 1, 'a')")
        alarm = until_refused(captured, Halted)
        assert "cannot be read (NotImplementedError)" in alarm
    run(my, "ALTER TABLE item MODIFY note text")
    with begins_again(captured, tmp_path, my, alarm) as second:
        second.until_idle()
        assert changes(second) == [("snapshot", 1)]


def test_two_captures_of_one_slot(pg: Connection, tmp_path: Path) -> None:
    """The second says who holds it up, before it reads a first state; when the first is gone it does not go on where that one was."""
    run(pg, ITEM, "INSERT INTO item VALUES (1, 1, 'a')")
    with Captured(tmp_path / "1", pg.engine.url) as first:
        first.until_idle()
        first.page()
        with Captured(tmp_path / "2", pg.engine.url) as second:
            with pytest.raises(DatabaseError, match="meridian_lis is being read by another process") as refused:
                second.capture.page()
            assert refused.value.sorted.code == SLOT_IN_USE
            assert sa.inspect(pg).get_table_names() == ["item"]
