"""Change capture as a site has it, with a node of its own: what the database keeps for it, and the way back after a failover."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from engine.bench.loopback import HOST
from engine.formats.rows import read
from tests.support.capture import LOGGING, own_server
from tests.support.databases import OwnServer, engine_of, written
from tests.support.sites import Site
from tests.support.waiting import until

MEGABYTE = 1 << 20


def capturing(folder: Path, own: OwnServer, **options: Any) -> Site:
    """A site that captures `item`."""
    source = {"connection": {"url": written(own.url)}, "tables": ["item"], "heartbeat": "200ms", "retry_most": "1s", **options}
    return Site(folder, source={"database_capture": source})


def run(own: OwnServer, *statements: str) -> list[Any]:
    engine = engine_of(own.url)
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
        rows = list(result) if result.returns_rows else []
    engine.dispose()
    return rows


def metric(site: Site, name: str) -> float:
    with urlopen(f"http://{HOST}:{site.ports.http}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


def checked(site: Site, what: str) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "engine", "db", "check", "--site", str(site.folder), "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return [one for one in found if one["what"] == what]


def test_a_slot_that_holds_back_too_much(tmp_path: Path) -> None:
    """Rows are written while the node is down: `db check` says it, then the node by metric, log and audit; when it has caught up, the
    database lets go of its log, and that is said, too."""
    with own_server("postgresql", max_slot_wal_keep_size="512MB") as own:
        run(own, "CREATE TABLE item (id integer PRIMARY KEY, note text)", "INSERT INTO item VALUES (0, 'a')")
        site = capturing(tmp_path / "site", own, most_behind="2MB")
        with site.running():
            until(lambda: len(site.kept()) == 1, "the first row")
        assert [one["state"] for one in checked(site, "slot")] == ["fine"]
        run(own, "INSERT INTO item SELECT n, repeat('x', 1000) FROM generate_series(1, 4000) n")
        held = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots"
        before = run(own, held)[0][0]
        (finding,) = checked(site, "slot")
        assert before > 2 * MEGABYTE
        assert finding["state"] == "warning"
        with site.running():
            until(lambda: len(site.kept()) == 4001, "what was written meanwhile")

            def let_go() -> bool:  # a slot moves on to the last checkpoint or snapshot of transactions that lies behind what is confirmed
                run(own, "CHECKPOINT")
                return metric(site, "meridian_capture_behind_bytes") < 2 * MEGABYTE

            until(let_go, "the slot to let go of the log")
        assert run(own, held)[0][0] < 2 * MEGABYTE
    (late,) = site.audited("database.capture_behind")
    assert int(late["bytes"]) > 2 * MEGABYTE
    assert int(late["left"]) > 0
    assert len(site.audited("database.capture_caught_up")) == 1
    assert site.audited("database.capture_unlimited") == []
    assert "most_behind" in (site.folder / "node.log").read_text()


@pytest.mark.parametrize("server", LOGGING)
def test_a_failover_to_an_empty_standby(server: str, tmp_path: Path) -> None:
    """In mid-capture: nothing of the other server is taken for changes; an alarm names the way back, which begins with its rows."""
    with ExitStack() as servers:
        own = servers.enter_context(own_server(server))
        run(own, "CREATE TABLE item (id integer PRIMARY KEY)", "INSERT INTO item VALUES (1)")
        site = capturing(tmp_path / "site", own)
        with site.running():
            until(lambda: len(site.kept()) == 1, "the first row")
            run(own, "INSERT INTO item VALUES (2)")
            until(lambda: len(site.kept()) == 2, "a change")
            own.kill()
            other = servers.enter_context(own_server(server, own.port))
            run(other, "CREATE TABLE item (id integer PRIMARY KEY)", "INSERT INTO item VALUES (7)")
            until(lambda: metric(site, "meridian_capture_stopped") == 1, "the alarm")
        (alarm,) = site.audited("database.capture_stopped")
        assert "another server answers" in alarm["reason"]
        assert len(site.kept()) == 2
        back = alarm["reason"].partition("begin_again: ")[2].partition(" ")[0]
        file = site.folder / "channels" / "lines.yaml"
        channel = json.loads(file.read_text())
        channel["source"]["database_capture"]["begin_again"] = back
        file.write_text(json.dumps(channel))
        with site.running():
            until(lambda: len(site.kept()) == 3, "the other server's row")
            run(other, "INSERT INTO item VALUES (8)")
            until(lambda: len(site.kept()) == 4, "its change")
            assert metric(site, "meridian_capture_stopped") == 0
    found = [(record.change, record.key["id"]) for record in (read(one.body) for one in site.kept())]
    assert found == [("snapshot", 1), ("insert", 2), ("snapshot", 7), ("insert", 8)]
    assert bool(site.audited("database.capture_unlimited")) == (server == "postgresql")  # as PostgreSQL comes, a slot has no limit
