"""Changes captured out of the logs of real servers: first state and hand-over, restarts, kills, failover, what is refused and what is said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from adapters.database.capture import adapter, pgoutput
from adapters.database.capture.options import SOURCE
from adapters.database.errors import DatabaseError
from adapters.database.polling.rounds import Halted
from adapters.database.polling.subject import Unusable
from tests.support.capture import LOGGING, Captured, Writers, own_server, wrong
from tests.support.databases import OwnServer, engine_of, written
from tests.support.polling import Kept
from tests.support.waiting import PATIENCE, until

EVENT = 900  # an event of the binary log has up to 8 KB of rows
ITEM = "CREATE TABLE item (id integer PRIMARY KEY, version integer, note text)"


@pytest.fixture(scope="module", params=LOGGING)
def shared(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    """For tests that leave the server as it was."""
    with own_server(request.param) as own:
        yield own


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnServer]:
    with own_server("postgresql") as own:
        yield own


@pytest.fixture
def db(shared: OwnServer) -> Iterator[Connection]:
    yield from emptied(shared)


@pytest.fixture
def pg(postgres: OwnServer) -> Iterator[Connection]:
    yield from emptied(postgres)


def emptied(own: OwnServer) -> Iterator[Connection]:
    """A connection to a server on which nothing is left afterwards."""
    engine = engine_of(own.url)
    with engine.connect() as connection:
        yield connection
        for table in sa.inspect(connection).get_table_names():
            connection.exec_driver_sql(f"DROP TABLE {table}")
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


# --- what a message is ---------------------------------------------------------------------------


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


# --- hand-over, restarts -----------------------------------------------------------------------------


@pytest.mark.parametrize("server", LOGGING)
def test_hand_over_with_writers_and_kills(server: str, tmp_path: Path) -> None:
    """First state while rows change; Meridian crashes in the middle of pages, also of the first state; the server is killed twice."""
    with own_server(server) as own:
        writers = Writers(own.url)
        writers.create()
        writers.start()
        until(lambda: writers.changes > 60, "some rows")
        kept = Kept()
        for crash in (1, 2, 5, 3):
            with Captured(tmp_path, own.url, kept, limit=7) as captured:
                for _ in range(crash * 2):
                    captured.page()
                captured.page(most=2)
        with Captured(tmp_path, own.url, kept, limit=50) as captured:
            for _ in range(2):
                captured.until(len(kept.records) + 200)
                own.kill()
                until_refused(captured, DatabaseError)
                own.start()
            captured.until(len(kept.records) + 100)
            writers.stop()
            captured.until_idle()
            captured.until_idle()
        found = wrong(writers.trail(), kept.records, resumed=True)
        writers.dispose()
    assert not found, found[:3]
    assert {"insert", "update", "delete", "snapshot"} <= {record.change for record in kept.records}


@pytest.mark.parametrize("server", LOGGING)
def test_hand_over_without_a_crash_repeats_nothing(server: str, tmp_path: Path) -> None:
    """Not one row that the store has to drop."""
    with own_server(server) as own:
        writers = Writers(own.url, seed=2)
        writers.create()
        writers.start()
        until(lambda: writers.changes > 60, "some rows")
        with Captured(tmp_path, own.url, limit=11) as captured:
            captured.until(600)
            writers.stop()
            captured.until_idle()
        found = wrong(writers.trail(), captured.kept.records)
        writers.dispose()
    assert not found, found[:3]
    assert captured.kept.repeated == 0


@pytest.mark.parametrize("server", LOGGING)
def test_a_server_that_is_shut_down_in_good_order(server: str, tmp_path: Path) -> None:
    """It waits until all it has written is confirmed, which happens at once; started again, the log goes on."""
    with own_server(server) as own:
        engine = engine_of(own.url)
        with engine.connect() as connection:
            run(connection, ITEM, "INSERT INTO item VALUES (1, 1, 'a')", "CREATE TABLE other (id integer)")
            with Captured(tmp_path, own.url, heartbeat="1h") as captured:
                captured.until_idle()
                run(connection, "INSERT INTO other VALUES (1)", "INSERT INTO item VALUES (2, 1, 'a')", "INSERT INTO other VALUES (2)")
                captured.until(2)
                stopping = Thread(target=own.stop)
                stopping.start()
                until_refused(captured, DatabaseError)
                stopping.join(PATIENCE)
                assert own._process is None
                own.start()
                connection.invalidate()
        with engine.connect() as again:
            run(again, "INSERT INTO item VALUES (3, 1, 'a')")
        with Captured(tmp_path, own.url, captured.kept) as second:
            second.until(3)
        engine.dispose()
    assert changes(second) == [("snapshot", 1), ("insert", 2), ("insert", 3)]
    assert second.kept.repeated == 0


def test_other_tables_that_are_never_quiet(db: Connection, tmp_path: Path) -> None:
    """A change is handed in although the log has always something more to say."""
    run(db, ITEM, "CREATE TABLE other (id integer)")
    ended, engine = Event(), engine_of(db.engine.url)

    def write() -> None:
        with engine.connect() as connection:
            while not ended.wait(0.01):
                connection.exec_driver_sql("INSERT INTO other VALUES (1)")

    writer = Thread(target=write)
    with Captured(tmp_path, db.engine.url) as captured:
        captured.until_idle()
        writer.start()
        try:
            run(db, "INSERT INTO item VALUES (1, 1, 'a')")
            captured.until(1)
        finally:
            ended.set()
            writer.join()
            engine.dispose()
    assert changes(captured) == [("insert", 1)]


def test_a_long_transaction_is_read_in_pages(db: Connection, tmp_path: Path) -> None:
    """Never more than a page in memory; after a crash in the middle of it it goes on there."""
    run(db, ITEM)
    with Captured(tmp_path, db.engine.url, limit=100) as captured:
        captured.until_idle()
    run(db, "INSERT INTO item VALUES (0, 1, 'a')", *[f"INSERT INTO item SELECT id + {2**n}, 1, 'a' FROM item" for n in range(10)])
    run(db, "UPDATE item SET version = 2")
    with Captured(tmp_path, db.engine.url, captured.kept, limit=100) as captured:
        while len(captured.kept.records) < 1500:
            assert len(captured.page().items) <= 100 + EVENT
        captured.page(most=50)
    with Captured(tmp_path, db.engine.url, captured.kept, limit=100) as captured:
        captured.until(2048)
        captured.until_idle()
    assert [record.change for record in captured.kept.records].count("update") == 1024
    assert captured.kept.repeated == 50


def test_a_table_that_is_added_later(db: Connection, tmp_path: Path) -> None:
    """Comes with its first state, in the place where it begins in the log."""
    run(db, ITEM, "CREATE TABLE other (id integer PRIMARY KEY)", "INSERT INTO other VALUES (1), (2)", "INSERT INTO item VALUES (1, 1, 'a')")
    with Captured(tmp_path, db.engine.url) as captured:
        captured.until_idle()
    run(db, "INSERT INTO other VALUES (3)", "INSERT INTO item VALUES (2, 1, 'a')")
    with Captured(tmp_path, db.engine.url, captured.kept, tables=["item", "other"]) as captured:
        captured.until_idle()
        captured.until_idle()
        run(db, "INSERT INTO other VALUES (4)")
        captured.until_idle()
        captured.until_idle()
    found = [(record.table, record.change, record.key["id"]) for record in captured.kept.records]
    assert found[:2] == [("item", "snapshot", 1), ("item", "insert", 2)]
    assert [one for one in found if one[1] == "snapshot" and one[0] == "other"] == [("other", "snapshot", n) for n in (1, 2, 3)]
    assert found[-1] == ("other", "insert", 4)


# --- the slot ------------------------------------------------------------------------------------------


def confirmed(pg: Connection) -> int:
    return pgoutput.lsn_of(run(pg, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'meridian_lis'")[0][0])


def test_the_slot_goes_no_further_than_what_is_kept(pg: Connection, tmp_path: Path) -> None:
    """Read is not kept; and kept is confirmed."""
    run(pg, ITEM)
    with Captured(tmp_path, pg.engine.url) as captured:
        captured.until_idle()
        before = confirmed(pg)
        run(pg, "INSERT INTO item VALUES (1, 1, 'a')")
        page = captured.page(most=0)
        while not page.items:
            page = captured.page(most=0)
        captured.capture._confirm()  # once more, what was confirmed before
        commit = pgoutput.lsn_of(page.items[0].envelope.facts["position"].rpartition("/")[0])
        assert before <= confirmed(pg) <= commit
    with Captured(tmp_path, pg.engine.url, captured.kept) as captured:
        captured.until(1)
        until(lambda: confirmed(pg) > commit, "the confirmation")


def test_other_tables_do_not_hold_the_log(pg: Connection, tmp_path: Path) -> None:
    """The slot is let go while only they change, and a second life goes on from there."""
    run(pg, ITEM, "CREATE TABLE other (id integer)", "INSERT INTO item VALUES (1, 1, 'a')")
    with Captured(tmp_path, pg.engine.url) as captured:
        captured.until_idle()
        run(pg, "INSERT INTO other SELECT generate_series(1, 10000)")
        end = pgoutput.lsn_of(run(pg, "SELECT pg_current_wal_lsn()::text")[0][0])

        def let_go() -> bool:
            captured.page()
            return confirmed(pg) >= end

        until(let_go, "the slot to be let go")
    run(pg, "INSERT INTO item VALUES (2, 1, 'a')")
    with Captured(tmp_path, pg.engine.url, captured.kept) as captured:
        assert captured.until(2)[1].key == {"id": 2}


def test_how_far_behind(db: Connection, tmp_path: Path) -> None:
    """What the database keeps of its log for us grows while we do not read, and shrinks."""
    run(db, ITEM)
    with Captured(tmp_path, db.engine.url) as captured:
        captured.until_idle()
        for one in range(20):
            run(db, f"INSERT INTO item VALUES ({one}, 1, '{token_hex(2500)}')")
        behind = captured.capture.behind()
        assert behind is not None
        assert behind.kept > 40_000


def test_a_transaction_that_does_not_end(pg: Connection, tmp_path: Path) -> None:
    """The slot waits for those that write when it is made: no longer than a statement may run, and nothing is left of it."""
    run(pg, ITEM)
    with pg.engine.connect().execution_options(isolation_level="READ COMMITTED") as other:
        run(other, "INSERT INTO item VALUES (1, 1, 'a')")
        with Captured(tmp_path, pg.engine.url, connection={"statement_timeout": "1s"}) as captured, pytest.raises(DatabaseError):
            captured.capture.open()
        until(lambda: not run(pg, "SELECT 1 FROM pg_replication_slots"), "the slot to be given up")
        other.commit()
    with Captured(tmp_path, pg.engine.url, captured.kept) as second:
        second.until_idle()
    assert changes(second) == [("snapshot", 1)]


# --- what is lost is said --------------------------------------------------------------------------------


def begun(own: OwnServer, folder: Path) -> tuple[Kept, str]:
    """A capture that has kept something; and the way back that an alarm would name."""
    engine = engine_of(own.url)
    with engine.connect() as connection:
        run(connection, ITEM, "INSERT INTO item VALUES (1, 1, 'a')")
        with Captured(folder, own.url) as captured:
            captured.until_idle()
            run(connection, "INSERT INTO item VALUES (2, 1, 'a')")
            captured.until(2)
    engine.dispose()
    return captured.kept, json.loads(captured.kept.checkpoints["capture"])["at"]


def halted(own: OwnServer, folder: Path, kept: Kept, reason: str) -> str:
    """Opening says why, and nothing is handed in. Gives the position for begin_again."""
    with Captured(folder, own.url, kept) as captured:
        for _ in range(2):
            with pytest.raises(Halted, match=reason) as caught:
                captured.page()
    assert len(kept.records) == 2
    return str(caught.value).partition("begin_again: ")[2].partition(" ")[0]


@pytest.mark.parametrize("server", LOGGING)
def test_an_empty_standby(server: str, tmp_path: Path) -> None:
    """Another server at the same address: an alarm, and the way back begins anew."""
    with own_server(server) as own:
        kept, _ = begun(own, tmp_path)
    with own_server(server, own.port) as other:
        engine = engine_of(other.url)
        with engine.connect() as connection:
            run(connection, ITEM, "INSERT INTO item VALUES (7, 1, 'a')")
            back = halted(other, tmp_path, kept, "another server answers")
            with Captured(tmp_path, other.url, kept, begin_again=back) as captured:
                captured.until_idle()
                assert captured.kept.records[-1].key == {"id": 7}
            with Captured(tmp_path, other.url, kept, begin_again=back) as captured:
                run(connection, "INSERT INTO item VALUES (8, 1, 'a')")
                captured.until(4)
        engine.dispose()
    assert kept.repeated == 0
    assert [record.change for record in kept.records[2:]] == ["snapshot", "insert"]


def test_a_promoted_standby(tmp_path: Path) -> None:
    """The same data on another timeline: what was lost with the primary cannot be known."""
    with own_server("postgresql") as own:
        kept, _ = begun(own, tmp_path)
        with own_server("postgresql", standby_of=own) as standby:
            own.kill()
            standby.promote()  # type: ignore[attr-defined]
            with Captured(tmp_path, standby.url, kept) as captured, pytest.raises(Halted, match="timeline 2"):
                captured.page()


def test_a_slot_that_is_gone(pg: Connection, postgres: OwnServer, tmp_path: Path) -> None:
    """Or was moved on by somebody else, or set free by the server because too much was kept."""
    kept, _ = begun(postgres, tmp_path)
    run(pg, "INSERT INTO item VALUES (3, 1, 'a')")
    until(lambda: not run(pg, "SELECT 1 FROM pg_replication_slots WHERE active"), "the walsender to end")
    run(pg, "SELECT pg_replication_slot_advance('meridian_lis', pg_current_wal_lsn())")
    halted(postgres, tmp_path, kept, "somebody else")
    run(pg, "SELECT pg_drop_replication_slot('meridian_lis')")
    back = halted(postgres, tmp_path, kept, "is gone")
    with Captured(tmp_path, postgres.url, kept, begin_again=back) as captured:
        captured.until_idle()
    assert [record.key["id"] for record in kept.records[2:]] == [1, 2, 3]


def test_a_slot_that_the_server_gave_up(tmp_path: Path) -> None:
    """Beyond max_slot_wal_keep_size the server throws the log away rather than fill its disk."""
    with own_server("postgresql", max_slot_wal_keep_size="1MB", min_wal_size="32MB", max_wal_size="32MB") as own:
        kept, _ = begun(own, tmp_path)
        engine = engine_of(own.url)
        with engine.connect() as connection:
            run(connection, "CREATE TABLE filler (t text)")
            run(connection, "SELECT pg_create_logical_replication_slot('unread', 'pgoutput')")
            for _ in range(4):
                run(connection, "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 1000)", "SELECT pg_switch_wal()")
            run(connection, "CHECKPOINT")
            back = halted(own, tmp_path, kept, "max_slot_wal_keep_size")
            with Captured(tmp_path, own.url, kept, begin_again=back) as captured:
                captured.until_idle()
            assert [record.change for record in kept.records] == ["snapshot", "insert", "snapshot", "snapshot"]
            with Captured(tmp_path / "other", own.url, slot="unread") as other, pytest.raises(Halted, match="lost before it was read"):
                other.page()
            run(connection, "SELECT pg_drop_replication_slot('unread')")
            with Captured(tmp_path / "other", own.url, slot="unread") as other:
                assert len(other.until_idle()) == 2
        engine.dispose()


def test_a_binary_log_that_was_purged(tmp_path: Path) -> None:
    """Never a skip, never a second reading from the beginning; the same for a log that was reset."""
    with own_server("mysql") as own:
        kept, _ = begun(own, tmp_path)
        engine = engine_of(own.url)
        with engine.connect() as connection:
            run(connection, "INSERT INTO item VALUES (3, 1, 'a')", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")

            def purged() -> bool:  # not while the server still takes us for a reader of it
                run(connection, f"PURGE BINARY LOGS TO '{run(connection, 'SHOW MASTER STATUS')[0][0]}'")
                return len(run(connection, "SHOW BINARY LOGS")) == 1

            until(purged, "the log to be purged")
            halted(own, tmp_path, kept, "is gone")
            run(connection, "RESET MASTER", *(f"INSERT INTO item VALUES ({n}, 1, 'a')" for n in range(10, 60)))
            back = halted(own, tmp_path, kept, "another history|is gone|ends at")
            with Captured(tmp_path, own.url, kept, begin_again=back) as captured:
                captured.until_idle()
        engine.dispose()
    assert len(kept.records) == 2 + 53


def test_a_change_that_was_logged_as_a_statement(shared: OwnServer, db: Connection, tmp_path: Path) -> None:
    """A session may choose its own binlog_format: its changes cannot be read, and that is said."""
    if db.engine.dialect.name != "mysql":
        pytest.skip("PostgreSQL logs rows alone")
    run(db, ITEM)
    with Captured(tmp_path, db.engine.url) as captured:
        captured.until_idle()
        run(db, "SET SESSION binlog_format = STATEMENT", "INSERT INTO item VALUES (1, 1, 'a')", "SET SESSION binlog_format = ROW")
        assert "statement" in until_refused(captured, Halted)


# --- what is refused ---------------------------------------------------------------------------------------


def test_tables_without_a_key(db: Connection, tmp_path: Path) -> None:
    """The reason is given before anything is made."""
    run(db, "CREATE TABLE item (id integer, note text)")
    with Captured(tmp_path, db.engine.url) as captured, pytest.raises(Unusable, match="no primary key"):
        captured.capture.open()
    with Captured(tmp_path, db.engine.url, tables=["nothing"]) as captured, pytest.raises(Unusable, match="there is no table nothing"):
        captured.capture.open()


def test_tables_without_a_replica_identity(pg: Connection, tmp_path: Path) -> None:
    """PostgreSQL would refuse the hospital's own updates as soon as such a table is published."""
    run(pg, "CREATE TABLE item (id integer, note text)")
    table = {"name": "item", "key": ["id"]}
    with Captured(tmp_path, pg.engine.url, tables=[table]) as captured, pytest.raises(Unusable, match="replica identity"):
        captured.capture.open()
    assert run(pg, "SELECT count(*) FROM pg_publication") == [(0,)]
    with Captured(tmp_path, pg.engine.url, tables=[table], operations=["insert"]) as captured:
        captured.until_idle()
        run(pg, "INSERT INTO item VALUES (1, 'a')", "UPDATE item SET note = 'b'")
        assert captured.until(1)[0].key == {"id": 1}


