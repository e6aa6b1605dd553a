"""A capture's first state and its hand-over to the log, restarts, kills, shutdowns; what is confirmed to the server, and when."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex
from threading import Event, Thread

import pytest
from sqlalchemy.engine import Connection

from adapters.database.capture import pgoutput
from adapters.database.errors import DatabaseError
from tests.support import capture_servers
from tests.support.capture import LOGGING, Captured, Writers, own_server, wrong
from tests.support.capture_servers import ITEM, changes, run, until_refused
from tests.support.databases import engine_of
from tests.support.polling import Kept
from tests.support.waiting import PATIENCE, until

shared = pytest.fixture(scope="module", params=LOGGING)(capture_servers.shared)
postgres = pytest.fixture(scope="module")(capture_servers.postgres)
db = pytest.fixture(capture_servers.db)
pg = pytest.fixture(capture_servers.pg)

EVENT = 900  # an event of the binary log has up to 8 KB of rows


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


def test_a_server_that_asks_hears_what_is_on_disk(pg: Connection, tmp_path: Path) -> None:
    """Asked by a keepalive, long before the next heartbeat, the capture notes how far it has read before it says so: a kill in between
    would look like somebody else's move."""
    run(pg, ITEM, "CREATE TABLE other (id integer)")
    with Captured(tmp_path, pg.engine.url, heartbeat="1h") as captured:
        captured.until_idle()
        run(pg, "INSERT INTO other SELECT generate_series(1, 1000)")
        end = pgoutput.lsn_of(run(pg, "SELECT pg_current_wal_lsn()::text")[0][0])

        def told() -> bool:
            captured.page()
            noted = captured.capture._kept
            assert noted is not None
            assert confirmed(pg) <= pgoutput.lsn_of(noted.at)
            return confirmed(pg) >= end

        until(told, "the server to ask")


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
