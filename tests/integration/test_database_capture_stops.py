"""Where a capture stops and says why: logs that are lost, other servers, what cannot be captured; and what `meridian db check` makes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection

from adapters.database.capture import adapter
from adapters.database.capture.options import SOURCE
from adapters.database.polling.rounds import Halted
from adapters.database.polling.subject import Unusable
from tests.support import capture_servers
from tests.support.capture import LOGGING, Captured, own_server
from tests.support.capture_servers import ITEM, run, until_refused
from tests.support.databases import OwnServer, engine_of, written
from tests.support.polling import Kept
from tests.support.waiting import until

shared = pytest.fixture(scope="module", params=LOGGING)(capture_servers.shared)
postgres = pytest.fixture(scope="module")(capture_servers.postgres)
db = pytest.fixture(capture_servers.db)
pg = pytest.fixture(capture_servers.pg)


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