def test_rights_are_asked_for_by_name(pg: Connection, tmp_path: Path) -> None:
    """Each with the statement that an administrator may run; nothing is created where create is no."""
    run(pg, ITEM, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN", "GRANT SELECT ON item TO reader")
    url = pg.engine.url.set(username="reader")
    with Captured(tmp_path, url) as captured, pytest.raises(Unusable, match="REPLICATION"):
        captured.capture.open()
    run(pg, "ALTER ROLE reader REPLICATION")
    with Captured(tmp_path, url) as captured, pytest.raises(Unusable, match=r"CREATE PUBLICATION meridian_lis FOR TABLE public\.item"):
        captured.capture.open()
    run(pg, "CREATE PUBLICATION meridian_lis FOR TABLE item")
    with Captured(tmp_path, url, create=False) as captured, pytest.raises(Unusable, match="pg_create_logical_replication_slot"):
        captured.capture.open()
    with Captured(tmp_path, url) as captured:
        captured.until_idle()
    until(lambda: not run(pg, "SELECT 1 FROM pg_replication_slots WHERE active"), "the walsender to end")
    run(pg, "REVOKE ALL ON item FROM reader", "DROP ROLE reader")


def test_servers_whose_log_says_too_little(tmp_path: Path) -> None:
    """wal_level, and the four settings of the binary log."""
    for server, settings, reason in (
        ("postgresql", {"wal_level": "replica"}, "wal_level"),
        ("mysql", {"binlog_format": "MIXED"}, "binlog_format"),
        ("mysql", {"binlog_row_metadata": "MINIMAL"}, "binlog_row_metadata"),
    ):
        with own_server(server, **settings) as own:
            engine = engine_of(own.url)
            with engine.connect() as connection:
                run(connection, ITEM)
            engine.dispose()
            with Captured(tmp_path, own.url) as captured, pytest.raises(Unusable, match=reason):
                captured.capture.open()


def test_check_and_create(db: Connection, tmp_path: Path) -> None:
    """`meridian db check` finds what is there and what is missing, and makes it when asked to."""
    run(db, ITEM)
    with Captured(tmp_path, db.engine.url) as captured:
        pass
    options = SOURCE.defaults(connection={"url": written(db.engine.url)}, tables=["item"], create=False)
    before = {finding.what: finding.state for finding in adapter.check(options, captured.context, {})}
    assert before["reach"] == before["key"] == before["rights"] == "fine"
    made = adapter.create(options, captured.context)
    assert {finding.state for finding in made} == {"fine"}, made
    after = {finding.what: finding.state for finding in adapter.check(options, captured.context, {})}
    assert "fault" not in after.values()
    if db.engine.dialect.name == "postgresql":
        assert (before["publication"], before["slot"], before["log"]) == ("fault", "fault", "warning")
        assert run(db, "SELECT plugin FROM pg_replication_slots") == [("pgoutput",)]


# --- the parser against the server's own bytes -----------------------------------------------------------


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


def test_an_administrator_makes_publication_and_slot(postgres: OwnServer, pg: Connection, tmp_path: Path) -> None:
    """`meridian db check` says what is missing, and makes it when it is asked to, once."""
    run(pg, ITEM)
    (tmp_path / "channels").mkdir()
    (tmp_path / "meridian.yaml").write_text(json.dumps({"name": "site", "party": "site"}))
    source = {"connection": {"url": written(postgres.url)}, "name": "lis", "tables": ["item"], "create": False}
    (tmp_path / "channels/lis.yaml").write_text(json.dumps({"name": "lis", "source": {"database_capture": source}, "destinations": []}))

    def states(*more: str) -> dict[str, set[str]]:
        command = [sys.executable, "-m", "engine", "db", "check", "--site", str(tmp_path), "--json", *more]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        return {what: {one["state"] for one in found if one["what"] == what} for what in ("publication", "slot")}

    assert "fault" in states()["publication"] | states()["slot"]
    assert states("--create") == {"publication": {"fine"}, "slot": {"fine"}}
    assert run(pg, "SELECT count(*) FROM pg_replication_slots") == [(1,)]
    assert states("--create") == {"publication": {"fine"}, "slot": {"fine"}}
